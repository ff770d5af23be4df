"""The command line: one module for each command group. Each parses, calls and renders, nothing else.

Nothing heavy is imported before a command is chosen, so that ``--help`` answers at once.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from ocaptain.errors import OcaptainError


def main() -> None:
    """Run the command line and end the process with the right exit code.

    Messages go to standard error; a command with ``--json`` prints one object on standard output,
    also when it fails.
    """
    from ocaptain.background import reduce_garbage_collection  # noqa: PLC0415 - see above
    from ocaptain.cli.interrupts import ignore_interrupts, take_interrupts_once  # noqa: PLC0415
    from ocaptain.cli.streams import EXIT_NO_READER, ReaderGone, correct_environment, prepare_streams  # noqa: PLC0415
    from ocaptain.environment import ignore_python_settings  # noqa: PLC0415
    from ocaptain.errors import Interrupted, OcaptainError  # noqa: PLC0415

    take_interrupts_once()
    ignore_python_settings()
    reduce_garbage_collection()
    correct_environment(os.environ)
    prepare_streams()
    if "_OCAPTAIN_COMPLETE" in os.environ:
        from ocaptain.cli.complete import answer_shell  # noqa: PLC0415 - a shell asks, at each TAB

        answer_shell()
        return
    try:
        try:
            code = _run_app()
            sys.stdout.flush()  # here, not at the end of the process: an error of it is shown as any other
        except OcaptainError as error:
            _exit_with(error)
        except KeyboardInterrupt:
            _exit_with(Interrupted("interrupted"))
        except ReaderGone:
            raise
        except Exception as error:  # noqa: BLE001 - the last resort: a fault of ours, not the user's
            # Its text may hold anything, even a token: it goes to a file that only the user can read.
            _exit_with(OcaptainError(f"internal error: {type(error).__name__}", [_save_traceback()]))
    except ReaderGone:
        ignore_interrupts()
        sys.exit(EXIT_NO_READER)
    gc.freeze()  # nothing is searched for garbage at the end of the process: that takes a tenth of a short one's time
    ignore_interrupts()
    sys.exit(code)


def _run_app() -> int | None:
    """Run the command that the arguments name; return its exit code, None for 0."""
    from ocaptain.cli.about import asked_help  # noqa: PLC0415 - an interrupt may come as early as this
    from ocaptain.cli.app import app, click_exception  # noqa: PLC0415
    from ocaptain.cli.command import explain  # noqa: PLC0415
    from ocaptain.cli.startup import build_program  # noqa: PLC0415
    from ocaptain.errors import UsageError  # noqa: PLC0415

    program = build_program(app)
    if help_text := asked_help(program, sys.argv[1:]):
        sys.stdout.write(f"{help_text}\n")
        return None
    try:
        code: int | None = program.main(prog_name="ocaptain", standalone_mode=False)
    except click_exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # the message is the help itself
            error.show()
            return int(error.exit_code)
        raise UsageError(explain(error, program, sys.argv[1:])) from None
    return code


def _exit_with(error: OcaptainError) -> NoReturn:
    """Print an error and exit with its exit code."""
    from ocaptain.cli.interrupts import ignore_interrupts  # noqa: PLC0415 - see above
    from ocaptain.cli.streams import ReaderGone  # noqa: PLC0415
    from ocaptain.errors import OcaptainError  # noqa: PLC0415
    from ocaptain.text import escape_control  # noqa: PLC0415

    ignore_interrupts()
    for line in str(error).splitlines():
        if line.startswith("next: ") and sys.stderr.isatty():
            from ocaptain.cli.render import print_next  # noqa: PLC0415 - likewise

            print_next(line)
        else:
            sys.stderr.write(f"{escape_control(line)}\n")
    with contextlib.suppress(OcaptainError, ReaderGone):  # standard output may be what cannot be written
        _print_json_if_asked(error)
        sys.stdout.flush()
    sys.exit(error.exit_code)


def _print_json_if_asked(error: OcaptainError) -> None:
    """Print an error as JSON if ``--json`` was given. The options may be the error, so they are not parsed here."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["exec"]:
        return  # its standard output is another command's, and so may be the word
    if "--json" in arguments[: arguments.index("--") if "--" in arguments else None]:
        from ocaptain.cli.render import print_json_error  # noqa: PLC0415 - see above

        print_json_error(error)


def _save_traceback() -> str:
    """Write the current traceback to a file; return the line that tells the user where."""
    from ocaptain.sources import state_directory  # noqa: PLC0415

    try:
        path = state_directory() / "crash.txt"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_text(traceback.format_exc(), "utf-8")
    except OSError as problem:
        return f"this is a bug in ocaptain; its traceback could not be saved: {problem}"
    return f"this is a bug in ocaptain; please report it with the traceback in {path}"
