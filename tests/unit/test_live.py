"""The files of a running attempt: when they are asked for, what is taken of a hostile workspace, and what it costs."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

from ocaptain.agents import ADAPTERS, Briefing
from ocaptain.captain.decide.live import Pace, is_lost, next_pace
from ocaptain.captain.ship.live import LiveFollower, settle_live
from ocaptain.cli import render
from ocaptain.cli.diff_show import headline, show_diff
from ocaptain.cli.status_view import files_text
from ocaptain.git import BundleRefused
from ocaptain.ledger.live import live_as_dict
from ocaptain.protocol.envelope import LOOK, Seen
from ocaptain.protocol.limits import MEBIBYTE, Limits
from ocaptain.protocol.messages import Bundle, Part, Snapshot
from ocaptain.query import Query
from ocaptain.query.live import Change
from ocaptain.sync.live import STATUS_FILE, Health, Live
from ocaptain.worker import live
from ocaptain.worker.job import Job
from ocaptain.worker.live import Abandoned, LiveFiles, LiveView, choose
from tests.helpers import as_documented
from tests.unit.test_local_work import BRANCH, Voyage
from tests.unit.test_workspace import Ship, commit, import_bytes

# -- when --------------------------------------------------------------------------------------------


def test_a_ship_is_asked_each_15_seconds_and_less_often_after_two_idle_minutes():
    pace, waits = Pace(), []
    for _ in range(12):
        waits.append(pace.seconds)
        pace = next_pace(pace, changed=False)
    assert waits == [15] * 8 + [30] + [60] * 3
    assert next_pace(pace, changed=True) == Pace(15.0)


@pytest.mark.parametrize(("took", "seconds"), [(0.1, 15), (2, 20), (60, 60)])
def test_a_ship_that_answers_slowly_is_asked_less_often(took, seconds):
    assert next_pace(Pace(), changed=True, took=took).seconds == seconds
    assert next_pace(Pace(), changed=False, took=took).seconds == seconds


@pytest.mark.parametrize(
    ("state", "has_work", "has_changes", "kept"),
    [
        ("lost", False, True, True),
        ("failed", False, True, True),
        ("sunk", False, True, True),
        ("landed", False, True, False),
        ("failed", True, True, False),
        ("lost", False, False, False),
    ],
)
def test_what_was_seen_last_is_kept_only_where_it_is_all_that_is_left(state, has_work, has_changes, kept):
    assert is_lost(state=state, has_work=has_work, has_changes=has_changes) is kept


# -- what a workspace has ----------------------------------------------------------------------------


@pytest.fixture
def ship(tmp_path):
    return Ship(tmp_path)


class Counting(LiveView):
    """Counts what it runs, and how many folders git opens."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.ran = []
        self.trace = self._places.home / "trace"

    def _run(self, argv, data, seconds, **more):
        self.ran.append(next(word for word in argv[1:] if "=" not in word and word != "-c"))
        more["env"] = {**more["env"], "GIT_TRACE2_EVENT": str(self.trace)}
        return super()._run(argv, data, seconds, **more)

    def opened_folders(self):
        events = [json.loads(line) for line in self.trace.read_text().splitlines()]
        self.trace.unlink()
        found = [one for one in events if one.get("category") == "read_directory"]
        return sum(int(one["value"]) for one in found if one["key"].endswith("opendir"))


def view_of(ship, kind=LiveView, token=1):
    return kind(ship.places, "ship-0", token, ship.base)


def take(ship, seen):
    """Bring an answer into the captain's repository, as the captain does; return its files."""
    data = b"".join((ship.places.home / part.path).read_bytes() for part in seen.snapshot.bundle.parts)
    import_bytes(ship.git, data, seen.snapshot.commit, seen.snapshot.base)
    return ship.git.files(seen.snapshot.commit)


