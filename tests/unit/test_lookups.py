"""Whose names are looked up when: as data, and with ships whose name servers are silent."""

from __future__ import annotations

import asyncio
import threading
from ipaddress import ip_address

import pytest

from ocaptain.drydock import lookups
from ocaptain.drydock.lookups import MAX_LOOKUPS, THREADS, Lookups, may_look_up

PUBLIC = ip_address("203.0.113.80")


@pytest.mark.parametrize(
    ("own", "busy", "may"),
    [
        (0, 0, True),
        (MAX_LOOKUPS - 1, MAX_LOOKUPS - 1, True),
        (MAX_LOOKUPS, MAX_LOOKUPS, False),
        (MAX_LOOKUPS - 1, THREADS // 2 - 1, True),
        (1, THREADS // 2, False),
        (0, THREADS // 2, True),
        (0, THREADS - 1, True),
        (0, THREADS, False),
    ],
)
def test_how_many_lookups_a_ship_has(own, busy, may):
    assert may_look_up(own, busy) is may


def silent_ships(monkeypatch, scenario, ships):
    """Run a scenario while ``ships`` ships have asked for eight names each, whose servers do not answer."""
    answer, asked = threading.Event(), []

    def resolve(host, _):
        asked.append(host)
        if host.endswith(".silent.example"):
            answer.wait(60)
        return [PUBLIC]

    async def run():
        resolver = Lookups()
        asks = [
            asyncio.create_task(resolver.look_up(ship, f"{ship}-{number}.silent.example", 80))
            for number in range(8)
            for ship in range(ships)
        ]
        await asyncio.sleep(0)
        try:
            return await asyncio.wait_for(scenario(resolver, asks, asked), 30)
        finally:
            answer.set()
            await asyncio.gather(*asks, return_exceptions=True)
            assert len(asked) >= ships

    monkeypatch.setattr(lookups, "resolve", resolve)
    return asyncio.run(run())


@pytest.mark.parametrize("ships", [4, 16])
def test_ships_with_silent_name_servers_leave_threads_to_the_others(monkeypatch, ships):
    async def scenario(resolver, *_):
        return await asyncio.gather(*(resolver.look_up("honest", f"n{number}.example", 80) for number in range(9)))

    assert silent_ships(monkeypatch, scenario, ships) == [[PUBLIC]] * 9


def test_who_stops_waiting_gives_back_its_turn(monkeypatch):
    async def scenario(resolver, asks, asked):
        while len(asked) < MAX_LOOKUPS:
            await asyncio.sleep(0.01)
        for ask in asks:
            ask.cancel()
        await asyncio.gather(*asks, return_exceptions=True)
        waiting = asyncio.create_task(resolver.look_up(0, "later.example", 80))
        await asyncio.sleep(0.05)
        return waiting.done(), len(asked)

    # The threads are still busy for that ship, however few wait for them.
    assert silent_ships(monkeypatch, scenario, 1) == (False, MAX_LOOKUPS)
