"""Drydock's proxy: what it allows, as data; and the connections of one ship, with real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocaptain.drydock import lookups, outlets, proxy_server
from ocaptain.drydock.outlets import PROXY_PORT, Crowd, Outlet, ShipNetwork
from ocaptain.drydock.policy import NetworkRule
from ocaptain.drydock.proxy import (
    CLOSED,
    PRIVATE,
    Egress,
    OpenedHost,
    Refusal,
    Request,
    Target,
    judge_address,
    judge_target,
    parse_authority,
    parse_request,
    unwrap,
)
from ocaptain.drydock.proxy_server import ProxyConnections, is_own_address
from ocaptain.drydock.server import Options
from ocaptain.errors import UsageError

PUBLIC, DOCUMENTATION = "93.184.215.14", "203.0.113.80"  # some real networks use ranges for documentation
MIRROR = OpenedHost("mirror.corp", 8080)


def rule(domain, action="allow"):
    return NetworkRule(domain=domain, action=action)


# -- decisions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "why"),
    [
        (PUBLIC, None),
        (DOCUMENTATION, None),
        ("2606:2800:21f:cb07::1", None),
        ("64:ff9b::5db8:d70e", None),  # a public address by NAT64: the only way there is from some networks
        ("0.0.0.0", "this machine"),
        ("0.1.2.3", "this machine"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("169.254.169.254", "link-local"),
        ("168.63.129.16", "metadata"),
        ("168.63.129.17", None),
        ("100.100.100.200", "metadata"),
        ("192.0.0.192", "protocols"),
        ("192.0.1.1", None),
        ("fd00:ec2::254", "metadata"),
        ("fd20:ce::254", "metadata"),
        ("::ffff:168.63.129.16", "metadata"),
        ("64:ff9b::192.0.0.192", "protocols"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("172.32.0.1", None),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("100.128.0.1", None),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("::", "this machine"),
        ("::1", "this machine"),
        ("::7f00:1", "this machine"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:10.1.2.3", "private"),
        ("::ffff:0:10.1.2.3", "private"),
        ("64:ff9b::7f00:1", "loopback"),
        ("64:ff9b::a00:1", "private"),
        ("64:ff9b:1::1", "translation"),
        ("2002:7f00:1::", "loopback"),
        ("2002:a00:1::5", "private"),
        ("2001::1", "Teredo"),
        ("fe80::1", "link-local"),
        ("fec0::1", "site-local"),
        ("fc00::1", "private"),
        ("fdff::1", "private"),
        ("ff02::1", "multicast"),
    ],
)
def test_addresses(address, why):
    given = ip_address(address)
    refused = judge_address(given, Target(address, 80), Egress(), is_own=False)
    assert (refused is None) is (why is None), refused
    assert why is None or why in refused.reason
    # A name that leads there is judged alike, and an own address is never open.
    named = judge_address(given, Target("a.example", 80), Egress(), is_own=False)
    assert (named is None) is (why is None)
    assert judge_address(given, Target("a.example", 80), Egress(), is_own=True)


def test_an_opened_host_opens_private_addresses_and_no_service_of_the_host():
    egress = Egress(opened=(MIRROR, OpenedHost("10.1.2.3", 443), OpenedHost("192.0.2.9")))

    def judge(address, host, port, *, is_own=False):
        refused = judge_address(ip_address(address), Target(host, port), egress, is_own=is_own)
        return refused.reason if refused else None

    assert judge("10.9.9.9", "mirror.corp", 8080) is None
    assert judge("fd00::9", "mirror.corp", 8080) is None
    assert "private" in judge("10.9.9.9", "mirror.corp", 8081)
    assert "private" in judge("10.9.9.9", "a.mirror.corp", 8080)
    # Whoever controls the name cannot turn it on the host, or on a cloud's own service.
    assert "loopback" in judge("127.0.0.1", "mirror.corp", 8080)
    assert "link-local" in judge("169.254.169.254", "mirror.corp", 8080)
    for address in ("100.100.100.200", "fd00:ec2::254", "fd20:ce::254"):  # in ranges that it opens
        assert "metadata" in judge(address, "mirror.corp", 8080)
    assert "own address" in judge("10.9.9.1", "mirror.corp", 8080, is_own=True)
    assert judge("10.1.2.3", "10.1.2.3", 443) is None
    assert "private" in judge("10.1.2.3", "10.1.2.3", 80)
    assert "private" in judge("10.1.2.3", "x.example", 443)
    assert "private" in judge("::ffff:10.1.2.3", "::ffff:a01:203", 443)
    assert judge("192.0.2.9", "192.0.2.9", 80, is_own=True) is None  # this very address was written down


@given(
    st.one_of(
        *(st.ip_addresses(network=ip_network(one)) for one in (*CLOSED, *PRIVATE)),
        st.sampled_from([ip_network(one) for one in (*CLOSED, *PRIVATE) if "." in one])
        .flatmap(lambda network: st.ip_addresses(network=network))
        .map(int)
        .flatmap(
            lambda inside: st.sampled_from(
                [
                    IPv6Address((0xFFFF << 32) | inside),
                    IPv6Address((0xFFFF << 48) | inside),
                    IPv6Address(int(IPv6Address("64:ff9b::")) | inside),
                    IPv6Address((0x2002 << 112) | (inside << 80)),
                ]
            )
        ),
    ),
    st.sampled_from(["x.example", "mirror.corp"]),
)
def test_no_closed_or_private_address_is_reached_in_any_form(address, host):
    """Through no spelling, and an opened name opens no more than the private ranges."""
    refused = judge_address(address, Target(host, 8080), Egress(opened=(MIRROR,)), is_own=False)
    inside = unwrap(address)
    is_private, is_closed = (any(inside in ip_network(one) for one in ranges) for ranges in (PRIVATE, CLOSED))
    assert (refused is None) is (host == "mirror.corp" and is_private and not is_closed)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["{0}", "{0:#x}", "{1}.{2:#o}.{3}.{4:#x}", "{1}.{5}"]), st.booleans())
def test_every_spelling_of_an_address_is_known_as_one(number, spelling, dot):
    """So a policy that closes bare addresses closes all of them, and nothing is left to a resolver's reading."""
    parts = IPv4Address(number).packed
    text = spelling.format(number, *parts, number & 0xFFFFFF).replace("0o", "0")
    assert parse_authority(f"{text}{'.' if dot else ''}:80", 0) == Target(str(IPv4Address(number)), 80)


