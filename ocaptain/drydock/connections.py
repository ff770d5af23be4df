"""HTTP connections with time and number limits: uvicorn itself waits without limit for a request's head.

Any user of this machine, and any page in its browser, can reach the port and open connections; a ship can do so
on its own socket. Until a call on a connection is accepted (:func:`mark_accepted`), the connection is closed if a
head takes too long, and the oldest one is closed if there are too many of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from starlette.types import Scope
    from uvicorn import Config
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle
    from uvicorn.server import ServerState

HEAD_SECONDS = 10.0
LINGER_SECONDS = 2.0  # a client that still sends finds its answer, if it looks within this time
_ACCEPT = "ocaptain.accept"


def mark_accepted(scope: Scope) -> None:
    """Mark the connection of a call as used by an authorised client; may be called again."""
    noted: Callable[[], None] | None = scope.get("state", {}).get(_ACCEPT)
    if noted:
        noted()


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 with deadlines for heads and unread bodies, and few connections without an accepted call."""

    max_unaccepted = 128  # connections without an accepted call

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, _ACCEPT: self._accepted}, _loop)
        self._deadline: asyncio.TimerHandle | None = None
        self.is_unaccepted = True

    @property
    def is_waiting_unaccepted(self) -> bool:
        """Whether it is open and no call on it was accepted yet."""
        return self.is_unaccepted and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline of the first head; abort the oldest unaccepted connection beyond the limit."""
        super().connection_made(transport)
        self._wait_for_head()
        unaccepted = [one for one in self.connections if isinstance(one, BoundedProtocol) and one.is_waiting_unaccepted]
        if len(unaccepted) > self.max_unaccepted:
            _longest_waiting(unaccepted).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the deadline."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Process received bytes; set a deadline for a head that is not complete."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._wait_for_head()
        elif not self.is_unaccepted:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Close the connection soon if the client still sends a body that nobody reads."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self.loop.call_later(LINGER_SECONDS, self._abort_if_body_unread, self.cycle)

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP with 400; if another reply is in progress, just close the connection."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            super().send_400_response(msg)
            return
        cycle.disconnected = True
        cycle.message_event.set()
        self.transport.close()

    def _accepted(self) -> None:
        self.is_unaccepted = False
        self._stop_waiting()

    def _wait_for_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._abort)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _abort(self) -> None:
        self.transport.abort()

    def _abort_if_body_unread(self, cycle: object) -> None:
        if self.cycle is cycle and self.conn.their_state is h11.SEND_BODY:
            self.transport.abort()


def _longest_waiting(unaccepted: Iterable[BoundedProtocol]) -> BoundedProtocol:
    return min(unaccepted, key=lambda one: one._deadline.when() if one._deadline else 0.0)  # noqa: SLF001
