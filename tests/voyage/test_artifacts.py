"""What agents leave in ``~/voyage/artifacts``, brought here by a captain with real workers."""

from __future__ import annotations

import asyncio
import os

import pytest

from ocaptain.captain import rescue
from ocaptain.captain.landing import artifacts as landing_artifacts
from ocaptain.captain.transport import CutShort, ShipGone, TransportError
from ocaptain.query.artifacts import Shelf
from tests.voyage.local import command, landed, make_voyage, sail
from tests.voyage.test_captain import interrupted, saved


def run(coroutine):
    return asyncio.run(coroutine)


def found(directory):
    """Return the files of each task, and of which attempt they are."""
    return {
        one.task: (one.record.attempt, {file.path: (one.folder / file.path).read_text() for file in one.files})
        for one in Shelf(directory).read()
    }


def told(directory, kind):
    with command(directory) as ledger:
        return [row["text"] for row in ledger.rows("events", "n") if row["kind"] == kind]


LEAVE = "mkdir -p $OCAPTAIN_ARTIFACTS/deep; echo {0} > $OCAPTAIN_ARTIFACTS/deep/report; echo {0} > file{0}"


def test_each_task_has_what_its_own_agent_left(tmp_path, ships):
    """One ship works on both: nothing of the first is the second's, and the links that it made do not travel."""
    tasks = [
        {"run": LEAVE.format(1) + "; ln -s /etc/passwd $OCAPTAIN_ARTIFACTS/link; mkfifo $OCAPTAIN_ARTIFACTS/pipe"},
        {"run": "ls -A $OCAPTAIN_ARTIFACTS > seen; echo x > ~/voyage/artifacts/two", "waits": ["1"]},
        {"run": "ls -A $OCAPTAIN_ARTIFACTS > seen", "waits": ["2"]},
    ]
    directory = make_voyage(tmp_path, tasks)
    (ship,) = fleet = ships(1)
    for name in ("spec.md", "verify.sh"):  # as the role puts them there
        (ship.home / "voyage/artifacts" / name).write_text("of the plan\n")
    assert run(sail(directory, fleet)) == "complete"
    assert found(directory) == {"1": (1, {"deep/report": "1\n"}), "2": (1, {"two": "x\n"})}
    assert (directory / "workspace/seen").read_text() == "spec.md\nverify.sh\n"
    (left_out,) = told(directory, "left out")
    assert left_out.count("it is neither a file nor a folder") == 2
    assert [text.partition(":")[0] for text in told(directory, "artifacts")] == [
        "attempt 1 left 1 file, 2 bytes",
        "attempt 1 left 1 file, 2 bytes",
    ]


def test_a_failed_attempt_leaves_its_own_until_a_later_one_leaves_some(tmp_path, ships):
    first_fails = "if mkdir {0}/{1}; then echo why > ~/voyage/artifacts/why; exit 1; fi; echo 1 > {1}; {2}"
    tasks = [
        {"run": first_fails.format(tmp_path, "none-later", "true")},
        {"run": first_fails.format(tmp_path, "some-later", "echo done > ~/voyage/artifacts/result")},
    ]
    directory = make_voyage(tmp_path, tasks)
    assert run(sail(directory, ships(1))) == "complete"
    assert found(directory) == {"1": (1, {"why": "why\n"}), "2": (2, {"result": "done\n"})}


def test_large_artifacts_come_in_parts_after_the_landing(tmp_path, ships, monkeypatch):
    """And the voyage has ended only when they are here."""
    directory = make_voyage(tmp_path, [{"run": "head -c 9000000 /dev/urandom > ~/voyage/artifacts/big; echo 1 > a"}])
    (ship,) = fleet = ships(1)
    real, order = ship.get, []

    async def get(path, limit):
        order.append((path.rpartition("-")[2], landed(directory)))
        await asyncio.sleep(0.2)
        return await real(path, limit)

    monkeypatch.setattr(ship, "get", get)
    assert run(sail(directory, fleet)) == "complete"
    assert order == [(f"artifacts.{number}", ["1"]) for number in range(3)]
    big = directory / "artifacts/1/big"
    assert big.read_bytes() == (ship.home / "voyage/artifacts/big").read_bytes()
    assert big.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("error", [CutShort("half"), TransportError("it broke"), ShipGone("it is gone")])
