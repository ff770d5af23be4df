"""One ship: ``actor`` keeps it at work, ``attempt`` sees a task through, ``link`` and ``cargo`` carry."""
