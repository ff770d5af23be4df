"""The zipapp's entry: ``worker.pyz serve | channel | launcher | window | install | keep start|stop|status | leave``."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path

CONNECT_SECONDS = 20.0


def channel(path: Path) -> int:
    """Connect stdin and stdout to the worker's socket; return 0 when either side ends, 1 without a worker."""
    until = time.monotonic() + CONNECT_SECONDS
    while True:
        joined = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            joined.connect(str(path))
            break
        except OSError as error:
            joined.close()
            if time.monotonic() > until:
                sys.stderr.write(f"the worker has not answered on {path} for {CONNECT_SECONDS:g} s: {error}\n")
                return 1
            time.sleep(0.05)

    def upstream() -> None:
        try:
            while data := os.read(0, 65536):
                joined.sendall(data)
        except OSError:
            pass
        os._exit(0)

    threading.Thread(target=upstream, daemon=True).start()
    try:
        while data := joined.recv(65536):
            view = memoryview(data)
            while view:
                view = view[os.write(1, view) :]
    except OSError:
        pass
    return 0


def main(argv: list[str]) -> int:
    """Run one of the programs; return the exit code."""
    from ocaptain.worker.places import Places

    program = Path(sys.argv[0]).resolve()
    places = Places(Path(os.environ.get("OCAPTAIN_SHIP_HOME") or Path.home()))
    if argv == ["serve"]:
        import asyncio  # which takes half of the time that the others start in

        from ocaptain.worker.listen import serve

        asyncio.run(serve(places, program))
        return 0
    if argv == ["channel"]:
        return channel(places.socket)
    if argv == ["launcher"]:
        from ocaptain.worker.launcher import run_launcher
        from ocaptain.worker.windows import close_own_window

        code = run_launcher(places, program)
        close_own_window(places)
        return code
    if argv == ["window"]:
        from ocaptain.worker.windows import print_window

        return print_window(places)
    if len(argv) == 2 and argv[0] == "keep" and argv[1] in {"start", "stop", "status", "run"}:
        from ocaptain.worker.keep import run_keeper_command

        return run_keeper_command(places, program, argv[1])
    if argv == ["install"]:
        from ocaptain.worker.install import install

        return install(places, program)
    if argv == ["leave"]:
        from ocaptain.worker.keep import remove_everything

        return remove_everything(places)
    sys.stderr.write(f"usage: {program.name} serve | channel | launcher | window | install | keep … | leave\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
