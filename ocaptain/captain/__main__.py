"""``python -m ocaptain.captain DIRECTORY``: the captain of one voyage, in the foreground."""

from __future__ import annotations

import sys
from pathlib import Path

from ocaptain.captain.process import main

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
