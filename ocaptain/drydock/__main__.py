"""``python -m ocaptain.drydock``: the server in the foreground (see :mod:`ocaptain.drydock.server`)."""

from __future__ import annotations

import argparse
import asyncio
import sys

from ocaptain.drydock.server import Options, serve
from ocaptain.errors import OcaptainError


def main() -> None:
    """Serve until a signal or idleness ends it."""
    parser = argparse.ArgumentParser(prog="python -m ocaptain.drydock")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--idle-exit", type=float, default=None)
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--faults", default="")
    try:
        asyncio.run(serve(Options(**vars(parser.parse_args()))))
    except OcaptainError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
