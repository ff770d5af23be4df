"""One ship: ``actor`` gives it work, ``attempt`` runs a task, ``link`` and ``bundle_store`` send what it needs."""
