"""Drydock through a foreign client: the official Python SDK, unmodified, and the raw protocol."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
import pytest
import sprites as sdk
import websockets
from sprites.session import kill_session
from websockets.sync.client import connect

from ocaptain.drydock.beneath import open_beneath
from ocaptain.drydock.confine import ALLOWED_CAPABILITIES
from ocaptain.sprites.errors import api_error
from tests.helpers import wait_for

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def record(fleet):
    return fleet.json("drydock", "start")


@pytest.fixture(scope="module")
def token(record):
    with open(record["token_file"]) as file:
        return file.read().strip()


@pytest.fixture(scope="module")
def client(record, token):
    os.environ["NO_PROXY"] = "127.0.0.1"
    with sdk.SpritesClient(token, base_url=record["url"]) as made:
        yield made


@pytest.fixture(scope="module")
def rest(record, token):
    with httpx.Client(
        base_url=record["url"], headers={"Authorization": f"Bearer {token}"}, timeout=60, trust_env=False
    ) as made:
        yield made


@pytest.fixture(scope="module")
def name(client):
    made = f"test-{uuid.uuid4().hex[:8]}"
    client.create_sprite(made, labels=["mine"])
    yield made
    client.delete_sprite(made)


@pytest.fixture
def sprite(client, name):
    return client.sprite(name)


@pytest.fixture
def exec_url(record, token, name):
    def make(**params):
        query = "&".join(
            f"{key}={quote(str(one), safe='')}"
            for key, value in params.items()
            for one in (value if isinstance(value, list) else [value])
        )
        return f"{record['url'].replace('http', 'ws')}/v1/sprites/{name}/exec?{query}"

    return make


@pytest.fixture
def dial(exec_url, token):
    def make(**params):
        headers = {"Authorization": f"Bearer {token}"}
        return connect(exec_url(**params), additional_headers=headers, compression=None, proxy=None, max_size=None)

    return make


def frames(socket):
    """Read to the end: (texts, binaries in order, close code)."""
    texts, data = [], []
    try:
        for message in socket:
            (texts if isinstance(message, str) else data).append(message)
    except websockets.ConnectionClosed:
        pass
    return [json.loads(text) for text in texts], data, socket.close_code


# -- sprites -----------------------------------------------------------------------------------


def test_crud_by_the_sdk(client):
    made = f"crud-{uuid.uuid4().hex[:8]}"
    created = client.create_sprite(made, labels=["a", "b"])
    assert created.name == made
    assert client.get_sprite(made).name == made
    client.update_sprite(made, labels=["c"])
    found = client.list_sprites(sdk.ListOptions(prefix=made))
    assert [one.name for one in found.sprites] == [made]
    with pytest.raises(sdk.SpriteError, match="409"):
        client.create_sprite(made)
    client.delete_sprite(made)
    with pytest.raises(sdk.NotFoundError):
        client.get_sprite(made)


def test_paging_over_more_than_a_page(rest):
    prefix = f"page-{uuid.uuid4().hex[:6]}"
    names = [f"{prefix}-{number:03}" for number in range(55)]
    with ThreadPoolExecutor(8) as pool:
        made = list(
            pool.map(lambda one: rest.post("/v1/sprites", json={"name": one, "labels": ["p"]}).status_code, names)
        )
    assert made == [201] * 55
    first = rest.get("/v1/sprites", params={"prefix": prefix, "max_results": 100}).json()
    assert len(first["sprites"]) == 50
    assert first["has_more"]
    token = first["next_continuation_token"]
    second = rest.get("/v1/sprites", params={"prefix": prefix, "continuation_token": token}).json()
    assert not second["has_more"]
    assert [one["name"] for one in first["sprites"] + second["sprites"]] == names
    assert first["running"] >= 55
    with ThreadPoolExecutor(8) as pool:
        gone = list(pool.map(lambda one: rest.delete(f"/v1/sprites/{one}").status_code, names))
    assert gone == [204] * 55


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"name": 3}', b'{"name": "../x"}', b'{"name": ""}', b'{"name": "A_b"}']
)
def test_a_bad_create_is_a_400(rest, body):
    answer = rest.post("/v1/sprites", content=body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"errors"}
    assert all(isinstance(one, str) and one for one in answer.json()["errors"])


def test_every_reply_has_an_id_of_its_own(record, rest, name):
    replies = [
        rest.get("/v1/sprites"),
        rest.get("/v1/sprites/nobody"),
        rest.get("/v1/nothing"),
        rest.get("/v1/sprites"),
    ]
    replies += [httpx.get(f"{record['url']}/v1/sprites", trust_env=False)]
    assert [reply.status_code for reply in replies] == [200, 404, 404, 200, 401]
    ids = {reply.headers["fly-request-id"] for reply in replies}
    assert len(ids) == len(replies)
    refused = api_error("GET", 404, replies[1].headers, replies[1].content)
    assert replies[1].headers["fly-request-id"] in refused.message


def test_the_organization_is_the_one_of_the_list(rest):
    shown, listed = rest.get("/v1/organization"), rest.get("/v1/sprites").json()
    assert shown.status_code == 200
    assert shown.json()["name"] == listed["name"] == listed["sprites"][0]["organization"]


def test_no_token_no_answer(record, name):
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}):
        answer = httpx.get(f"{record['url']}/v1/sprites/{name}", headers=headers, trust_env=False)
        assert answer.status_code == 401
        assert answer.json()["error"] == "unauthorized"
        assert answer.headers["sprite-version"]
        with pytest.raises(websockets.InvalidStatus) as refused:
            connect(
                f"{record['url'].replace('http', 'ws')}/v1/sprites/{name}/exec?cmd=true",
                additional_headers=headers,
                proxy=None,
            )
        assert refused.value.response.status_code == 401


def test_it_listens_on_loopback_and_its_token_is_private(record):
    assert record["url"].startswith("http://127.0.0.1:")
    assert os.stat(record["token_file"]).st_mode & 0o777 == 0o600


def test_control_is_a_404(rest, name):
    assert rest.get(f"/v1/sprites/{name}/control").status_code == 404
    assert rest.get("/nowhere").json()["error"] == "not_found"


# -- exec --------------------------------------------------------------------------------------


def test_streams_and_exit_codes_by_the_sdk(sprite):
    done = sprite.run("sh", "-c", "echo out; echo err >&2; exit 7", capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    assert sprite.run("sh", "-c", "kill -KILL $$", capture_output=True).returncode == 137
    assert sprite.run("true", capture_output=True).returncode == 0
    for program in ("no-such-program", ""):
        missing = sprite.run(program, capture_output=True)
        assert missing.returncode == 127
        assert b"executable file `%s` not found in $PATH" % program.encode() in missing.stderr


def test_argv_is_passed_unchanged(sprite):
    words = ["a b", "$HOME", "", "-x", "ü", "'\"", "*", "\n", ";ls"]
    done = sprite.run("printf", "%s|", *words, capture_output=True)
    assert done.stdout.decode() == "".join(f"{word}|" for word in words)


def test_environment_and_directory(sprite):
    done = sprite.run("sh", "-c", "echo $FOO $HOME $USER; pwd", env={"FOO": "a,b=c"}, cwd="/tmp", capture_output=True)
    assert done.stdout == b"a,b=c /home/sprite sprite\n/tmp\n"
    assert sprite.run("pwd", cwd="/nowhere", capture_output=True).stdout == b"/home/sprite\n"


def test_a_large_output_arrives_whole(sprite):
    done = sprite.run("sh", "-c", "head -c 5242880 /dev/zero | tr '\\0' x", capture_output=True)
    assert hashlib.sha256(done.stdout).hexdigest() == hashlib.sha256(b"x" * 5242880).hexdigest()


def test_fast_commands_lose_no_byte(sprite):
    for number in range(60):
        assert sprite.run("echo", str(number), capture_output=True).stdout == f"{number}\n".encode()


def test_a_huge_argv(dial):
    with dial(cmd=["printf", "%s", "x" * 50_000], path="printf") as socket:
        _, data, _ = frames(socket)
    assert sum(len(one) - 1 for one in data if one[:1] == b"\1") == 50_000


def test_the_order_of_frames(dial):
    with dial(cmd=["sh", "-c", "echo a; echo b >&2; (sleep 0.05; echo late) & exit 3"]) as socket:
        texts, data, code = frames(socket)
    assert texts[0]["type"] == "session_info"
    assert texts[0]["tty"] is False
    assert texts[0]["is_owner"] is True
    assert texts[-1] == {"type": "exit", "exit_code": 3}
    assert data[-1] == b"\x03\x03"
    assert b"".join(one[1:] for one in data if one[:1] == b"\1") == b"a\nlate\n"
    assert code == 1000


def test_stdin_and_its_end(dial):
    with dial(cmd=["cat"], stdin="true") as socket:
        for chunk in (b"\0one ", b"\0two", b"\x09unknown stream", b""):
            socket.send(chunk)
        socket.send("not json")
        socket.send(b"\4")
        _, data, _ = frames(socket)
    assert b"".join(one[1:] for one in data if one[:1] == b"\1") == b"one two"


def test_without_stdin_it_is_empty(dial):
    with dial(cmd=["cat"]) as socket:
        _, data, _ = frames(socket)
    assert data == [b"\3\0"]


def test_a_signal_over_the_socket(dial):
    with dial(cmd=["sleep", "60"]) as socket:
        socket.recv()
        socket.send(json.dumps({"type": "signal", "signal": "SIGTERM"}))
        _, data, _ = frames(socket)
    assert data[-1] == bytes([3, 143])


def test_a_terminal_of_its_own(dial):
    with dial(cmd=["bash", "-c", "tty; stty size; read x; stty size; exit 5"], tty="true", rows=33, cols=101) as socket:
        assert json.loads(socket.recv())["tty"] is True
        seen = b""
        while b"33 101" not in seen:
            seen += socket.recv()
        socket.send(json.dumps({"type": "resize", "rows": 20, "cols": 60}))
        socket.send(b"\n")
        texts, data, code = frames(socket)
    assert b"/dev/pts/" in seen
    assert b"20 60" in b"".join(data)
    assert texts[-1] == {"type": "exit", "exit_code": 5}
    assert code == 1000


def test_tmux_works_inside(sprite):
    line = "tmux -L t new-session -d -s s 'sleep 5'; tmux -L t list-sessions; tmux -L t kill-server"
    assert b"s: 1 windows" in sprite.run("sh", "-c", line, capture_output=True).stdout


def test_attach_replays_and_follows(dial, client, name, sprite):
    with dial(cmd=["sh", "-c", "echo first; read x; echo got $x"], tty="true") as socket:
        session = json.loads(socket.recv())["session_id"]
        while b"first" not in socket.recv():
            pass
    assert session in [one.id for one in sprite.list_sessions()]
    url = dial(id=session)
    with url as again:
        info = json.loads(again.recv())
        assert info["session_id"] == session
        assert info["is_owner"] is False
        again.send(b"hello\n")
        _, data, _ = frames(again)
    assert b"first" in b"".join(data)
    assert b"got hello" in b"".join(data)
    with pytest.raises(websockets.InvalidStatus) as refused:
        dial(id=session)
    assert refused.value.response.status_code == 404


def test_kill_by_the_sdk(client, name, sprite, dial):
    with dial(cmd=["sleep", "60"], tty="true") as socket:
        session = json.loads(socket.recv())["session_id"]
    kill_session(sprite, session, "SIGTERM", 5.0)
    assert session not in [one.id for one in sprite.list_sessions()]


def test_a_command_whose_client_left_ends(sprite, dial):
    with dial(cmd=["sh", "-c", "sleep 63"], max_run_after_disconnect="200ms") as socket:
        socket.recv()
    wait_for(lambda: b"sleep 63" not in sprite.run("ps", "ax", capture_output=True).stdout)


def test_exec_over_post(rest, name):
    params = [("cmd", "sh"), ("cmd", "-c"), ("cmd", "cat; echo err >&2; exit 4"), ("stdin", "true")]
    with rest.stream("POST", f"/v1/sprites/{name}/exec", params=params, content=b"hello") as answer:
        body = b"".join(answer.iter_raw())
    assert answer.status_code == 200
    assert body.endswith(b"\x03\x04")
    assert b"\x01hello" in body
    assert b"\x02err\n" in body


@pytest.mark.parametrize(
    "query", ["tty=true&rows=x", "env=novalue", "max_run_after_disconnect=soon", "cmd=a%00b", "rows=-1&cmd=true"]
)
def test_a_bad_query_is_a_400_before_the_upgrade(record, token, name, query):
    url = f"{record['url'].replace('http', 'ws')}/v1/sprites/{name}/exec?{query}"
    with pytest.raises(websockets.InvalidStatus) as refused:
        connect(url, additional_headers={"Authorization": f"Bearer {token}"}, proxy=None)
    assert refused.value.response.status_code == 400


def test_a_missing_sprite_is_a_404_before_the_upgrade(client):
    with pytest.raises(sdk.SpriteError):
        client.sprite("nobody").run("true")


def test_many_streams_at_once(client, name):
    def one(number):
        done = client.sprite(name).run("sh", "-c", f"sleep 0.2; echo {number}", capture_output=True)
        return done.stdout.decode().strip()

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(one, range(20))) == [str(number) for number in range(20)]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("trap 'exit 7' TERM; kill -TERM 0", 7),
        ("trap '' TERM; kill -TERM 0; exit 4", 4),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
    ],
)
def test_exit_codes_are_the_commands_own(sprite, line, code):
    done = sprite.run("bash", "-c", line, capture_output=True)
    assert (done.returncode, done.stderr) == (code, b"")


def test_a_child_that_holds_the_pipe_does_not_hold_the_command(sprite):
    import time

    began = time.monotonic()
    assert sprite.run("bash", "-c", "sleep 300 & echo hi", capture_output=True).stdout == b"hi\n"
    assert time.monotonic() - began < 150


def test_the_clients_environment_is_the_commands_alone(sprite, tmp_path):
    """No program of the host ever sees it: its LD_PRELOAD, its PATH."""
    done = sprite.run(
        "/bin/sh", "-c", "echo $PATH $LD_PRELOAD", env={"PATH": "/x", "LD_PRELOAD": "/nope.so"}, capture_output=True
    )
    assert done.stdout == b"/x /nope.so\n"


# -- files -------------------------------------------------------------------------------------


def test_files_by_the_sdk(sprite):
    data = os.urandom(12 * 1024 * 1024)
    path = sprite.filesystem("/home/sprite").path("deep/down/blob.bin")
    path.write_bytes(data)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == hashlib.sha256(data).hexdigest()
    assert [one.name for one in sprite.filesystem("/home/sprite").path("deep/down").iterdir()] == ["blob.bin"]
    path.unlink()
    assert not path.exists()


def fs(rest, name, method, call, **params):
    if method == "POST":
        return rest.post(f"/v1/sprites/{name}/fs/{call}", json=params)
    return rest.request(
        method, f"/v1/sprites/{name}/fs/{call}", params=params, content=b"x" if method == "PUT" else None
    )


def test_every_call_of_the_fs_api(rest, name):
    base = "/home/sprite/every"
    assert fs(rest, name, "PUT", "write", path=f"{base}/a", mode="0640").json()["mode"] == "0640"
    entry = fs(rest, name, "GET", "list", path=f"{base}/a").json()["entries"][0]
    assert (entry["type"], entry["mode"], entry["size"]) == ("file", "640", 1)
    assert fs(rest, name, "POST", "rename", source=f"{base}/a", dest=f"{base}/b").status_code == 200
    assert fs(rest, name, "POST", "copy", source=base, dest=f"{base}-copy", recursive=True).json()["count"] == 1
    assert fs(rest, name, "POST", "chmod", path=f"{base}/b", mode="0600").json()["affected"][0]["mode"] == "0600"
    assert fs(rest, name, "POST", "chown", path=f"{base}/b", uid="sprite").status_code == 200
    assert fs(rest, name, "POST", "chown", path=f"{base}/b", uid="root").json()["code"] == "EPERM"
    assert fs(rest, name, "POST", "chown", path=f"{base}/b", uid="root", asRoot=True).json()["affected"][0]["uid"] == 0
    assert fs(rest, name, "DELETE", "delete", path=base).json()["code"] == "ENOTEMPTY"
    assert fs(rest, name, "DELETE", "delete", path=base, recursive="true").json()["count"] == 2
    assert fs(rest, name, "GET", "read", path=f"{base}/b").json()["code"] == "ENOENT"


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ({"path": "/root/.bashrc"}, "EACCES"),
        ({"path": "/etc/shadow"}, "EACCES"),
        ({"path": "/etc"}, "EISDIR"),
        ({"path": "/etc/passwd/x"}, "ENOTDIR"),
        ({"path": ""}, "EINVAL"),
        ({"path": "a\0b"}, "EINVAL"),
        ({"path": "x" * 5000}, "EINVAL"),
        ({"path": "/dev/zero"}, "EINVAL"),
    ],
)
def test_what_cannot_be_read(rest, name, call, code):
    assert fs(rest, name, "GET", "read", **call).json()["code"] == code


def test_no_path_leads_out_of_the_sandbox(rest, name, sprite, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    sprite.run("sh", "-c", f"cd; ln -sf {secret} out; ln -sf / root; ln -sfn ../../../../../.. up")
    for path in (
        str(secret),
        f"/../../../..{secret}",
        "/home/sprite/out",
        f"/home/sprite/root{secret}",
        f"/home/sprite/up{secret}",
    ):
        answer = fs(rest, name, "GET", "read", path=path)
        # Its own file of that name is all that a ship can ever find there.
        assert answer.status_code in {403, 404} or answer.content == b"x", path
        fs(rest, name, "PUT", "write", path=path)
        fs(rest, name, "DELETE", "delete", path=path, asRoot="true")
    assert secret.read_text() == "of the host"


def test_a_path_with_dots_opens_while_others_rename(tmp_path):
    """The kernel refuses ".." while anybody renames, and says to try again; a caller never sees it."""
    (tmp_path / "a").mkdir()
    code = "import os, sys\nwhile True: os.rename('a', 'b'); os.rename('b', 'a')"
    renames = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        for _ in range(500):
            os.close(open_beneath(root_fd, "/usr/lib/../../../../../usr/../etc/passwd", os.O_RDONLY))
    finally:
        os.close(root_fd)
        renames.kill()
        renames.wait()


# -- services ----------------------------------------------------------------------------------


def test_a_service_runs_restarts_and_stops(rest, name, sprite):
    url = f"/v1/sprites/{name}/services"
    body = {"cmd": "sh", "args": ["-c", "echo up; exec sleep 71"], "dir": "/tmp"}
    events = [json.loads(line) for line in rest.put(f"{url}/s", json=body, params={"duration": "3s"}).text.splitlines()]
    assert [event["type"] for event in events] == ["started", "stdout", "complete"]
    assert rest.get(f"{url}/s").json()["state"]["status"] == "running"
    assert [one["name"] for one in rest.get(url).json()] == ["s"]
    assert rest.post(f"{url}/signal", json={"name": "s", "signal": "KILL"}).status_code == 204
    wait_for(lambda: rest.get(f"{url}/s").json()["state"].get("restart_count") == 1)
    wait_for(lambda: rest.get(f"{url}/s").json()["state"]["status"] == "running")
    wait_for(lambda: sprite.run("cat", "/.sprite/logs/services/s.log", capture_output=True).stdout.count(b"up") == 2)
    assert rest.post(f"{url}/s/stop").status_code == 200
    assert rest.post(f"{url}/s/stop").status_code == 409
    assert b"sleep 71" not in sprite.run("ps", "ax", capture_output=True).stdout
    assert rest.delete(f"{url}/s").status_code == 204
    assert rest.get(f"{url}/s").status_code == 404


def test_a_service_that_ignores_the_end_is_ended(rest, name, sprite):
    url = f"/v1/sprites/{name}/services"
    body = {"cmd": "bash", "args": ["-c", "trap '' TERM; sleep 83 & while :; do sleep 0.1; done"]}
    rest.put(f"{url}/stubborn", json=body, params={"duration": "300ms"})
    assert rest.post(f"{url}/stubborn/stop", params={"timeout": "300ms"}).status_code == 200
    seen = sprite.run("ps", "axww", capture_output=True).stdout
    assert b"sleep 83" not in seen
    # Whatever was left without a parent is reaped by the ship's init.
    wait_for(lambda: b"bash" not in sprite.run("ps", "axww", capture_output=True).stdout)
    rest.delete(f"{url}/stubborn")


def test_a_service_that_crashed_is_started_again_whoever_holds_its_pipe(rest, name):
    url = f"/v1/sprites/{name}/services/leaky"
    rest.put(url, json={"cmd": "sh", "args": ["-c", "setsid sleep 20 & exit 1"]}, params={"duration": "0s"})
    wait_for(lambda: rest.get(url).json()["state"].get("restart_count", 0) >= 1)
    rest.delete(url)


def test_a_service_that_cannot_be_run_says_so(rest, name):
    url = f"/v1/sprites/{name}/services/odd"
    rest.put(url, json={"cmd": "no-such-thing"}, params={"duration": "0s"})
    wait_for(lambda: rest.get(url).json()["state"]["status"] == "failed")
    assert "127" in rest.get(url).json()["state"]["error"]
    rest.delete(url)


def test_a_service_log_that_is_a_link_writes_nothing_on_the_host(rest, name, sprite, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    sprite.run("sh", "-c", f"ln -sf {victim} /.sprite/logs/services/evil.log")
    rest.put(
        f"/v1/sprites/{name}/services/evil", json={"cmd": "echo", "args": ["gotcha"]}, params={"duration": "300ms"}
    )
    assert victim.read_text() == "untouched"
    rest.delete(f"/v1/sprites/{name}/services/evil")


# -- the sandbox ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "sudo mount -t tmpfs x /mnt",
        "sudo mknod /tmp/disk b 254 0",
        "sudo sh -c 'echo x > /proc/sys/kernel/core_pattern'",
        "sudo sh -c 'echo b > /proc/sysrq-trigger' && ! test -c /proc/sysrq-trigger",
        "sudo dmesg",
        "sudo hostname evil",
        "sudo umount /proc/sys",
        "ls /root",
        "sudo modprobe loop",
        "sudo sh -c 'echo 1 > /proc/irq/default_smp_affinity'",
        "sudo chrt -f 99 true",
        "sudo ls /etc/ssl/private",
        "sudo losetup -f",
        "sudo cat /proc/kcore | head -c 1 | grep -q .",
    ],
)
def test_what_is_refused_inside(sprite, line):
    assert sprite.run("sh", "-c", line, capture_output=True).returncode != 0


@pytest.mark.parametrize(
    "way",
    ["sudo cat", "sudo nsenter -t 1 -m --mount=/proc/1/ns/mnt cat", "sudo chroot /proc/1/root cat"],
)
def test_no_file_of_the_host_is_found_by_any_way(sprite, tmp_path, way):
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    done = sprite.run("sh", "-c", f"{way} {secret}", capture_output=True)
    assert done.returncode != 0
    assert b"of the host" not in done.stdout


def test_a_ship_that_replaces_its_tools_gains_nothing(client):
    """What enters a ship has no power while anything of the ship's own runs."""
    made = f"evil-{uuid.uuid4().hex[:8]}"
    client.create_sprite(made)
    evil = client.sprite(made)
    script = "#!/bin/sh\\nexec cat /proc/self/status\\n"
    for tool in ("setpriv", "nsenter", "sh", "env"):
        evil.run("sudo", "bash", "-c", f"printf '{script}' > /usr/local/sbin/{tool}; chmod 755 /usr/local/sbin/{tool}")
    for tool in ("setpriv", "sh"):
        text = evil.run(tool, capture_output=True).stdout.decode()
        seen = dict(line.split(":", 1) for line in text.splitlines())
        assert seen["Uid"].split() == ["1000"] * 4
        assert int(seen["CapEff"], 16) == 0
        assert int(seen["CapBnd"], 16) == sum(1 << number for number in ALLOWED_CAPABILITIES.values())
    client.delete_sprite(made)


