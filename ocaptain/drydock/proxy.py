"""What a ship may reach through drydock's proxy: decisions over plain data (:mod:`.proxy_server` carries them out).

::

    head of a request ──parse_request──> Request(Target, …)
      ──judge_target: policy, opened hosts──> names are resolved, by drydock
      ──judge_address, for each address──> a connection to that address; the name is not looked up again

A name says nothing about where it leads, so the address is what is judged. ``ipaddress.is_private`` is not used:
it counts ranges for documentation, which some real networks use.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

import h11

from ocaptain.drydock.policy import allows_host
from ocaptain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocaptain.drydock.policy import NetworkRule

Address = IPv4Address | IPv6Address
HTTP_PORT, MAX_PORT = 80, 65535
#: Addresses that no opened name leads to: whoever controls a name must not choose among the host's services.
CLOSED = {
    "0.0.0.0/8": "means this machine",
    "127.0.0.0/8": "is a loopback address",
    "169.254.0.0/16": "is a link-local address",
    # What a cloud tells a machine about itself, with its keys, is at link-local addresses and at these.
    "100.100.100.200/32": "is a cloud's metadata",  # Alibaba Cloud
    "168.63.129.16/32": "is a cloud's metadata",  # Azure's WireServer
    "192.0.0.0/24": "is an address of protocols",  # RFC 6890; Oracle Cloud's metadata is at 192.0.0.192
    "224.0.0.0/4": "is a multicast address",
    "240.0.0.0/4": "is a reserved address",
    "::/96": "means this machine",  # unspecified, loopback, and IPv4-compatible (RFC 4291, obsolete)
    "64:ff9b:1::/48": "is a local translation address",  # RFC 8215: what is behind it cannot be known
    "2001::/32": "is a Teredo address",  # RFC 4380: an IPv4 address behind it, hidden
    "fd00:ec2::254/128": "is a cloud's metadata",  # Amazon EC2
    "fd20:ce::254/128": "is a cloud's metadata",  # Google Cloud
    "fe80::/10": "is a link-local address",
    "fec0::/10": "is a site-local address",
    "ff00::/8": "is a multicast address",
}
#: Addresses that are open to a host that drydock was started with.
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
#: IPv6 ranges whose addresses lead to an IPv4 address, with the number of bits to the right of it.
_CARRIERS = {
    "::ffff:0:0/96": 0,  # IPv4-mapped, RFC 4291
    "::ffff:0:0:0/96": 0,  # IPv4-translated, RFC 2765
    "64:ff9b::/96": 0,  # NAT64, RFC 6052
    "2002::/16": 80,  # 6to4, RFC 3056
}
_CLOSED_NETWORKS = [(ip_network(network), what) for network, what in CLOSED.items()]
_PRIVATE_NETWORKS = [ip_network(network) for network in PRIVATE]
_CARRIER_NETWORKS = [(ip_network(network), shift) for network, shift in _CARRIERS.items()]
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@/]+)(?::([0-9]{1,5}))?")
#: Headers between two neighbours (RFC 9110, 7.6.1), and those that are written anew.
_NOT_FORWARDED = {
    *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"proxy-authenticate"),
    *(b"te", b"upgrade", b"host"),
}


@dataclass(frozen=True)
class Refusal:
    """Why a request is not carried out.

    Attributes:
        status: HTTP status of the reply.
        reason: one line of ASCII for the ship's program.
    """

    status: int
    reason: str


@dataclass(frozen=True)
class Target:
    """Where a request leads.

    Attributes:
        host: name in lower case without a final dot, or an address in its canonical form.
        port: TCP port.
    """

    host: str
    port: int

    @property
    def address(self) -> Address | None:
        """The host if it is an address, None if it is a name."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def authority(self) -> str:
        """Host and port, as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class OpenedHost:
    """A host that ships may reach although its addresses are private (``--allow-host``).

    Attributes:
        host: name or address, in the form of :class:`Target`.
        port: the only port; None = any.
    """

    host: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> OpenedHost:
        """Parse ``NAME``, ``NAME:PORT``, ``ADDRESS``, ``[ADDRESS]:PORT``.

        Raises:
            UsageError: it is none of these, or it is a loopback address.
        """
        bare = f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text
        target = parse_authority(bare, 0)
        if isinstance(target, Refusal):
            raise UsageError(f"--allow-host {text!r} is not NAME, NAME:PORT or an address")
        if target.host == "localhost" or (target.address and _means_this_machine(target.address)):
            raise UsageError(f"--allow-host {text}: use --allow-host-port PORT for this machine's own loopback")
        return cls(target.host, target.port or None)

    def covers(self, target: Target) -> bool:
        """Whether it opens a target."""
        return self.host == target.host and self.port in {None, target.port}


@dataclass(frozen=True)
class Egress:
    """What limits a ship's requests.

    Attributes:
        rules: of its network policy.
        opened: hosts that drydock was started with.
        opened_only: whether there is no other way out (``--network isolated``).
    """

    rules: Sequence[NetworkRule] = ()
    opened: Sequence[OpenedHost] = ()
    opened_only: bool = False

    def opens(self, target: Target) -> bool:
        """Whether one of the opened hosts covers a target."""
        return any(one.covers(target) for one in self.opened)


def parse_authority(text: str, default_port: int) -> Target | Refusal:
    """Parse ``HOST[:PORT]``; an address in any spelling (``0x7f.1``, ``[::FFFF:7f00:1]``) becomes its canonical one."""
    found = _AUTHORITY.fullmatch(text)
    port = int(found[2]) if found and found[2] else default_port
    if not found or port > MAX_PORT or (found[2] and not port):
        return Refusal(400, "the request names no host and port")
    host = found[1].lower().removesuffix(".")
    if host.startswith("["):
        try:
            return Target(str(IPv6Address(host[1:-1])), port)
        except ValueError:
            return Refusal(400, "the request names no valid IPv6 address")
    if not _NAME.fullmatch(host):
        return Refusal(400, "the request names no valid host")
    try:
        return Target(socket.inet_ntoa(socket.inet_aton(host)), port)  # what the resolver would read as an address
    except OSError:
        return Target(host, port)


@dataclass(frozen=True)
class Request:
    """A request to the proxy.

    Attributes:
        target: where it leads.
        head: what is sent there first; None: nothing (CONNECT), the client's bytes follow as they are.
    """

    target: Target
    head: bytes | None


def parse_request(head: bytes) -> Request | Refusal:
    """Parse the head of a request, with its empty line: ``CONNECT HOST:PORT`` or ``METHOD http://HOST[:PORT]/…``.

    A request in the second form is made one for the server itself (RFC 9112, 3.2.2): its authority is the ``Host``,
    and the connection ends after it.
    """
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(head) + 1)
    try:
        connection.receive_data(head)
        event = connection.next_event()
    except h11.RemoteProtocolError:
        event = None
    if not isinstance(event, h11.Request):
        return Refusal(400, "this is not a valid HTTP request")
    url = event.target.decode("ascii", "replace")
    if event.method == b"CONNECT":
        target = parse_authority(url, 0)
        if isinstance(target, Target) and not target.port:
            return Refusal(400, "CONNECT needs a host and a port")
        return target if isinstance(target, Refusal) else Request(target, None)
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() != "http":
        return Refusal(400, "this is a proxy: it takes CONNECT and http:// URLs")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    target = parse_authority(authority, HTTP_PORT)
    if isinstance(target, Refusal):
        return target
    path = rest[len(authority) :]
    return Request(target, _origin_head(event, path if path.startswith("/") else f"/{path}", authority))


def _origin_head(request: h11.Request, path: str, authority: str) -> bytes:
    named = [
        name.strip().lower() for key, value in request.headers if key == b"connection" for name in value.split(b",")
    ]
    is_chunked = any(key == b"transfer-encoding" for key, _ in request.headers)
    dropped = {*_NOT_FORWARDED, *named, *((b"content-length",) if is_chunked else ())}
    lines = [b"%b %b HTTP/%b" % (request.method, path.encode(), request.http_version), b"Host: " + authority.encode()]
    lines += [b"%b: %b" % (key, value) for key, value in request.headers.raw_items() if key.lower() not in dropped]
    return b"\r\n".join([*lines, b"Connection: close", b"", b""])


def judge_target(target: Target, egress: Egress) -> Refusal | None:
    """Return why a ship may not ask for a target; None if it may, and its addresses decide."""
    if egress.opened_only and not egress.opens(target):
        return Refusal(403, f"{target.host} is not among the hosts that drydock was started with")
    if not allows_host(egress.rules, target.host):
        return Refusal(403, f"the sprite's network policy does not allow {target.host}")
    return None


def judge_address(address: Address, target: Target, egress: Egress, *, is_own: bool) -> Refusal | None:
    """Return why a ship may not be connected to an address that its target stands for; None if it may.

    Args:
        address: what the target's name was resolved to, or the target itself.
        target: what was asked for.
        egress: what limits the ship.
        is_own: whether the address, or the IPv4 address in it, is one of this machine's.
    """
    is_opened = egress.opens(target)
    if is_opened and target.address == address:
        return None  # whoever started drydock wrote this address
    reached = unwrap(address)
    shown = f"{target.host} ({reached})" if target.address is None else str(reached)
    closed = next((what for network, what in _CLOSED_NETWORKS if _contains(network, reached)), None)
    if closed:
        return Refusal(403, f"{shown} {closed}")
    if is_own:
        return Refusal(403, f"{shown} is this machine's own address")
    if not is_opened and any(_contains(network, reached) for network in _PRIVATE_NETWORKS):
        return Refusal(403, f"{shown} is a private address; drydock start --allow-host opens it")
    return None


def unwrap(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address leads to; else the address itself."""
    for network, shift in _CARRIER_NETWORKS:
        if _contains(network, address):
            return IPv4Address(int(address) >> shift & 0xFFFFFFFF)
    return address


def _means_this_machine(address: Address) -> bool:
    reached = unwrap(address)
    return any(_contains(ip_network(network), reached) for network in ("0.0.0.0/8", "127.0.0.0/8", "::/96"))


def _contains(network: IPv4Network | IPv6Network, address: Address) -> bool:
    return address.version == network.version and address in network
