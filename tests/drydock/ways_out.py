"""Ways to services of the host from a ship, whoever runs drydock: each must be refused, though the proxy answers."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Each ends with 0 only if the host's service answered, or something of the host's network was seen.
ATTEMPTS = {
    "its loopback": "connect('127.0.0.1', {port})",
    "its loopback by IPv6": "connect('::1', {port})",
    "its own address": "connect('{own}', {port})",
    "its loopback by the proxy": "tunnel('127.0.0.1:{port}')",
    "its loopback by a name": "tunnel('localhost:{port}')",
    "its loopback by a number": "tunnel('2130706433:{port}')",
    "its loopback in IPv6's clothes": "tunnel('[::ffff:127.0.0.1]:{port}')",
    "its loopback by NAT64": "tunnel('[64:ff9b::7f00:1]:{port}')",
    "any of its addresses": "tunnel('0.0.0.0:{port}')",
    "its own address by the proxy": "tunnel('{own}:{port}')",
    "its own address by a plain request": "plain('http://{own}:{port}/')",
    "an abstract socket": "connect(chr(0) + '{name}')",
    "its list of sockets": "assert ':{port:04X} ' in open('/proc/net/tcp').read() + open('/proc/net/tcp6').read()",
    "its list of unix sockets": "assert '@{name}' in open('/proc/net/unix').read()",
    "its interfaces": "assert len(open('/proc/net/dev').read().splitlines()) > 3",
    "an interface that takes packets": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
}
WORDS = """
import json, socket, sys
def greet(one):
    one.settimeout(10); assert b'the host' in one.recv(999)
def connect(place, port=0):
    family = socket.AF_UNIX if not port else socket.AF_INET6 if ':' in place else socket.AF_INET
    one = socket.socket(family); one.settimeout(10); one.connect((place, port) if port else place); greet(one)
def ask(line):
    one = socket.create_connection(('127.0.0.1', 13128), 10)
    one.sendall(line.encode() + b' HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')
    return one, one.recv(999)
def tunnel(place):
    one, said = ask('CONNECT ' + place); assert b' 200 ' in said; greet(one)
def plain(url):
    assert b'the host' in ask('GET ' + url)[1]
reached = []
for what, line in json.loads(sys.argv[1]).items():
    try: exec(line)
    except Exception: continue
    reached.append(what)
print(json.dumps(reached))
"""
#: The proxy is there, and refuses: else silence would prove nothing.
CONTROL = {"the proxy answers": "assert b' 403 ' in ask('CONNECT 10.0.0.1:1')[1]"}


@contextlib.contextmanager
def host_services() -> Iterator[tuple[int, str]]:
    """Serve on all addresses of this machine, and on an abstract socket; yield the port and the socket's name."""
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True))
        port = tcp.getsockname()[1]
        name = f"ocaptain-{port}"
        local = stack.enter_context(socket.socket(socket.AF_UNIX))
        local.bind(f"\0{name}")
        local.listen()

        def serve(listener: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while True:
                    one, _ = listener.accept()
                    with one:
                        one.sendall(b"HTTP/1.0 200 OK\r\n\r\nthis is the host")

        for listener in (tcp, local):
            threading.Thread(target=serve, args=(listener,), daemon=True).start()
        try:
            yield port, name
        finally:
            for listener in (tcp, local):
                listener.shutdown(socket.SHUT_RDWR)


def reached(run: Callable[..., str]) -> list[str]:
    """Return which ways led to the host; ``run(*argv)`` runs a command in a ship and returns what it prints."""
    own = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout.split()
    with host_services() as (port, name):
        facts = {"port": port, "name": name, "own": own[0] if own else "127.0.0.2"}
        tries = {what: line.format(**facts) for what, line in ATTEMPTS.items()}
        from_here = subprocess.run(
            [sys.executable, "-c", WORDS, json.dumps(tries)], capture_output=True, text=True, check=True
        )
        assert {"its loopback", "an abstract socket", "its list of sockets"} <= {*json.loads(from_here.stdout)}
        found: list[str] = json.loads(run("python3", "-c", WORDS, json.dumps({**CONTROL, **tries})))
    assert found[:1] == [*CONTROL], "the proxy does not answer"
    return found[1:]
