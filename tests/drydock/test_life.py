"""Running, warm and cold; what keeps a sprite awake; what outlives a pause, a restart, a killed server."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import socket
import time
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import sprites as sdk
from websockets.sync.client import connect

from tests.helpers import Sailor, in_a_ship, wait_for

pytestmark = pytest.mark.root
#: Seconds, which are put forward and not waited for: a busy machine may need some between two calls.
IDLE, COLD = 20.0, 80.0


class Dock:
    """A drydock of a test's own, by REST, SDK and raw sockets."""

    def __init__(self, home, *options, env=None):
        self.sailor = Sailor(home)
        self.sailor.env.update(env or {})
        self.record = self.sailor.json("drydock", "start", *options)
        self.token = Path(self.record["token_file"]).read_text()
        self.rest = httpx.Client(
            base_url=self.record["url"],
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=240,
            trust_env=False,
        )
        self.sdk = sdk.SpritesClient(self.token, base_url=self.record["url"])

    def make(self, name, **body):
        reply = self.rest.post("/v1/sprites", json={"name": name, **body})
        assert reply.status_code == 201, reply.text
        return self.sdk.sprite(name)

    def status(self, name):
        return self.rest.get(f"/v1/sprites/{name}").json()["status"]

    def advance(self, seconds):
        """Put the clock of pauses forward; return how many sprites are in which state then."""
        return self.rest.post("/drydock/clock", json={"advance": seconds}).json()

    def until(self, name, status):
        """Put the clock forward in small steps until it is so."""

        def look():
            if self.status(name) == status:
                return True
            self.advance(IDLE / 2)
            return False

        wait_for(look)

    def socket(self, path):
        url = self.record["url"].replace("http", "ws") + path
        headers = {"Authorization": f"Bearer {self.token}"}
        return connect(url, additional_headers=headers, compression=None, proxy=None)

    def folder(self, name):
        """Where the sprite's disk is on the host: looking there wakes nothing."""
        for path in (self.sailor.home / "state/ocaptain/drydock/sprites").iterdir():
            if json.loads((path / "sprite.json").read_text())["body"]["name"] == name:
                return path
        raise AssertionError(name)

    def stored(self, name):
        """What is stored of the sprite on the disk."""
        return json.loads((self.folder(name) / "sprite.json").read_text())

    def end(self):
        self.rest.close()
        self.sdk.close()
        self.sailor.run("drydock", "stop", "--force")
        wait_for(lambda: not self.sailor.leftovers())


@pytest.fixture(scope="module")
def dock(tmp_path_factory):
    made = Dock(tmp_path_factory.mktemp("life"), "--idle", str(IDLE), "--cold", str(COLD))
    yield made
    made.end()


COUNT = "import time\nwhile True:\n    open('/home/sprite/count', 'a').write('x'); time.sleep(0.02)"


def put_service(dock, name, service="count", cmd="python3", args=("-c", COUNT), **more):
    body = {"cmd": cmd, "args": list(args), **more}
    reply = dock.rest.put(f"/v1/sprites/{name}/services/{service}?duration=0.3s", json=body)
    assert reply.status_code == 200, reply.text


def test_idle_goes_warm_then_cold_and_a_request_wakes_it(dock):
    began = time.monotonic()
    sprite = dock.make("sleeper")
    assert sprite.run("sh", "-c", "echo kept > /home/sprite/kept; echo gone > /tmp/gone").returncode == 0
    put_service(dock, "sleeper")
    count = dock.folder("sleeper") / "home/sprite/count"
    wait_for(lambda: count.exists() and count.stat().st_size > 0)
    dock.until("sleeper", "warm")
    size = count.stat().st_size
    time.sleep(0.3)
    assert count.stat().st_size == size  # frozen
    record = json.loads((dock.folder("sleeper") / "sprite.json").read_text())
    init = Path(f"/proc/{record['processes'][1]['pid']}/stat")
    assert init.read_text().rpartition(")")[2].split()[0] == "T"  # and the init, which may be a program of the ship's
    assert sprite.run("true").returncode == 0
    assert dock.status("sleeper") == "running"
    wait_for(lambda: count.stat().st_size > size)  # and the same process goes on
    before = dock.rest.get("/v1/sprites/sleeper/services/count").json()["state"]
    dock.until("sleeper", "cold")
    done = sprite.run("sh", "-c", "cat /home/sprite/kept; ls /tmp", capture_output=True)
    assert done.stdout == b"kept\n"  # the disk is kept, /tmp is not
    after = dock.rest.get("/v1/sprites/sleeper/services/count").json()["state"]
    assert after["status"] == "running"  # the service came back by itself
    assert after["pid"] != before["pid"]
    metrics = dock.rest.get("/drydock/metrics").json()
    assert 0 < metrics["awake_seconds"]["sleeper"] < time.monotonic() - began + 3 * IDLE + 10  # not while it was warm
    dock.sdk.delete_sprite("sleeper")


