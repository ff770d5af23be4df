"""``ocaptain cost``: exact sums by ship, task and model, machines beside them."""

from __future__ import annotations

import json

import pytest

from ocaptain.cli.cost import show_cost
from ocaptain.cli.views import show_status, show_tasks
from ocaptain.ledger import Ledger, Spent
from ocaptain.ledger.views import sum_attempts, voyage_sum
from tests.unit.test_ledger import make

CENT = 10_000_000


def spent(nano, model="opus", mark="api", read=100):
    tokens = [read, 10, 0, 0, 0]
    return Spent(model, read, 10, 0, nano or 0, mark, [{"model": model, "tokens": tokens, "cost_nano": nano}])


@pytest.fixture
def voyage(tmp_path, monkeypatch):
    monkeypatch.setenv("OCAPTAIN_HOME", str(tmp_path))
    directory = tmp_path / "voyage-000000000000"
    directory.mkdir()
    with make(directory / "ledger.db", {"1": frozenset(), "2": frozenset()}) as ledger:
        first = ledger.claim("ship-0")
        ledger.record_spent(first.token, spent(CENT, read=50), None)
        ledger.record_spent(first.token, spent(3 * CENT), None)  # it went on
        ledger.record_spent(first.token, spent(CENT, read=50), None)  # older news that came late
        ledger.fail(first.token, "no")
        again = ledger.claim("ship-1")
        ledger.record_spent(again.token, spent(CENT // 100 + 1, "haiku"), None)
        other = ledger.claim("ship-0")
        ledger.record_spent(other.token, spent(None, "unheard", "subscription"), None)
        ledger.add_awake_seconds({"ship-0": (None, 3600.0), "ship-1": (None, 1800.0)})
    return directory


def shown(capsys, by):
    show_cost(None, by=by, as_json=True)
    return json.loads(capsys.readouterr().out)


def test_sums(voyage, capsys):
    ships = {line["name"]: line for line in shown(capsys, "ship")["lines"]}
    assert (ships["ship-0"]["cost_nano"], ships["ship-0"]["cost_unknown"]) == (3 * CENT, 1)
    assert (ships["ship-1"]["cost_nano"], ships["ship-2"]["cost_usd"]) == (CENT // 100 + 1, None)
    tasks = {line["name"]: line for line in shown(capsys, "task")["lines"]}
    assert (tasks["1"]["cost_nano"], tasks["1"]["attempts"]) == (3 * CENT + CENT // 100 + 1, 2)
    seen = shown(capsys, "model")
    assert {line["name"]: line["cost_nano"] for line in seen["lines"]} == {
        "haiku": CENT // 100 + 1,
        "opus": 3 * CENT,
        "unheard": 0,
    }
    assert seen["total"]["cost_mark"] == "api+subscription"
    assert (seen["total"]["machine_usd"], seen["total"]["awake_seconds"]) == (0.0, 5400.0)
    show_tasks(None, None, as_json=True)
    first = json.loads(capsys.readouterr().out)["tasks"][0]
    assert (first["cost_usd"], first["tokens"]) == (0.0301, {"in": 200, "out": 20, "cached": 0})


def test_what_is_known_counts_beside_what_is_not(voyage, capsys):
    rows = [
        {"model": "opus", "tokens": [100, 10, 5, 0, 0], "cost_nano": CENT},
        {"model": "opus", "tokens": [50, 5, 0, 0, 0], "cost_nano": None},
        {"model": "unheard", "tokens": [1, 1, 0, 0, 0], "cost_nano": None},
    ]
    with Ledger(voyage / "ledger.db") as ledger:
        ledger.take_command()
        ledger.record_spent(ledger.held_claim("ship-1").token, Spent("opus", 156, 16, 5, CENT, "api", rows), None)
    seen = {by: shown(capsys, by) for by in ("ship", "task", "model")}
    for split in seen.values():
        assert sum(line["cost_nano"] for line in split["lines"]) == split["total"]["cost_nano"] == 4 * CENT
    models = {line["name"]: line for line in seen["model"]["lines"]}
    assert (models["opus"]["attempts"], models["opus"]["cost_unknown"], models["opus"]["tokens"]["in"]) == (2, 1, 255)
    assert (models["unheard"]["attempts"], models["unheard"]["cost_unknown"]) == (2, 2)
    assert seen["model"]["total"]["cost_unknown"] == 2


def test_the_kept_sums_are_those_of_all_attempts(voyage):
    with Ledger(voyage / "ledger.db") as ledger:
        assert voyage_sum(ledger.total_spending()) == sum_attempts(ledger.rows("attempts", "token"))


def test_for_people(voyage, capsys):
    show_cost(None, by="ship", as_json=False)
    out = capsys.readouterr().out
    assert "$0.0300+" in out
    assert "1:30:00" in out
    show_status(None, as_json=False)
    assert "agents $0.0301+ (api/subscription), 300 tokens in, 30 out" in capsys.readouterr().out


def test_machines_cost_where_they_do(voyage, capsys, tmp_path, monkeypatch):
    prices = tmp_path / "prices.toml"
    prices.write_text("[machines.drydock]\ncpus = 8\nmemory_gb = 4\ncpu_hour = 0.07\nmemory_gb_hour = 0.04375\n")
    monkeypatch.setenv("OCAPTAIN_PRICES", str(prices))
    seen = shown(capsys, "ship")
    assert [line["machine_usd"] for line in seen["lines"]] == [0.735, 0.3675, 0.0]
    assert seen["total"]["total_usd"] == pytest.approx(0.735 + 0.3675 + 0.0301)


def test_sessions_that_may_be_gone_on_with(tmp_path):
    with make(tmp_path / "ledger.db", {"1": frozenset()}) as ledger:
        one = ledger.claim("ship-0")
        assert (one.sessions, one.work) == ((), None)
        ledger.note_work(one.token, "c" * 40, fresh=False)
        ledger.return_task(one.token, "conflict", "x")
        # Another ship does not have its transcript.
        other = ledger.claim("ship-1")
        assert (other.sessions, other.work) == ((), None)
        ledger.return_task(other.token, "conflict", "x")
        # A busy service is no failure of the session's, and what was done and why it did not do is not forgotten.
        for state in ("waited", "denied", "lost", "conflict"):
            again = ledger.claim("ship-0")
            assert (again.sessions[-1], again.work) == (one.session, "c" * 40)
            assert again.reason == ("the ship fell silent" if state == "conflict" else "x")
            ledger.record_spent(again.token, spent(0), one.session)  # it was gone on with
            ledger.return_task(
                again.token, state, "the ship fell silent" if state == "lost" else f"not because {state}"
            )
        # It had its chances; newer work counts.
        last = ledger.claim("ship-0")
        assert (last.sessions, last.reason) == ((), "not because conflict")
        ledger.note_work(last.token, "d" * 40, fresh=True)
        ledger.return_task(last.token, "conflict", "x")
        last = ledger.claim("ship-0")
        assert (last.sessions, last.work) == ((), "d" * 40)


def test_a_task_is_kept_from_others_and_first_for_its_own(tmp_path):
    with make(tmp_path / "ledger.db", {"1": frozenset(), "2": frozenset()}) as ledger:
        assert not ledger.ready_tasks(["ship-0"], ["1", "2"])
        assert ledger.claim("ship-0", excluded=["1", "2"]) is None
        assert ledger.claim("ship-0", preferred=["2"]).task == "2"
