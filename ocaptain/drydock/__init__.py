"""Drydock: a local, Sprites-compatible API server whose sprites are Linux sandboxes.

The way of a request::

    client ──HTTP/WebSocket──> app (auth, routing, error dialects)
                                ├─ sandbox   namespaces over a copy-on-write view of the host
                                ├─ sessions  commands run in a sandbox, with replay
                                ├─ files     the fs API, confined by openat2(RESOLVE_IN_ROOT)
                                └─ services  supervised commands

It binds loopback only and always wants a token. When the server dies, the kernel ends every
process of a sandbox with it (parent-death signal); the next start finds the disks again, as cold
sprites. An orderly end removes them.
"""