def test_each_answer_holds_only_what_the_captain_lacks(ship):
    view = view_of(ship)
    assert view.look(1, "", Limits()).snapshot is None
    (ship.root / "a.txt").write_text("other\n")
    (ship.root / "big").write_bytes(os.urandom(200_000))
    first = view.look(2, "", Limits())
    assert set(take(ship, first)) == {"a.txt", "big", "dir/b.txt", ".gitignore"}
    assert (first.files, first.size) == (2, 200_006)
    assert view.look(3, first.snapshot.commit, Limits()).snapshot is None
    (ship.root / "a.txt").write_text("third\n")
    second = view.look(4, first.snapshot.commit, Limits())
    assert second.snapshot.base == first.snapshot.commit
    assert sum(part.size for part in second.snapshot.bundle.parts) < 1000
    take(ship, second)
    assert ship.git.text("rev-parse", f"{second.snapshot.commit}^") == ship.base
    (ship.root / "big").unlink()
    (ship.root / "a.txt").write_text("one\n")
    last = view.look(5, second.snapshot.commit, Limits())
    assert set(take(ship, last)) == {"a.txt", "dir/b.txt", ".gitignore"}
    assert ship.git.tree(last.snapshot.commit) == ship.git.tree(ship.base)


def test_an_answer_that_was_lost_on_the_way_is_given_again(ship):
    view = view_of(ship)
    (ship.root / "new").write_text("1")
    first = view.look(1, "", Limits())
    again = view_of(ship).look(2, "", Limits())  # by a worker that was started again
    assert again.snapshot.commit == first.snapshot.commit
    unknown = view.look(3, "a" * 40, Limits())
    assert unknown.snapshot.base == ship.base
    assert "new" in take(ship, unknown)


def test_a_ship_keeps_only_so_many_versions_of_what_changes_all_the_time(ship, monkeypatch):
    """Then it begins anew, and says so truly when all has gone that was seen before."""
    monkeypatch.setattr(live, "MAX_LIVE_OBJECTS", 150_000)
    view, have, sizes = view_of(ship), "", []
    for number in range(6):
        (ship.root / "big").write_bytes(os.urandom(100_000))
        seen = view.look(number, have, Limits())
        assert "big" in take(ship, seen)
        have = seen.snapshot.commit
        sizes.append(sum(one.stat().st_size for one in (ship.places.own / "live/objects").rglob("*") if one.is_file()))
    assert max(sizes) < 300_000
    (ship.root / "big").unlink()
    last = view.look(6, have, Limits())
    assert ship.git.tree(ship.base) == (take(ship, last) and ship.git.tree(last.snapshot.commit))
    assert view.look(7, last.snapshot.commit, Limits()).snapshot is None


def test_the_next_attempt_begins_anew(ship):
    (ship.root / "new").write_text("1")
    view_of(ship).look(1, "", Limits())
    ship.work.reset(ship.base, "voyage")
    assert view_of(ship, token=2).look(1, "", Limits()).snapshot is None


def test_a_hostile_workspace_costs_no_time_and_brings_nothing_that_no_ship_takes(ship):
    root = ship.root
    with (root / "huge").open("wb") as file:
        file.truncate(300 * 2**30)
    os.mkfifo(root / "fifo")
    (root / "a.txt").unlink()
    os.mkfifo(root / "a.txt")  # git would wait for a writer
    (root / "dir/b.txt").unlink()
    (root / "dir").rmdir()
    (root / "dir").symlink_to("/")
    (root / os.fsdecode(b"\xff\x1b[31m\n")).write_text("odd")
    (root / "git~1").write_text("a name that Windows takes for .git")
    (root / "nested").mkdir()
    subprocess.run(["git", "init", "-q", root / "nested"], check=True)
    (root / "nested/file").write_text("1")
    (root / ".gitattributes").write_text("* filter=evil\n")
    (root / ".gitignore").write_text("")
    (root / "node_modules").mkdir()
    (root / "node_modules/left").write_text("1")
    view = view_of(ship)
    seen = view.look(1, "", Limits())
    assert seen.problem == "left out, since no ship could take it: a.txt, git~1, huge and 1 more"
    files = take(ship, seen)
    assert set(files) == {"a.txt", "dir", "�\x1b[31m\n", ".gitattributes", ".gitignore"}
    assert view.look(2, seen.snapshot.commit, Limits()).snapshot is None


