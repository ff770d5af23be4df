"""Services on this machine's loopback that the ships of a voyage on drydock need, found by their URLs.

A drydock's ship has a loopback of its own: what the user names as ``http://127.0.0.1:8080`` would be nowhere there.
So the voyage's ships, and no others, get the port (:func:`ocaptain.voyage.sprites.make_present`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ocaptain.agents import ADAPTERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Ports of URLs that name none. A repository by ssh is left out: the user's own sshd is no service for ships.
_DEFAULT_PORTS = {"http": 80, "https": 443, "git": 9418}
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1"})


def loopback_port(url: str) -> int | None:
    """Return the port of a URL on this machine's 127.0.0.1, None if it is elsewhere or not for ships."""
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return port if parts.scheme in _DEFAULT_PORTS and parts.hostname in _LOOPBACK_NAMES else None


def find_host_ports(urls: Mapping[str, str]) -> dict[int, str]:
    """Return the ports of this machine among URLs, each with the name of what it is for.

    Args:
        urls: the URL of each service, by a name for people.
    """
    found: dict[int, str] = {}
    for name, url in urls.items():
        if port := loopback_port(url):
            found.setdefault(port, name)
    return found


def service_urls(agents: Iterable[str], repo: str, login_server: str) -> dict[str, str]:
    """Return the URLs that the ships of a voyage need, by a name for people.

    Args:
        agents: names of its agents.
        repo: the repository, as the voyage names it.
        login_server: of its mesh; "" = none of the user's own.
    """
    of_agents: dict[str, str] = {}
    for name in sorted(set(agents) & set(ADAPTERS)):
        # An adapter of an earlier version names none.
        of_agents |= getattr(ADAPTERS[name], "service_urls", dict)()
    return {**of_agents, "the repository": repo, "OCAPTAIN_TAILSCALE_LOGIN_SERVER": login_server}


def describe_host_ports(ports: Mapping[int, str]) -> list[str]:
    """Return a line for people for each port that is opened."""
    return [
        f"port {port} of this machine is open to the ships of this voyage, until they are gone ({name})"
        for port, name in sorted(ports.items())
    ]
