"""``python -m ocaptain.drydock``: the server in the foreground (see :mod:`ocaptain.drydock.server`)."""

from __future__ import annotations

import argparse
import asyncio
import sys

from ocaptain.drydock.errors import DrydockError
from ocaptain.drydock.server import serve


def main() -> None:
    """Serve until a signal or idleness ends it."""
    parser = argparse.ArgumentParser(prog="python -m ocaptain.drydock")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--idle-exit", type=float, default=None)
    given = parser.parse_args()
    try:
        asyncio.run(serve(port=given.port, idle_exit=given.idle_exit))
    except DrydockError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
