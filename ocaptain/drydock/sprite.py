"""One sprite: its record, sandbox, sessions, services and tasks, and the changes of its state.

Every change of state happens under one lock. A request first takes a hold, then the lock; a pause
takes the lock, then looks for holds. So neither can miss the other::

    awake()         hold +1 ── lock: wake up ── the request ── hold -1, idle from now on
    pause_if_due()  lock: still idle? ── freeze or end the processes
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING

from ocaptain.drydock.door import SpriteSocket
from ocaptain.drydock.errors import ApiError, DrydockError
from ocaptain.drydock.files import Files
from ocaptain.drydock.life import Activity, State, next_state
from ocaptain.drydock.outlets import Outlets, publish_policy
from ocaptain.drydock.record import RECORD_FILE, ServiceDefinition, ServiceRecord, SpriteRecord, save_record
from ocaptain.drydock.services import Service, sort_by_needs
from ocaptain.drydock.sessions import ExecRequest, Session
from ocaptain.drydock.tasks import Tasks, format_timestamp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from starlette.types import ASGIApp

    from ocaptain.drydock.life import Clock, IdlePolicy
    from ocaptain.drydock.outlets import ShipNetwork
    from ocaptain.drydock.policy import NetworkPolicy
    from ocaptain.drydock.sandbox import Sandbox

ORGANISATION = "drydock"
HEALTH_CHECK_SECONDS = 10.0
MAX_ENDED_SESSIONS = 1000
log = logging.getLogger("drydock")


class Sprite:
    """A sprite.

    Args:
        record: what is stored about it on disk.
        box: its sandbox, up or down.
        idle_policy: how long it may be idle.
        clock: clock for idle times and timestamps.
        socket_app: application behind its own socket.
        network: what it can reach.
        on_change: called when its status has changed.
    """

    def __init__(
        self,
        record: SpriteRecord,
        box: Sandbox,
        *,
        idle_policy: IdlePolicy,
        clock: Clock,
        socket_app: ASGIApp,
        network: ShipNetwork,
        on_change: Callable[[Sprite], None],
    ) -> None:
        self.record = record
        self.box = box
        self.state = State.RUNNING if box.init_pid else State.COLD
        self.sessions: dict[str, Session] = {}
        self.ended_sessions: deque[str] = deque(maxlen=MAX_ENDED_SESSIONS)
        self.services = {name: Service(box, name, one.definition) for name, one in record.services.items()}
        self.tasks = Tasks(clock)
        self.last_running_at: str | None = None
        self.last_warming_at: str | None = None
        self.is_destroyed = False
        self._idle_policy = idle_policy
        self._clock = clock
        self._on_change = on_change
        self._socket = SpriteSocket(box.directory / "dot-sprite", socket_app, box.ids.sprite)
        box.environment = {**box.environment, **network.environment(record.body.name)}
        self.outlets = Outlets(network, lambda: self.record.network.rules, record.host_ports)
        self.lock = asyncio.Lock()
        self.copy_lock = asyncio.Lock()  # held by the one that copies its disk, before its turn and the lock
        self._changing = asyncio.Lock()
        self._holds = 0
        self._last_active = clock.monotonic()
        self._last_terminal_output = 0.0  # when a terminal last said something
        self._awake_before = 0.0
        self._awake_since: float | None = None
        self._session_watches: set[asyncio.Task[bool]] = set()

    @property
    def name(self) -> str:
        """The sprite's name, unique in the organisation."""
        return self.record.body.name

    def describe(self) -> dict[str, object]:
        """Return the sprite as the API shows it."""
        started_at = self.record.last_started_at
        silent = self._clock.monotonic() - self._last_active  # what holds it is looked at twice a second
        active_at = format_timestamp(self._clock.wall() - silent) if self.last_running_at else started_at
        times = {
            "last_running_at": self.last_running_at,
            "last_warming_at": self.last_warming_at,
            "last_started_at": started_at,
            "last_active_at": active_at,
        }
        return {
            "id": self.record.id,
            "name": self.name,
            "organization": ORGANISATION,
            "org_slug": ORGANISATION,
            "url": f"https://{self.name}-{ORGANISATION}.invalid",
            "url_settings": self.record.body.url_settings.model_dump(exclude_none=True),
            "status": str(self.state),
            "labels": self.record.body.labels,
            "config": self.record.body.config,
            "environment": self.record.body.environment,
            "environment_version": "drydock",
            "created_at": self.record.created_at,
            "updated_at": self.record.updated_at,
            **{name: at for name, at in times.items() if at},
        }

    def now(self) -> str:
        """Return the time as the API writes it."""
        return format_timestamp(self._clock.wall())

    @contextlib.asynccontextmanager
    async def changing(self) -> AsyncIterator[SpriteRecord]:
        """Hand out a copy of the record to change; after the block it is saved, and only then it is the record.

        Raises:
            ApiError: 404: the sprite was destroyed.
            DrydockError: it cannot be written; nothing has changed, in memory or on disk.
        """
        async with self._changing:
            if self.is_destroyed:
                raise ApiError(404, "not_found", f"sprite not found: {self.name}")
            draft = self.record.model_copy(deep=True)
            yield draft
            try:  # in a thread: the disk may be slow
                await asyncio.to_thread(save_record, self.box.directory, draft.model_dump_json())
            except OSError as error:
                raise DrydockError(f"the record of {self.name} cannot be written: {error.strerror}") from error
            self.record = draft

    # -- the states -----------------------------------------------------------------------

    @property
    def awake_seconds(self) -> float:
        """Seconds in which it was neither warm nor cold: what Sprites would bill."""
        since = self._awake_since
        return self._awake_before + (0.0 if since is None else self._clock.monotonic() - since)

    def _set_state(self, state: State) -> None:
        now = self._clock.monotonic()
        if state is State.RUNNING:
            self._last_active = now
            self._awake_since = now if self._awake_since is None else self._awake_since
            self.last_running_at = self.now()
        else:
            self._awake_before, self._awake_since = self.awake_seconds, None
            if state is State.WARM:
                self.last_warming_at = self.now()
        self.state = state
        self._on_change(self)

    def _activity(self) -> Activity:
        watched = any(session.is_watched for session in self.sessions.values())
        terminals = [session.last_active_monotonic for session in self.sessions.values() if session.request.tty]
        terminal_output = max(terminals, default=0.0)
        is_held = self._holds > 0 or watched or bool(self.tasks.live_tasks())
        if is_held or terminal_output > self._last_terminal_output:
            self._last_active = self._clock.monotonic()
        self._last_terminal_output = max(terminal_output, self._last_terminal_output)
        return Activity(self.state, is_held, self._clock.monotonic() - self._last_active)

    @contextlib.asynccontextmanager
    async def awake(self) -> AsyncIterator[None]:
        """Wake the sprite if needed, and keep it running inside the block.

        Raises:
            ApiError: 404: it was destroyed meanwhile.
            DrydockError: it cannot be started.
        """
        self._holds += 1
        try:
            async with self.lock:
                await self._wake_up()
            yield
        finally:
            self._holds -= 1
            self._last_active = self._clock.monotonic()

    async def _wake_up(self) -> None:
        if self.is_destroyed:
            raise ApiError(404, "not_found", f"sprite not found: {self.name}")
        await self._notice_end()
        if self.state is State.WARM:
            await self.box.thaw()
            self._set_state(State.RUNNING)
        elif self.state is State.COLD:
            await self._boot()

    async def _notice_end(self) -> None:
        """Be cold if the ship's own root has ended its init: the next request boots it."""
        if self.state is not State.COLD and not self.box.is_alive:
            await self.halt()
            self._set_state(State.COLD)

    async def _boot(self) -> None:
        await self.record.wait_for_processes()
        await self.box.boot()
        try:
            await self.finish_boot()
        except BaseException:  # else the next request would build a second sandbox
            await self.halt()
            raise

    async def finish_boot(self) -> None:
        """Finish the start of a sandbox: record, socket, bridges and services.

        Raises:
            DrydockError: its record cannot be written.
        """
        async with self.changing() as record:
            record.note_boot(self.box.host_pids, self.box.disk_first)
            record.last_started_at = self.now()
        try:
            await self._socket.open()
        except OSError as error:  # the ship itself put something in the way
            log.warning("%s: %s", self.name, error)
        await self.outlets.start(self.box)
        self._set_state(State.RUNNING)
        for name in sort_by_needs({name: one.definition.needs for name, one in self.record.services.items()}):
            if self.record.services[name].wanted:
                await self.services[name].start()

    async def pause_if_due(self) -> None:
        """Freeze it, or end its processes, if it has been idle for long enough.

        Raises:
            DrydockError: its processes cannot be reached.
        """
        if next_state(self._activity(), self._idle_policy) is self.state:
            return
        async with self.lock:
            due_state = next_state(self._activity(), self._idle_policy)
            if self.is_destroyed or due_state is self.state:
                return
            if not self.box.is_alive:
                due_state = State.COLD
            if due_state is State.WARM:
                self.outlets.drop_connections()  # as on the live service
                await self.box.freeze()
            else:
                await self.halt()
            self._set_state(due_state)

    async def halt(self) -> None:
        """End everything that runs, and keep the disk; the caller holds the lock."""
        await asyncio.gather(*(service.suspend() for service in self.services.values()))
        await self.outlets.stop()
        await self._socket.close()
        await self.box.halt()
        self.tasks.release_all()

    async def restart(self, while_down: Callable[[], Awaitable[None]] | None = None) -> None:
        """End everything that runs and boot again; services start again.

        Args:
            while_down: called while the sprite is down.

        Raises:
            ApiError: 404: it was destroyed.
            DrydockError: it cannot be started, or ``while_down`` failed (then it boots with the disk it had).
        """
        self._holds += 1
        try:
            async with self.lock:
                if self.is_destroyed:
                    raise ApiError(404, "not_found", f"sprite not found: {self.name}")
                await self.halt()
                self._set_state(State.COLD)
                try:
                    if while_down is not None:
                        await while_down()
                finally:
                    await self._boot()
        finally:
            self._holds -= 1
            self._last_active = self._clock.monotonic()

    async def destroy(self) -> None:
        """End everything that runs and remove the sprite.

        Raises:
            DrydockError: something cannot be removed.
        """
        async with self.lock:
            self.is_destroyed = True
            await self.halt()
            self._set_state(State.COLD)
            # First, so that a partly removed folder is not loaded as a sprite again.
            async with self._changing:
                (self.box.directory / RECORD_FILE).unlink(missing_ok=True)
            await self.box.destroy()

    async def check_health(self) -> tuple[str, str | None]:
        """Run a test command; return ``healthy`` and None, or ``unhealthy`` and the reason."""
        try:
            session = await self.run(ExecRequest(("true",)))
            await asyncio.wait_for(session.ended.wait(), HEALTH_CHECK_SECONDS)
        except (ApiError, TimeoutError) as error:
            return "unhealthy", str(error) or f"the test command did not end in {HEALTH_CHECK_SECONDS:g} s"
        return ("healthy", None) if session.exit_code == 0 else ("unhealthy", f"`true` exited with {session.exit_code}")

    # -- commands -------------------------------------------------------------------------

    async def run(self, request: ExecRequest) -> Session:
        """Start a command; its session leaves ``sessions`` when it ends."""
        environment = {**self.record.body.environment, **request.environment}
        session = await Session.start(self.box, ExecRequest(**{**vars(request), "environment": environment}))
        self.sessions[session.id] = session
        watch = asyncio.create_task(session.ended.wait())
        self._session_watches.add(watch)  # the loop itself holds a task only weakly
        watch.add_done_callback(self._session_watches.discard)
        watch.add_done_callback(lambda _: self._move_to_ended(session.id))
        return session

    def _move_to_ended(self, session: str) -> None:
        self.sessions.pop(session, None)
        self.ended_sessions.append(session)

    # -- services -------------------------------------------------------------------------

    async def put_service(self, name: str, definition: ServiceDefinition) -> Service:
        """Define a service or replace the one of that name, without starting it."""
        async with self.changing() as record:
            record.services[name] = ServiceRecord(definition=definition)
        if before := self.services.get(name):
            await before.stop()
        service = self.services[name] = Service(self.box, name, definition)
        return service

    async def set_service_wanted(self, name: str, *, wanted: bool) -> None:
        """Record whether a service should run after the next boot."""
        async with self.changing() as record:
            if name in record.services:
                record.services[name].wanted = wanted

    async def remove_service(self, name: str) -> None:
        """Stop a service and delete its definition."""
        async with self.changing() as record:
            record.services.pop(name, None)
        await self.services[name].stop()
        self.services.pop(name, None)

    # -- policy ---------------------------------------------------------------------------

    async def set_host_ports(self, ports: Sequence[int]) -> None:
        """Set the ports of the host that are this sprite's as well, beside those that drydock was started with."""
        async with self.lock:  # a boot would start the same listeners
            async with self.changing() as record:
                record.host_ports = sorted(set(ports))
            await self.outlets.set_ports(self.record.host_ports)

    async def set_network_policy(self, policy: NetworkPolicy) -> None:
        """Apply a network policy and drop all connections.

        Raises:
            ApiError: 501: the sprite shares the host's network, where no rule can be enforced.
        """
        if policy.rules and not self.box.isolated:
            raise ApiError(501, "not_enforceable", "drydock was started with --network host: it cannot limit a sprite")
        async with self.changing() as record:
            record.network = policy
        self.outlets.drop_connections()
        await publish_policy(Files(self.box.directory / "dot-sprite", self.box.ids, as_root=True), policy)
