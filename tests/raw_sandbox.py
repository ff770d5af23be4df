"""The namespaces and mounts of a sandbox made by hand, without drydock: for machines of tests, and to compare with."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ocaptain.background import dying_with_us
from ocaptain.drydock.build import OWN_DIRECTORIES, VAR_TMP
from ocaptain.drydock.confine import ALLOWED_CAPABILITIES
from ocaptain.drydock.sandbox import BASE_ENVIRONMENT

SCRIPT = Path(__file__).with_suffix(".sh")
CONFINE = (
    *("setpriv", "--clear-groups", "--inh-caps=-all"),
    "--bounding-set=-all," + ",".join(f"+{name}" for name in ALLOWED_CAPABILITIES),
)


def make_folders(directory: Path) -> None:
    """Make the folders of a sandbox."""
    for sub in ("root", "upper", "work", "home/sprite", "tmp", "dot-sprite/logs/services", VAR_TMP, *OWN_DIRECTORIES):
        (directory / sub).mkdir(parents=True)
    for scratch in ("tmp", VAR_TMP):
        (directory / scratch).chmod(0o1777)


def start(directory: Path, base: Path, name: str, *, isolated: bool = False) -> subprocess.Popen[bytes]:
    """Start a sandbox in ``directory``; it says ``ready`` on its standard output. Its keeper is returned."""
    namespaces = ("--mount", "--pid", "--uts", "--ipc", *(("--net",) if isolated else ()))
    return subprocess.Popen(
        [
            *dying_with_us(("unshare", *namespaces)),
            *("--fork", "--kill-child=KILL", "/bin/sh", str(SCRIPT)),
            *(str(directory), str(base), "-", name, "host", *CONFINE),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": BASE_ENVIRONMENT["PATH"]},
        start_new_session=True,
    )
