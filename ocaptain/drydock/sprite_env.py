"""``sprite-env``: what a sprite may do with itself, through ``/.sprite/api.sock``.

Runs inside a ship with whatever Python it has (3.9 and later), so it uses the standard library alone.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import sys

SOCKET = "/.sprite/api.sock"


class Connection(http.client.HTTPConnection):
    """HTTP over the sprite's own socket."""

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(SOCKET)


def call(method: str, path: str, body: str | None = None) -> int:
    """Make a call and pass its answer on as it comes; return the exit code."""
    connection = Connection("sprite")
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        good = reply.status < 400
        out = (sys.stdout if good else sys.stderr).buffer
        last = b"\n"
        for piece in iter(lambda: reply.read1(65536), b""):
            out.write(piece)
            out.flush()
            last = piece
        if not last.endswith(b"\n"):
            out.write(b"\n")
    except OSError as error:
        sys.stderr.write(f"sprite-env: {SOCKET}: {error}\n")
        return 1
    else:
        return 0 if good else 1
    finally:
        connection.close()


def listed(text: str | None) -> list[str]:
    """Return the parts of a comma-separated list."""
    return [part for part in (text or "").split(",") if part]


def definition(given: argparse.Namespace) -> dict[str, object]:
    """Return the body that defines a service."""
    pairs = [part.partition("=") for part in listed(given.env)]
    body: dict[str, object] = {
        "cmd": given.cmd,
        "args": listed(given.args),
        "env": {name: value for name, _, value in pairs},
        "needs": listed(given.needs),
    }
    if given.dir:
        body["dir"] = given.dir
    if given.http_port:
        body["http_port"] = given.http_port
    return body


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="sprite-env")
    areas = top.add_subparsers(dest="area", required=True)
    services = areas.add_parser("services").add_subparsers(dest="verb", required=True)
    services.add_parser("list")
    for verb in ("get", "start", "stop", "restart", "delete", "logs"):
        one = services.add_parser(verb)
        one.add_argument("name")
        one.add_argument("--duration", default="5s" if verb != "logs" else "0s")
        one.add_argument("--timeout", default="10s")
        one.add_argument("--lines", default="100")
    signalled = services.add_parser("signal")
    signalled.add_argument("name")
    signalled.add_argument("signal")
    create = services.add_parser("create")
    create.add_argument("name")
    create.add_argument("--cmd", required=True)
    for option in ("--args", "--env", "--dir", "--needs"):
        create.add_argument(option)
    create.add_argument("--http-port", type=int)
    create.add_argument("--duration", default="5s")
    create.add_argument("--no-stream", action="store_true")
    checkpoints = areas.add_parser("checkpoints").add_subparsers(dest="verb", required=True)
    checkpoints.add_parser("list")
    checkpoints.add_parser("create").add_argument("--comment", default="")
    for verb in ("get", "restore", "delete"):
        checkpoints.add_parser(verb).add_argument("name")
    areas.add_parser("curl", help="call the socket: [-X METHOD] [-d BODY] PATH")
    return top


def joined(words: list[str]) -> list[str]:
    """Return the words with ``--args -m,x`` as ``--args=-m,x``: a value may begin with a hyphen."""
    found: list[str] = []
    for word in words:
        if found and found[-1] == "--args":
            found[-1] += "=" + word
        else:
            found.append(word)
    return found


def on_services(given: argparse.Namespace) -> int:
    """Carry out ``sprite-env services …``."""
    place = "/v1/services"
    if given.verb == "list":
        return call("GET", place)
    if given.verb == "signal":
        return call("POST", place + "/signal", json.dumps({"name": given.name, "signal": given.signal}))
    one = f"{place}/{given.name}"
    if given.verb == "create":
        seconds = "0s" if given.no_stream else given.duration
        return call("PUT", f"{one}?duration={seconds}", json.dumps(definition(given)))
    if given.verb in ("get", "delete"):
        return call("GET" if given.verb == "get" else "DELETE", one)
    if given.verb == "logs":
        return call("GET", f"{one}/logs?lines={given.lines}&duration={given.duration}")
    return call("POST", f"{one}/{given.verb}?duration={given.duration}&timeout={given.timeout}")


def on_checkpoints(given: argparse.Namespace) -> int:
    """Carry out ``sprite-env checkpoints …``."""
    if given.verb == "list":
        return call("GET", "/v1/checkpoints")
    if given.verb == "create":
        return call("POST", "/v1/checkpoint", json.dumps({"comment": given.comment}))
    one = "/v1/checkpoints/" + given.name
    if given.verb == "restore":
        return call("POST", one + "/restore")
    return call("GET" if given.verb == "get" else "DELETE", one)


def on_curl(words: list[str]) -> int:
    """Carry out ``sprite-env curl [-X METHOD] [-d BODY] PATH``; of curl's options no others."""
    reader = argparse.ArgumentParser(prog="sprite-env curl")
    reader.add_argument("-X", "--request")
    reader.add_argument("-d", "--data")
    reader.add_argument("-H", "--header", action="append")
    reader.add_argument("-s", "--silent", action="store_true")
    reader.add_argument("path")
    asked = reader.parse_args(words)
    path = asked.path.replace("http://sprite", "", 1)
    return call(asked.request or ("POST" if asked.data is not None else "GET"), path, asked.data)


def main() -> int:
    """Carry out the command line; return the exit code."""
    words = sys.argv[1:]
    if words[:1] == ["curl"]:
        return on_curl(words[1:])
    given = parser().parse_args(joined(words))
    return on_services(given) if given.area == "services" else on_checkpoints(given)


if __name__ == "__main__":
    sys.exit(main())
