"""Which voyage is meant, and what finding it costs."""

from __future__ import annotations

import pytest

from ocaptain import process
from ocaptain.errors import UsageError
from ocaptain.ledger import Ledger
from ocaptain.locks import Lock
from ocaptain.voyage.home import Home
from tests.unit.test_ledger import make


@pytest.fixture
def home(tmp_path):
    for number in range(3):
        directory = tmp_path / f"voyage-{number:012x}"
        directory.mkdir()
        with make(directory / "ledger.db", {"1": frozenset()}) as ledger:
            ledger.set_state("sunk" if number == 0 else "running")
    return Home(tmp_path)


def test_a_sunk_voyage_s_ledger_is_opened_once(home, monkeypatch):
    opened = []
    real = Ledger.__init__

    def count(self, path, **more):
        opened.append(path.parent.name[-1])
        real(self, path, **more)

    monkeypatch.setattr(Ledger, "__init__", count)
    for _ in range(3):
        assert [one.id[-1] for one in home.active_voyages()] == ["1", "2"]
    assert opened.count("0") == 1


def test_the_one_that_sails_is_meant_among_several(home):
    with pytest.raises(UsageError, match="several voyages are active"):
        home.find(None)
    with Lock(process.captain_lock_path(home.path / "voyage-000000000002")) as lock:
        assert lock.acquire_within(1)
        assert home.find(None).id == "voyage-000000000002"


def put_voyage(home, name, state="running"):
    (home / name).mkdir(parents=True)
    ledger = make(home / name / "ledger.db", {"1": frozenset()})
    ledger.set_state(state)
    ledger.close()


def test_a_voyage_is_found_by_any_unique_prefix(tmp_path):
    home = Home(tmp_path)
    with pytest.raises(UsageError, match="no active voyage"):
        home.find(None)
    put_voyage(tmp_path, "voyage-aaaaaaaaaaaa")
    put_voyage(tmp_path, "voyage-abbbbbbbbbbb", "sunk")
    (tmp_path / "voyage-zzz").mkdir()
    (tmp_path / "voyage-cccccccccccc").mkdir()
    assert home.find(None).id == "voyage-aaaaaaaaaaaa"
    assert home.find("ab").id == home.find("voyage-ab").id == "voyage-abbbbbbbbbbb"
    for wrong in ("a", "voyage-", "c", "../x", ""):
        with pytest.raises(UsageError):
            home.find(wrong)
    put_voyage(tmp_path, "voyage-dddddddddddd")
    with pytest.raises(UsageError, match="several voyages"):
        home.find(None)


def test_a_broken_voyage_hides_no_other(tmp_path):
    put_voyage(tmp_path, "voyage-aaaaaaaaaaaa")
    (tmp_path / "voyage-bbbbbbbbbbbb").mkdir()
    (tmp_path / "voyage-bbbbbbbbbbbb/ledger.db").write_text("garbage")
    assert [one.id for one in Home(tmp_path).active_voyages()] == ["voyage-aaaaaaaaaaaa"]