def test_too_much_is_not_sent_and_said(ship, monkeypatch):
    view = view_of(ship)
    for number in range(30):
        (ship.root / f"f{number}").write_text(str(number))
    assert "more than 20 new files (30)" in view.look(1, "", Limits(files=20)).problem
    monkeypatch.setattr(live, "MAX_LIVE_PACK", 100)
    assert view.look(2, "", Limits()).problem.startswith("what is new is not sent: it is more than")
    assert not list(ship.places.outbox.iterdir())
    monkeypatch.setattr(live, "MAX_LIVE_FILES", 10)
    assert choose(ship.root, [f"f{number}" for number in range(30)], Limits()).present == ()
    monkeypatch.undo()
    assert len(take(ship, view.look(3, "", Limits()))) == 33


def test_the_captain_refuses_what_an_honest_worker_would_not_send(ship):
    (ship.root / "large").write_bytes(b"0" * (2 * MEBIBYTE))
    seen = view_of(ship).look(1, "", Limits())
    data = (ship.places.home / seen.snapshot.bundle.parts[0].path).read_bytes()
    with pytest.raises(BundleRefused):
        import_bytes(ship.git, data, seen.snapshot.commit, ship.base, Limits(file_mib=1))


def test_the_agents_own_git_is_neither_read_nor_written(ship):
    own = ship.root / ".git"
    (own / "index.lock").write_text("")
    (own / "HEAD.lock").write_text("")
    (own / "config").write_text("[core]\n\tfsmonitor = touch /nowhere\n")
    (ship.root / "new").write_text("1")
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in own.rglob("*")}
    assert view_of(ship).look(1, "", Limits()).snapshot
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in own.rglob("*")} == before


def test_a_look_with_nothing_new_is_one_git_that_opens_no_folder(ship):
    """10,000 files are measured by benchmarks/live.py; here it is counted, whatever this machine does beside it."""
    for number in range(300):
        (ship.root / f"d{number}").mkdir()
        (ship.root / f"d{number}/f").write_text(str(number))
    view = view_of(ship, Counting)
    seen = view.look(1, "", Limits())
    have = seen.snapshot.commit
    past = [os.utime(path, (1, 1)) for path in ship.root.rglob("*")]
    assert past
    view.look(2, have, Limits())
    view.look(3, have, Limits())
    view.ran.clear()
    view.opened_folders()
    assert view.look(4, have, Limits()).snapshot is None
    assert view.ran == ["status"]
    assert view.opened_folders() <= 1
    (ship.root / "d7/g").write_text("new")
    view.ran.clear()
    assert view.look(5, have, Limits()).files == 301
    assert len(view.ran) <= 8
    assert view.opened_folders() <= 2


def test_a_look_under_way_is_abandoned_at_once(ship):
    """Git waits for a pipe here, as it would with a workspace that changes under it."""
    started, ended = threading.Event(), []

    class Waiting(LiveView):
        def _run(self, argv, data, seconds, **more):
            started.set()
            return super()._run(["sleep", "600"], None, seconds, **more)

    view = view_of(ship, Waiting)

    def look():
        with pytest.raises(Abandoned):
            view.look(1, "", Limits())
        ended.append(1)

    thread = threading.Thread(target=look)
    thread.start()
    assert started.wait(30)
    view.stop()
    thread.join(30)
    assert ended
    with pytest.raises(Abandoned):
        view.look(2, "", Limits())


def test_an_attempt_with_the_number_of_one_that_ended_is_seen(ship):
    """A ledger that went back in time gives numbers again."""
    state = SimpleNamespace(places=ship.places, ship="ship-0", job=None)
    files, answers = LiveFiles(state), []

    async def look(job):
        state.job, seen = job, asyncio.get_running_loop().create_future()

        async def send(answer):
            seen.set_result(answer.is_running)

        files.answer(1, 1, "", send)
        answers.append(await seen)

    async def play():
        ended, again = (Job(1, ship.base, "b", str(ship.places.home), "log", "m", name) for name in ("start:1", ""))
        await look(ended)
        files.end(ended)
        await look(ended)
        await look(again)

    asyncio.run(play())
    assert answers == [True, False, True]


def test_a_small_answer_has_its_bundle_inside(ship):
    (ship.root / "new").write_text("1")
    seen = live._inline(ship.places.home, view_of(ship).look(1, "", Limits()))
    data = base64.b64decode(seen.snapshot.bundle.data)
    import_bytes(ship.git, data, seen.snapshot.commit, ship.base)
    (ship.root / "large").write_bytes(os.urandom(100_000))
    assert live._inline(ship.places.home, view_of(ship).look(2, "", Limits())).snapshot.bundle.data == ""


