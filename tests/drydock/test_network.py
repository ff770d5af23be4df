"""The network of ships: what the proxy and opened ports let through on real ships, and what they do not."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

import pytest

from tests.drydock.test_life import put_service
from tests.drydock.ways_out import reached
from tests.helpers import wait_for

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]


class Hello(BaseHTTPRequestHandler):
    """Says hello; a stream that does not end at ``/stream``."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello from " + self.headers["Host"].encode())
        if self.path == "/stream":
            self.wfile.flush()
            self.server.ended.wait(60)

    def log_message(self, *_) -> None:
        pass


@contextlib.contextmanager
def serving(address: str = "127.0.0.1"):
    """Serve on this machine; yield the port."""
    server = ThreadingHTTPServer((address, 0), Hello)
    server.daemon_threads = True
    server.ended = threading.Event()
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()


class Elsewhere:
    """A network namespace of the test's own, joined to this machine's by a private network of two addresses."""

    def __init__(self) -> None:
        self.name = f"oc{uuid.uuid4().hex[:8]}"
        net = f"10.{200 + os.getpid() // 256 % 50}.{os.getpid() % 256}"
        self.near, self.address = f"{net}.1", f"{net}.2"

    def __enter__(self) -> Self:
        link = f"{self.name}n"
        self._run("ip", "netns", "add", self.name)
        self._run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        self._run("ip", "address", "add", f"{self.near}/30", "dev", link)
        self._run("ip", "link", "set", link, "up")
        for words in (("link", "set", "lo", "up"), ("address", "add", f"{self.address}/30", "dev", "eth0")):
            self._run("ip", "-n", self.name, *words)
        self._run("ip", "-n", self.name, "link", "set", "eth0", "up")
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["ip", "link", "del", f"{self.name}n"], check=False)
        self._run("ip", "netns", "del", self.name)

    def command(self, *argv: object) -> list[str]:
        """Return a command that runs in there."""
        return ["ip", "netns", "exec", self.name, *map(str, argv)]

    @staticmethod
    def _run(*argv: str) -> None:
        subprocess.run(argv, check=True, capture_output=True)


#: Serves the current directory by HTTPS on the address and port that it is given.
HTTPS = """import http.server, ssl, sys
server = http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("../cert.pem", "../key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
print("ready", flush=True)
server.serve_forever()
"""


@pytest.fixture
def elsewhere():
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network namespace needs root and iproute2")
    with Elsewhere() as made:
        yield made


