"""Build the worker's zipapp: the same sources give the same bytes, so checksums can be compared.

``python -m ocaptain.worker.build`` writes it to the cache and prints its path.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import zipfile
from importlib.resources import files
from pathlib import Path

from ocaptain.protocol.files import write_atomic
from ocaptain.sources import cache_directory

_EPOCH = (1980, 1, 1, 0, 0, 0)
_HOME_ONLY = frozenset({"build.py"})


def worker_bytes() -> bytes:
    """Return the content of the zipapp."""
    package = files("ocaptain")
    sources = {"ocaptain/__init__.py": b"", "ocaptain/agents/__init__.py": b""}
    for part in ("protocol", "worker"):
        for source in sorted((package / part).iterdir(), key=lambda one: one.name):
            if source.name.endswith(".py") and source.name not in _HOME_ONLY:
                sources[f"ocaptain/{part}/{source.name}"] = source.read_bytes()
    for folder in (package / "agents").iterdir():
        if (folder / "stream.py").is_file():
            sources[f"ocaptain/agents/{folder.name}/__init__.py"] = b""
            sources[f"ocaptain/agents/{folder.name}/stream.py"] = (folder / "stream.py").read_bytes()
        for source in (folder / "ship").iterdir() if (folder / "ship").is_dir() else ():
            if source.name.endswith(".py"):
                sources[f"ocaptain/agents/{folder.name}/ship/{source.name}"] = source.read_bytes()
    sources["__main__.py"] = sources.pop("ocaptain/worker/__main__.py")
    buffer = io.BytesIO(b"#!/usr/bin/env python3\n")
    buffer.seek(0, os.SEEK_END)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(sources):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), sources[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def worker_path() -> Path:
    """Write the zipapp to the cache, named by its checksum; return its path."""
    data = worker_bytes()
    path = cache_directory() / f"worker-{hashlib.sha256(data).hexdigest()[:16]}.pyz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data, 0o644, durable=False)
    return path


if __name__ == "__main__":
    sys.stdout.write(f"{worker_path()}\n")