def test_looking_at_a_sprite_does_not_wake_it(dock):
    dock.make("looked-at")
    dock.until("looked-at", "warm")
    shown = dock.rest.get("/v1/sprites/looked-at").json()
    assert shown["status"] == "warm"
    assert shown["created_at"] <= shown["last_started_at"] <= shown["last_active_at"]
    assert dock.rest.get("/v1/sprites/looked-at").json()["last_active_at"][:-5] == shown["last_active_at"][:-5]
    page = dock.rest.get("/v1/sprites", params={"prefix": "looked-at"}).json()
    assert [one["status"] for one in page["sprites"]] == ["warm"]
    assert page["warm"] == page["org"]["warm"] >= 1
    assert dock.rest.put("/v1/sprites/looked-at", json={"labels": ["x"]}).json()["status"] == "warm"
    assert dock.rest.get("/v1/sprites/looked-at/policy/network").json() == {"rules": []}
    assert dock.status("looked-at") == "warm"
    dock.sdk.delete_sprite("looked-at")


def test_an_attached_command_keeps_it_awake_and_a_detached_one_does_not(dock):
    dock.make("held")
    query = "cmd=sleep&cmd=60&max_run_after_disconnect=100s"
    with dock.socket(f"/v1/sprites/held/exec?{query}") as socket:
        session = json.loads(socket.recv())["session_id"]
        assert dock.advance(2.5 * IDLE)["running"] >= 1
        assert dock.status("held") == "running"
    dock.until("held", "warm")
    listed = dock.rest.get("/v1/sprites/held/exec").json()["sessions"]  # wakes it
    assert [one["id"] for one in listed] == [session]
    dock.until("held", "cold")
    assert dock.rest.get("/v1/sprites/held/exec").json()["sessions"] == []  # cold kills it
    dock.sdk.delete_sprite("held")


def test_a_terminal_that_nobody_watches_keeps_it_awake_while_it_talks(dock):
    dock.make("talker")
    line = "until [ -e ~/quiet ]; do echo x; echo x >> ~/said; sleep 0.1; done; sleep 600"
    with dock.socket(f"/v1/sprites/talker/exec?tty=true&cmd=sh&cmd=-c&cmd={quote(line)}") as socket:
        socket.recv()
    said = dock.folder("talker") / "home/sprite/said"
    for _ in range(4):
        before = said.stat().st_size if said.exists() else 0
        wait_for(lambda before=before: said.exists() and said.stat().st_size > before + 4)
        dock.advance(0.6 * IDLE)
    assert dock.status("talker") == "running"
    said.with_name("quiet").touch()
    dock.until("talker", "warm")
    dock.sdk.delete_sprite("talker")


def test_a_task_of_its_own_keeps_it_awake_until_it_expires(dock):
    sprite = dock.make("tasked")

    def ask(*words):
        done = sprite.run("sprite-env", "curl", *words, capture_output=True)
        return done.returncode, json.loads(done.stdout or done.stderr or b"{}")

    code, made = ask("-X", "POST", "/v1/tasks", "-d", json.dumps({"name": "a", "expire": 1000}))
    assert (code, made["name"]) == (0, "a")
    assert ask("-X", "POST", "/v1/tasks", "-d", json.dumps({"name": "a", "expire": 1000}))[0] == 1  # taken
    assert ask("-X", "PUT", "/v1/tasks/a", "-d", json.dumps({"expire": "1000s"}))[0] == 0
    assert ask("-X", "PUT", "/v1/tasks", "-d", json.dumps({"name": "b", "expire": "20m"}))[0] == 0
    assert ask("-X", "PUT", "/v1/tasks/c", "-d", json.dumps({"expire": "61m"}))[1]["error"] == "invalid_request"
    assert [one["name"] for one in ask("/v1/tasks")[1]["tasks"]] == ["a", "b"]
    assert ask("-X", "DELETE", "/v1/tasks/b")[0] == 0
    assert ask("/v1/tasks/b")[0] == 1
    dock.advance(2 * IDLE)
    assert dock.status("tasked") == "running"
    dock.advance(1000 - 2 * IDLE)
    dock.until("tasked", "warm")
    # Nobody outside reaches them.
    assert dock.rest.get("/v1/sprites/tasked/tasks").status_code == 404
    dock.sdk.delete_sprite("tasked")


