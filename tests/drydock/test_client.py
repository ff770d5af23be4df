"""Our own client against drydock: streams, files of any size, cuts, cancellation, the proxy."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import subprocess

import httpx
import pytest
from websockets.sync.client import connect

from ocaptain.captain.transport import Completed, ShipGone, TransportError, run
from ocaptain.captain.transport.sprite import SpriteTransport
from ocaptain.sprites import (
    ConnectionFailed,
    DeadlinePassed,
    OutputLost,
    ProxyFailed,
    SpritesClient,
    SpritesError,
    SpriteWedged,
    TooLarge,
    TransferFailed,
    download,
    run_whole,
    transfer,
    upload,
)
from ocaptain.sprites import client as sprites_client
from tests.drydock.test_life import Dock, put_service
from tests.helpers import OCAPTAIN, wait_for

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def dock(tmp_path_factory):
    made = Dock(tmp_path_factory.mktemp("client"))
    made.make("one")
    yield made
    made.end()


@pytest.fixture
def call(dock):
    def run(work, **more):
        async def inside():
            async with SpritesClient(dock.record["url"], dock.token, **{"seconds": 240.0, **more}) as client:
                return await work(client)

        return asyncio.run(inside())

    return run


@pytest.fixture(autouse=True)
def _no_faults(dock):
    yield
    dock.rest.delete("/drydock/faults")


def faults(dock, *rules):
    assert dock.rest.put("/drydock/faults", json={"rules": list(rules)}).status_code == 200


def test_binary_is_exact_both_ways_and_streams_are_apart(call):
    data = os.urandom(5_000_000)
    line = "cat; head -c 1000000 /dev/zero >&2; exit 7"
    done = call(lambda client: client.run("one", ["sh", "-c", line], stdin=data, seconds=240))
    assert (done.code, done.stdout == data, done.stderr == bytes(1_000_000)) == (7, True, True)


def test_two_hundred_fast_commands_lose_no_byte(call):
    async def work(client):
        for start in range(0, 200, 10):
            done = await asyncio.gather(
                *(client.run("one", ["echo", str(number)], seconds=240) for number in range(start, start + 10))
            )
            assert [one.stdout for one in done] == [b"%d\n" % number for number in range(start, start + 10)]

    call(work)


def test_a_reader_that_waits_holds_the_writer(call, dock):
    """Output that nobody takes is not piled up anywhere: the command stands still."""
    count = dock.folder("one") / "home/sprite/progress"

    async def work(client):
        line = "i=0; while [ $i -lt 400 ]; do head -c 262144 /dev/zero; i=$((i+1)); echo $i > ~/progress; done"
        execution = await client.exec("one", ["sh", "-c", line], cwd="/home/sprite")
        total, slept = 0, False
        async for _, data in execution:
            total += len(data)
            if not slept:
                slept = True
                await asyncio.sleep(2)
                assert int(count.read_text() or 0) < 200
        await execution.close()
        return total

    assert call(work) == 400 * 262144


def test_a_writer_that_is_not_read_is_held(call):
    async def work(client):
        line = "until [ -e ~/read-now ]; do sleep 0.1; done; rm ~/read-now; wc -c"
        execution = await client.exec("one", ["sh", "-c", line])

        async def send():
            for _ in range(400):
                await execution.send(bytes(65536))

        sending = asyncio.create_task(send())
        await asyncio.wait([sending], timeout=2)
        assert not sending.done(), "26 MB are somewhere"
        await client.run("one", ["touch", "/home/sprite/read-now"], seconds=240)
        await sending
        await execution.send_eof()
        said = b"".join([data async for _, data in execution])
        await execution.close()
        return int(said)

    assert call(work) == 400 * 65536


def test_what_is_cancelled_is_killed(call, dock):
    marker = f"4{os.getpid()}"

    async def work(client):
        task = asyncio.create_task(client.run("one", ["sleep", marker], seconds=240))
        running = ["pgrep", "-f", f"^sleep {marker}"]
        while (await client.run("one", running, seconds=240)).code:
            await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while not (await client.run("one", running, seconds=240)).code:
            await asyncio.sleep(0.05)

    call(lambda client: asyncio.wait_for(work(client), 240))


def test_a_deadline_is_a_clear_error_and_ends_the_command(call):
    with pytest.raises(SpritesError, match="did not end in 1 s and was killed"):
        call(lambda client: client.run("one", ["sleep", "50"], seconds=1))


@pytest.mark.parametrize("size", [0, 1, 1_000_000, 12 * 1024 * 1024 + 17])
def test_a_file_goes_there_and_comes_back(call, tmp_path, monkeypatch, size):
    monkeypatch.setattr(transfer, "PART_BYTES", 5 * 1024 * 1024)
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(size))
    target = "/home/sprite/new dir/it's a -file"

    async def work(client):
        await upload(client, "one", source, target, mode=0o640)
        await download(client, "one", target, back)
        return await client.run("one", ["sh", "-c", 'stat -c %a "$1"; ls -A "${1%/*}"', "sh", target], seconds=240)

    done = call(work)
    assert back.read_bytes() == source.read_bytes()
    assert done.stdout == b"640\nit's a -file\n"  # nothing else is left there
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_an_upload_goes_on_where_it_broke_off(call, dock, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "PART_BYTES", 1_000_000)
    source = tmp_path / "source"
    source.write_bytes(os.urandom(5_500_000))
    faults(dock, {"call": "PUT /v1/sprites/*/fs/write", "kind": "hang", "after": 3})
    with pytest.raises(ConnectionFailed):
        call(
            lambda client: upload(client, "one", source, "/home/sprite/up"),
            seconds=1.0,
            sleep=lambda _: asyncio.sleep(0),
        )
    dock.rest.delete("/drydock/faults")
    before = dock.rest.get("/drydock/metrics").json()["bytes"]["one"]["received"]
    call(lambda client: upload(client, "one", source, "/home/sprite/up"))
    sent = dock.rest.get("/drydock/metrics").json()["bytes"]["one"]["received"] - before
    assert sent < 3_000_000  # three parts of six were there
    done = call(lambda client: client.run("one", ["sha256sum", "/home/sprite/up"], seconds=240))
    assert done.stdout.split()[0].decode() == hashlib.sha256(source.read_bytes()).hexdigest()


def test_a_download_goes_on_where_it_broke_off(call, dock, tmp_path):
    call(lambda client: client.run("one", ["sh", "-c", "head -c 9000000 /dev/urandom > ~/down"], seconds=240))
    faults(dock, {"call": "GET /v1/sprites/*/fs/read", "kind": "cut", "messages": 2, "times": 3})
    before = dock.rest.get("/drydock/metrics").json()["bytes"]["one"]["sent"]
    call(lambda client: download(client, "one", "/home/sprite/down", tmp_path / "down"))
    done = call(lambda client: client.run("one", ["sha256sum", "/home/sprite/down"], seconds=240))
    assert done.stdout.split()[0].decode() == hashlib.sha256((tmp_path / "down").read_bytes()).hexdigest()
    assert dock.rest.get("/drydock/faults").json()["hit"] == [3]
    assert dock.rest.get("/drydock/metrics").json()["bytes"]["one"]["sent"] - before < 11_000_000


def test_a_damaged_upload_is_seen_and_sent_again(call, tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.write_bytes(b"good" * 100_000)
    real, tries = SpritesClient.write_file, []

    async def damaging(client, name, path, data, **more):
        tries.append(path)
        bad = b"bad!" * 100_000 if len(tries) == 1 else data
        await real(client, name, path, bad, **more)

    monkeypatch.setattr(SpritesClient, "write_file", damaging)
    call(lambda client: upload(client, "one", source, "/home/sprite/fixed"))
    assert len(tries) == 2


def test_what_cannot_be_transferred_says_why(call, tmp_path):
    with pytest.raises(TransferFailed, match="no such file"):
        call(lambda client: download(client, "one", "/nowhere", tmp_path / "x"))
    (tmp_path / "s").write_bytes(b"x")
    call(lambda client: client.run("one", ["mkdir", "-p", "/home/sprite/a-folder"], seconds=240))
    with pytest.raises(TransferFailed, match="directory"):
        call(lambda client: upload(client, "one", tmp_path / "s", "/home/sprite/a-folder"))
    with pytest.raises(TransferFailed, match="absolute"):
        call(lambda client: upload(client, "one", tmp_path / "s", "x"))
    with pytest.raises(SpritesError, match=r"denied"):
        call(lambda client: upload(client, "one", tmp_path / "s", "/root/x"))


# -- the proxy --------------------------------------------------------------------------------------

ECHO = (
    "import socket\ns = socket.create_server(('127.0.0.1', 18946))\nwhile True:\n c, _ = s.accept()\n"
    " d = c.recv(65536)\n while d:\n  c.sendall(d); d = c.recv(65536)\n c.close()"
)


def test_a_tunnel_and_a_port_that_nobody_has(call, dock):
    put_service(dock, "one", "echo", "python3", ("-c", ECHO))
    blob = os.urandom(2_000_000)

    async def work(client):
        with pytest.raises(ProxyFailed, match="port 1 of one"):
            await client.proxy("one", 1)
        tunnel = None
        while tunnel is None:
            with contextlib.suppress(ProxyFailed):
                tunnel = await client.proxy("one", 18946)
        got = bytearray()

        async def read():
            async for data in tunnel:
                got.extend(data)
                if len(got) == len(blob):
                    return

        reading = asyncio.create_task(read())
        for at in range(0, len(blob), 50_000):
            await tunnel.send(blob[at : at + 50_000])
        await reading
        await tunnel.close()
        return bytes(got)

    assert call(work) == blob


def test_the_command_is_an_ssh_proxy_command(dock, tmp_path):
    """A real sshd in the ship, the real ssh here, our command between them."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    dock.rest.put(
        "/v1/sprites/one/fs/write?path=/home/sprite/.ssh/authorized_keys&mode=0600",
        content=(tmp_path / "key.pub").read_bytes(),
    )
    sshd = "exec sudo /usr/sbin/sshd -D -e -p 18947 -o ListenAddress=127.0.0.1"
    line = f"sudo ssh-keygen -A >/dev/null; chmod 700 ~/.ssh; {sshd}"
    put_service(dock, "one", "sshd", "sh", ("-c", line))
    options = ["-i", tmp_path / "key", "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={tmp_path}/known"]
    proxy = f"ProxyCommand={OCAPTAIN} proxy --provider drydock %h %p"
    ssh = ["ssh", "-F", "/dev/null", *options, "-o", proxy, "-p", "18947", "sprite@one"]

    def go():
        done = subprocess.run(
            [*ssh, "cat; exit 5"],
            input=b"x" * 300_000,
            capture_output=True,
            env=dock.sailor.env,
            check=False,
            timeout=240,
        )
        return done if done.returncode != 255 else None

    done = wait_for(go)
    assert (done.returncode, done.stdout) == (5, b"x" * 300_000)


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["nobody", "22"], 1, "there is no sprite nobody"),
        (["one", "1"], 1, "port 1 of one"),
        (["ship-0", "22"], 2, "voyage"),
        (["voyage-000000000000-ship-0", "22"], 2, "no voyage"),
        (["one", "70000"], 2, "is not a TCP port"),
    ],
)
def test_a_proxy_that_cannot_be_is_a_clear_error(dock, arguments, code, part):
    done = dock.sailor.run("proxy", *arguments, "--provider", "drydock")
    assert (done.code, done.out) == (code, "")
    assert part in done.err


