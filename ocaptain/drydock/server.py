"""Drydock as a process: start in the background, ask for its state, stop (:mod:`.serve` serves).

State directory (0700)::

    lock         flock held for the server's life
    server.json  url, token_file, pid: exists while it serves, removed at a normal end
    token        0600
    options.json its options, while it has sprites: the next start uses them again
    sprites/     the sandboxes; removed by `ocaptain drydock stop`. A server that was killed, or
                 ended by the shutdown of the machine, leaves the disks: cold sprites for the next
                 server. Their processes ended with their server
    drydock.log  output of a background server
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from ocaptain.background import start_module
from ocaptain.drydock.cgroups import Limits
from ocaptain.drydock.errors import DrydockError
from ocaptain.drydock.faults import FaultPlan
from ocaptain.drydock.life import COLD_SECONDS, IDLE_SECONDS
from ocaptain.drydock.progress import LogReader
from ocaptain.drydock.record import Process
from ocaptain.drydock.rootless import OVERLAID_DIRECTORIES, namespace_root_command, require_namespaces
from ocaptain.drydock.seccomp import load_library
from ocaptain.errors import UsageError
from ocaptain.locks import end_lock_holder, is_locked
from ocaptain.protocol.files import write_atomic
from ocaptain.sources import cache_directory, state_directory
from ocaptain.text import plain_reason

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from ocaptain.drydock.outlets import ShipNetwork

START_SECONDS = 660.0  # the first start installs the base layer
STOP_SECONDS = 60.0  # it removes its ships' disks; one that is killed would leave them
Network = Literal["proxy", "isolated", "host"]
OPTIONS_FILE = "options.json"
SHARED_NETWORK = "drydock's ships share this machine's network and reach every service on it (--network host)"
DESTROY_SIGNAL = signal.SIGUSR1  #: ends the server and destroys its sprites; any other signal keeps their disks
#: Keeps the Popen objects alive: one that is freed while its process still runs raises a ResourceWarning.
_started_processes: list[subprocess.Popen[bytes]] = []
REQUIRED_TOOLS = ("unshare", "setpriv", "mount", "umount", "hostname")


@dataclass(frozen=True)
class ServerRecord:
    """How to reach a running drydock.

    Attributes:
        url: base URL on loopback.
        token_file: path of the file that holds the bearer token.
        pid: pid of the server.
        mode: what its ships are made of (:class:`ocaptain.drydock.rootless.Mode`).
        network: what they can reach, as in :class:`Options`; an earlier version said nothing, and shared the host's.
    """

    url: str
    token_file: str
    pid: int
    mode: str = "host"
    network: Network = "host"

    @property
    def token(self) -> str:
        """The bearer token."""
        return Path(self.token_file).read_text("ascii").strip()


def drydock_directory() -> Path:
    """Return drydock's state directory."""
    return state_directory() / "drydock"


