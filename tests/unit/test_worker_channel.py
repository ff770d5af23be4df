"""The worker's service and the captain's channel, joined in one process."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import os

import pytest

from ocaptain.captain import channel as channel_module
from ocaptain.captain.channel import Channel
from ocaptain.captain.cursors import Cursors
from ocaptain.captain.transport import TransportError
from ocaptain.protocol import CLASSES
from ocaptain.protocol.envelope import Call, Look, ResultBody
from ocaptain.protocol.files import write_atomic, write_json
from ocaptain.protocol.messages import Bundle, Part, Start
from ocaptain.worker import attempts, channels, serve, state
from ocaptain.worker.places import Places
from ocaptain.worker.serve import Worker
from tests.helpers import PATIENCE
from tests.voyage.local import SocketStream


@contextlib.asynccontextmanager
async def joined(home):
    places = Places(home)
    places.make()
    worker = Worker(places, home / "worker.pyz")
    server = await asyncio.start_unix_server(worker.serve_connection, str(home / "sock"))
    troubles, records = [], []

    async def connect(cursors=None, generation=1):
        stream = SocketStream(*await asyncio.open_unix_connection(str(home / "sock")))
        cursors = cursors or Cursors(None, {})
        channel = Channel(stream, cursors, records.append, lambda *result: records.append(result), troubles.append)
        try:
            await channel.open("voyage-00000000cafe", "ship-0", 1, generation)
        except TransportError:
            await channel.close()
            raise
        return channel

    try:
        yield worker, connect, records, troubles
    finally:
        server.close()
        worker._journal.close()


def test_with_no_room_for_a_result_the_worker_says_so_and_goes_on_when_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(serve, "RETRY_SECONDS", 0.05)
    real, full = os.write, [True]

    def write(fd, data):
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data)

    async def play():
        async with joined(tmp_path) as (_, connect, _, troubles):
            channel = await connect()
            monkeypatch.setattr(os, "write", write)
            answer = asyncio.create_task(channel.call(Call("x:1", "no such command")))
            while not troubles:
                await asyncio.sleep(0.01)
            assert troubles == ["a result cannot be written to the ship's disk, retrying: No space left on device"]
            assert not answer.done()
            full[0] = False
            number, result = await answer
            assert (number, result.ok, result.data["code"]) == (1, False, "unknown")
            while len(troubles) < 2:
                await asyncio.sleep(0.01)
            assert troubles[1:] == [""]
            await channel.settle(number)
            assert (await channel.call(Call("x:2", "no such command")))[0] == 2
            await channel.close()

    asyncio.run(asyncio.wait_for(play(), PATIENCE))


def test_hello_that_takes_too_long_says_what_did_not_come(tmp_path, monkeypatch):
    monkeypatch.setattr(channel_module, "HELLO_SECONDS", 1.5)  # the welcome itself comes sooner

    async def play():
        async with joined(tmp_path) as (worker, connect, _, _):
            worker._append_to_journal({"kind": "result", "id": "start:1", "ok": True, "data": {}}, durable=True)
            monkeypatch.setattr(channels.Channel, "send_next_records", lambda *_: asyncio.Future())
            with pytest.raises(TransportError, match=r"results in its journal did not arrive in 1\.5 s"):
                await connect()
            monkeypatch.setattr(worker, "_handle_hello", lambda *_: asyncio.Future())
            with pytest.raises(TransportError, match=r"did not answer hello in 1\.5 s"):
                await connect(generation=2)

    asyncio.run(asyncio.wait_for(play(), PATIENCE))


def test_hello_waits_for_no_backlog_and_rest_brings_all_of_it(tmp_path):
    """Results come before logs, logs before telemetry; what was dropped is passed over."""

    async def play():
        async with joined(tmp_path) as (worker, connect, records, _):
            for number in range(1, 301):
                data = base64.b64encode(b"x" * 20_000).decode()
                worker._append_to_journal({"kind": "agent", "token": 1, "facts": {"number": number}}, durable=False)
                worker._append_to_journal({"kind": "log", "token": 1, "offset": number, "data": data}, durable=False)
            worker._append_to_journal({"kind": "result", "id": "start:1", "ok": True, "data": {}}, durable=True)
            worker._journal._classes["log"].drop_oldest()
            first = worker._journal.first("log")
            assert first > 1
            channel = await connect()
            seen = list(records)
            assert (1, ResultBody("start:1", ok=True)) in seen
            assert len(seen) < 100
            await channel.rest()
            kinds = [one.kind for one in records if not isinstance(one, tuple)]
            assert kinds == ["log"] * (301 - first) + ["agent"] * 300
            await channel.settle(1)
            assert channel.cursors.settled_numbers() == {"result": 1, "log": 300, "telemetry": 300, "otlp": 0}
            await channel.close()
            while worker._channel:
                await asyncio.sleep(0.01)
            again = await connect(channel.cursors, 2)
            await again.rest()
            assert len(records) == 1 + len(kinds)  # nothing comes twice
            await again.close()

    asyncio.run(asyncio.wait_for(play(), PATIENCE))


def test_a_writer_that_was_killed_leaves_no_litter_behind_the_next_one(tmp_path):
    for _ in range(3):
        (tmp_path / ".a.json.tmp").write_bytes(b"half")
        write_atomic(tmp_path / "a.json", b"whole", durable=False, one_writer=True)
        assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"a.json": b"whole"}


def test_what_is_durable_has_its_name_on_disk_too(tmp_path, monkeypatch):
    synced = []
    sync = os.fsync

    def spy(fd):
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        sync(fd)

    monkeypatch.setattr(os, "fsync", spy)
    write_atomic(tmp_path / "a.json", b"whole", one_writer=True)
    assert synced == [str(tmp_path / ".a.json.tmp"), str(tmp_path)]
    write_atomic(tmp_path / "a.json", b"more", durable=False)
    assert len(synced) == 2


def test_a_disk_that_went_back_in_time_counts_anew(tmp_path):
    async def play():
        async with joined(tmp_path) as (worker, connect, records, _):
            worker._append_to_journal({"kind": "log", "token": 1, "offset": 0, "data": ""}, durable=False)
            ahead = Cursors(worker._journal.name, dict.fromkeys(CLASSES, 9))
            channel = await connect(ahead)
            await channel.rest()
            assert len(records) == 1
            assert channel.cursors.settled_numbers() == {"result": 0, "log": 1, "telemetry": 0, "otlp": 0}
            await channel.close()

    asyncio.run(asyncio.wait_for(play(), PATIENCE))


def test_the_worker_s_state_is_saved_by_threads_at_one_time_and_does_not_grow(tmp_path):
    """Two threads once shared one scratch name: 71 of 300 failed."""

    async def play():
        async with joined(tmp_path) as (worker, _, _, _):
            worker._state.results = {f"check:{number}": {"ok": True, "data": {}} for number in range(200)}
            await asyncio.gather(*(asyncio.to_thread(worker._state.save) for _ in range(100)))
            assert len(worker._state.results) == state.MAX_RESULTS
            await asyncio.gather(
                *(asyncio.to_thread(write_json, tmp_path / "one.json", {"n": number}) for number in range(100))
            )
            assert sorted(one.name for one in tmp_path.glob(".one*")) == []

    asyncio.run(play())


def test_a_new_attempt_leaves_nothing_of_old_ones_but_the_newest_logs(tmp_path):
    async def play():
        async with joined(tmp_path) as (worker, _, _, _):
            places = worker._state.places
            for number in range(1, 31):
                (places.attempts / str(number)).mkdir()
                (places.outbox / f"{number}.bundle").touch()
                log = places.logs / f"check-{number}.log"
                log.touch()
                os.utime(log, (number, number))
            (places.inbox / "left.0").touch()
            (places.inbox / "own.0").touch()
            bundle = Bundle((Part(".ocaptain/in/own.0", 0, "0" * 64),))
            worker._attempts._remove_leftovers(Start(token=30, bundle=bundle))
            assert [one.name for one in places.inbox.iterdir()] == ["own.0"]
            assert [one.name for one in places.attempts.iterdir()] == ["30"]
            assert not list(places.outbox.iterdir())
            left = {int(one.stem.removeprefix("check-")) for one in places.logs.iterdir()}
            assert left == set(range(31 - attempts.MAX_LOGS, 31))

    asyncio.run(play())


def test_a_look_keeps_no_ship_awake(tmp_path):
    """It is answered, and neither is a Task held for it nor is the ship kept from its rest."""

    async def play():
        async with joined(tmp_path) as (worker, connect, _, _):
            channel = await connect()
            seen = asyncio.get_running_loop().create_future()
            channel.on_seen = lambda answer: seen.done() or seen.set_result(answer)
            await channel.send(Look(1, 7))
            assert (await seen).number == 7
            assert (worker._hold._working, worker._hold._until) == (0, 0.0)
            await channel.send(Look(1, 8))
            await channel.rest()
            assert (worker._hold._working, worker._hold._until) == (0, 0.0)
            await channel.close()

    asyncio.run(play())
