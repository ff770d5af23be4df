"""``watch``: a voyage on the full screen, with keys for what can be done about it.

    Watcher, logs ──thread──> Seen ──> rows, head, notices (pure) ──> panes ──> terminal
                                            keys ──> control, or `ocaptain …` in the terminal

Only :mod:`.command` is loaded by other commands: Textual takes long to import.
"""
