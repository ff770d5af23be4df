"""Look up names in threads of drydock's own, so that no ship's names keep those of the others waiting.

A thread cannot be cancelled: a name whose server does not answer keeps its thread for long. So a ship has a few at
a time, and one alone once half of all are busy (:func:`may_look_up`).
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocaptain.drydock.proxy import Address

THREADS = 32
MAX_LOOKUPS = 4  #: Of one ship at a time.


def may_look_up(own: int, all_of_them: int) -> bool:
    """Return whether a ship may begin to look up one more name.

    Args:
        own: lookups of this ship that are in progress.
        all_of_them: lookups of all ships.
    """
    return all_of_them < THREADS and own < (MAX_LOOKUPS if all_of_them < THREADS // 2 else 1)


def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a name, as this machine's resolver gives them.

    Raises:
        OSError: there are none.
        UnicodeError: it is not a valid name.
    """
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers))


class Lookups:
    """The lookups of all ships, in one event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "resolve")
        self._running: Counter[object] = Counter()
        self._waiting: list[tuple[object, asyncio.Future[None]]] = []

    async def look_up(self, ship: object, host: str, port: int) -> list[Address]:
        """Return the addresses of a name, when it is the ship's turn; see :func:`resolve`.

        Args:
            ship: any object that stands for the ship.
            host: a name.
            port: of TCP.
        """
        await self._take_turn(ship)
        found = asyncio.get_running_loop().run_in_executor(self._threads, resolve, host, port)
        found.add_done_callback(lambda done: self._end(ship, done))
        return await asyncio.shield(found)  # its thread goes on, and is counted, when nobody waits any more

    async def _take_turn(self, ship: object) -> None:
        if self._may_begin(ship):
            self._running[ship] += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((ship, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.remove((ship, turn))
            else:  # it came at the same moment
                self._give_back(ship)
            raise

    def _may_begin(self, ship: object) -> bool:
        return may_look_up(self._running[ship], self._running.total())

    def _end(self, ship: object, done: asyncio.Future[list[Address]]) -> None:
        self._give_back(ship)
        if not done.cancelled():
            done.exception()  # else asyncio logs one that nobody waits for any more

    def _give_back(self, ship: object) -> None:
        """Count one lookup less, and let those begin that may, in the order in which they came."""
        self._running[ship] -= 1
        for waiting in list(self._waiting):
            one, turn = waiting
            if not turn.done() and self._may_begin(one):
                self._waiting.remove(waiting)
                self._running[one] += 1
                turn.set_result(None)
        self._running += Counter()  # ships without any are forgotten
