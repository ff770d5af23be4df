"""What no ship may do, whoever runs drydock: attempts, each of which must be refused.

``{pid}`` is a process of the host's own, ``{home}`` the home of whoever runs drydock, ``{other}`` a
number that only a command of another ship has.
"""

from __future__ import annotations

from pathlib import Path

PTRACE = (
    "import ctypes, os, sys; libc = ctypes.CDLL(None, use_errno=True);"
    "sys.exit(0 if libc.ptrace(16, {pid}, 0, 0) == 0 else 1)"
)
#: Each ends with 0 only if it got what it must not get.
ATTEMPTS = {
    "signal a process of the host": "kill -0 {pid}",
    "kill everything outside": "kill -KILL -{pid}",
    "trace a process of the host": f"python3 -c '{PTRACE}'",
    "see a process of the host": "test -d /proc/{pid}",
    "read its environment": "cat /proc/{pid}/environ",
    "read the init's memory": "head -c 1 /proc/1/mem",
    "see another ship's command": "ps axww | grep -v grep | grep -q {other}",
    "read the user's home": "ls {home}",
    "go there by the init's root": "ls /proc/1/root{home}",
    "go there by the init's directory": "ls /proc/1/cwd{home}",
    "write where programs of the host are": "echo x > /proc/1/root{home}/x",
    "write a kernel setting": "echo x > /proc/sys/kernel/core_pattern",
    "change the machine's name": "hostname evil",
    "mount": "mount -t tmpfs x /mnt",
    "see what is kept of sprites": "find / -xdev -name sprite.json 2>/dev/null | grep -q .",
    "read what the host's users put aside": "ls /var/tmp/.ocaptain-isolation-{pid}",
    "use the host's disk": "ls /dev/sd* /dev/vd* /dev/nvme* /dev/loop0 2>/dev/null | grep -q .",
    "join another namespace": "nsenter -t 1 -n true && nsenter -t 1 -m --mount=/proc/1/ns/mnt ls {home}",
}


def attempts(*, pid: int, home: str, other: str) -> dict[str, str]:
    """Return the shell lines."""
    return {what: line.format(pid=pid, home=home, other=other) for what, line in ATTEMPTS.items()}


def succeeded(run, *, sudo: bool, **facts) -> list[str]:
    """Return which attempts were not refused; ``run(line)`` returns the exit code of a line inside."""
    found = []
    aside = Path(f"/var/tmp/.ocaptain-isolation-{facts['pid']}")
    aside.touch()
    try:
        for what, line in attempts(**facts).items():
            quoted = line.replace("'", "'\\''")
            targets = (line, *((f"sudo -n sh -c '{quoted}'",) if sudo else ()))
            found += [f"{what}: {way}" for way in targets if run(f"{{ {way}; }} >/dev/null 2>&1") == 0]
    finally:
        aside.unlink()
    return found
