"""A tailnet for tests: Tailscale's programs and a control server, built once from the committed go.sum.

python -m tests.mesh.tools                     # build if need be, say where
python -m tests.mesh.tools control KEYFILE     # and serve a tailnet in the background for ten minutes
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONTROL = Path(__file__).resolve().parent / "control"
#: Features that are left out take two thirds of the build's time. What is left joins by a key,
#: relays, and has the programs' command line in one binary; nothing in it uploads logs.
OMITTED = """
ace acme advertiseexitnode advertiseroutes appconnectors aws bakedroots bird c2n cachenetmap captiveportal capture
clientmetrics clientupdate cloud colorable completion completion_scripts conn25 dbus debug debugeventbus
debugportmapper desktop_sessions doctor drive flashappliance hujsonconf identityfederation iptables kube linkspeed
linuxdnsfight listenrawdisco logtail netlog networkmanager osrouter peerapiclient peerapiserver portlist portmapper
posture qrcodes relayserver remoteconfig resolved routecheck runtimemetrics serve serviceclientprefs ssh
synology syslog syspolicy systray taildrop tap tpm tundevstats useexitnode useproxy usermetrics useroutes wakeonlan
webbrowser webclient
"""
TAGS = ",".join(["ts_include_cli", *(f"ts_omit_{name}" for name in OMITTED.split())])
BUILD_SECONDS = 1500
VERSION = "1.102.5"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "")
RELEASE = f"tailscale_{VERSION}_{ARCHITECTURE}"


@dataclass(frozen=True)
class Tailnet:
    """A control server that serves.

    Attributes:
        url: for ``--login-server``.
        ports: TCP ports that machines must reach.
    """

    url: str
    ports: tuple[int, ...]


def directory() -> Path:
    """Return where the programs are, named by what they are built from."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    sources = b"".join((CONTROL / name).read_bytes() for name in ("go.mod", "go.sum", "main.go"))
    return (
        Path(cache)
        / "ocaptain/test-tools"
        / f"mesh-{hashlib.sha256(sources + f'{TAGS} {RELEASE}'.encode()).hexdigest()[:16]}"
    )


def build() -> Path:
    """Build what is not built; return the directory of ``tailscale``, ``tailscaled``, ``control`` and an archive."""
    final = directory()
    final.parent.mkdir(parents=True, exist_ok=True)
    with (final.parent / ".mesh.lock").open("w") as lock:  # several test processes may come here at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if final.is_dir():
            return final
        scratch = final.with_name(f".{final.name}")
        shutil.rmtree(scratch, ignore_errors=True)
        # The home of a test is no place for Go's caches.
        home = Path(os.path.expanduser(f"~{_user()}"))
        env = {
            **os.environ,
            "HOME": str(home),
            "XDG_CACHE_HOME": str(final.parent.parent.parent),
            "CGO_ENABLED": "0",
            "GOFLAGS": "-mod=readonly -buildvcs=false -trimpath",
            "GOTOOLCHAIN": "local",
        }
        for name, package in (("tailscaled", "tailscale.com/cmd/tailscaled"), ("control", ".")):
            argv = ["nice", "go", "build", "-tags", TAGS, "-ldflags", "-s -w", "-o", str(scratch / name), package]
            done = subprocess.run(
                argv, cwd=CONTROL, env=env, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS
            )
            if done.returncode:
                raise RuntimeError(f"{' '.join(argv)}: {done.stderr[-2000:]}")
        (scratch / "tailscale").hardlink_to(scratch / "tailscaled")  # its name decides which of the two it is
        with tarfile.open(scratch / f"{RELEASE}.tgz", "w:gz", compresslevel=4) as archive:  # as the publisher's
            for name in ("tailscaled", "tailscale"):
                archive.add(scratch / name, f"{RELEASE}/{name}")
        scratch.rename(final)
    return final


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


@contextlib.contextmanager
def serve(key_file: Path, inside: Sequence[str] = ()) -> Iterator[Tailnet]:
    """Have a control server for as long as it is needed.

    Args:
        key_file: with the key that machines join by.
        inside: what stands before the program, if it is to run elsewhere.
    """
    process = start(key_file, "-with-stdin", inside=inside, stdin=subprocess.PIPE)
    try:
        with process.stdout:
            told = json.loads(process.stdout.readline())
        yield Tailnet(told["url"], (told["port"], told["derp_port"]))
    finally:
        process.stdin.close()
        process.wait(240)


def start(
    key_file: Path, *options: str, inside: Sequence[str] = (), stdin: int = subprocess.DEVNULL
) -> subprocess.Popen:
    """Start a control server."""
    with key_file.open("rb") as key:  # opened here, since there may be no such path inside
        argv = [*inside, str(build() / "control"), "-key-file", f"/proc/self/fd/{key.fileno()}", *options]
        return subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            pass_fds=(key.fileno(),),
        )


def main() -> None:
    """Build, and serve if that is asked for."""
    print(build())  # noqa: T201 - what it is for
    if sys.argv[1:2] == ["control"]:
        process = start(Path(sys.argv[2]))
        told = json.loads(process.stdout.readline())
        print(told["url"], process.pid, told["port"], told["derp_port"], sep="\n")  # noqa: T201


if __name__ == "__main__":
    main()