def test_artifacts_that_cannot_be_had_cost_nobody_anything(tmp_path, ships, monkeypatch, error):
    directory = make_voyage(tmp_path, [{"run": "head -c 90000 /dev/zero > ~/voyage/artifacts/big; echo 1 > a"}], 2)
    fleet = ships(2)

    async def get(path, limit):
        raise error

    for ship in fleet:
        monkeypatch.setattr(ship, "get", get)
    assert run(sail(directory, fleet)) == "complete"
    assert landed(directory) == ["1"]
    assert found(directory) == {}
    (text,) = told(directory, "left out")
    assert str(error) in text


@pytest.mark.parametrize("is_resumed", [True, False])
def test_a_captain_that_dies_before_it_has_them_loses_none(tmp_path, ships, monkeypatch, is_resumed):
    """The next captain gets them, or the sink."""
    tasks = [{"run": "head -c 90000 /dev/zero > ~/voyage/artifacts/big; echo 1 > a"}, {"run": "true", "waits": ["1"]}]
    directory = make_voyage(tmp_path, tasks)
    fleet = ships(1)
    with monkeypatch.context() as patch:
        never = asyncio.Event()
        patch.setattr(landing_artifacts, "_fetch_and_keep", lambda *_: never.wait())
        run(interrupted(directory, fleet, lambda: landed(directory) == ["1"]))
    assert found(directory) == {}
    if is_resumed:
        assert run(sail(directory, fleet)) == "complete"
    else:
        assert [one.ok for one in run(saved(directory, fleet))] == [True]
    assert found(directory) == {"1": (1, {"big": "\0" * 90000})}


def test_a_sink_brings_what_an_agent_at_work_has_left_so_far(tmp_path, ships):
    at_work = LEAVE.format(2) + "; touch ~/there; sleep 600"
    directory = make_voyage(tmp_path, [{"run": LEAVE.format(1)}, {"run": at_work, "waits": ["1"]}])
    (ship,) = fleet = ships(1)
    run(interrupted(directory, fleet, (ship.home / "there").exists))
    assert [one.ok for one in run(saved(directory, fleet))] == [True]
    assert found(directory) == {"1": (1, {"deep/report": "1\n"}), "2": (1, {"deep/report": "2\n"})}
    run(saved(directory, fleet))
    assert len(told(directory, "artifacts")) == 2  # nothing comes twice


def test_a_sink_keeps_a_ship_whose_artifacts_cannot_be_written_here(tmp_path, ships, monkeypatch):
    directory = make_voyage(tmp_path, [{"run": LEAVE.format(1) + "; touch ~/there; sleep 600"}])
    (ship,) = fleet = ships(1)
    run(interrupted(directory, fleet, (ship.home / "there").exists))
    (directory / "artifacts").write_text("a file in the way\n")
    (kept,) = run(saved(directory, fleet))
    assert not kept.ok
    assert "its artifacts cannot be written" in kept.reason


def test_artifacts_that_take_long_take_no_time_from_the_rescue_of_work(tmp_path, ships, monkeypatch):
    """They have a limit of their own: otherwise no sink would ever end where the way is slow."""
    directory = make_voyage(tmp_path, [{"run": LEAVE.format(1) + "; touch ~/there; sleep 600"}])
    (ship,) = fleet = ships(1)
    run(interrupted(directory, fleet, (ship.home / "there").exists))
    real, collect, made, seen = asyncio.timeout, rescue._collect_artifacts, [], []

    def timeout(seconds):
        made.append(real(seconds))
        return made[-1]

    async def slowly(*arguments):
        seen.append(made[0].when())
        await collect(*arguments)

    monkeypatch.setattr(asyncio, "timeout", timeout)
    monkeypatch.setattr(rescue, "_collect_artifacts", slowly)
    assert [one.ok for one in run(saved(directory, fleet))] == [True]
    assert seen == [None]
    assert made[0].when()
    assert found(directory) == {"1": (1, {"deep/report": "1\n"})}
