"""Bundles for ships: made once for all that need the same, hashed off the loop, gone when nobody needs them."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import threading

import pytest

from ocaptain.captain.ship import bundle_store
from ocaptain.captain.ship.bundle_store import BundleStore
from ocaptain.git import Git, GitError, bundles
from tests.unit.test_workspace import commit


@pytest.fixture
def store(tmp_path):
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "repo.git"], check=True)
    return BundleStore(Git(tmp_path / "repo.git"), tmp_path / "sending")


def files(store):
    return sorted(store._directory.iterdir()) if store._directory.exists() else []


def test_ships_that_need_the_same_share_one_file_that_is_hashed_once(store, monkeypatch):
    oid = commit(store._git, {"a": "x" * 100_000, "b": "y"})
    monkeypatch.setattr(bundles, "PART_BYTES", 100)
    hashed, threads = [], set()
    real = hashlib.sha256

    def sha256(data=b""):
        hashed.append(len(data))
        threads.add(threading.current_thread())
        return real(data)

    monkeypatch.setattr(bundles.hashlib, "sha256", sha256)

    async def send(ready):
        async with store.open_bundle(oid, None) as one:
            ready.append(one)
            while len(ready) < 6:
                await asyncio.sleep(0.01)
            data = b"".join([await one.read(part) for part in one.parts])
            assert [part.offset for part in one.parts] == list(range(0, len(data), 100))
            assert data.startswith(b"# v2 git bundle")
            return one, data

    async def six():
        ready = []
        return await asyncio.gather(*(send(ready) for _ in range(6)))

    sent = asyncio.run(six())
    assert len({id(one) for one, _ in sent}) == 1
    assert sum(hashed) - len(sent[0][0].parts) * 64 == len(sent[0][1])  # the parts, and the name made of their sums
    assert threading.main_thread() not in threads
    assert len(files(store)) == 1


def test_what_nobody_sends_any_more_goes_with_its_ref_and_what_is_sent_stays(store, monkeypatch):
    monkeypatch.setattr(bundle_store, "MAX_IDLE", 1)
    oids = [commit(store._git, {"a": str(n)}) for n in range(4)]

    async def work():
        async with store.open_bundle(oids[0], None) as first:
            for oid in oids[1:]:
                async with store.open_bundle(oid, None):
                    pass
            assert first.path.exists()
            assert len(files(store)) == 2
        assert set(store._git.refs("refs/ocaptain/send").values()) <= {oids[0], oids[3]}

    asyncio.run(work())
    store.clear()
    assert files(store) == []


def test_a_delta_is_for_who_has_the_base(store):
    first = commit(store._git, {"a": "1"})
    second = commit(store._git, {"a": "1", "b": "2"}, first)

    async def work():
        async with store.open_bundle(second, first) as delta, store.open_bundle(second, None) as whole:
            assert f"-{first}".encode() in delta.path.read_bytes()
            assert f"-{first}".encode() not in whole.path.read_bytes()
            assert delta.name != whole.name

    asyncio.run(work())


def test_what_could_not_be_made_is_tried_again(store):
    oid = commit(store._git, {"a": "1"})
    store._directory.write_text("in the way")

    async def take():
        async with store.open_bundle(oid, None) as one:
            return one.path.exists()

    async def work():
        with pytest.raises(GitError, match="cannot be written"):
            await take()
        store._directory.unlink()
        assert await take()

    asyncio.run(work())