def test_faults_are_kept_and_told(dock):
    faults(dock, {"call": "GET /v1/sprites/one", "status": 503, "times": 1})
    assert [dock.rest.get("/v1/sprites/one").status_code for _ in range(2)] == [503, 200]
    (told,) = dock.rest.get("/drydock/faults").json()["injected"]
    assert (told["call"], told["kind"]) == ("GET /v1/sprites/one", "status")
    assert json.dumps(told)


def test_a_wedged_sprite_hangs_but_runs_is_listed_and_can_be_destroyed(dock):
    dock.make("wedged")
    base = "/v1/sprites/wedged"
    with dock.socket(f"{base}/exec?cmd=cat&stdin=true") as before:
        before.recv()  # the session's own words
        faults(dock, {"call": f"GET {base}/services", "kind": "wedge", "times": 1})
        for work in (
            lambda: dock.rest.get(f"{base}/services", timeout=0.3),
            lambda: dock.rest.get(f"{base}/exec", timeout=0.3),
            lambda: dock.rest.get(f"{base}/fs/list?path=/", timeout=0.3),
            lambda: dock.rest.post(f"{base}/checkpoint", json={}, timeout=0.3),
        ):
            with pytest.raises(httpx.ReadTimeout):
                work()
        with pytest.raises(TimeoutError):
            connect_within(dock, f"{base}/exec?cmd=true", 0.3)
        before.send(b"\0hello")
        with pytest.raises(TimeoutError):
            before.recv(0.3)
        assert dock.rest.get("/drydock/faults").json()["wedged"] == ["wedged"]
        assert dock.advance(40000)["running"] >= 1  # for ever: it never pauses
        assert dock.status("wedged") == "running"
        assert dock.rest.get("/v1/sprites?prefix=wedged").json()["sprites"][0]["status"] == "running"
        faults(dock)
        assert before.recv(60) == b"\x01hello"
    faults(dock, {"call": f"GET {base}/services", "kind": "wedge", "times": 1})
    with pytest.raises(httpx.ReadTimeout):
        dock.rest.get(f"{base}/services", timeout=0.3)
    assert dock.rest.delete(base).status_code == 204
    assert dock.rest.get(base).status_code == 404
    dock.make("wedged")  # another one
    assert dock.rest.get(f"{base}/services").json() == []
    assert dock.rest.delete(base).status_code == 204


