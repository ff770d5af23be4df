"""Ships in this process: an honest one, and those that offer or say what no worker does."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pygit2

from ocaptain.captain.transport import FileFault, TransportError
from ocaptain.protocol import (
    CLASSES,
    INLINE_BYTES,
    PROTOCOL,
    LineSplitter,
    class_of_record,
    decode_line,
    encode_line,
    make_record,
)
from tests.hostile import FILE, PACKS, Hold

MEBIBYTE = 2**20
OID = "a" * 40


def hold_of(directory, base):
    """Return a pack in the making on a commit of a voyage's repository."""
    entries = pygit2.Repository(str(directory / "repo.git"))[base].tree
    return Hold(base, [(b"%o" % one.filemode, one.raw_name, str(one.id)) for one in entries])


class Impostor:
    """A ship and its worker.

    Args:
        directory: the voyage's, of which it reads commits.
        offer: makes what an attempt brings, of a Hold: (commit, bundle).
        script: what it says beside, as (stream) -> async iterator of bytes; it is begun with each channel.
        welcome: what it answers hello, None for an honest answer.
    """

    def __init__(self, directory, offer=None, script=None, welcome=None):
        self.directory, self.offer, self.script, self.welcome = directory, offer, script, welcome
        self.files: dict[str, bytes] = {}
        self.opened = 0
        self.sent_at = None
        self.waits: list[float] = []  # from an offer to the next command

    async def open(self):
        self.opened += 1
        return _Stream(self)

    async def put(self, path, data):
        pass

    async def get(self, path, limit):
        if path not in self.files:
            raise FileFault(path)
        return self.files[path][:limit]

    async def command(self, argv):
        raise TransportError("no commands")

    def outcome(self, args):
        """Return what an attempt brings, as a result's data."""
        commit, data = self.offer(hold_of(self.directory, args["base"]))
        parts, pieces = [], range(0, len(data), 4 * MEBIBYTE)
        for number, at in enumerate(pieces):
            piece = data[at : at + 4 * MEBIBYTE]
            path = f".ocaptain/out/{args['token']}.{number}"
            self.files[path] = piece
            parts.append({"path": path, "size": len(piece), "sha256": hashlib.sha256(piece).hexdigest()})
        bundle = {"parts": parts, "ref": "refs/ocaptain/out"}
        if len(data) <= INLINE_BYTES:
            bundle["data"] = base64.b64encode(data).decode()
        snapshot = {"commit": commit, "base": args["base"], "empty": False, "bundle": bundle}
        return {"code": 0, "reason": "exit", "seconds": 1.0, "snapshot": snapshot}


class _Stream:
    def __init__(self, ship):
        self.ship = ship
        self.out: asyncio.Queue[bytes] = asyncio.Queue(maxsize=2)
        self.lines = LineSplitter()
        self.numbers = dict.fromkeys(CLASSES, 0)
        self.journal = os.urandom(16).hex()
        self.token = 0
        self.jobs: set[asyncio.Task] = set()

    async def say(self, message):
        await self.out.put(message if isinstance(message, bytes) else encode_line(message))

    async def tell(self, body):
        name = class_of_record(body)
        self.numbers[name] += 1
        await self.say(make_record(self.numbers[name], body))

    async def send(self, data):
        for line in self.lines.feed(data):
            message = decode_line(line)
            if message["type"] == "hello":
                numbers = {"first": dict.fromkeys(CLASSES, 1), "last": dict.fromkeys(CLASSES, 0)}
                welcome = {"type": "welcome", "protocol": PROTOCOL, "journal": self.journal, **numbers, "busy": None}
                self.begin(self.greet(welcome if self.ship.welcome is None else self.ship.welcome))
            elif message["type"] == "rest":
                self.begin(self.say({"type": "resting", "last": self.numbers}))
            elif message["type"] == "command" and message["name"] == "start":
                self.token = message["args"]["token"]
                if self.ship.sent_at is not None:
                    self.ship.waits.append(asyncio.get_running_loop().time() - self.ship.sent_at)
                    self.ship.sent_at = None
                if self.ship.offer:
                    self.begin(self.work(message))

    async def work(self, message):
        data = await asyncio.to_thread(self.ship.outcome, message["args"])
        self.ship.sent_at = asyncio.get_running_loop().time()
        await self.tell({"kind": "result", "id": message["id"], "ok": True, "data": data})

    async def greet(self, welcome):
        if welcome:
            await self.say(welcome)
        if self.ship.script:
            async for data in self.ship.script(self):
                await self.say(data)

    def begin(self, work):
        job = asyncio.get_running_loop().create_task(work)
        self.jobs.add(job)
        job.add_done_callback(self.jobs.discard)

    async def __aiter__(self):
        while True:
            yield await self.out.get()

    async def close(self):
        for job in list(self.jobs):
            job.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await job


def honest_work(hold):
    """Add one file."""
    return hold.land((FILE, b"f" + os.urandom(6).hex().encode(), hold.blob(b"honest\n")))


# -- what hostile ships say -----------------------------------------------------------------------------


def _lines(make, count=200):
    """Return a script of lines that differ, some to a piece, without an end."""

    async def script(stream):
        for number in range(10**9):
            yield b"".join(make(stream, number * count + one) for one in range(count))
            await asyncio.sleep(0)

    return script


def _same(line, count):
    """Return a script of one line without an end; what it costs to make is paid once, beside what is measured."""
    piece = functools.lru_cache(lambda: line * count)

    async def script(_):
        while True:
            yield piece()
            await asyncio.sleep(0)

    return script


