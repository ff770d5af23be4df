"""``sprite-env``: the command by which a sprite manages itself, through ``/.sprite/api.sock``.

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
        """Connect to the sprite's socket; called by ``http.client``."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(SOCKET)


def send_request(method: str, path: str, body: str | None = None) -> int:
    """Send a request and print the reply while it arrives; return the exit code."""
    connection = Connection("sprite")
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        is_success = reply.status < 400
        out = (sys.stdout if is_success else sys.stderr).buffer
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
        return 0 if is_success else 1
    finally:
        connection.close()


def split_list(text: str | None) -> list[str]:
    """Return the parts of a comma-separated list."""
    return [part for part in (text or "").split(",") if part]


def service_definition(options: argparse.Namespace) -> dict[str, object]:
    """Return the request body that defines a service."""
    pairs = [part.partition("=") for part in split_list(options.env)]
    body: dict[str, object] = {
        "cmd": options.cmd,
        "args": split_list(options.args),
        "env": {name: value for name, _, value in pairs},
        "needs": split_list(options.needs),
    }
    if options.dir:
        body["dir"] = options.dir
    if options.http_port:
        body["http_port"] = options.http_port
    return body


def build_parser() -> argparse.ArgumentParser:
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
    areas.add_parser("info", help="name, URL and version")
    areas.add_parser("curl", help="call the socket: [-X METHOD] [-d BODY] PATH")
    return top


def join_args_option(words: list[str]) -> list[str]:
    """Return the words with ``--args -m,x`` joined to ``--args=-m,x``, since the value may begin with a hyphen."""
    found: list[str] = []
    for word in words:
        if found and found[-1] == "--args":
            found[-1] += "=" + word
        else:
            found.append(word)
    return found


def run_services_command(options: argparse.Namespace) -> int:
    """Carry out ``sprite-env services …``."""
    path = "/v1/services"
    if options.verb == "list":
        return send_request("GET", path)
    if options.verb == "signal":
        return send_request("POST", path + "/signal", json.dumps({"name": options.name, "signal": options.signal}))
    service_path = f"{path}/{options.name}"
    if options.verb == "create":
        seconds = "0s" if options.no_stream else options.duration
        return send_request("PUT", f"{service_path}?duration={seconds}", json.dumps(service_definition(options)))
    if options.verb in ("get", "delete"):
        return send_request("GET" if options.verb == "get" else "DELETE", service_path)
    if options.verb == "logs":
        return send_request("GET", f"{service_path}/logs?lines={options.lines}&duration={options.duration}")
    return send_request("POST", f"{service_path}/{options.verb}?duration={options.duration}&timeout={options.timeout}")


def run_checkpoints_command(options: argparse.Namespace) -> int:
    """Carry out ``sprite-env checkpoints …``."""
    if options.verb == "list":
        return send_request("GET", "/v1/checkpoints")
    if options.verb == "create":
        return send_request("POST", "/v1/checkpoint", json.dumps({"comment": options.comment}))
    checkpoint_path = "/v1/checkpoints/" + options.name
    if options.verb == "restore":
        return send_request("POST", checkpoint_path + "/restore")
    return send_request("GET" if options.verb == "get" else "DELETE", checkpoint_path)


def run_curl_command(words: list[str]) -> int:
    """Carry out ``sprite-env curl [-X METHOD] [-d BODY] PATH``; no other options of curl."""
    reader = argparse.ArgumentParser(prog="sprite-env curl")
    reader.add_argument("-X", "--request")
    reader.add_argument("-d", "--data")
    reader.add_argument("-H", "--header", action="append")
    reader.add_argument("-s", "--silent", action="store_true")
    reader.add_argument("path")
    options = reader.parse_args(words)
    path = options.path.replace("http://sprite", "", 1)
    return send_request(options.request or ("POST" if options.data is not None else "GET"), path, options.data)


def main() -> int:
    """Carry out the command line; return the exit code."""
    words = sys.argv[1:]
    if words[:1] == ["curl"]:
        return run_curl_command(words[1:])
    options = build_parser().parse_args(join_args_option(words))
    if options.area == "info":
        return send_request("GET", "/v1/info")
    return run_services_command(options) if options.area == "services" else run_checkpoints_command(options)


if __name__ == "__main__":
    sys.exit(main())