def test_what_was_stopped_before_a_pause_stays_stopped(dock):
    sprite = dock.make("stopped")
    sprite.run("sh", "-c", "setsid sh -c 'echo $$ > ~/pid; kill -STOP $$; touch ~/went-on' >/dev/null 2>&1 &")
    wait_for(lambda: (dock.folder("stopped") / "home/sprite/pid").exists())
    dock.until("stopped", "warm")
    done = sprite.run("sh", "-c", "cut -d' ' -f3 /proc/$(cat ~/pid)/stat; ls ~", capture_output=True)
    assert done.stdout.split() == [b"T", b"pid"]
    dock.sdk.delete_sprite("stopped")


def test_sprite_env_and_services_from_inside(dock):
    sprite = dock.make("inner")
    done = sprite.run(
        *("sprite-env", "services", "create", "web", "--cmd", "python3", "--args", "-u,-m,http.server,18943"),
        *("--http-port", "18943", "--dir", "/tmp", "--env", "A=1,B=2", "--duration", "1s"),
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    kinds = [json.loads(line)["type"] for line in done.stdout.splitlines()]
    assert kinds[0] == "started"
    assert kinds[-1] == "complete"
    listed = dock.rest.get("/v1/sprites/inner/services").json()
    assert [(one["name"], one["env"], one["http_port"]) for one in listed] == [("web", {"A": "1", "B": "2"}, 18943)]
    info = sprite.run("sprite-env", "info", capture_output=True).stdout.decode().splitlines()
    shown = dock.rest.get("/v1/sprites/inner")
    version = shown.headers["sprite-version"]
    assert info == ["name: inner", f"url: {shown.json()['url']}", f"version: {version}"]
    second = sprite.run(
        "sprite-env", "services", "create", "two", "--cmd", "true", "--http-port", "1", capture_output=True
    )
    assert second.returncode == 1
    assert b"another service already has an HTTP port configured" in second.stderr
    wait_for(lambda: b"Serving HTTP" in sprite.run("cat", "/.sprite/logs/services/web.log", capture_output=True).stdout)
    assert sprite.run("sprite-env", "services", "stop", "web", capture_output=True).returncode == 0
    told = sprite.run("sprite-env", "checkpoints", "create", "--comment", "c", capture_output=True)
    assert json.loads(told.stdout.splitlines()[-1])["data"] == "Checkpoint v1 created"
    assert dock.rest.post("/v1/sprites/inner/restart").json()["sprite_name"] == "inner"
    state = dock.rest.get("/v1/sprites/inner/services/web").json()["state"]
    assert state["status"] == "stopped"  # a stop is sticky
    log = sprite.run("cat", "/.sprite/logs/services/web.log", capture_output=True).stdout
    assert b" [stdout] Serving HTTP" in log or b" [stderr] Serving HTTP" in log
    told = dock.rest.get("/v1/sprites/inner/services/web/logs?lines=5").text.splitlines()
    assert any("Serving HTTP" in line for line in told)
    dock.sdk.delete_sprite("inner")


def test_services_start_in_the_order_of_their_needs(dock):
    dock.make("ordered")
    for name, needs in (("app", ["db"]), ("db", ["disk"]), ("disk", [])):
        line = f"echo {name} >> /home/sprite/order; sleep 60"
        put_service(dock, "ordered", name, "sh", ("-c", line), needs=needs)
    order = dock.folder("ordered") / "home/sprite/order"
    wait_for(lambda: order.exists() and {*order.read_text().split()} == {"disk", "db", "app"})
    order.unlink()
    dock.rest.post("/v1/sprites/ordered/restart")
    wait_for(lambda: order.exists() and {*order.read_text().split()} == {"disk", "db", "app"})
    started = [
        dock.rest.get(f"/v1/sprites/ordered/services/{name}").json()["state"]["started_at"]
        for name in ("disk", "db", "app")
    ]
    assert started == sorted(started)
    dock.sdk.delete_sprite("ordered")


def test_a_checkpoint_brings_back_the_whole_disk(dock):
    sprite = dock.make("saved")
    line = (
        "sudo sh -c 'rm -rf /usr/share/doc/sudo; echo mine > /etc/mine; echo r > /root/r; rm /etc/issue';"
        "mkdir -p ~/deep/er; echo 1 > ~/deep/er/a; ln -s a ~/deep/er/b; setsid sleep 300 >/dev/null 2>&1 &"
    )
    sprite.run("sh", "-c", line)
    show = (
        "cat /etc/mine ~/deep/er/b; sudo cat /root/r; ls /etc/issue /usr/share/doc/sudo 2>&1 | grep -c 'No such';"
        "stat -c '%U %a' /etc/mine ~/deep/er/a; cat ~/new /etc/new 2>&1 | grep -c 'No such'"
    )
    before = sprite.run("sh", "-c", show, capture_output=True).stdout
    told = [
        json.loads(line)
        for line in dock.rest.post("/v1/sprites/saved/checkpoint", json={"comment": "one"}).text.split("\n")
        if line
    ]
    assert (told[0]["type"], told[-1]["type"], told[-1]["data"]) == ("info", "complete", "Checkpoint v1 created")
    assert sprite.run("pgrep", "-f", "^sleep 300").returncode == 0  # it was not interrupted
    sprite.run(
        "sh",
        "-c",
        "sudo sh -c 'echo x > /etc/mine; echo n > /etc/new; rm /root/r; touch /etc/issue';rm -r ~/deep; echo n > ~/new",
    )
    told = [
        json.loads(line) for line in dock.rest.post("/v1/sprites/saved/checkpoints/v1/restore").text.split("\n") if line
    ]
    assert told[-1]["type"] == "complete", told
    assert sprite.run("sh", "-c", show, capture_output=True).stdout == before
    assert sprite.run("pgrep", "-f", "^sleep 300").returncode == 1
    listed = dock.rest.get("/v1/sprites/saved/checkpoints").json()
    assert [(one["id"], one["comment"]) for one in listed] == [("v1", "one")]
    assert dock.rest.get("/v1/sprites/saved/checkpoints/v1").json()["create_time"].endswith("Z")
    refused = dock.rest.delete("/v1/sprites/saved/checkpoints/v1")  # "the checkpoint you are on"
    assert (refused.status_code, refused.text.split(":")[0]) == (409, "checkpoint v1 is the one that the sprite is on")
    assert dock.rest.post("/v1/sprites/saved/checkpoint").status_code == 200
    assert dock.rest.delete("/v1/sprites/saved/checkpoints/v1").status_code == 204
    gone = dock.rest.post("/v1/sprites/saved/checkpoints/v1/restore")
    assert (gone.status_code, gone.text) == (404, "checkpoint not found: v1")
    assert [one.name for one in (dock.folder("saved") / "checkpoints").iterdir()] == ["v2"]
    with dock.rest.stream("POST", "/v1/sprites/saved/checkpoint") as leaving:
        next(leaving.iter_lines())  # a client that leaves does not end it: half a copy would be nobody's
    wait_for(lambda: [one["id"] for one in dock.rest.get("/v1/sprites/saved/checkpoints").json()] == ["v3", "v2"])
    dock.sdk.delete_sprite("saved")


def test_a_checkpoint_that_cannot_be_restored_changes_nothing(dock):
    sprite = dock.make("unsaved")
    dock.rest.post("/v1/sprites/unsaved/checkpoint")
    sprite.run("sh", "-c", "echo kept > ~/kept")
    (copy,) = (dock.folder("unsaved") / "checkpoints").iterdir()
    copy.rename(copy.with_name("elsewhere"))
    told = dock.rest.post("/v1/sprites/unsaved/checkpoints/v1/restore").text.splitlines()
    assert json.loads(told[-1])["type"] == "error"
    assert sprite.run("cat", "/home/sprite/kept", capture_output=True).stdout == b"kept\n"
    dock.sdk.delete_sprite("unsaved")


def test_watching_the_list(dock):
    lines = []
    with dock.rest.stream("GET", "/v1/sprites?prefix=seen", headers={"Accept": "application/x-ndjson"}) as reply:
        dock.make("seen-1")
        dock.make("other")
        dock.until("seen-1", "cold")
        for line in reply.iter_lines():
            event = json.loads(line)
            lines.append((event["name"], event["status"]))
            assert event["org"]["running"] + event["org"]["warm"] + event["org"]["cold"] >= 1
            if event["status"] == "cold":
                break
    assert {name for name, _ in lines} == {"seen-1"}
    assert [status for _, status in lines][-2:] == ["warm", "cold"]
    for name in ("seen-1", "other"):
        dock.sdk.delete_sprite(name)


def test_check_and_upgrade(dock):
    dock.make("checked")
    dock.until("checked", "warm")
    shown = dock.rest.get("/v1/sprites/checked/check").json()
    assert (shown["sprite_name"], shown["status"]) == ("checked", "healthy")
    assert dock.rest.post("/v1/sprites/checked/upgrade").status_code == 204
    for call in ("restart", "upgrade"):
        assert dock.rest.post(f"/v1/sprites/nobody/{call}").status_code == 404
    dock.sdk.delete_sprite("checked")


def test_the_running_limit_counts_what_runs(own):
    dock = own("--idle", "2m", "--limit", "1")
    dock.make("one")
    refused = dock.rest.post("/v1/sprites", json={"name": "two"})
    assert (refused.status_code, refused.json()["error"]) == (429, "concurrent_sprite_limit_exceeded")
    assert (refused.json()["limit"], refused.json()["current_count"]) == (1, 1)
    dock.until("one", "warm")
    dock.make("two")


# -- a server that was killed -----------------------------------------------------------------------


def test_a_killed_server_loses_no_sprite(own):
    """Ten busy sprites: their processes end with the server, the next one finds their disks."""
    dock = own()
    names = [f"busy-{number}" for number in range(10)]
    for name in names:
        dock.make(name, labels=["l", name], environment={"E": name})
        put_service(dock, name, "spin", "sh", ("-c", "echo start >> ~/starts; while :; do sleep 0.05; done"))
    dock.rest.post("/v1/sprites/busy-0/checkpoint", json={"comment": "c"})
    dock.rest.post("/v1/sprites/busy-1/policy/network", json={"rules": [{"domain": "*", "action": "deny"}]})
    dock.rest.post("/v1/sprites/busy-2/services/spin/stop")
    known = {name: dock.rest.get(f"/v1/sprites/{name}").json() for name in names}
    os.kill(dock.record["pid"], signal.SIGKILL)
    home = dock.sailor.home
    wait_for(lambda: not [one for one in Path("/proc").glob("[0-9]*") if in_a_ship(one, home)])
    wait_for(lambda: not [line for line in Path("/proc/mounts").read_text().splitlines() if str(home) in line])
    half = dock.sailor.home / "state/ocaptain/drydock/sprites/half-made"
    (half / "upper").mkdir(parents=True)
    again = own()
    assert not half.exists()
    for name in names:
        now = again.rest.get(f"/v1/sprites/{name}").json()
        assert now["status"] == "cold"
        unknown = {"status": "", "last_running_at": "", "last_active_at": ""}
        assert {**now, **unknown} == {**known[name], **unknown}
    started = "until [ $(wc -l < ~/starts) = 2 ]; do sleep 0.1; done; "
    done = again.sdk.sprite("busy-3").run(
        "sh", "-c", f"{started} cat ~/starts; echo $E; pgrep -fc 'while :'", capture_output=True
    )
    assert done.stdout.split()[:3] == [b"start", b"start", b"busy-3"]  # the service came back
    assert again.rest.get("/v1/sprites/busy-0/checkpoints").json()[0]["comment"] == "c"
    assert again.rest.get("/v1/sprites/busy-1/policy/network").json()["rules"][0]["action"] == "deny"
    assert again.rest.get("/v1/sprites/busy-2/services/spin").json()["state"]["status"] == "stopped"
    again.sailor.json("drydock", "stop", "--json")
    assert again.sailor.leftovers() == []


# -- networks ---------------------------------------------------------------------------------------


@pytest.fixture
def outside():
    """A server on this machine's loopback."""
    import http.server
    import threading

    class Hello(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello from outside")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


GET = "import urllib.request as u,sys; sys.stdout.write(u.urlopen('http://127.0.0.1:%d', timeout=20).read().decode())"


def test_an_isolated_ship_reaches_what_it_may_and_nothing_else(own, outside):
    dock = own("--network", "isolated", "--allow-host-port", str(outside))
    one, two = dock.make("one"), dock.make("two")
    assert one.run("python3", "-c", GET % outside, capture_output=True).stdout == b"hello from outside"
    shut = int(dock.record["url"].rpartition(":")[2])
    refused = one.run("python3", "-c", GET % shut, capture_output=True)
    assert b"refused" in refused.stderr
    links = one.run("sh", "-c", "ls /sys/class/net 2>/dev/null; cat /proc/net/dev", capture_output=True).stdout
    assert b"eth" not in links
    # The same port twice, and each ship sees its own.
    for ship, word in ((one, "one"), (two, "two")):
        ship.run("sh", "-c", f"mkdir -p ~/w; echo {word} > ~/w/index.html")
        put_service(dock, word, "web", "python3", ("-m", "http.server", "8080", "--directory", "/home/sprite/w"))
    for ship, word in ((one, b"one\n"), (two, b"two\n")):
        wait_for(lambda ship=ship: ship.run("python3", "-c", GET % 8080, capture_output=True).stdout)
        assert ship.run("python3", "-c", GET % 8080, capture_output=True).stdout == word
    for name in ("one", "two"):
        with dock.socket(f"/v1/sprites/{name}/proxy") as socket:
            socket.send(json.dumps({"host": "localhost", "port": 8080}))
            assert json.loads(socket.recv())["status"] == "connected"
            socket.send(b"GET / HTTP/1.0\r\n\r\n")
            said = b"".join(iter(socket))
        assert said.endswith(name.encode() + b"\n")
    # A policy closes the way out, and opens it again.
    for rules, open_ in (
        ([{"domain": "*.example.com", "action": "allow"}], False),
        ([{"domain": "*", "action": "allow"}], False),  # private addresses need a rule of their own
        ([{"domain": "localhost", "action": "allow"}], True),
        ([], True),
    ):
        assert dock.rest.post("/v1/sprites/one/policy/network", json={"rules": rules}).status_code == 204
        done = one.run("python3", "-c", GET % outside, capture_output=True)
        assert (done.stdout == b"hello from outside") is open_, (rules, done)
    shown = one.run(
        "sh", "-c", "cat /.sprite/policy/network.json; echo x > /.sprite/policy/network.json", capture_output=True
    )
    assert json.loads(shown.stdout) == {"rules": []}
    assert b"denied" in shown.stderr


def test_a_bad_policy_is_a_400(dock):
    dock.make("ruled")
    for rules in (
        [{"domain": "x"}],
        [{"action": "allow"}],
        [{"include": "all"}],
        [{"domain": "a b", "action": "deny"}],
        [{}],
    ):
        reply = dock.rest.post("/v1/sprites/ruled/policy/network", json={"rules": rules})
        assert reply.status_code == 400, rules
        assert reply.headers["content-type"].startswith("text/plain")
    for area, body in (
        ("privileges", {"profile": "minimal", "devices": ["/dev/x"]}),
        ("resources", {"memory": {"limit_mb": 5}}),
    ):
        path = f"/v1/sprites/ruled/policy/{area}"
        assert dock.rest.post(path, json=body).status_code == 204
        assert body.items() <= dock.rest.get(path).json().items()
        assert dock.rest.delete(path).status_code == 204
        assert not body.items() <= dock.rest.get(path).json().items()
    dock.sdk.delete_sprite("ruled")


def test_the_proxy_carries_bytes_and_says_why_it_cannot(dock):
    sprite = dock.make("proxied")
    echo = (
        "import socket\ns = socket.create_server(('127.0.0.1', 18944))\nwhile True:\n c, _ = s.accept()\n"
        " d = c.recv(65536)\n while d:\n  c.sendall(d); d = c.recv(65536)\n c.close()"
    )
    put_service(dock, "proxied", "echo", "python3", ("-c", echo))
    wait_for(
        lambda: (
            sprite.run("python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 18944))").returncode == 0
        ),
        10,
    )
    blob = os.urandom(3_000_000)
    with dock.socket("/v1/sprites/proxied/proxy") as socket:
        socket.send(json.dumps({"host": "localhost", "port": 18944}))
        assert json.loads(socket.recv())["target"] == "127.0.0.1:18944"
        got = bytearray()
        for at in range(0, len(blob), 60_000):
            piece = blob[at : at + 60_000]
            socket.send(piece)
            while len(got) < at + len(piece):
                got += socket.recv()
        assert bytes(got) == blob
        dock.advance(2 * IDLE)
        assert dock.status("proxied") == "running"  # an open connection keeps it awake
    for first in ('{"host": "localhost", "port": 1}', '{"host": "example.com", "port": 80}', "no json", '{"port": 0}'):
        with dock.socket("/v1/sprites/proxied/proxy") as socket:
            socket.send(first)
            assert json.loads(socket.recv())["status"] == "error", first
    dock.sdk.delete_sprite("proxied")


def test_changes_of_files_are_told(dock):
    sprite = dock.make("watched")
    sprite.run("sh", "-c", "mkdir -p ~/w/sub; ln -s /etc ~/w/link")
    with dock.socket("/v1/sprites/watched/fs/watch") as socket:
        socket.send(json.dumps({"type": "subscribe", "paths": ["w"], "recursive": True, "workingDir": "/home/sprite"}))
        assert json.loads(socket.recv()) == {"type": "subscribed", "paths": ["w"]}
        seen = []
        for line, last in (
            ("echo abc > a; echo d > sub/d; mkdir new", ("create", "/home/sprite/w/new")),  # from now on it is watched
            ("echo e > new/e; mv a b; chmod 600 b; rm b", ("remove", "/home/sprite/w/b")),
        ):
            sprite.run("sh", "-c", f"cd ~/w; {line}")
            while last not in seen:
                event = json.loads(socket.recv(timeout=240))
                seen.append((event["event"], event["path"]))
    for wanted in (
        ("create", "/home/sprite/w/a"),
        ("write", "/home/sprite/w/a"),
        ("write", "/home/sprite/w/sub/d"),
        ("create", "/home/sprite/w/new"),
        ("create", "/home/sprite/w/new/e"),
        ("rename", "/home/sprite/w/a"),
        ("create", "/home/sprite/w/b"),
        ("chmod", "/home/sprite/w/b"),
    ):
        assert wanted in seen, (wanted, seen)
    for path, why in (("/nowhere", "No such file"), ("/root", "Permission denied")):
        with dock.socket("/v1/sprites/watched/fs/watch") as socket:
            socket.send(json.dumps({"type": "subscribe", "paths": [path], "workingDir": "/"}))
            said = json.loads(socket.recv())
            assert said["type"] == "error"
            assert why in said["message"]
    dock.sdk.delete_sprite("watched")


def test_ports_that_open_and_close_are_told(dock):
    dock.make("ported")
    with dock.socket("/v1/sprites/ported/ports/watch") as socket:
        assert json.loads(socket.recv()) == {"type": "port_list", "ports": []}
        serve = "cmd=python3&cmd=-m&cmd=http.server&cmd=18945&cmd=--bind&cmd=127.0.0.1"
        with dock.socket(f"/v1/sprites/ported/exec?{serve}&max_run_after_disconnect=20ms"):
            opened = json.loads(socket.recv(timeout=240))
        closed = json.loads(socket.recv(timeout=240))
    assert (opened["type"], opened["port"], opened["address"]) == ("port_opened", 18945, "127.0.0.1")
    assert closed == {**opened, "type": "port_closed"}
    dock.sdk.delete_sprite("ported")


def test_a_commands_own_ports_are_told_on_its_socket(dock):
    dock.make("serving")
    query = "cmd=python3&cmd=-m&cmd=http.server&cmd=18948"
    told = []
    with dock.socket(f"/v1/sprites/serving/exec?{query}") as socket:
        for message in socket:
            if isinstance(message, str):
                told.append(json.loads(message))
                if told[-1]["type"] == "port_opened":
                    socket.send(json.dumps({"type": "signal", "signal": "TERM"}))
    opened = [one for one in told if one["type"] == "port_opened"]
    assert [(one["port"], one["address"]) for one in opened] == [(18948, "0.0.0.0")]
    assert told[-1] == {"type": "exit", "exit_code": 143}
    dock.sdk.delete_sprite("serving")


def test_a_stop_is_told_to_its_end_and_goes_on_without_its_client(dock):
    sprite = dock.make("stubborn")
    line = "trap '' TERM; while true; do sleep 0.1; done"
    for timeout, leave in (("0.5s", False), ("1s", True)):
        put_service(dock, "stubborn", "s", "sh", ("-c", line))
        with dock.rest.stream("POST", f"/v1/sprites/stubborn/services/s/stop?timeout={timeout}") as reply:
            lines = reply.iter_lines()
            kinds = [json.loads(next(lines))["type"]]
            if not leave:
                kinds += [json.loads(one)["type"] for one in lines]
                assert (kinds[0], kinds[-2:]) == ("stopping", ["stopped", "complete"])
        wait_for(lambda: dock.rest.get("/v1/sprites/stubborn/services/s").json()["state"]["status"] == "stopped")
        wait_for(lambda: sprite.run("pgrep", "-f", "while true").returncode == 1)
    dock.sdk.delete_sprite("stubborn")


def test_what_other_clients_send_and_read(dock):
    """The Go SDK: null for no rules, times as text, 410 for a session that has ended."""
    dock.make("go")
    assert dock.rest.post("/v1/sprites/go/policy/network", json={"rules": None}).status_code == 204
    with dock.socket("/v1/sprites/go/exec?cmd=cat&stdin=true") as socket:
        session = json.loads(socket.recv())["session_id"]
        (listed,) = dock.rest.get("/v1/sprites/go/exec").json()["sessions"]
        for field in ("created", "last_activity"):
            assert dt.datetime.fromisoformat(listed[field]).tzinfo is not None
        socket.send(b"\x04")
        list(socket)
    wait_for(lambda: dock.rest.post(f"/v1/sprites/go/exec/{session}/kill").status_code == 410)
    assert dock.rest.post("/v1/sprites/go/exec/1/kill").status_code == 404
    assert dock.rest.put("/v1/sprites/go", json={"url_settings": {"auth": "bogus"}}).status_code == 400
    dock.sdk.delete_sprite("go")


def test_the_clock_of_pauses_can_be_put_forward(own):
    """No waiting for an hour: the pauses of the default idle_policy, as if the time had passed."""
    dock = own()
    dock.make("one")
    dock.make("held")
    hold = json.dumps({"name": "a", "expire": "1h"})
    held = dock.sdk.sprite("held").run("sprite-env", "curl", "-X", "POST", "/v1/tasks", "-d", hold, capture_output=True)
    assert (held.returncode, json.loads(held.stdout)["name"]) == (0, "a"), held

    # Of the 30 s the first step is 3: a busy machine has taken some of them already.
    assert dock.advance(3) == {"running": 2, "warm": 0, "cold": 0}
    assert dock.advance(28) == {"running": 1, "warm": 1, "cold": 0}
    assert dock.advance(600) == {"running": 1, "warm": 0, "cold": 1}
    # Not by a socket: it is held open for a second after the command, in which an hour goes by here.
    assert dock.rest.post("/v1/sprites/one/exec?cmd=true").status_code == 200
    assert dock.advance(3)["running"] == 2
    assert dock.advance(3030) == {"running": 0, "warm": 1, "cold": 1}  # the task expired a minute ago
    assert dock.advance(600) == {"running": 0, "warm": 0, "cold": 2}


def test_what_is_billed_and_stamped_follows_the_clock_of_pauses(own):
    """600 s put forward on a ship that a Task holds are 600 s awake, and its stamps tell the same time."""
    dock = own()
    sprite = dock.make("held")
    hold = json.dumps({"name": "a", "expire": "20m"})
    assert sprite.run("sprite-env", "curl", "-X", "POST", "/v1/tasks", "-d", hold, capture_output=True).returncode == 0

    def awake():
        return dock.rest.get("/drydock/metrics").json()["awake_seconds"]["held"]

    before = awake()
    began = dt.datetime.fromisoformat(dock.rest.get("/v1/sprites/held").json()["last_running_at"])
    dock.rest.post("/drydock/clock", json={"advance": 600})
    assert 600 <= awake() - before < 660
    dock.rest.post("/drydock/clock", json={"advance": 900})  # the Task expires on the way, and the pause is due
    dock.until("held", "warm")
    asleep = dt.datetime.fromisoformat(dock.rest.get("/v1/sprites/held").json()["last_warming_at"])
    told = (asleep - began).total_seconds()
    assert 1200 <= told < 1320
    assert abs(awake() - told) < 2
    billed = awake()
    dock.rest.post("/drydock/clock", json={"advance": 60})
    assert awake() == billed


def test_a_boot_that_fails_leaves_a_cold_sprite_that_boots_again(own):
    """Its record cannot be written: nothing is up twice, and it comes back when it can."""
    dock = own("--idle", "0.5", "--cold", "0.5")
    sprite = dock.make("one")
    dock.until("one", "cold")
    folder = dock.folder("one")
    record = (folder / "sprite.json").rename(folder / "aside")
    (folder / "sprite.json").mkdir()  # in the way of the next one
    assert dock.rest.get("/v1/sprites/one/fs/list?path=/").status_code == 500
    assert dock.status("one") == "cold"
    wait_for(lambda: not [one for one in Path("/proc").glob("[0-9]*") if in_a_ship(one, dock.sailor.home)])
    (folder / "sprite.json").rmdir()
    record.rename(folder / "sprite.json")
    assert sorted(one.name for one in folder.glob(".sprite.json*")) == []
    assert sprite.run("true").returncode == 0


def test_one_that_ends_is_not_found_once_it_refuses(own):
    """Who was told its address just then could not reach it, and started no other one."""
    dock = own()
    url = httpx.URL(dock.record["url"])
    with socket.create_connection((url.host, url.port)):  # which it closes first
        os.kill(dock.record["pid"], signal.SIGTERM)  # as when it has been idle for long enough
        while dock.sailor.drydock():
            try:
                socket.create_connection((url.host, url.port)).close()
            except ConnectionRefusedError:
                assert dock.sailor.drydock() is None
    wait_for(lambda: not dock.sailor.leftovers())


def test_a_stop_does_not_wait_for_those_who_watch(own):
    dock = own()
    dock.make("one")
    put_service(dock, "one", "web", "python3", ("-m", "http.server", "18949"))
    with (
        dock.rest.stream("GET", "/v1/sprites", headers={"Accept": "application/x-ndjson"}) as watching,
        dock.socket("/v1/sprites/one/fs/watch") as files,
        dock.socket("/v1/sprites/one/ports/watch"),
        dock.socket("/v1/sprites/one/exec?cmd=sleep&cmd=100"),
    ):
        next(watching.iter_lines())
        files.send(json.dumps({"type": "subscribe", "paths": ["/tmp"]}))
        files.recv()
        assert dock.sailor.run("drydock", "stop", "--force").code == 0
    assert dock.sailor.leftovers() == []  # it ended in order: a killed one keeps its sprites