def _once(data):
    async def script(_):
        yield data

    return script


def _body(stream, body, number):
    return encode_line(make_record(number, body))


def _facts(number):
    return {"model": "m", "usage": [{"model": "m", "tokens": [number, 1, 1, 1, 1], "long": False}]}


async def _deep_records(stream):
    deep = json.loads("[" * 400 + "]" * 400)
    for number in range(1, 10**9):
        yield encode_line(make_record(number, {"kind": "agent", "token": 1, "facts": {"deep": deep}}))


async def _one_long_line(_):
    while True:
        yield b"{" + b"x" * MEBIBYTE


async def _results_for_nobody(stream):
    for number in range(1, 10**9):
        body = {"kind": "result", "id": f"start:{number}", "ok": True, "data": {"tail": "x" * 60_000}}
        yield encode_line(make_record(number, body))


def _numbers(first, last):
    return {"first": dict.fromkeys(CLASSES, first), "last": dict.fromkeys(CLASSES, last)}


def _welcome(**more):
    return {"type": "welcome", "protocol": PROTOCOL, "journal": "ab" * 16, **_numbers(1, 0), "busy": None, **more}


#: Name: (what it says after hello, what it answers hello; None = an honest welcome, b"" = nothing).
SCRIPTS = {
    "a million brackets": (_once(b'{"type":"record","body":' + b"[" * MEBIBYTE + b"\n"), None),
    "records of 400 levels": (_deep_records, None),
    "a megabyte of lists": (_once(b'{"type":"x","a":[' + b"[]," * 340_000 + b"0]}\n"), None),
    "a megabyte of keys": (_once(b'{"type":"x",' + b",".join(b'"%d":0' % n for n in range(90_000)) + b"}\n"), None),
    "a megabyte of numbers": (_once(b'{"type":"x","a":[' + b"1.1111111111111111e-300," * 40_000 + b"0]}\n"), None),
    "lists just below the bound": (_same(b'{"type":"x","a":[' + b"[]," * 4900 + b"0]}\n", 10), None),
    "numbers just below the bound": (
        _same(b'{"type":"x","a":[' + b"1.11e-300," * 9900 + b"0]}\n", 10),
        None,
    ),
    "a line without an end": (_one_long_line, None),
    "empty lines": (_same(b"\n", 900_000), None),
    "lines of two bytes": (_same(b"{}\n", 300_000), None),
    "noise": (_same(os.urandom(3000), 300), None),
    "pongs": (_same(b'{"type":"pong"}\n', 2000), None),
    "damaged records": (_same(b'{"type":"record","n":1,"crc":1,"body":{"kind":"log"}}\n', 2000), None),
    "records far ahead": (_lines(lambda s, n: _body(s, {"kind": "log", "token": 1}, 10**6 + n)), None),
    "records again and again": (_same(encode_line(make_record(1, {"kind": "odd"})), 2000), None),
    "records of nothing": (_lines(lambda s, n: _body(s, {"kind": "odd"}, n + 1)), None),
    "results for nobody": (_results_for_nobody, None),
    "what its agent used": (
        _lines(lambda s, n: _body(s, {"kind": "agent", "token": s.token, "facts": _facts(n)}, n + 1), 100),
        None,
    ),
    "logs": (
        _lines(
            lambda s, n: _body(s, {"kind": "log", "token": s.token, "offset": n * 9, "data": "eHh4eHh4eHh4"}, n + 1)
        ),
        None,
    ),
    "trouble": (_lines(lambda s, n: encode_line({"type": "trouble", "reason": f"trouble {n}"})), None),
    "records that are dropped": (
        _lines(lambda s, n: encode_line({"type": "dropped", "class": "log", "upto": 2**53 - 10**9 + n})),
        None,
    ),
    "a welcome that waits for records": (None, _welcome(**_numbers(1, 2**53))),
    "a welcome of far away": (None, _welcome(**_numbers(2**53, 2**53))),
    "a welcome without numbers": (None, {"type": "welcome", "journal": "ab" * 16}),
    "no welcome": (None, b""),
    "refusals": (None, {"type": "refused", "reason": "no", "protocol": 2}),
    "an attempt that it never had": (None, _welcome(busy=2**53)),
}


def make_packs(directory, names):
    """Make hostile packs in a process of its own, since that takes memory; return them by name."""
    folder = directory / "packs"
    folder.mkdir()
    given = [str(directory), json.dumps(list(names))]
    subprocess.run([sys.executable, "-m", "tests.impostors", *given], check=True, cwd=Path(__file__).parent.parent)
    return {name: functools.partial(_read_pack, folder / str(number)) for number, name in enumerate(names)}


def _read_pack(path, _):
    commit, _, data = path.read_bytes().partition(b"\n")
    return commit.decode(), data


def _make_packs(directory, names):
    base = str(pygit2.Repository(str(directory / "repo.git")).references[f"refs/heads/{directory.name}"].target)
    for number, name in enumerate(names):
        commit, data = PACKS[name](hold_of(directory, base))
        (directory / "packs" / str(number)).write_bytes(commit.encode() + b"\n" + data)


def hostile_ships(directory, names):
    """Return ships, by what they do."""
    made = make_packs(directory, [name for name in names if name in PACKS])
    packs = {name: Impostor(directory, offer) for name, offer in made.items()}
    said = {name: SCRIPTS[name] for name in names if name in SCRIPTS}
    return {**packs, **{name: Impostor(directory, None, script, welcome) for name, (script, welcome) in said.items()}}


if __name__ == "__main__":
    _make_packs(Path(sys.argv[1]), json.loads(sys.argv[2]))