def connect_within(dock, path, seconds):
    url = dock.record["url"].replace("http", "ws") + path
    headers = {"Authorization": f"Bearer {dock.token}"}
    with connect(url, additional_headers=headers, compression=None, proxy=None, open_timeout=seconds):
        pass


def test_output_is_lost_in_mid_stream_and_only_output(call, dock):
    faults(dock, {"call": "* /v1/sprites/*/exec", "kind": "lose", "kept": 100_000, "lost": 1000})
    count = "import sys; sys.stdout.write('0' * 250_000); sys.stderr.write('e' * 150_000); sys.exit(7)"
    done = call(lambda client: client.run("one", ["python3", "-c", count], seconds=240))
    assert (done.code, len(done.stdout), len(done.stderr)) == (7, 248_000, 150_000)


def test_the_base_is_one_that_published_roles_run_on(call):
    """`make outside` has whole roles."""
    script = """
    case $(readlink -f /sbin/init) in *systemd*) echo boots systemd ;; esac
    [ "$(stat -c %Y /var/lib/apt/lists)" = 0 ] || echo lists are new
    command -v setfacl rsync cron crontab >/dev/null || echo lacks programs
    touch shared && setfacl -m u:games:r shared && getfacl -c shared | grep -qx user:games:r-- || echo no ACLs
    for n in 1 2; do sudo service cron start >/dev/null; done
    sudo service cron status >/dev/null || echo no service
    echo '0 3 * * * true' | crontab - && crontab -l | grep -q true || echo no crontab
    """
    done = call(lambda client: client.run("one", ["sh", "-c", script], cwd="/home/sprite", seconds=240))
    assert (done.code, done.stdout, done.stderr) == (0, b"", b"")


