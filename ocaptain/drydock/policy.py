"""Policies of a sprite: network, privileges and resources.

The network policy is enforced only on a ship with its own network: there the bridges to ports of the
host are the only way out. As on the live service, private addresses are closed while there are rules,
unless a rule names them. The other policies are only stored and returned: a ship's sandbox has fixed
privileges and no resource limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

if TYPE_CHECKING:
    from collections.abc import Sequence

Domain = Annotated[str, StringConstraints(pattern=r"^(\*|(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.:-]{0,251}[A-Za-z0-9_])?)$")]
#: The domains of ``{"include": "defaults"}``; the live service does not publish its list.
DEFAULT_DOMAINS = (
    "*.anthropic.com",
    "*.claude.com",
    "*.debian.org",
    "*.github.com",
    "*.githubusercontent.com",
    "*.npmjs.org",
    "*.pypi.org",
    "*.pythonhosted.org",
    "*.ubuntu.com",
    "github.com",
    "pypi.org",
)


class NetworkRule(BaseModel):
    """A rule: a domain (``host``, ``*.host``, ``*``) with an action, or an include."""

    model_config = ConfigDict(extra="forbid")

    domain: Domain | None = None
    action: Literal["allow", "deny"] | None = None
    include: Literal["defaults"] | None = None

    @model_validator(mode="after")
    def _require_one_form(self) -> NetworkRule:
        if (self.include is None) == (self.domain is None and self.action is None):
            raise ValueError("a rule is either {domain, action} or {include}")
        if self.include is None and (self.domain is None or self.action is None):
            raise ValueError('a rule of a network policy needs both "domain" and "action"')
        return self


class NetworkPolicy(BaseModel):
    """``policy/network``; without rules nothing is restricted."""

    model_config = ConfigDict(extra="ignore")

    rules: Annotated[list[NetworkRule], Field(max_length=1000), BeforeValidator(lambda given: given or [])] = []


class PrivilegesPolicy(BaseModel):
    """``policy/privileges``: stored."""

    model_config = ConfigDict(extra="ignore")

    profile: Literal["", "minimal", "standard", "privileged"] = ""
    devices: Annotated[list[str], Field(max_length=100)] = []
    noNewPrivileges: bool = False  # noqa: N815 - the API's spelling


class Memory(BaseModel):
    """Memory of ``policy/resources``."""

    model_config = ConfigDict(extra="ignore")

    limit_mb: Annotated[int, Field(ge=0)] | None = None
    autoscale: bool | None = None


class ResourcesPolicy(BaseModel):
    """``policy/resources``: stored."""

    model_config = ConfigDict(extra="ignore")

    memory: Memory = Field(default_factory=Memory)


def allows_host(rules: Sequence[NetworkRule], host: str) -> bool:
    """Return whether a network policy permits a connection to ``host``.

    An exact name beats ``*.x``, the longer ``*.x`` beats the shorter, and those beat ``*``; of two
    equal ones the later counts. Without rules everything is allowed; else what no rule matches is refused.
    """
    if not rules:
        return True
    host_name = host.lower().rstrip(".")
    best, verdict = -1, False
    for domain, action in _expand_includes(rules):
        weight = _match_weight(domain, host_name)
        if weight >= max(best, 0):
            best, verdict = weight, action == "allow"
    return verdict


def _expand_includes(rules: Sequence[NetworkRule]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for rule in rules:
        if rule.include:
            found += [(domain, "allow") for domain in DEFAULT_DOMAINS]
        elif rule.domain and rule.action:
            found.append((rule.domain.lower(), rule.action))
    return found


def _match_weight(domain: str, host: str) -> int:
    """Return how specific a matching pattern is, -1 if it does not match."""
    if domain == "*":
        # Private addresses need a rule of their own, as on the live service.
        return -1 if _is_private(host) else 0
    if domain.startswith("*."):
        return len(domain) if host.endswith(domain[1:]) else -1
    return 1000 if domain == host else -1


def _is_private(host: str) -> bool:
    return host == "localhost" or host.replace(".", "").isdecimal() or ":" in host
