"""The ways out of a ship that has a network of its own: ports of the host, and drydock's proxy.

Each listens on the ship's own loopback, by a socket that was made in its network (:mod:`.network`). What comes in
there is drydock's, outside, to judge and to carry.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ocaptain.drydock.errors import FsError
from ocaptain.drydock.files import Files
from ocaptain.drydock.network import CHUNK_BYTES, abandon_writer, end_writer, open_sandbox_socket, relay
from ocaptain.drydock.policy import allows_host
from ocaptain.drydock.proxy import Egress, OpenedHost
from ocaptain.drydock.proxy_server import ProxyConnections

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence

    from ocaptain.drydock.policy import NetworkPolicy, NetworkRule
    from ocaptain.drydock.sandbox import Sandbox

#: On each ship's loopback. Below the ports that programs are given by chance, and no service's registered one.
PROXY_PORT = 13128
_PROXY_URL = f"http://127.0.0.1:{PROXY_PORT}"
_VARIABLES = "http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY"
_APT = "".join(
    f'Acquire::{scheme}::Proxy "{_PROXY_URL}";\n'
    + "".join(f'Acquire::{scheme}::Proxy::{host} "DIRECT";\n' for host in ("127.0.0.1", "localhost"))
    for scheme in ("http", "https")
)
#: Files of a ship with a proxy, with content and mode. The last one of apt's counts: the host may have one of its own,
#: with a proxy that the ship cannot reach. By default sudo keeps no variable.
_SETTINGS = {
    "/etc/apt/apt.conf.d/zz-drydock-proxy": (_APT, 0o644),
    "/etc/sudoers.d/drydock-proxy": (f'Defaults env_keep += "{_VARIABLES}"\n', 0o440),
}
#: Open at once in one ship, by all ways out together, so that it cannot use up drydock's descriptors (two each).
MAX_CONNECTIONS = 256
NetworkMode = Literal["proxy", "isolated", "host"]
log = logging.getLogger("drydock")


@dataclass(frozen=True)
class ShipNetwork:
    """What ships can reach.

    Attributes:
        mode: ``proxy``: a network of their own, and out by drydock's proxy; ``isolated``: a network of their own, and
            out to the opened hosts alone; ``host``: the host's own network, without any limit.
        ports: ports of the host's loopback that are the ship's as well.
        opened: hosts that the proxy reaches although their addresses are private.
    """

    mode: NetworkMode = "proxy"
    ports: tuple[int, ...] = ()
    opened: tuple[OpenedHost, ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether a ship has a network of its own."""
        return self.mode != "host"

    @property
    def has_proxy(self) -> bool:
        """Whether a ship has a proxy."""
        return self.mode == "proxy" or (self.mode == "isolated" and bool(self.opened))

    def environment(self, name: str) -> dict[str, str]:
        """Return the variables by which programs of the ship ``name`` find the proxy; in both spellings."""
        if not self.has_proxy:
            return {}
        found = {"http_proxy": _PROXY_URL, "https_proxy": _PROXY_URL, "no_proxy": f"localhost,127.0.0.1,::1,{name}"}
        return {**found, **{key.upper(): value for key, value in found.items()}}


async def _write_settings(files: Files, *, has_proxy: bool) -> None:
    """Write the settings of programs that the variables do not reach, or remove them.

    Args:
        files: of the ship's root: no link that the ship has laid leads out of it.
        has_proxy: whether the ship has a proxy.
    """
    for path, (text, mode) in _SETTINGS.items():
        with contextlib.suppress(FsError):  # a ship may do without, and a reduced one has no sudo
            if has_proxy:
                await files.write(path, _once(text.encode()), mode, make_parents=False)
            else:
                await files.delete(path)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def publish_policy(files: Files, policy: NetworkPolicy) -> None:
    """Write a policy where the ship's programs can read it (``/.sprite/policy/network.json``), if they let us.

    Args:
        files: of the ship's ``/.sprite``: the ship's user owns it and may have planted links.
        policy: the network policy.
    """
    content = json.dumps(policy.model_dump(exclude_none=True)).encode()
    with contextlib.suppress(FsError):
        await files.write("/policy/network.json", _once(content), 0o444)


class Crowd:
    """The connections of one ship.

    Attributes:
        number: of those that are open now, by all outlets together.
    """

    def __init__(self) -> None:
        self.number = 0