@given(st.text(max_size=40))
def test_any_text_is_a_target_or_refused(text):
    found = parse_authority(text, 80)
    if isinstance(found, Target):
        assert 0 < found.port < 65536
        assert found.host.isascii()
        assert parse_authority(found.authority, 0) == found


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(data):
    for head in (data, b"GET http://" + data, b"CONNECT " + data):
        assert isinstance(parse_request(head + b"\r\n\r\n"), Request | Refusal)


@pytest.mark.parametrize(
    ("host", "rules", "allowed"),
    [
        ("a.example", [], True),
        ("a.example", [rule("*")], True),
        ("a.example", [rule("b.example")], False),
        ("a.example", [rule("*.example"), rule("a.example", "deny")], False),
        (PUBLIC, [rule("*")], False),  # bare addresses need a rule of their own
        (PUBLIC, [rule(PUBLIC)], True),
        ("mirror.corp", [rule("other.example")], False),  # what drydock opens, a policy closes
        ("mirror.corp", [rule("mirror.corp")], True),
    ],
)
def test_the_policy_decides_before_a_name_is_looked_up(host, rules, allowed):
    egress = Egress(rules, (MIRROR,))
    assert (judge_target(Target(host, 8080), egress) is None) is allowed


def test_an_isolated_ship_reaches_opened_hosts_alone():
    egress = Egress(opened=(MIRROR,), opened_only=True)
    assert judge_target(Target("mirror.corp", 8080), egress) is None
    assert judge_target(Target("mirror.corp", 80), egress).status == 403
    assert judge_target(Target("a.example", 8080), egress).status == 403


def test_a_plain_request_is_rewritten_for_its_server_and_cannot_name_another_one():
    head = (
        b"POST http://A.example:81/x?y=http://z/ HTTP/1.1\r\nHost: evil.example\r\nProxy-Authorization: Basic eA==\r\n"
        b"Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: 3\r\nTransfer-Encoding: chunked\r\n"
        b"Authorization: Bearer own\r\n\r\n"
    )
    found = parse_request(head)
    assert found == Request(
        Target("a.example", 81),
        b"POST /x?y=http://z/ HTTP/1.1\r\nHost: A.example:81\r\nTransfer-Encoding: chunked\r\n"
        b"Authorization: Bearer own\r\nConnection: close\r\n\r\n",
    )
    assert parse_request(b"GET http://a.example?q HTTP/1.0\r\n\r\n").head.startswith(b"GET /?q HTTP/1.0\r\nHost: a.ex")


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1\r\nHost: a",
        b"GET https://a.example/ HTTP/1.1\r\nHost: a",
        b"GET ftp://a.example/ HTTP/1.1\r\nHost: a",
        b"GET http://user:word@a.example/ HTTP/1.1\r\nHost: a",
        b"GET http:///x HTTP/1.1\r\nHost: a",
        b"GET http://[::1/ HTTP/1.1\r\nHost: a",
        b"GET http://[fe80::1%25eth0]/ HTTP/1.1\r\nHost: a",
        b"GET http://a.example:0/ HTTP/1.1\r\nHost: a",
        b"CONNECT a.example HTTP/1.1\r\nHost: a",
        b"CONNECT a.example:99999 HTTP/1.1\r\nHost: a",
        b"CONNECT a.example:443/x HTTP/1.1\r\nHost: a",
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2",
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n X: folded",
        b"\x16\x03\x01\x02\x00",
    ],
)
def test_what_is_no_request_to_a_proxy_is_a_400(line):
    assert parse_request(line + b"\r\n\r\n").status == 400


