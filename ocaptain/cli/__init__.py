"""The command line: one module a command group. Each parses, calls and renders, nothing else.

Nothing heavy is imported before a command is chosen, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys
import traceback


def main() -> None:
    """Run the command line and end the process with the right exit code."""
    from ocaptain.errors import OcaptainError  # noqa: PLC0415 - see above
    from ocaptain.text import clean  # noqa: PLC0415

    try:
        from ocaptain.cli.app import app  # noqa: PLC0415 - an interrupt may come as early as this

        app(standalone_mode=True)
    except OcaptainError as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"{clean(line)}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone; nothing more can be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:  # noqa: BLE001 - the last resort: a fault of ours, not the user's
        # Its text may hold anything, a token too; the file is the user's own.
        sys.stderr.write(f"internal error: {type(error).__name__}\n{_keep_traceback()}\n")
        sys.exit(1)


def _keep_traceback() -> str:
    """Write the traceback where it can be sent from; return what to tell the user."""
    from ocaptain.config import state_directory  # noqa: PLC0415

    try:
        path = state_directory() / "crash.txt"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_text(traceback.format_exc(), "utf-8")
    except OSError as problem:
        return f"this is a fault of ocaptain; its details could not be kept: {problem}"
    return f"this is a fault of ocaptain; the details are in {path}, please report it"
