"""Run the server (``python -m ocaptain.drydock``). Commands that only look for a drydock do not import this."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import uvicorn

from ocaptain.drydock.api.app import build_app
from ocaptain.drydock.base import ensure_base
from ocaptain.drydock.cgroups import find_places, remove_leftovers
from ocaptain.drydock.confine import raise_open_files
from ocaptain.drydock.connections import BoundedProtocol
from ocaptain.drydock.errors import DrydockError
from ocaptain.drydock.faults import Faults
from ocaptain.drydock.life import IdlePolicy
from ocaptain.drydock.oom import protect_this_process
from ocaptain.drydock.rootless import sandbox_mode
from ocaptain.drydock.sandbox import remove_tree
from ocaptain.drydock.server import (
    DESTROY_SIGNAL,
    OPTIONS_FILE,
    Options,
    ServerRecord,
    drydock_directory,
    require_sandbox_support,
    write_options,
)
from ocaptain.drydock.store import SpriteDefaults, Store
from ocaptain.locks import Lock
from ocaptain.protocol.files import write_atomic
from ocaptain.sources import cache_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ocaptain.drydock.api.gate import Gate


log = logging.getLogger("drydock")


def sprite_defaults(options: Options) -> SpriteDefaults:
    """Return the settings for every sprite.

    Raises:
        UsageError: a layer directory is invalid, or what the network opens.
        DrydockError: a limit cannot be kept on this machine.
    """
    idle_policy = IdlePolicy(options.idle, options.cold)
    limits = options.ship_limits()
    network, layers = options.ship_network(), options.checked_layers()
    return SpriteDefaults(options.limit, idle_policy, network, layers, limits, find_places(limits))


def _listen(port: int) -> socket.socket:
    # The protocol is named: asyncio sets TCP_NODELAY only then, and without it the last small
    # frames of a command wait 40 ms for an acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise DrydockError(f"cannot listen on 127.0.0.1:{port}: {error.strerror}; choose another --port") from error
    listener.listen(1024)
    return listener


async def serve(options: Options) -> None:
    """Serve until a signal or idleness ends the server.

    Raises:
        DrydockError: another drydock serves already, or this machine cannot run one.
    """
    state_dir = drydock_directory()
    if not protect_this_process():
        log.warning("drydock's own oom_score_adj cannot be lowered: only those of its ships are raised")
    raise_open_files()
    faults = Faults(options.fault_plan())
    require_sandbox_support(state_dir)
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    state_dir.chmod(0o700)  # the ships' disks are in it
    os.umask(0o022)
    with Lock(state_dir / "lock") as lock:
        if not lock.acquire_within(1.0):  # another process may be testing the lock just now
            raise DrydockError(
                f"drydock already serves with the state directory {state_dir}; see `ocaptain drydock status`"
            )
        (state_dir / "server.json").unlink(missing_ok=True)
        await asyncio.to_thread(_remove_leftovers, state_dir, "stale-*")
        defaults = sprite_defaults(options)
        remove_leftovers(defaults.places)
        base = await ensure_base(cache_directory() / "drydock")
        store = Store(state_dir / "sprites", base, defaults)
        token = _read_or_create_token(state_dir)
        with _listen(options.port) as listener:
            record = ServerRecord(
                f"http://127.0.0.1:{listener.getsockname()[1]}",
                str(state_dir / "token"),
                os.getpid(),
                sandbox_mode(),
                options.network,
            )
            # A later start uses the same port, so that existing clients continue to work.
            write_options(state_dir, replace(options, port=listener.getsockname()[1]))
            shutdown = _Shutdown()
            try:
                await _serve(store, token, listener, options.idle_exit, faults, shutdown, state_dir, record)
            finally:
                (state_dir / "server.json").unlink(missing_ok=True)
                if shutdown.destroy_sprites:
                    await store.destroy_all()
                else:
                    await store.halt_all()
                if not len(store):
                    (state_dir / OPTIONS_FILE).unlink(missing_ok=True)
                    if (state_dir / "sprites").exists() and not store.unusable:
                        (state_dir / "sprites").rename(state_dir / f"stale-{secrets.token_hex(4)}")
                    await asyncio.to_thread(_remove_leftovers, state_dir, "stale-*")


async def build_base() -> Path:
    """Build the base layer for this user's ships if it is missing; return its path.

    Raises:
        DrydockError: it could not be built.
    """
    require_sandbox_support(drydock_directory())
    return await ensure_base(cache_directory() / "drydock")


def _read_or_create_token(state_dir: Path) -> str:
    """Return the token: the old one if sprites exist, so that their clients continue to work; else a new one."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if any((state_dir / "sprites").iterdir()) and (existing := (state_dir / "token").read_text("ascii").strip()):
            return existing
    token = secrets.token_urlsafe(32)
    _write_private_file(state_dir / "token", token)
    return token


def _write_server_record(state_dir: Path, record: ServerRecord) -> None:
    _write_private_file(state_dir / "server.json", json.dumps(asdict(record)))


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handling, which would end this process before the sandboxes."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class _Shutdown:
    """Whether to destroy the sprites at the end; a shutdown of the machine keeps the disks."""

    destroy_sprites: bool = False


async def _serve(
    store: Store,
    token: str,
    listener: socket.socket,
    idle_exit: float | None,
    faults: Faults,
    shutdown: _Shutdown,
    state_dir: Path,
    record: ServerRecord,
) -> None:
    def stop() -> None:
        (state_dir / "server.json").unlink(missing_ok=True)  # before it refuses a call: who finds none waits
        server.should_exit = True

    def stop_and_destroy() -> None:
        shutdown.destroy_sprites = True
        stop()

    gate = build_app(store, token, stop_and_destroy, faults)
    await store.load_sprites_from_disk()
    config = uvicorn.Config(
        gate,
        ws="wsproto",  # the other implementations refuse an argv of more than 8 KiB in the URL
        http=BoundedProtocol,
        lifespan="off",
        log_config=None,
        log_level=logging.ERROR,  # what strangers send must not fill the log
        access_log=False,
        ws_per_message_deflate=False,  # the official js SDK fails with it
        ws_ping_interval=None,  # the official Go SDK never answers pings
        ws_max_size=64 * 1024 * 1024,
        h11_max_incomplete_event_size=512 * 1024,
        timeout_graceful_shutdown=1,
        backlog=1024,
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(DESTROY_SIGNAL, stop_and_destroy)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():  # noqa: ASYNC110
        await asyncio.sleep(0.005)  # uvicorn has a flag and no event
    _write_server_record(state_dir, record)
    watching = [
        asyncio.create_task(_end_when_idle(gate, store, idle_exit, stop)),
        asyncio.create_task(store.run_pause_loop()),
    ]
    try:
        await serving
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)


async def _end_when_idle(gate: Gate, store: Store, seconds: float | None, stop: Callable[[], None]) -> None:
    while seconds is not None:
        await asyncio.sleep(0.5)
        if not store and not gate.open_calls and time.monotonic() - gate.last_activity > seconds:
            stop()
            return


def _write_private_file(path: Path, text: str) -> None:
    """Write a private file atomically."""
    write_atomic(path, text.encode(), durable=False, one_writer=True)


def _remove_leftovers(state_dir: Path, pattern: str) -> None:
    """Remove directories that match; one that cannot be removed does not stop the server."""
    for leftover in state_dir.glob(pattern):
        for _ in range(20):  # the last mounts may need a moment to go
            try:
                remove_tree(leftover)
            except DrydockError:
                time.sleep(0.1)
            else:
                break
