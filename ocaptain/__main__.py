"""``python -m ocaptain``: the command line."""

from ocaptain.cli import main

if __name__ == "__main__":
    main()
