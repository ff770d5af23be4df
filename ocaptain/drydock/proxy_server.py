"""Carry out requests to drydock's proxy (:mod:`.proxy` decides which).

Names are looked up by drydock (:mod:`.lookups`): neither the ship nor the server at the other end has a say in
which address is judged and which is connected to. How many connections a ship has is :mod:`.outlets`' to count.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.drydock.lookups import Lookups
from ocaptain.drydock.network import CHUNK_BYTES, CONNECT_SECONDS, relay
from ocaptain.drydock.proxy import Refusal, judge_address, judge_target, parse_request, unwrap

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocaptain.drydock.network import StreamPair
    from ocaptain.drydock.proxy import Address, Egress, Target

HEAD_SECONDS = 30.0
LINGER_SECONDS = 2.0
LOOKUP_SECONDS = 20.0
_DISCARD_PORT = 9
_lookups = Lookups()
_REASONS = {
    400: "Bad Request",
    403: "Forbidden",
    431: "Head Too Large",
    502: "Bad Gateway",
    504: "Timeout",
}


class _RefusedError(Exception):
    """A request is refused."""

    def __init__(self, status: int, reason: str) -> None:
        self.refusal = Refusal(status, reason)
        super().__init__(reason)


class ProxyConnections:
    """The connections of one ship's programs to its proxy.

    Args:
        egress: returns what limits the ship now.
    """

    def __init__(self, egress: Callable[[], Egress]) -> None:
        self._egress = egress

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection: one request, then bytes in both directions.

        Raises:
            OSError: a connection broke.
        """
        try:
            far, is_tunnel = await self._connect(reader)
            if is_tunnel:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await relay((reader, writer), far, until_other_ends=not is_tunnel)
        except _RefusedError as error:
            await _refuse(reader, writer, error.refusal)

    async def _connect(self, reader: asyncio.StreamReader) -> tuple[StreamPair, bool]:
        """Read a request and reach its target; return the connection, and whether it is a tunnel.

        Raises:
            _RefusedError: the request is refused, or its target cannot be reached.
        """
        request = parse_request(await _read_head(reader))
        if isinstance(request, Refusal):
            raise _RefusedError(request.status, request.reason)
        egress = self._egress()
        if refused := judge_target(request.target, egress):
            raise _RefusedError(refused.status, refused.reason)
        addresses = await self._look_up(request.target)
        judged = [judge_address(one, request.target, egress, is_own=is_own_address(one)) for one in addresses]
        good = [one for one, refusal in zip(addresses, judged, strict=True) if refusal is None]
        if not good:
            first = next(filter(None, judged))
            raise _RefusedError(first.status, first.reason)
        far = await _open_connection(good, request.target)
        if request.head is not None:
            far[1].write(request.head)
        return far, request.head is None

    async def _look_up(self, target: Target) -> list[Address]:
        if target.address:
            return [target.address]
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                return await _lookups.look_up(self, target.host, target.port)
        except TimeoutError:
            raise _RefusedError(504, f"looking up {target.host} took too long") from None
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "it is not a valid name"
            raise _RefusedError(502, f"{target.host} cannot be resolved: {why}") from error


def is_own_address(address: Address) -> bool:
    """Return whether an address, or the IPv4 address in it, is one of this machine's own.

    The kernel is asked, by datagram sockets that send nothing: only an own address can be bound, and from an own
    address it sends to itself.
    """
    return any(_is_bindable(one) or _is_own_source(one) for one in {address, unwrap(address)})


def _is_bindable(address: Address) -> bool:
    with contextlib.suppress(OSError):
        # Where this is set (some load balancers) every address can be bound.
        if Path(f"/proc/sys/net/ipv{address.version}/ip_nonlocal_bind").read_text("ascii").strip() == "0":
            with _datagram_socket(address) as asked:
                asked.bind((str(address), 0))
                return True
    return False


def _is_own_source(address: Address) -> bool:
    with contextlib.suppress(OSError), _datagram_socket(address) as asked:
        asked.connect((str(address), _DISCARD_PORT))
        found = ip_address(asked.getsockname()[0])
        return address in {found, unwrap(found)}
    return False


def _datagram_socket(address: Address) -> socket.socket:
    return socket.socket(socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET, socket.SOCK_DGRAM)


async def _open_connection(addresses: list[Address], target: Target) -> StreamPair:
    """Connect to the first address that answers.

    Raises:
        _RefusedError: none of them does.
    """
    why = "no address"
    for address in addresses:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await asyncio.open_connection(str(address), target.port, limit=CHUNK_BYTES)
        except TimeoutError:
            why = f"no answer within {CONNECT_SECONDS:g} s"
        except OSError as error:
            why = error.strerror or str(error)
    raise _RefusedError(502, f"{target.authority} cannot be reached: {why}")


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    try:
        async with asyncio.timeout(HEAD_SECONDS):
            return await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise _RefusedError(431, f"the head is longer than {CHUNK_BYTES} bytes") from None
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("the client ended before its request was complete") from error
    except TimeoutError:
        raise _RefusedError(400, f"no complete request came within {HEAD_SECONDS:g} s") from None


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, refusal: Refusal) -> None:
    """Reply with the reason twice: many programs show the status line alone."""
    reason = refusal.reason.encode("ascii", "replace").decode()
    body = f"drydock: {reason}\n".encode()
    head = f"HTTP/1.1 {refusal.status} {_REASONS[refusal.status]}: {reason}"
    fields = f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close"
    writer.write(f"{head}\r\n{fields}\r\n\r\n".encode() + body)
    writer.write_eof()
    with contextlib.suppress(TimeoutError):  # a client that still sends finds its reply, if it looks within this time
        async with asyncio.timeout(LINGER_SECONDS):
            while await reader.read(CHUNK_BYTES):
                pass
