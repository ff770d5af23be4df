"""``python -m ocaptain.drydock``: the server in the foreground (see :mod:`ocaptain.drydock.serve`)."""

from __future__ import annotations

import argparse
import asyncio
import sys

from ocaptain.drydock.life import COLD_SECONDS, IDLE_SECONDS
from ocaptain.drydock.rootless import become_root
from ocaptain.drydock.serve import build_base, serve
from ocaptain.drydock.server import Options
from ocaptain.errors import OcaptainError


def main() -> None:
    """Serve until a signal or idleness ends it."""
    parser = argparse.ArgumentParser(prog="python -m ocaptain.drydock")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--idle-exit", type=float, default=None)
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--idle", type=float, default=IDLE_SECONDS)
    parser.add_argument("--cold", type=float, default=COLD_SECONDS)
    parser.add_argument("--network", choices=("proxy", "isolated", "host"), default="proxy")
    parser.add_argument("--allow-host-port", type=int, action="append", default=[], dest="ports")
    parser.add_argument("--allow-host", action="append", default=[], dest="hosts")
    parser.add_argument("--layer", action="append", default=[], dest="layers")
    parser.add_argument("--faults", default="")
    parser.add_argument("--ship-memory", type=int, default=None)
    parser.add_argument("--ship-pids", type=int, default=None)
    parser.add_argument("--build-base", action="store_true", help="build the base layer of the ships, then exit")
    given = vars(parser.parse_args())
    given |= {name: tuple(given[name]) for name in ("ports", "hosts", "layers")}
    only_base = given.pop("build_base")
    try:
        become_root()
        if only_base:
            print(asyncio.run(build_base()))  # noqa: T201 - the output of this command
        else:
            asyncio.run(serve(Options(**given)))
    except OcaptainError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