@pytest.mark.parametrize(
    "text",
    ["", "a b", "http://a", "a:0", "a:x", "127.0.0.1", "0", "localhost:80", "::1", "[::ffff:127.0.0.1]:1", "*.a"],
)
def test_what_no_host_can_be_opened_by(text):
    with pytest.raises(UsageError, match="--allow-host"):
        OpenedHost.parse(text)


def test_hosts_are_opened_by_name_and_address():
    found = [OpenedHost.parse(text) for text in ("Mirror.Corp.", "mirror:80", "10.0.0.1", "fd00::1", "[fd00::1]:5")]
    assert [(one.host, one.port) for one in found] == [
        ("mirror.corp", None),
        ("mirror", 80),
        ("10.0.0.1", None),
        ("fd00::1", None),
        ("fd00::1", 5),
    ]


def test_options_of_the_network():
    assert Options().ship_network() == ShipNetwork("proxy")
    assert ShipNetwork("isolated").environment("x") == {}
    assert ShipNetwork("isolated", opened=(MIRROR,)).environment("x")["HTTPS_PROXY"].endswith(f":{PROXY_PORT}")
    assert ShipNetwork("proxy").environment("x")["no_proxy"].split(",") == ["localhost", "127.0.0.1", "::1", "x"]
    assert not ShipNetwork("host").is_own
    for wrong in (
        Options(network="host", hosts=("a",)),
        Options(network="host", ports=(1,)),
        Options(ports=(PROXY_PORT,)),
        Options(hosts=("a b",)),
    ):
        with pytest.raises(UsageError):
            wrong.ship_network()


# -- the edge ---------------------------------------------------------------------------------------------


def test_own_addresses_are_known():
    for address in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"):
        assert is_own_address(ip_address(address)), address
    assert not is_own_address(ip_address(PUBLIC))
    listed = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout.split()
    for address in listed:
        assert is_own_address(ip_address(address)), address


@contextlib.asynccontextmanager
async def proxied(egress, monkeypatch, answers=None, crowd=None):
    """Serve a proxy on this machine's loopback; yield its outlet and port. Names are looked up in ``answers``."""
    if answers is not None:
        monkeypatch.setattr(lookups, "resolve", answers)
    connections = ProxyConnections(lambda: egress)
    outlet = Outlet(0, connections.serve, crowd or Crowd())
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        monkeypatch.setattr("ocaptain.drydock.outlets.open_sandbox_socket", lambda *_: listener)
        await outlet.start(os.getpid())
        try:
            yield outlet, listener.getsockname()[1]
        finally:
            await outlet.stop()


async def ask(port, head, then=b""):
    """Return all that a proxy answers to a request and what follows it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head + b"\r\n\r\n" + then)
    writer.write_eof()  # the server below answers until then
    try:
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def server():
    """Serve on this machine's loopback; what a client sends is returned to it in capitals."""

    async def serve(reader, writer):
        while data := await reader.read(65536):
            writer.write(data.upper())
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


def test_a_name_is_looked_up_once_and_only_the_judged_address_is_reached(monkeypatch):
    """A name server that says something else each time (rebinding) gains nothing."""
    asked = []

    def rebinding(host, _):
        asked.append(host)
        return [ip_address(one) for one in (("10.0.0.1", PUBLIC) if len(asked) % 2 else ("127.0.0.1", "::1"))]

    reached = []

    async def connect(host, port, **_):
        reached.append((host, port))
        raise ConnectionRefusedError(111, "Connection refused")

    async def scenario():
        async with proxied(Egress(), monkeypatch, rebinding) as (_, port):
            monkeypatch.setattr(proxy_server.asyncio, "open_connection", connect, raising=True)
            said = [await ask_raw(port, b"CONNECT a.example:443 HTTP/1.1\r\nHost: a") for _ in range(4)]
        return [one.split(b" ", 2)[1] for one in said]

    async def ask_raw(port, head):
        loop = asyncio.get_running_loop()
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.setblocking(False)
            await loop.sock_sendall(raw, head + b"\r\n\r\n")
            return await loop.sock_recv(raw, 65536)

    assert asyncio.run(scenario()) == [b"502", b"403", b"502", b"403"]
    assert asked == ["a.example"] * 4
    assert reached == [(PUBLIC, 443)] * 2


