"""Forward what is stored to a collector, in a thread of its own: what it does not take now is tried again.

    Store ──after the last that was forwarded──> POST endpoint/v1/<signal> ──> decide: done | refused | later
                                                        ↑ back-off, at most a minute ─────────────────┘

What was forwarded is noted in the store, so that a captain that is started anew goes on there. Nothing waits for it:
while a collector is away, messages stay in the store, and the oldest go when that is full. Only what is cleaned is
stored, so only that is forwarded.

Protocol: OTLP/HTTP (opentelemetry.io/docs/specs/otlp, "OTLP/HTTP Response"): 429, 502, 503 and 504 are tried again,
with ``Retry-After`` where it is given; other answers mean that the message is not wanted. 401, 403, 404 and redirects
are no fault of a message: it is kept until the configuration is right. Headers are written as the specification of the
exporter says ("Specifying headers via environment variables"): ``name=value,name=value``, values percent-encoded.
"""

from __future__ import annotations

import gzip
import ipaddress
import logging
import random
import re
import sqlite3
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

from ocaptain.errors import UsageError
from ocaptain.telemetry.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import httpx

    from ocaptain.telemetry.store import Stored

FIRST_WAIT, MAX_WAIT = 1.0, 60.0
POST_SECONDS = 10.0
CLOSE_SECONDS = 5.0
_LATER = frozenset({429, 502, 503, 504})
_MISCONFIGURED = frozenset({401, 403, 404, 407})
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t !-~]*")
log = logging.getLogger("ocaptain.telemetry")


@dataclass(frozen=True)
class Collector:
    """Where telemetry is forwarded to.

    Attributes:
        url: without ``/v1/…``.
        headers: a secret.
    """

    url: str
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Collector({urlsplit(self.url).hostname!r})"


def make_collector(endpoint: str, headers: str) -> Collector:
    """Return the collector that is configured.

    Args:
        endpoint: ``OTEL_EXPORTER_OTLP_ENDPOINT``.
        headers: ``OTEL_EXPORTER_OTLP_HEADERS``; "" = none.

    Raises:
        UsageError: the headers are wrong, or would go over the network in the clear; never repeats them.
    """
    found = {}
    for one in filter(str.strip, headers.split(",")):
        name, equals, value = (part.strip() for part in one.partition("="))
        value = unquote(value)
        if not equals or not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise UsageError("OTEL_EXPORTER_OTLP_HEADERS is wrong; write name=value,name=value")
        found[name] = value
    if found and urlsplit(endpoint).scheme != "https" and not is_loopback(endpoint):
        remedy = "use https in OTEL_EXPORTER_OTLP_ENDPOINT"
        raise UsageError(f"OTEL_EXPORTER_OTLP_HEADERS would go over the network in the clear; {remedy}")
    return Collector(endpoint.rstrip("/"), found)


def is_loopback(url: str) -> bool:
    """Return whether a URL is of this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Next:
    """What follows from an answer.

    Attributes:
        what: ``done``; ``refused``: it is not sent again; ``later``: it is tried again.
        seconds: until then.
    """

    what: Literal["done", "refused", "later"]
    seconds: float = 0.0


def decide(status: int | None, retry_after: str, tries: int) -> Next:
    """Return what follows from a collector's answer.

    Args:
        status: of HTTP; None = there was none.
        retry_after: the header ``Retry-After``, "" if there is none.
        tries: how often it was tried, from 1.
    """
    if status is not None and 200 <= status < 300:
        return Next("done")
    is_misconfigured = status is not None and (status in _MISCONFIGURED or 300 <= status < 400)
    if status is None or status in _LATER or is_misconfigured:
        wait = MAX_WAIT if is_misconfigured else min(MAX_WAIT, FIRST_WAIT * 2 ** min(tries - 1, 10))
        asked = float(retry_after) if re.fullmatch(r"[0-9]{1,4}", retry_after) else 0.0
        return Next("later", max(wait, min(asked, MAX_WAIT * 10)))
    return Next("refused")


class Forwarder:
    """Forwards a store.

    Args:
        path: of the store; it may be missing still.
        collector: where to.
        first_wait: seconds of the first back-off; tests have a shorter one.
    """

    def __init__(self, path: Path, collector: Collector, first_wait: float = FIRST_WAIT) -> None:
        self._path = path
        self._collector = collector
        self._scale = first_wait / FIRST_WAIT
        self._news = threading.Condition()
        self._has_news = True
        self._ends_at: float | None = None
        self._said: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="forward", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Forward what has been stored since."""
        with self._news:
            self._has_news = True
            self._news.notify()

    def close(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Forward what is stored, as long as the collector takes it; return whether it ended in that time.

        Args:
            seconds: that it may take.
        """
        with self._news:
            self._ends_at = time.monotonic() + seconds
            self._has_news = True
            self._news.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        import httpx  # noqa: PLC0415 - in this thread: nobody waits for it

        store: Store | None = None
        headers = dict(self._collector.headers)
        with httpx.Client(timeout=POST_SECONDS, follow_redirects=False, headers=headers) as client:
            while self._wait_for_news():
                try:
                    if store is None and self._path.exists():
                        store = Store(self._path)  # once: to open it is to measure it
                    if store:
                        self._forward(client, store)
                except (sqlite3.Error, OSError) as error:
                    self._say(f"{self._path} cannot be read: {error}; telemetry is not forwarded")
                    self._pause(MAX_WAIT)
        if store:
            store.close()

    def _wait_for_news(self) -> bool:
        with self._news:
            while not self._has_news and self._ends_at is None:
                self._news.wait()
            found, self._has_news = self._has_news, False
            return found

    def _forward(self, client: httpx.Client, store: Store) -> None:
        tries = 0
        while (one := store.next_after(store.forwarded)) is not None:
            if self._ends_at is not None and time.monotonic() >= self._ends_at:
                return
            tries += 1
            found = self._post(client, one, tries)
            if found.what == "later":
                if not self._pause(found.seconds):
                    return
                continue
            with store.transaction():
                store.set_forwarded(one.n)
                if found.what == "refused":
                    store.lose("refused", 1, len(one.body))
            tries = 0

    def _post(self, client: httpx.Client, one: Stored, tries: int) -> Next:
        import httpx  # noqa: PLC0415 - see above

        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
        try:
            body = gzip.compress(one.body, 1)
            answer = client.post(f"{self._collector.url}/v1/{one.signal}", content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            self._say(f"the collector does not answer ({type(error).__name__}); telemetry is kept, and tried again")
            return decide(None, "", tries)
        found = decide(answer.status_code, answer.headers.get("retry-after", ""), tries)
        if found.what != "done":
            kept = "kept, and tried again" if found.what == "later" else "not sent again"
            self._say(f"the collector answers {answer.status_code}; what it does not take is {kept}")
        elif self._said:
            self._said.clear()
            log.info("the collector takes telemetry again")
        return found

    def _pause(self, seconds: float) -> bool:
        """Wait; return False if there is no time for it any more."""
        jitter = 1 + random.random() / 4  # noqa: S311 - so that captains do not all come at once
        with self._news:
            if self._ends_at is None:
                self._news.wait_for(lambda: self._ends_at is not None, seconds * jitter * self._scale)
            return self._ends_at is None

    def _say(self, text: str) -> None:
        """Log something once until it is over."""
        if text not in self._said:
            self._said.add(text)
            log.warning("%s", text)