LOSSY = {"call": "* /v1/sprites/*/exec", "kind": "lose", "kept": 512 * 1024, "lost": 1000}
SHOUT = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 8192); sys.stderr.write('e' * 700_000); sys.exit(3)"


def test_large_output_arrives_whole_over_a_lossy_stream(call, dock):
    faults(dock, LOSSY)

    async def work(client):
        lossy = await client.run("one", ["python3", "-c", SHOUT], seconds=240)
        shout = ["python3", "-c", SHOUT]
        whole = await run_whole(client, "one", shout, seconds=240)
        talked = await run_whole(client, "one", shout, seconds=240, answer_output=lambda _out, _err: None)
        left = await client.run("one", ["sh", "-c", "ls -d /tmp/ocaptain-*"], seconds=240)
        return lossy, whole, talked, left

    lossy, whole, talked, left = call(work)
    assert len(lossy.stdout) < 2**21
    assert talked == whole == sprites_client.Completed(3, bytes(range(256)) * 8192, b"e" * 700_000)
    assert left.code == 2  # nothing is left on the ship


def test_a_small_output_that_does_not_arrive_whole_is_an_error(call, dock):
    faults(dock, {**LOSSY, "kept": 10, "lost": 1})
    with pytest.raises(OutputLost, match=r"ended with exit code 4.*: 41 of 45 bytes"):
        call(lambda client: run_whole(client, "one", ["sh", "-c", "printf %45s x; exit 4"], seconds=240))


@pytest.mark.parametrize("stream", ["stderr", "both"])
def test_an_output_of_which_nothing_tells_the_length_is_an_error(call, dock, stream):
    faults(dock, {**LOSSY, "kept": 1, "stream": stream})
    with pytest.raises(OutputLost, match=r"ended with exit code 0.*: nothing tells how long it is"):
        call(lambda client: run_whole(client, "one", ["echo", "there"], seconds=240))


def test_a_command_that_does_not_end_well_leaves_no_output_on_the_ship(call):
    """A deadline, a cancelled caller, a dialogue that fails."""

    async def work(client):
        async def list_files():
            return (await client.run("one", ["sh", "-c", "ls -d /tmp/ocaptain-*"], seconds=240)).stdout

        async def start():
            running = asyncio.create_task(run_whole(client, "one", ["sh", "-c", "echo x; sleep 600"], seconds=240))
            while not await list_files():
                await asyncio.sleep(0.2)
            return running

        (running := await start()).cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not await list_files()

        def refuse(stdout, stderr):
            raise KeyError(stdout + stderr)

        with pytest.raises(KeyError, match="x"):
            await run_whole(client, "one", ["sh", "-c", "echo x; sleep 600"], seconds=240, answer_output=refuse)
        assert not await list_files()
        with pytest.raises(DeadlinePassed):
            await run_whole(client, "one", ["sleep", "600"], seconds=2)
        assert not await list_files()

    call(work)


