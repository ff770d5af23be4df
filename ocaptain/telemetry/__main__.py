"""``python -m ocaptain.telemetry PORT``: the receiver of this machine, in the foreground."""

from __future__ import annotations

import logging
import os
import sys

from ocaptain.config import load_settings
from ocaptain.telemetry.configured import configured_collector, known_secrets
from ocaptain.telemetry.receiver import serve


def main() -> int:
    """Receive until a signal comes; return the exit code."""
    os.umask(0o077)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z"
    )
    for noisy in ("httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    settings = load_settings()
    return serve(int(sys.argv[1]), configured_collector(settings), known_secrets(settings))


if __name__ == "__main__":
    sys.exit(main())
