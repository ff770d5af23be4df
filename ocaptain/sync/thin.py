"""What Mutagen runs as ``ssh`` or ``scp``: hands its descriptors to the switch, and waits for the exit code.

No byte of data goes through it. It is run by ``python -I -S`` for each connection, so it loads next to nothing.
"""

import json
import os
import socket
import sys


def main(path: str, tool: str, *argv: str) -> int:
    """Return the exit code of a call; 255, as ssh's own, if the switch is gone or ends it."""
    with socket.socket(socket.AF_UNIX) as switch:
        try:
            switch.connect(path)
            call = json.dumps({"tool": tool, "argv": argv, "cwd": os.getcwd()}).encode() + b"\n"  # noqa: PTH109
            if rest := call[socket.send_fds(switch, [call], [0, 1, 2]) :]:  # not even nothing: it may have ended by now
                switch.sendall(rest)
            return (switch.recv(1) or b"\xff")[0]
        except OSError:
            return 255


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
