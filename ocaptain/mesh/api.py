"""Tailscale's API, as far as a captain needs it: one access token, keys, devices.

Retry rules:

- 429: after ``Retry-After`` (else growing waits), for every call, since a refused one did nothing;
- connect errors: for every call, since nothing was sent;
- 500, 502, 503, 504 and broken replies: for every call but the minting of a key, which would
  make a second one that nobody knows of;
- an access token that is refused (401) is replaced by a new one, once.

No error message contains a secret: our secrets are removed from what the service sends.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from ocaptain import __version__
from ocaptain.durations import parse_retry_after
from ocaptain.errors import OcaptainError
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

KEY_SECONDS = 600  # that a key can be used; a ship joins within seconds
DESCRIPTION_LENGTH = 50
REQUEST_SECONDS = 20.0
MAX_ATTEMPTS = 4
MAX_WAIT_SECONDS = 30.0
_REFRESH_SECONDS = 60.0  # an access token is replaced so long before it expires
_TRANSIENT_STATUSES = frozenset({500, 502, 503, 504})
SCOPES = "auth_keys and devices:core"
_Kind = TypeVar("_Kind", bound=BaseModel)


class MeshError(OcaptainError):
    """The tailnet's service could not be reached or did not do what was asked.

    Attributes:
        sent: whether the request may have been carried out.
    """

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class Refused(MeshError):
    """The service refused; nothing was done.

    Attributes:
        status: HTTP status.
        retry_after: seconds the service asks to wait, None if it does not say.
    """

    def __init__(self, message: str, *, status: int, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        if status in {400, 401, 403}:
            self.exit_code = 2  # type: ignore[misc]  # wrong configuration, which differs by status


class _Model(BaseModel):
    # An answer may hold a key, which no error is to repeat.
    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True, hide_input_in_errors=True)


class Key(_Model):
    """A key by which a machine joins; the service shows ``key`` once."""

    id: str = Field(min_length=1)
    key: SecretStr = SecretStr("")
    description: str = ""


class Device(_Model):
    """A machine of the tailnet."""

    node_id: str = Field("", alias="nodeId")
    hostname: str = ""
    name: str = ""
    tags: tuple[str, ...] = ()
    is_ephemeral: bool = Field(default=False, alias="isEphemeral")


class _KeyList(_Model):
    keys: tuple[Key, ...] = ()


class _Devices(_Model):
    devices: tuple[Device, ...] = ()


class _AccessToken(_Model):
    access_token: SecretStr
    expires_in: float = 3600.0


def key_request(description: str, tags: Sequence[str]) -> dict[str, Any]:
    """Return the body that mints a key: short-lived, for one machine, which leaves when it goes silent."""
    shown = re.sub(r"[^A-Za-z0-9 -]", "-", description)[:DESCRIPTION_LENGTH]
    create = {"reusable": False, "ephemeral": True, "preauthorized": True, "tags": list(tags)}
    return {"capabilities": {"devices": {"create": create}}, "expirySeconds": KEY_SECONDS, "description": shown}


def refusal_remedy(status: int, call: str) -> str:
    """Return what to do about a refusal with this status, "" if that is not known."""
    if status == 401:
        return (
            f"the OAuth client's secret is wrong or was revoked: make one with the scopes {SCOPES} in the admin"
            " console (Settings, OAuth clients) and set OCAPTAIN_TAILSCALE_OAUTH_SECRET"
        )
    if status == 403:
        return f"the OAuth client lacks a scope; it needs {SCOPES}, and for auth_keys the tag of OCAPTAIN_TAILSCALE_TAG"
    if status == 404 and "/tailnet/" in call:
        return "there is no such tailnet: OCAPTAIN_TAILSCALE_TAILNET must be - or the tailnet's name"
    if status == 400 and call.startswith("POST") and "/keys" in call:
        return (
            "the tag of OCAPTAIN_TAILSCALE_TAG must be owned by the OAuth client and stand in tagOwners of the policy"
        )
    return ""


def retry_wait(error: MeshError, attempt: int, *, idempotent: bool) -> float | None:
    """Return how many seconds to wait before the next try, None if there must be none.

    Args:
        error: what the try ended with.
        attempt: number of tries made, from 1.
        idempotent: whether the call may be executed twice.
    """
    if attempt >= MAX_ATTEMPTS:
        return None
    match error:
        case Refused(status=429, retry_after=float(after)):
            return after + random.uniform(0, 0.5) if after <= MAX_WAIT_SECONDS else None  # noqa: S311
        case Refused(status=429):
            return _backoff(attempt)
        case Refused(status=status):
            return _backoff(attempt) if idempotent and status in _TRANSIENT_STATUSES else None
    return _backoff(attempt) if idempotent or not error.sent else None


def _backoff(attempt: int) -> float:
    return min(MAX_WAIT_SECONDS, 0.25 * 2.0**attempt) * random.uniform(0.75, 1.25)  # noqa: S311 - no secret


class TailscaleClient:
    """A client of one tailnet. Use it as an async context manager.

    Args:
        url: of the API, without ``/api``.
        secret: of the OAuth client; it never leaves this machine but to ``url``.
        client_id: of the OAuth client; the secret names it as well.
        tailnet: ``-`` = the one that the secret belongs to.
        seconds: deadline of one request.
        transport: an httpx transport in place of the network's, for tests.
        sleep: how to wait between tries.
    """

    def __init__(
        self,
        url: str,
        secret: SecretStr,
        *,
        client_id: str = "ocaptain",
        tailnet: str = "-",
        seconds: float = REQUEST_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._url = url.rstrip("/")
        self._secret = secret
        self._client_id = client_id
        self._tailnet = f"/api/v2/tailnet/{quote(tailnet, safe='')}"
        self._seconds = seconds
        self._sleep = sleep
        self._access: _AccessToken | None = None
        self._token_expires = 0.0
        self._token_lock = asyncio.Lock()
        local = httpx.URL(self._url).host in {"127.0.0.1", "localhost", "::1"}
        self._http = httpx.AsyncClient(
            base_url=self._url,
            headers={"User-Agent": f"ocaptain/{__version__}"},
            timeout=seconds,
            transport=transport,
            trust_env=not local,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    # -- one request ----------------------------------------------------------------------

    async def _send_once(self, method: str, path: str, headers: dict[str, str], **body: Any) -> bytes:
        what = f"{method} {self._url}{path}"
        try:
            async with asyncio.timeout(self._seconds):
                response = await self._http.request(method, path, headers=headers, **body)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise MeshError(f"{what}: cannot be reached: {self._redacted(str(error))}") from None
        except (TimeoutError, httpx.TimeoutException):
            raise MeshError(f"{what}: no answer in {self._seconds:g} s", sent=True) from None
        except httpx.HTTPError as error:
            raise MeshError(
                f"{what}: the connection was lost: {self._redacted(str(error)) or type(error).__name__}", sent=True
            ) from None
        if response.is_success:
            return response.content
        raise self._refusal(what, f"{method} {path}", response)

    def _refusal(self, what: str, call: str, response: httpx.Response) -> Refused:
        try:
            fields = json.loads(response.content)
            reason = str(fields.get("message") or fields.get("error") or "no reason given")
        except (ValueError, AttributeError):
            reason = response.text or "no reason given"
        after = parse_retry_after(response.headers.get("retry-after"))
        help_ = refusal_remedy(response.status_code, call)
        message = f"{what}: {self._redacted(reason)} (HTTP {response.status_code}){f'; {help_}' if help_ else ''}"
        return Refused(message, status=response.status_code, retry_after=after)

    def _redacted(self, text: str) -> str:
        """Return text of the service as a short line without our secrets."""
        for secret in (self._secret, *([self._access.access_token] if self._access else [])):
            text = text.replace(secret.get_secret_value(), "…")
        return clean_line(text, 200)

    async def _with_retries(self, send: Callable[[], Awaitable[bytes]], *, idempotent: bool) -> bytes:
        attempt = 0
        while True:
            attempt += 1
            try:
                return await send()
            except MeshError as error:
                wait = retry_wait(error, attempt, idempotent=idempotent)
                if wait is None:
                    raise
            await self._sleep(wait)

    async def _read_token(self, refused: SecretStr | None = None) -> SecretStr:
        """Return an access token; another one than ``refused``."""
        async with self._token_lock:
            if self._access and self._access.access_token != refused and time.monotonic() < self._token_expires:
                return self._access.access_token
            basic = httpx.BasicAuth(self._client_id, self._secret.get_secret_value())
            form = {"grant_type": "client_credentials"}
            path = "/api/v2/oauth/token"
            reply = await self._with_retries(
                lambda: self._send_once("POST", path, {}, auth=basic, data=form), idempotent=True
            )
            self._access = self._parse(_AccessToken, reply, f"POST {path}")
            self._token_expires = time.monotonic() + self._access.expires_in - _REFRESH_SECONDS
            return self._access.access_token

    async def _request(self, method: str, path: str, *, idempotent: bool = True, **body: Any) -> bytes:
        async def send() -> bytes:
            token = await self._read_token()
            try:
                return await self._send_once(method, path, _bearer(token), **body)
            except Refused as error:
                if error.status != 401:
                    raise
                return await self._send_once(method, path, _bearer(await self._read_token(token)), **body)

        return await self._with_retries(send, idempotent=idempotent)

    def _parse(self, kind: type[_Kind], content: bytes, what: str) -> _Kind:
        try:
            return kind.model_validate_json(content)
        except ValidationError as error:
            # Never what was sent: it may hold a key.
            fields = ", ".join(".".join(map(str, one["loc"])) for one in error.errors(include_input=False))
            raise MeshError(f"{what}: the answer is not what it should be ({fields or 'no JSON'})", sent=True) from None

    # -- keys -----------------------------------------------------------------------------

    async def mint(self, description: str, tags: Sequence[str]) -> Key:
        """Make a key for one machine.

        Raises:
            Refused: none was made.
            MeshError: with ``sent``, one may have been made all the same.
        """
        path = f"{self._tailnet}/keys"
        reply = await self._request("POST", path, idempotent=False, json=key_request(description, tags))
        made = self._parse(Key, reply, f"POST {path}")
        if not made.key.get_secret_value():
            raise MeshError(f'POST {path}: the answer has no "key" field', sent=True)
        return made

    async def keys(self) -> list[Key]:
        """Return the keys that can be used; the service may leave out all but their ids."""
        path = f"{self._tailnet}/keys"
        return list(self._parse(_KeyList, await self._request("GET", path), f"GET {path}").keys)

    async def key(self, identity: str) -> Key | None:
        """Return a key as it is described, None if there is none."""
        path = f"{self._tailnet}/keys/{quote(identity, safe='')}"
        found = await self._request_or_none("GET", path)
        return None if found is None else self._parse(Key, found, f"GET {path}")

    async def delete_key(self, identity: str) -> bool:
        """Delete a key; return False if there is none."""
        return await self._request_or_none("DELETE", f"{self._tailnet}/keys/{quote(identity, safe='')}") is not None

    # -- devices --------------------------------------------------------------------------

    async def devices(self) -> list[Device]:
        """Return the machines of the tailnet."""
        path = f"{self._tailnet}/devices"
        return list(self._parse(_Devices, await self._request("GET", path), f"GET {path}").devices)

    async def delete_device(self, node: str) -> bool:
        """Take a machine out of the tailnet; return False if it is not there."""
        return await self._request_or_none("DELETE", f"/api/v2/device/{quote(node, safe='')}") is not None

    async def _request_or_none(self, method: str, path: str) -> bytes | None:
        try:
            return await self._request(method, path)
        except Refused as error:
            if error.status != 404:
                raise
            return None


def _bearer(token: SecretStr) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.get_secret_value()}"}