def test_a_plain_request_a_tunnel_and_a_private_name(monkeypatch):
    async def scenario():
        async with (
            server() as far,
            proxied(Egress(opened=(OpenedHost("127.0.0.1"),)), monkeypatch, lambda *_: [ip_address("10.0.0.1")]) as (
                _,
                port,
            ),
        ):
            refused = await ask(port, b"GET http://mixed.example/ HTTP/1.1\r\nHost: x")
            # Straight into the dataclass: no option can open a loopback address, and this test has no other one.
            plain = await ask(port, b"GET http://127.0.0.1:%d/a HTTP/1.1\r\nHost: x" % far)
            tunnel = await ask_tunnel(port, far)
            return refused, plain, tunnel

    async def ask_tunnel(port, far):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\nearly" % far)
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b" late")
        writer.write_eof()  # one side ends, the other one goes on
        rest = await reader.read()
        writer.close()
        return head, rest

    refused, plain, tunnel = asyncio.run(scenario())
    assert refused.startswith(b"HTTP/1.1 403 Forbidden: mixed.example (10.0.0.1) is a private address")
    assert plain.startswith(b"GET /A HTTP/1.1\r\nHOST: 127.0.0.1:")
    assert tunnel == (b"HTTP/1.1 200 Connection established\r\n\r\n", b"EARLY LATE")


def test_connections_are_dropped_and_bounded(monkeypatch):
    """One that is too many is told nothing: to wait until it has read that would hold its descriptor."""
    assert 100 < outlets.MAX_CONNECTIONS <= 256
    monkeypatch.setattr(outlets, "MAX_CONNECTIONS", 3)

    async def scenario():
        async with server() as far, proxied(Egress(opened=(OpenedHost("127.0.0.1"),)), monkeypatch) as (outlet, port):
            opened = []
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % far)
                await reader.readuntil(b"\r\n\r\n")
                opened.append((reader, writer))
            with contextlib.suppress(ConnectionResetError):
                assert await ask(port, b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x" % far) == b""
            outlet.drop_connections()
            ended = [await asyncio.wait_for(reader.read(), 20) for reader, _ in opened]
            again = await ask(port, b"GET http://127.0.0.1:%d/b HTTP/1.1\r\nHost: x" % far)
            for _, writer in opened:
                writer.close()
            return ended, again

    ended, again = asyncio.run(scenario())
    assert ended == [b"", b"", b""]
    assert again.startswith(b"GET /B ")


def test_all_ways_out_of_a_ship_share_one_number_of_connections(monkeypatch):
    """With one that a program does not read any more: what is not sent yet keeps it open."""
    monkeypatch.setattr(outlets, "MAX_CONNECTIONS", 2)
    crowd = Crowd()

    async def pour(_, writer):
        writer.write(b"x" * 2**24)  # more than the kernel takes

    async def scenario():
        bridge = Outlet(0, pour, crowd)
        async with (
            server() as far,
            proxied(Egress(opened=(OpenedHost("127.0.0.1"),)), monkeypatch, crowd=crowd) as (
                _,
                port,
            ),
        ):
            with socket.create_server(("127.0.0.1", 0)) as listener:
                monkeypatch.setattr("ocaptain.drydock.outlets.open_sandbox_socket", lambda *_: listener)
                await bridge.start(os.getpid())
                poured = listener.getsockname()[1]
                opened = [socket.create_connection(("127.0.0.1", poured)) for _ in range(2)]
                while crowd.number < 2:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.1)
                with contextlib.suppress(ConnectionResetError):
                    assert await ask(port, b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x" % far) == b""
                held = crowd.number
                await bridge.stop()
                while crowd.number:
                    await asyncio.sleep(0.01)
                for one in opened:
                    one.close()
                again = await ask(port, b"GET http://127.0.0.1:%d/b HTTP/1.1\r\nHost: x" % far)
                return held, again

    held, again = asyncio.run(asyncio.wait_for(scenario(), 60))
    assert held == 2
    assert again.startswith(b"GET /B ")


def test_a_slow_name_server_holds_up_nobody_else(monkeypatch):
    """Only so many lookups of one ship are in progress; a name that is not resolved is a 502."""
    import threading

    release, started = threading.Event(), []

    def slow(host, _):
        started.append(host)
        release.wait(20)
        raise socket.gaierror(-2, "Name or service not known")

    async def scenario():
        async with proxied(Egress(), monkeypatch, slow) as (_, port):
            asks = [
                asyncio.create_task(ask(port, b"GET http://n%d.example/ HTTP/1.1\r\nHost: x" % n)) for n in range(9)
            ]
            while len(started) < lookups.MAX_LOOKUPS:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            before = len(started)
            release.set()
            return before, await asyncio.gather(*asks)

    before, said = asyncio.run(scenario())
    assert before == lookups.MAX_LOOKUPS
    assert len(started) == 9
    assert all(b"cannot be resolved" in one for one in said)