def test_whole_output_is_as_a_pipe_gives_it(call):
    """Input, both streams, what opens one anew, a process that stays behind, a signal, no such program, a dialogue."""

    async def work(client):
        async def run_script(script, **more):
            return await run_whole(client, "one", ["sh", "-c", script], **{"seconds": 240, **more})

        assert await run_script("cat; echo e >/dev/stderr; echo f >/dev/stderr", stdin=b"\0in\n") == (
            sprites_client.Completed(0, b"\0in\n", b"e\nf\n")
        )
        assert (await run_script("sleep 600 & echo there")).stdout == b"there\n"
        assert (await run_script("kill -9 $$")).code == 137
        assert (await run_whole(client, "one", ["no-such-program"], seconds=240)).code == 127
        answers = iter([b"pass\n"])

        def answer(stdout, stderr):
            assert not stdout or stderr == b"prompt: "
            return None if b"now" in stdout else next(answers, b"") if b"prompt: " in stderr else b""

        asked = "printf 'prompt: ' >&2; read -r word; echo now $word; cat"
        talked = await run_script(asked, stdin=b"rest", answer_output=answer)
        assert (talked.stdout, talked.stderr) == (b"now pass\nrest", b"prompt: ")
        for dialogue in (None, lambda _out, _err: None):
            with pytest.raises(TooLarge):
                await run_script("yes", answer_output=dialogue)
        assert (await client.run("one", ["sh", "-c", "ls -d /tmp/ocaptain-*"], seconds=240)).code == 2

    call(work)


def test_a_sprite_that_is_wedged_in_the_middle_of_a_command_is_told(call, dock):
    dock.make("stuck")

    async def work(client):
        running = asyncio.create_task(client.run("stuck", ["sleep", "600"], seconds=240))
        await asyncio.to_thread(wait_for, lambda: dock.rest.get("/v1/sprites/stuck/exec").json()["count"] == 1)
        await asyncio.sleep(1.5)  # silent, and not wedged: another command starts
        assert not running.done()
        faults(dock, {"call": "* /v1/sprites/stuck/*", "kind": "wedge"})
        with pytest.raises(SpriteWedged, match="starts no other one"):
            await running
        with pytest.raises(ConnectionFailed):
            await client.write_file("stuck", "/home/sprite/x", bytes(8 * 2**20))

    call(work, seconds=1.0)
    assert dock.rest.delete("/v1/sprites/stuck").status_code == 204


# -- the captain's transport ----------------------------------------------------------------------


def test_a_command_on_a_ship_has_input_output_and_an_exit_code(call):
    async def work(client):
        ship = SpriteTransport(client, "one")
        failed = await run(ship, ["sh", "-c", "echo out; echo complaint >&2; exit 3"], 240)
        assert failed == Completed(3, b"out\n", b"complaint\n")
        assert await run(ship, ["true"], 240) == Completed(0, b"", b"")
        command = await ship.command(["cat"])
        await command.send(b"a line\n")
        await command.send_eof()
        assert b"".join([data async for _, data in command]) == b"a line\n"
        assert command.exit_code == 0
        await command.close()
        with pytest.raises(TransportError, match="took longer than"):
            await run(ship, ["sleep", "600"], 0.5)

    call(work)


def test_a_ship_is_gone_only_if_a_second_call_says_so_whatever_was_asked(dock, call):
    async def ask(client, sprite):
        ship = SpriteTransport(client, sprite)
        for work in (ship.open(), ship.put("a", b""), ship.command(["true"])):
            with pytest.raises(TransportError) as error:
                await work
            yield error.value

    async def there(client):
        return [error async for error in ask(client, "one")]

    async def gone(client):
        return [error async for error in ask(client, "nobody")]

    assert [isinstance(error, ShipGone) for error in call(gone)] == [True] * 3
    faults(
        dock,
        {"call": "WS /v1/sprites/one/exec", "kind": "status", "status": 404},
        {"call": "PUT /v1/sprites/one/fs/write", "kind": "status", "status": 404},
    )
    found = call(there)
    assert [isinstance(error, ShipGone) for error in found] == [False] * 3
    assert all("but the sprite exists" in str(error) for error in found)