REACH_OUT = """
import ctypes, os, struct, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("data", ctypes.c_ubyte * 8)]
handle = Handle(8, 1, (ctypes.c_ubyte * 8)(*struct.pack("<II", 2, 0)))
mount = os.open("/tmp", os.O_RDONLY)
if libc.open_by_handle_at(mount, ctypes.byref(handle), os.O_RDONLY) >= 0:
    sys.exit("reached the host's root directory")
try:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
except OSError:
    sys.exit(0)
sys.exit("can listen to the host's network")
"""


def test_root_of_a_ship_reaches_no_further(sprite):
    done = sprite.run("sudo", "/usr/bin/python3", "-c", REACH_OUT, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_ship_cannot_make_itself_indestructible(client):
    made = f"deep-{uuid.uuid4().hex[:8]}"
    client.create_sprite(made)
    line = "touch x; sudo chattr +i x; mkdir d; cd d; for n in $(seq 1500); do mkdir d; cd d || exit; done"
    client.sprite(made).run("sh", "-c", line)
    client.delete_sprite(made)
    client.create_sprite(made)
    client.delete_sprite(made)


def test_the_ship_sees_neither_host_nor_other_ships(client, sprite):
    other = f"other-{uuid.uuid4().hex[:8]}"
    client.create_sprite(other)
    client.sprite(other).run("sh", "-c", "sleep 77 >/dev/null 2>&1 &")
    seen = sprite.run("sudo", "ps", "axww", capture_output=True).stdout.decode()
    assert "sleep 77" not in seen
    assert "pytest" not in seen
    assert len(seen.splitlines()) < 20
    assert sprite.run("sudo", "kill", "-0", str(os.getpid()), capture_output=True).returncode != 0
    client.delete_sprite(other)


def test_what_a_ship_changes_stays_in_the_ship(sprite):
    line = "sudo sh -c 'echo evil > /etc/ocaptain-test; echo evil > /usr/bin/ocaptain-test; rm /etc/hostname; id -u'"
    assert sprite.run("sh", "-c", line, capture_output=True).stdout == b"0\n"
    assert not os.path.exists("/etc/ocaptain-test")
    assert not os.path.exists("/usr/bin/ocaptain-test")
    assert os.path.exists("/etc/passwd")
    shadow = sprite.run("sudo", "cat", "/etc/shadow", capture_output=True).stdout.decode()
    assert all(line.split(":")[1] == "*" for line in shadow.splitlines())