# -- what the captain keeps --------------------------------------------------------------------------


@pytest.fixture
def voyage(tmp_path):
    found = Voyage(tmp_path / BRANCH)
    yield found
    found.ledger.close()


def begin(voyage):
    """Have an attempt begin; return it, and a commit of its files."""
    claim = voyage.ledger.claim("ship-0")
    voyage.ledger.record_start(claim.token, voyage.root)
    return claim, commit(voyage.git, {"a": "half\n"}, voyage.root)


def test_what_a_lost_attempt_had_done_is_kept_and_told_once(voyage):
    """Though several attempts end at the same moment, and each of them settles."""
    claim, half = begin(voyage)
    voyage.ledger.note_live(claim.token, {"commit": half, "files": 1})
    voyage.ledger.return_task(claim.token, "lost", "it is gone")

    async def settle():
        await asyncio.gather(*(settle_live(voyage.context) for _ in range(5)))

    asyncio.run(settle())
    assert voyage.git.refs("refs/ocaptain") == {f"refs/ocaptain/saved/ship-0/lost-{claim.token}": half}
    assert [row["kind"] for row in voyage.ledger.rows("events", "n")].count("saved") == 1


def test_a_captain_clears_refs_of_files_that_no_attempt_has(voyage):
    """The one before it died between ref and ledger."""
    claim, half = begin(voyage)
    voyage.ledger.note_live(claim.token, {"commit": half, "files": 1})
    for ship in ("ship-0", "ship-1"):
        voyage.git.update_ref(f"refs/ocaptain/live/{ship}", half)
    voyage.context.clear_leftovers()
    assert list(voyage.git.refs("refs/ocaptain")) == ["refs/ocaptain/live/ship-0"]


def test_what_an_attempt_may_bring_is_counted_beyond_its_channel(voyage, monkeypatch):
    monkeypatch.setattr("ocaptain.captain.ship.live.Pace", lambda: Pace(0.01))
    claim, half = begin(voyage)
    follower = LiveFollower("ship-0", voyage.context, None, lambda: None)
    follower._room = (claim.token, 5)  # after the channel that broke

    class Channel:
        """Offers six bytes at each look."""

        commands = (LOOK,)
        on_seen = None

        def __init__(self):
            self.broken = asyncio.get_running_loop().create_future()

        async def send(self, look):
            bundle = Bundle((Part("x", 6, "0" * 64),))
            snapshot = Snapshot(empty=False, bundle=bundle, commit=half, base=voyage.root)
            self.on_seen(Seen(look.number, snapshot, 1, 6))

    async def follow():
        link = SimpleNamespace(channel=Channel())

        async def result():
            while not (found := voyage.ledger.live_attempts(over=False)):
                await asyncio.sleep(0.01)
            return found[0].live

        return await follower.follow_during(link, claim, voyage.root, result())

    live = asyncio.run(follow())
    assert (live["commit"], "as much as an attempt may bring" in live["problem"]) == ("", True)


# -- what the next attempt is told -------------------------------------------------------------------


@pytest.mark.parametrize("agent", ["claude", "command"])
def test_each_prompt_names_what_a_lost_attempt_had_done(agent):
    lost = "refs/ocaptain/saved/ship-1/lost-3"
    task = {"id": "1", "subject": "s", "description": "d", "metadata": {"run": "true"}}
    briefing = Briefing("v", "ship-0", 2, task, "spec", session="x", sessions=("a",), lost=lost)
    run = ADAPTERS[agent].build_run(briefing)
    assert all(f"git diff {lost}^ {lost}" in prompt for prompt in (run.prompt, run.resume_prompt) if prompt)
    none = ADAPTERS[agent].build_run(replace(briefing, lost=None))
    assert "no end" not in none.prompt + none.resume_prompt


# -- what is shown -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "state"),
    [
        (None, "off"),
        ({}, "catching_up"),
        ({"at": 100.0, "files": 1, "size": 2, "problem": ""}, "watching"),
        ({"at": 20.0, "files": 1, "size": 2, "problem": ""}, "stale"),
        ({"at": 100.0, "files": 1, "size": 2, "problem": "too large"}, "stale"),
    ],
)
def test_watching_is_said_only_where_it_is_true(known, state):
    shown = live_as_dict(known, 110.0)
    assert shown["state"] == state
    assert shown["by"] == ("none" if known is None else "git")
    assert shown["first_problem"] == ((known or {}).get("problem") or None)