class Outlet:
    """A listener on a ship's loopback.

    Args:
        port: on 127.0.0.1 inside.
        serve: carries out one connection; it is cancelled when connections are dropped.
        crowd: of the ship, whose number is limited.
    """

    def __init__(
        self, port: int, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], crowd: Crowd
    ) -> None:
        self.port = port
        self._serve = serve
        self._crowd = crowd
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self, init_pid: int) -> None:
        """Listen inside the sandbox.

        Raises:
            OSError: the port is taken inside.
        """

        def listen(new_socket: socket.socket) -> None:
            new_socket.bind(("127.0.0.1", self.port))

        listener = await asyncio.to_thread(open_sandbox_socket, init_pid, listen)
        self._server = await asyncio.start_server(self._serve_connection, sock=listener, limit=CHUNK_BYTES)

    async def _serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._crowd.number >= MAX_CONNECTIONS:
            writer.transport.abort()  # without a reply: one that waits until it is read would hold its descriptor
            return
        task = asyncio.current_task()
        assert task
        self._open.add(task)
        self._crowd.number += 1
        try:
            await self._serve(reader, writer)
            await end_writer(writer)
        except (OSError, asyncio.CancelledError):
            pass  # the ship's program sees the connection end
        finally:
            self._open.discard(task)
            self._crowd.number -= 1
            abandon_writer(writer)

    def drop_connections(self) -> None:
        """Close every open connection."""
        for task in list(self._open):
            task.cancel()

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        self.drop_connections()
        if self._server:
            self._server.close()
            self._server = None


class Outlets:
    """All ways out of one ship; none if its network is the host's.

    Args:
        network: what ships can reach.
        rules: returns the rules of the ship's network policy.
        ports: further ports of the host, for this ship alone.
    """

    def __init__(
        self, network: ShipNetwork, rules: Callable[[], Sequence[NetworkRule]], ports: Collection[int] = ()
    ) -> None:
        self._network = network
        self._rules = rules
        self._init_pid = 0
        self._crowd = Crowd()
        self._bridges: dict[int, Outlet] = {}
        if network.is_own:
            self._bridges = {port: self._bridge(port) for port in (*network.ports, *ports)}
        self._proxy: Outlet | None = None
        if network.has_proxy:
            self._proxy = Outlet(PROXY_PORT, ProxyConnections(self._egress).serve, self._crowd)

    def _egress(self) -> Egress:
        return Egress(self._rules(), self._network.opened, opened_only=self._network.mode == "isolated")

    def _bridge(self, port: int) -> Outlet:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if allows_host(self._rules(), "localhost"):
                far = await asyncio.open_connection("127.0.0.1", port, limit=CHUNK_BYTES)
                await relay((reader, writer), far)

        return Outlet(port, serve, self._crowd)

    @property
    def _all(self) -> list[Outlet]:
        return [*self._bridges.values(), *((self._proxy,) if self._proxy else ())]

    async def start(self, box: Sandbox) -> None:
        """Listen inside a sandbox that has just started; a port that is taken there is left out."""
        self._init_pid = box.init_pid
        await _write_settings(Files(box.root, box.ids, as_root=True), has_proxy=self._network.has_proxy)
        for outlet in self._all:
            await self._start(outlet)

    async def _start(self, outlet: Outlet) -> None:
        try:
            await outlet.start(self._init_pid)
        except OSError as error:  # the ship itself put something in the way
            log.warning("port %d of the host cannot be opened in a ship: %s", outlet.port, error)

    async def set_ports(self, ports: Collection[int]) -> None:
        """Set the further ports of the host, for this ship alone; connections to one that is closed end."""
        wanted = {*self._network.ports, *ports} if self._network.is_own else set()
        for port in self._bridges.keys() - wanted:
            await self._bridges.pop(port).stop()
        for port in sorted(wanted - self._bridges.keys()):
            self._bridges[port] = self._bridge(port)
            if self._init_pid:
                await self._start(self._bridges[port])

    def drop_connections(self) -> None:
        """Close every open connection, because the policy changed or the ship pauses."""
        for outlet in self._all:
            outlet.drop_connections()

    async def stop(self) -> None:
        """Stop listening and end every connection: the sandbox ends."""
        self._init_pid = 0
        for outlet in self._all:
            await outlet.stop()
