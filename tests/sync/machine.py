"""A ship that is a folder of this machine: the way to it, as the switch needs it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path


class Program:
    """A command of this machine, as a transport returns one."""

    def __init__(self, process):
        self.process = process
        self.closed = False

    @property
    def exit_code(self):
        return self.process.returncode

    async def send(self, data):
        self.process.stdin.write(data)
        await self.process.stdin.drain()

    async def send_eof(self):
        self.process.stdin.close()

    async def __aiter__(self):
        pieces = asyncio.Queue(1)

        async def forward(stream, number):
            while data := await stream.read(65536):
                await pieces.put((number, data))
            await pieces.put(None)

        tasks = [asyncio.create_task(forward(*one)) for one in ((self.process.stdout, 1), (self.process.stderr, 2))]
        try:
            left = 2
            while left:
                if found := await pieces.get():
                    yield found
                else:
                    left -= 1
        finally:
            for task in tasks:
                task.cancel()
        await self.process.wait()

    async def close(self):
        self.closed = True
        if self.process.returncode is None:
            self.process.kill()
        self.process._transport.close()
        await self.process.wait()


class Machine:
    """The way to a ship whose home is a folder; it counts what reaches it."""

    def __init__(self, home: Path):
        self.home = home
        self.ran = []
        self.programs = []
        self.broken = None
        self.env = {**os.environ, "HOME": str(home)}

    async def put(self, path, data):
        (self.home / path).write_bytes(data)
        (self.home / path).chmod(0o600)

    async def command(self, argv):
        self.ran.append(tuple(argv))
        if self.broken:
            raise self.broken
        pipe = asyncio.subprocess.PIPE
        program = Program(
            await asyncio.create_subprocess_exec(
                *["sh", "-c", 'exec "$@"', "sh", *argv],
                cwd=self.home,
                env=self.env,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
            )
        )
        self.programs.append(program)
        return program