def running_server(state_dir: Path | None = None) -> ServerRecord | None:
    """Return the record of the drydock that serves now, None if none does."""
    state_dir = state_dir or drydock_directory()
    if not is_locked(state_dir / "lock"):
        return None
    try:
        return ServerRecord(**json.loads((state_dir / "server.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def require_sandbox_support(state_dir: Path) -> None:
    """Raise an error if this machine cannot make sandboxes.

    Raises:
        DrydockError: this machine lacks something; the message says what to do.
        UsageError: drydock's files are configured to be in an unusable directory.
    """
    if sys.platform != "linux":
        raise DrydockError("drydock needs Linux; elsewhere use sprites (--provider sprites)")
    missing = [tool for tool in REQUIRED_TOOLS if shutil.which(tool) is None]
    if missing:
        raise DrydockError(f"drydock needs {', '.join(missing)}: apt-get install util-linux mount hostname")
    load_library()
    if os.geteuid() != 0:
        namespace_root_command()
    else:
        require_namespaces()
    for place in (state_dir, cache_directory()):
        _require_usable_path(place)


def _require_usable_path(path: Path) -> None:
    top_directory = path.resolve().parts[1]
    if top_directory in OVERLAID_DIRECTORIES:
        message = f"drydock's files cannot be below /{top_directory} ({path}), because the ships overlay it; "
        raise UsageError(message + "choose another directory (XDG_STATE_HOME, XDG_CACHE_HOME, --layer)")
    if set(str(path.resolve())) & set(",:\\"):
        raise UsageError(f"drydock's files cannot be in {path}: overlay mounts forbid , : and \\ in paths")


@dataclass(frozen=True)
class Options:
    """The options of a server.

    Attributes:
        port: on 127.0.0.1; 0 = any.
        idle_exit: end the server after so many seconds without sprites and requests; None = never.
        limit: maximum number of running sprites; None = no limit.
        idle: seconds of idleness after which a sprite is frozen (warm); 0 = never.
        cold: further seconds after which its processes end; 0 = never.
        network: ``proxy``: each ship has a network of its own, and a proxy; ``isolated``: it has no way out but
            to ``ports`` and ``hosts``; ``host``: ships share this machine's network.
        ports: loopback ports of this machine that ships with their own network may reach, at the same numbers.
        hosts: hosts that they may reach although their addresses are private (``NAME[:PORT]``).
        layers: directories whose content every ship has on top of the base (``usr``, ``etc``, ``var``, ``opt``).
        faults: a :class:`FaultPlan` as JSON; "" = no faults.
        ship_memory: bytes that the processes of one ship may use; None = no limit.
        ship_pids: processes and threads that one ship may have; None = no limit.
    """

    port: int = 0
    idle_exit: float | None = None
    limit: int | None = None
    idle: float = IDLE_SECONDS
    cold: float = COLD_SECONDS
    network: Network = "proxy"
    ports: tuple[int, ...] = ()
    faults: str = ""
    layers: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    ship_memory: int | None = None
    ship_pids: int | None = None

    def argv(self) -> list[str]:
        """Return the command-line options for ``python -m ocaptain.drydock``."""
        return [
            *("--port", str(self.port)),
            *(("--idle-exit", str(self.idle_exit)) if self.idle_exit is not None else ()),
            *(("--limit", str(self.limit)) if self.limit is not None else ()),
            *("--idle", str(self.idle), "--cold", str(self.cold), "--network", self.network),
            *(word for port in self.ports for word in ("--allow-host-port", str(port))),
            *(word for host in self.hosts for word in ("--allow-host", host)),
            *(word for layer in self.layers for word in ("--layer", layer)),
            *(("--faults", self.faults) if self.faults else ()),
            *(("--ship-memory", str(self.ship_memory)) if self.ship_memory is not None else ()),
            *(("--ship-pids", str(self.ship_pids)) if self.ship_pids is not None else ()),
        ]

    def checked_layers(self) -> tuple[Path, ...]:
        """Return the layers, after a check.

        Raises:
            UsageError: a layer is no absolute path, or has none of the overlaid directories.
        """
        layers = tuple(map(Path, self.layers))
        for layer in layers:
            if not layer.is_absolute() or not any((layer / tree).is_dir() for tree in OVERLAID_DIRECTORIES):
                *first, last = OVERLAID_DIRECTORIES
                raise UsageError(
                    f"--layer {layer} must be an absolute path with a directory {', '.join(first)} or {last}"
                )
            _require_usable_path(layer)
        return layers

    def ship_network(self) -> ShipNetwork:
        """Return what ships can reach, after a check.

        Raises:
            UsageError: a host is not NAME[:PORT], a port is the proxy's own, or the options contradict each other.
        """
        from ocaptain.drydock.outlets import PROXY_PORT, ShipNetwork  # noqa: PLC0415 - few commands need it
        from ocaptain.drydock.proxy import OpenedHost  # noqa: PLC0415 - as above

        if self.network == "host" and (self.ports or self.hosts):
            raise UsageError(
                "--allow-host and --allow-host-port are for ships with a network of their own: leave out --network host"
            )
        if PROXY_PORT in self.ports:
            raise UsageError(f"--allow-host-port {PROXY_PORT}: this port of a ship is the proxy's; use another one")
        return ShipNetwork(self.network, self.ports, tuple(map(OpenedHost.parse, self.hosts)))

    def ship_limits(self) -> Limits:
        """Return the limits of each ship."""
        return Limits(self.ship_memory, self.ship_pids)

    def fault_plan(self) -> FaultPlan:
        """Return the fault plan.

        Raises:
            UsageError: the JSON is not a valid fault plan.
        """
        try:
            return FaultPlan.model_validate_json(self.faults or "{}")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise UsageError(f"the fault plan is invalid: {where}: {plain_reason(first['msg'])}") from error


def write_options(state_dir: Path, options: Options) -> None:
    """Save the options of a running drydock; they are as lasting as the disks that they are for."""
    write_atomic(state_dir / OPTIONS_FILE, json.dumps(asdict(options)).encode(), one_writer=True)


def read_options(state_dir: Path) -> Options | None:
    """Return the options of the drydock that ran last, without its fault plan; None if none are saved.

    Raises:
        DrydockError: they cannot be read. Others would not do: the network may have been isolated.
    """
    path = state_dir / OPTIONS_FILE
    try:
        saved = json.loads(path.read_text("utf-8"))
        # One of an earlier version, which knew no hosts, ran its ships in the network that it named.
        saved = {"hosts": (), **saved}
        lists = {name: tuple(saved[name]) for name in ("hosts", "ports", "layers")}
        return Options(**{**saved, **lists, "faults": ""})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, LookupError) as error:
        remedy = "start it with the options that its ships need: `ocaptain drydock start …`"
        raise DrydockError(f"the options of the drydock that left sprites cannot be read ({path}); {remedy}") from error


def next_network() -> Network:
    """Return what ships on drydock can reach: on the running one, else on the one that the next command starts."""
    if found := running_server():
        return found.network
    with contextlib.suppress(DrydockError):  # whoever starts it says why they cannot be read
        if has_sprites_on_disk() and (options := read_options(drydock_directory())):
            return options.network
    return Options.network


def has_sprites_on_disk(state_dir: Path | None = None) -> bool:
    """Return whether a drydock that ended has left sprites on disk."""
    sprites = (state_dir or drydock_directory()) / "sprites"
    return sprites.is_dir() and any(sprites.iterdir())


def restart(defaults: Options) -> ServerRecord:
    """Start drydock if it does not run: with its old options if it left sprites, else with ``defaults``.

    Old fault plans are for tests and are not used again.

    Raises:
        DrydockError: its old options cannot be read, or it did not start; the message holds its output.
    """
    state_dir = drydock_directory()
    options = (read_options(state_dir) if has_sprites_on_disk(state_dir) else None) or defaults
    try:
        return start(options)
    except DrydockError:
        if not options.port:
            raise
        return start(replace(options, port=0))  # somebody else has the port now


def start(options: Options, tell: Callable[[str], None] = lambda _: None) -> ServerRecord:
    """Start a drydock in the background unless one runs; return when it serves.

    Args:
        options: of the server.
        tell: called with each line that it says while it starts: that it builds its base layer, for example.

    Raises:
        DrydockError: it did not start; the message holds its output.
    """
    state_dir = drydock_directory()
    if found := _wait_for_running_server(state_dir):
        return found
    require_sandbox_support(state_dir)
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = state_dir / "drydock.log"
    log.unlink(missing_ok=True)
    process = start_module("ocaptain.drydock", options.argv(), log)
    said = LogReader(log)
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        ended = process.poll() is not None
        for line in said.new_lines():
            tell(line)
        if found := running_server(state_dir):  # perhaps another one that was faster
            _started_processes.append(process)
            return found
        if ended:
            tail = log.read_text("utf-8", "replace").strip()[-2000:] or "it printed nothing"
            raise DrydockError(f"drydock did not start (log: {log}):\n{tail}")
        time.sleep(0.02)
    process.kill()
    raise DrydockError(f"drydock was not ready within {START_SECONDS:g} s and was killed (log: {log})")


def _wait_for_running_server(state_dir: Path) -> ServerRecord | None:
    """Return the drydock that serves; wait for one that is starting or ending. None if none does."""
    until = time.monotonic() + START_SECONDS
    while is_locked(state_dir / "lock") and time.monotonic() < until:
        if found := running_server(state_dir):
            return found
        time.sleep(0.05)
    return None


def stop(state_dir: Path | None = None) -> bool:
    """Stop the running drydock and destroy its sprites; return False if none runs.

    Args:
        state_dir: its state directory; None = this user's.

    Raises:
        DrydockError: its process did not end.
    """
    state_dir = state_dir or drydock_directory()
    found = _wait_for_running_server(state_dir)
    if found is None:
        return False
    process = Process.find(found.pid)
    if not end_lock_holder(state_dir / "lock", found.pid, STOP_SECONDS, DESTROY_SIGNAL):
        raise DrydockError(f"drydock (pid {found.pid}) did not end, although it was killed; try again later")
    until = time.monotonic() + STOP_SECONDS
    while process and process.is_alive and time.monotonic() < until:  # the lock is free a moment before
        time.sleep(0.01)
    return True
