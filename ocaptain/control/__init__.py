"""What can be done to a voyage: asked of its captain, or, if none lives, done under its lock.

    command ──unix socket──> captain ──┐
       └──no captain: its lock, a new epoch──┴──> carry_out(command, ledger) ──> answer

A command has an id and may be repeated at will: what is done already is done. The socket is in the
voyage's directory (0600; :mod:`.place` says how that goes where its path is too long), and the other end's
user must be ours.
"""

from ocaptain.control.ask import ask, stop
from ocaptain.control.commands import Answer, Command, carry_out

__all__ = ["Answer", "Command", "ask", "carry_out", "stop"]
