"""Commands to a voyage: executed by its captain or, if none is running, here under the captain's lock.

    command ──unix socket──> captain ──┐
       └──no captain: its lock, a new epoch──┴──> carry_out(command, ledger) ──> answer

A command may be repeated: one that was executed before has no further effect. The socket is in the
voyage's directory (0600; :mod:`.socket_location` handles paths that are too long), and the other end's
user must be ours.
"""

from ocaptain.control.ask import CaptainSilent, ask, stop_captain
from ocaptain.control.commands import Answer, Command, carry_out

__all__ = ["Answer", "CaptainSilent", "Command", "ask", "carry_out", "stop_captain"]
