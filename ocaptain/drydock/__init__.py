"""Drydock: a local, Sprites-compatible API server whose sprites are Linux sandboxes.

How a request passes through the modules::

    client ──HTTP/WebSocket──> app (auth, routing, error dialects)
                                ├─ sandbox   namespaces over a copy-on-write view of the host
                                ├─ sessions  commands run in a sandbox, with replay
                                ├─ files     the fs API, confined by openat2(RESOLVE_IN_ROOT)
                                └─ services  supervised commands

It listens on loopback only and always requires a token. When the server dies, the kernel ends every
process of its sandboxes (parent-death signal); the next start finds the disks again, as cold
sprites. `ocaptain drydock stop` removes them.
"""