MIRROR = Health("mutagen", "watching", 0.26, 650, 12_000)


@pytest.mark.parametrize(
    ("mirror", "live", "by", "state", "said"),
    [
        (None, {"at": 100.0, "problem": ""}, "git", "watching", ""),
        (None, {"at": 20.0, "problem": ""}, "git", "stale", "its files were seen last 90 s ago"),
        (MIRROR, {"at": 100.0, "problem": ""}, "mutagen", "watching", ""),
        (Health("mutagen", "paused", None), None, "mutagen", "paused", ""),
        (
            Health("mutagen", "halted", 3.0, problems=2, first_problem="a\x1b[31m\nb"),
            {"at": 100.0, "problem": "too large"},
            "mutagen",
            "halted",
            r"its files are not all followed: the mirror is halted: a\x1b[31m b",
        ),
        (Health("none", "off"), None, "none", "off", ""),
    ],
)
def test_a_mirror_counts_where_there_is_one(voyage, mirror, live, by, state, said):
    """What the captain published of it; of one that is gone it is not believed any more."""
    if live is not None:
        claim, _ = begin(voyage)
        voyage.ledger.note_live(claim.token, {"files": 1, "size": 2, **live})
    query = Query(voyage.place.parent)
    if mirror:
        (voyage.place.parent / STATUS_FILE).write_bytes(Live(110.0, "0.18.1", ships={"ship-0": mirror}).encode())
    seen = query.snapshot(110.0)
    (raw,) = (one for one in seen.about.ships if one["id"] == "ship-0")
    shown = live_as_dict(raw["live"], 110.0, raw["mirror"])
    assert (shown["by"], shown["state"]) == (by, state)
    (ship,) = (one for one in seen.ships if one.id == "ship-0")
    assert (files_text(ship, 110.0), ship.is_mirrored) == (said, by == "mutagen")
    if mirror == MIRROR:
        raw = next(one for one in query.snapshot(200.0).about.ships if one["id"] == "ship-0")
        assert live_as_dict(raw["live"], 200.0, raw["mirror"])["state"] == "stale"


def test_a_headline_says_whose_how_old_and_what_lacks():
    change = Change("ship-0", "3", "a" * 40, "b" * 40, 100.0)
    assert headline(change, 112.0) == "ship-0, task 3, 12 s ago (git diff aaaaaaaaaaaa bbbbbbbbbbbb)"
    over = Change("ship-0", "3", "a" * 40, "b" * 40)
    assert "as its last attempt left it" in headline(over, 0.0)
    none = Change("ship-0", "3", "", "", 0.0)
    assert headline(none, 0.0) == "ship-0, task 3: nothing has changed, or its files were not fetched yet"


def test_the_changes_as_json(voyage, tmp_path, monkeypatch, capsys):
    """Commits, and files with counts, however they are named; of an attempt of which nothing is known, no files."""
    monkeypatch.setenv("OCAPTAIN_HOME", str(tmp_path))
    monkeypatch.setattr(render, "_json_printed", False)
    claim, _ = begin(voyage)
    half = commit(voyage.git, {"b": "\0", "new\t\x1b[31m": "1\n2\n"}, voyage.root)
    show_diff(BRANCH, None, stat=False, as_json=True)
    (unknown,) = as_documented(capsys.readouterr().out)["changes"]
    assert (unknown["base"], unknown["commit"], unknown["behind_seconds"], unknown["files"]) == (None, None, None, [])
    voyage.ledger.note_live(claim.token, {"commit": half, "at": 1.0, "files": 3, "size": 6, "problem": "left out: x"})
    monkeypatch.setattr(render, "_json_printed", False)
    show_diff(BRANCH, "ship-0", stat=False, as_json=True)
    (change,) = as_documented(capsys.readouterr().out)["changes"]
    assert (change["base"], change["commit"], change["problem"]) == (voyage.root, half, "left out: x")
    assert change["behind_seconds"] > 1e9
    assert [tuple(one.values()) for one in change["files"]] == [
        ("a", 0, 1),
        ("b", None, None),
        ("new\t\x1b[31m", 2, 0),
    ]
