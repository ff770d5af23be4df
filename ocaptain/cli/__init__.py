"""The command line: one module a command group. Each parses, calls and renders, nothing else.

Nothing heavy is imported before a command is chosen, so that ``--help`` answers at once.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from ocaptain.errors import OcaptainError


def main() -> None:
    """Run the command line and end the process with the right exit code.

    Words go to standard error; a command that was asked for JSON prints one object on standard output,
    in an error too.
    """
    from ocaptain.background import reduce_garbage_collection  # noqa: PLC0415 - see above
    from ocaptain.errors import Interrupted, OcaptainError, UsageError  # noqa: PLC0415

    reduce_garbage_collection()

    # Something printed may hold what this terminal's encoding has not: it is shown, not fatal.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        from ocaptain.cli.app import app, wrong_input  # noqa: PLC0415 - an interrupt may come as early as this

        try:
            sys.exit(app(standalone_mode=False))
        except wrong_input as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # the message is the help itself
                error.show()
                sys.exit(error.exit_code)
            verb = f"{error.ctx.command_path} " if error.ctx else "ocaptain "
            said = error.format_message().replace("Value error, ", "").rstrip(".")
            raise UsageError(f"{said}; see `{verb}--help`") from None
    except OcaptainError as error:
        _end(error)
    except KeyboardInterrupt:
        _end(Interrupted("interrupted"))
    except BrokenPipeError:
        # Whoever read our output has gone; nothing more can be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:  # noqa: BLE001 - the last resort: a fault of ours, not the user's
        # Its text may hold anything, a token too; the file is the user's own.
        _end(OcaptainError(f"internal error: {type(error).__name__}", [_keep_traceback()]))


def _end(error: OcaptainError) -> NoReturn:
    """Say an error, and end with its exit code."""
    from ocaptain.text import clean  # noqa: PLC0415 - see above

    for line in str(error).splitlines():
        sys.stderr.write(f"{clean(line)}\n")
    _say_as_json(error)
    sys.exit(error.exit_code)


def _say_as_json(error: OcaptainError) -> None:
    """Print an error as JSON if that was asked for; the options may be what is wrong, so they are not parsed."""
    words = sys.argv[1:]
    if "--json" in words[: words.index("--") if "--" in words else None]:
        from ocaptain.cli.render import print_json_error  # noqa: PLC0415 - see above

        with contextlib.suppress(OSError):  # whoever read it has gone
            print_json_error(error)
            sys.stdout.flush()


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