@pytest.fixture
def git_server(elsewhere, tmp_path):
    """A git server with HTTPS in a network of its own; yields its URL."""
    served = tmp_path / "served"
    served.mkdir()
    identity = ("-c", "user.name=u", "-c", "user.email=u@x")
    for argv in (
        ("init", "-q", "-b", "main", tmp_path / "work"),
        ("-C", tmp_path / "work", *identity, "commit", "-q", "--allow-empty", "-m", "from elsewhere"),
        ("clone", "-q", "--bare", tmp_path / "work", served / "x.git"),
        ("-C", served / "x.git", "update-server-info"),
    ):
        subprocess.run(["git", *argv], check=True)
    name = f"IP:{elsewhere.address}"
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    out = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem", "-addext", f"subjectAltName={name}"]
    subprocess.run([*new, *out], check=True, capture_output=True)
    assert ssl.create_default_context(cafile=tmp_path / "cert.pem")
    argv = elsewhere.command("python3", "-c", HTTPS, elsewhere.address, 8443)
    with subprocess.Popen(argv, cwd=served, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        try:
            assert server.stdout.readline() == b"ready\n"
            yield f"https://{elsewhere.address}:8443/x.git"
        finally:
            server.kill()


def said(ship, line: str) -> str:
    """Return what a line of shell prints in a ship, errors too."""
    return ship.run("sh", "-c", f"{{ {line}; }} 2>&1", capture_output=True).stdout.decode()


def rules(dock, sprite: str, *given: dict[str, str]) -> int:
    return dock.rest.post(f"/v1/sprites/{sprite}/policy/network", json={"rules": list(given)}).status_code


def test_a_ship_gets_out_by_the_proxy_and_nowhere_else(own, elsewhere, git_server, tmp_path):
    """By default: its own network, a private server only if it was opened, nothing of this machine."""
    dock = own("--allow-host", f"{elsewhere.address}:8443")
    ship = dock.make("fenced")
    dock.rest.put("/v1/sprites/fenced/fs/write?path=/tmp/cert.pem", content=(tmp_path / "cert.pem").read_bytes())
    clone = f"GIT_SSL_CAINFO=/tmp/cert.pem git clone -q {git_server} /tmp/x$$ && git -C /tmp/x$$ log --format=%s"
    assert said(ship, clone) == "from elsewhere\n"
    assert said(ship, "cat /proc/net/dev").count(":") == 1  # its own loopback
    # This machine: by loopback, by its own address, by each spelling; and what the ship's own tools make of it.
    with serving("0.0.0.0") as port:  # all of this machine's addresses
        for host in ("127.0.0.1", "localhost"):
            assert "Failed to connect" in said(ship, f"curl -sS http://{host}:{port}/")
        for host, why in {
            "127.0.0.1": "is a loopback address",
            "127.1": "is a loopback address",
            "2130706433": "is a loopback address",
            "localhost": "is a loopback address",
            "0": "means this machine",
            "[::1]": "means this machine",
            "[::ffff:127.0.0.1]": "is a loopback address",
            "[64:ff9b::7f00:1]": "is a loopback address",
            elsewhere.near: "is this machine's own address",
            f"[::ffff:{elsewhere.near}]": "is this machine's own address",
            "169.254.169.254": "is a link-local address",
            elsewhere.address: "is a private address",  # only port 8443 of it was opened
        }.items():
            asked = f"curl -sS --noproxy '' -x $http_proxy http://{host}:{port}/"
            assert why in said(ship, asked), host
            assert "403" in said(ship, f"curl -sS --noproxy '' -p -x $http_proxy http://{host}:{port}/"), host
        # Past the proxy there is no way at all, to a name server neither.
        for line in (f"connect(('{elsewhere.near}', {port}))", f"connect(('{elsewhere.address}', 8443))"):
            assert "unreachable" in said(ship, f'python3 -c "import socket; socket.socket().{line}"')
        assert "resol" in said(ship, "curl -sS --noproxy '*' http://example.com/")
    for way in ((), ("sudo",)):
        assert reached(lambda *argv, way=way: ship.run(*way, *argv, capture_output=True).stdout) == []
    # Each command, service and program of root finds it.
    variables = "http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY"
    assert said(ship, f"for v in {variables}; do printenv $v; done | wc -l").strip() == "6"
    assert said(ship, f"sudo sh -c 'for v in {variables}; do printenv $v; done' | wc -l").strip() == "6"
    assert "13128" in said(ship, "apt-config dump Acquire::http::Proxy")
    put_service(dock, "fenced", "shows", "sh", ("-c", "env > /tmp/service-env; sleep 60"))
    wait_for(lambda: "https_proxy=" in said(ship, "cat /tmp/service-env"))
    # The policy decides before any of this, and a change cuts what is open. It holds after a restart, too.
    slow = f"curl -sS -k https://{elsewhere.address}:8443/x.git/HEAD"
    assert said(ship, slow) == "ref: refs/heads/main\n"
    assert rules(dock, "fenced", {"domain": "*.example.com", "action": "allow"}) == 204
    assert "403" in said(ship, slow)
    assert rules(dock, "fenced", {"domain": elsewhere.address, "action": "allow"}) == 204
    assert said(ship, slow) == "ref: refs/heads/main\n"
    hold = "import socket as s; c = s.create_connection(('127.0.0.1', 13128));"
    hold += f" c.sendall(b'CONNECT {elsewhere.address}:8443"
    hold += (
        " HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(c.recv(99)[:12].decode(), flush=True); print('cut', c.recv(99))"
    )
    put_service(dock, "fenced", "holds", "sh", ("-c", f'python3 -uc "{hold}" > /tmp/held; sleep 60'))
    wait_for(lambda: "HTTP/1.1 200" in said(ship, "cat /tmp/held"))
    assert rules(dock, "fenced", {"domain": "*", "action": "allow"}) == 204
    wait_for(lambda: "cut b''" in said(ship, "cat /tmp/held"))
    assert dock.rest.post("/v1/sprites/fenced/restart").status_code == 200
    assert "403" in said(ship, slow)  # a bare address needs a rule of its own
    assert rules(dock, "fenced") == 204
    assert said(ship, slow) == "ref: refs/heads/main\n"


def test_ports_of_the_host_are_one_ship_s_and_gone_with_it(own):
    with serving() as first, serving() as second:
        dock = own("--allow-host-port", str(first))
        one, two = dock.make("one"), dock.make("two")

        def get(ship, port):
            return said(ship, f"curl -sS http://127.0.0.1:{port}/")

        def put(*ports, status=200):
            reply = dock.rest.put("/drydock/sprites/one/ports", json={"ports": ports})
            assert reply.status_code == status, reply.text

        assert get(one, first) == f"hello from 127.0.0.1:{first}"
        assert "Failed" in get(one, second)
        put(second)
        assert get(one, second) == f"hello from 127.0.0.1:{second}"
        assert "Failed" in get(two, second)
        assert dock.rest.post("/v1/sprites/one/restart").status_code == 200
        assert get(one, second) == f"hello from 127.0.0.1:{second}"
        put(70000, status=400)
        put(13128, status=400)
        assert dock.rest.put("/drydock/sprites/none/ports", json={"ports": []}).status_code == 404
        put()
        assert "Failed" in get(one, second)
        assert get(one, first) == f"hello from 127.0.0.1:{first}"
        put(second)
        dock.sdk.delete_sprite("one")
        again = dock.make("one")
        assert "Failed" in get(again, second)


def test_on_the_host_s_network_a_policy_is_refused(own):
    """It cannot be enforced there; none is what there is."""
    dock = own("--network", "host")
    with serving() as port:
        ship = dock.make("open")
        assert said(ship, f"curl -sS http://127.0.0.1:{port}/") == f"hello from 127.0.0.1:{port}"
        assert (
            said(ship, "printenv http_proxy; test ! -e /etc/apt/apt.conf.d/zz-drydock-proxy && echo none") == "none\n"
        )
    assert rules(dock, "open", {"domain": "a.example", "action": "deny"}) == 501
    assert rules(dock, "open") == 204
    assert dock.rest.get("/v1/sprites/open/policy/network").json() == {"rules": []}


def asked(*argv: str) -> str:
    """Return what a program says of its configuration, "" if it says nothing."""
    if shutil.which(argv[0]) is None:
        return ""
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()


def registries() -> dict[str, str]:
    """Return where this machine's package managers get their packages: URLs, by the manager's name."""
    apt = [line for line in asked("apt-get", "indextargets", "--format", "$(SITE)").splitlines() if "://" in line]
    index = re.search(r"index.url='(.+)'", asked(sys.executable, "-m", "pip", "config", "list"))
    public = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    own = os.environ.get("PIP_INDEX_URL") or (index and index[1])
    found = {
        "apt-get": apt[0] if apt else "",
        "pip": own or asked(sys.executable, "-c", public),
        "npm": asked("npm", "config", "get", "registry"),
    }
    return {name: url for name, url in found.items() if url}


def target(url: str) -> tuple[str, int]:
    """Return host and port of a URL."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or {"http": 80}.get(parts.scheme, 443)


def is_reached(url: str) -> bool:
    """Whether this machine reaches the server of a URL."""
    with contextlib.suppress(OSError), socket.create_connection(target(url), timeout=10):
        return True
    return False


INSTALL = {
    "apt-get": "get='sudo apt-get -qy'; { $get install hello || { $get update && $get install hello; }; } && hello",
    "pip": "python3 -m venv /tmp/v && /tmp/v/bin/pip install -q six && /tmp/v/bin/python -c 'import six'",
    "npm": "cd /tmp && npm install --no-audit --no-fund left-pad && test -d node_modules/left-pad",
}


def test_packages_are_installed_through_the_proxy(own):
    """As this machine gets them: where that is by a mirror with a private address, the mirror is opened."""
    found = {name: url for name, url in registries().items() if is_reached(url)}
    if not found:
        pytest.skip("this machine reaches no package registry")
    hosts = {f"{host}:{port}" for host, port in map(target, found.values())}
    dock = own(*(word for host in sorted(hosts) for word in ("--allow-host", host)))
    ship = dock.make("installs")
    names = ("PIP_", "npm_config_", "NPM_CONFIG_", "SSL_CERT_", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE")
    environment = {name: value for name, value in os.environ.items() if name.startswith(names) and value}
    for name in found:
        done = ship.run("sh", "-c", INSTALL[name], capture_output=True, env=environment)
        assert done.returncode == 0, (name, done.stdout[-800:], done.stderr[-800:])
    # Without the proxy none of them is reached.
    host, port = target(found["pip"] if "pip" in found else next(iter(found.values())))
    assert ship.run("curl", "-sS", "--noproxy", "*", f"https://{host}:{port}/", capture_output=True).returncode == 6
