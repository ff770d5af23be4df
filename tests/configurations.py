"""Configurations of Ansible as others have them: what each line of them is, and tables in which each meets each.

A factor is one thing that a configuration decides; its levels are the ways in which it does. ``pairwise`` makes the
table: every level of every factor meets every level of every other one in some row.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ansible.parsing.vault import VaultLib, VaultSecret

from tests.helpers import PLAYBOOK, REPO, SECONDS, Done, run_task

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.helpers import Sailor

Row = dict[str, str]


@dataclass(frozen=True)
class Level:
    """One way to decide a factor.

    Attributes:
        lines: of ``ansible.cfg``, by section.
        environment: variables.
        arguments: of ``ansible-playbook``.
        needs: a collection that is not part of ansible-core.
    """

    lines: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    needs: str = ""


def defaults(line: str, needs: str = "") -> Level:
    """Return a level that is a line below ``[defaults]``."""
    return Level({"defaults": line}, needs=needs)


NOTHING = Level()
#: In arguments and lines, ``{here}`` is the directory of the run.
FACTORS: dict[str, dict[str, Level]] = {
    "strategy": {
        "free": defaults("strategy = free"),
        "host_pinned": defaults("strategy = host_pinned"),
        "debug": defaults("strategy = debug\nenable_task_debugger = true"),
        "not installed": defaults("strategy = mitogen_linear\nstrategy_plugins = {here}/nowhere"),
        "linear": NOTHING,
    },
    "errors": {
        "fatal": defaults("any_errors_fatal = true"),
        "handlers": defaults("force_handlers = true"),
        "default": NOTHING,
    },
    "gathering": {
        "smart": defaults("gathering = smart"),
        "implicit": defaults("gathering = implicit"),
        "explicit": defaults("gathering = explicit"),
    },
    "variables": {
        "merge": defaults("hash_behaviour = merge"),
        "not injected": defaults("inject_facts_as_vars = false"),
        "private": defaults("private_role_vars = true"),
        "default": NOTHING,
    },
    "callback": {
        "minimal": defaults("stdout_callback = minimal"),
        "oneline": defaults("stdout_callback = oneline"),
        "yaml": defaults("callback_result_format = yaml\ndisplay_skipped_hosts = false"),
        "json": defaults("stdout_callback = ansible.posix.json", needs="ansible.posix"),
        "debug": defaults("stdout_callback = ansible.posix.debug", needs="ansible.posix"),
        "more": defaults("callbacks_enabled = junit, tree, ansible.posix.profile_tasks", needs="ansible.posix"),
    },
    "facts": {
        "jsonfile": defaults("fact_caching = jsonfile\nfact_caching_connection = {here}/facts"),
        "memory": NOTHING,
    },
    "become": {
        "option": Level(arguments=("--become",)),
        "lines": Level({"privilege_escalation": "become = true\nbecome_user = nobody"}),
        "variables": Level(environment={"ANSIBLE_BECOME": "true", "ANSIBLE_BECOME_USER": "games"}),
        "default": NOTHING,
    },
    "forks": {
        "one": defaults("forks = 1"),
        "fifty": defaults("forks = 50"),
        "default": NOTHING,
    },
    "vault": {
        "encrypted": Level(
            {"defaults": "vault_password_file = {here}/vault-password"}, arguments=("-e", "@{here}/vaulted.yml")
        ),
        "default": NOTHING,
    },
    "transfer": {
        "files": defaults("keep_remote_files = true\nremote_tmp = ~/.ansible/tmp"),
        "diff": Level({"diff": "always = true"}),
        "default": NOTHING,
    },
}


def pairwise(factors: Mapping[str, Mapping[str, Level]]) -> list[Row]:
    """Return rows in which every pair of levels of two factors occurs; always the same ones, by a greedy choice."""
    names = list(factors)
    left = {
        frozenset({(one, first), (other, second)})
        for one, other in itertools.combinations(names, 2)
        for first in factors[one]
        for second in factors[other]
    }
    rows: list[Row] = []
    while left:
        row: Row = dict(sorted(min(left, key=sorted)))
        for name in names:
            if name not in row:
                row[name] = max(
                    factors[name],
                    key=lambda level: sum(frozenset({(name, level), pair}) in left for pair in row.items()),
                )
        left -= pairs_of(row)
        rows.append({name: row[name] for name in names})
    return rows


def pairs_of(row: Row) -> set[frozenset[tuple[str, str]]]:
    """Return the pairs of levels that a row has."""
    return {frozenset(pair) for pair in itertools.combinations(row.items(), 2)}


def levels_of(row: Row) -> list[Level]:
    """Return the levels of a row; what it does not name is as Ansible has it."""
    return [FACTORS[name][level] for name, level in row.items()]


def write_configuration(row: Row, here: Path) -> Path:
    """Write the ``ansible.cfg`` of a row, and what it names; return its path."""
    sections: dict[str, list[str]] = {}
    for level in levels_of(row):
        for section, lines in level.lines.items():
            sections.setdefault(section, []).append(lines.format(here=here))
    (here / "vault-password").write_text("of the vault\n")
    path = here / "ansible.cfg"
    path.write_text("".join(f"[{name}]\n{chr(10).join(lines)}\n" for name, lines in sections.items()))
    return path


def link_collection(place: Path) -> Path:
    """Have the checkout as a collection, which is found by no configuration of ours; return the path to search."""
    (place / "ansible_collections/ocaptain").mkdir(parents=True)
    (place / "ansible_collections/ocaptain/fleet").symlink_to(REPO)
    return place


class Stranger:
    """Somebody with a configuration of their own, who runs our playbooks as a collection.

    Args:
        sailor: whose home and drydock they have.
        here: directory of the run.
        row: what their configuration has.
        collections: directory of further collections that they have.
    """

    def __init__(self, sailor: Sailor, here: Path, row: Row, collections: Path | None = None) -> None:
        self._here, self._row = here, row
        paths = [link_collection(here / "collections"), collections]
        secret = VaultLib([("default", VaultSecret(b"of the vault"))])
        (here / "vaulted.yml").write_bytes(secret.encrypt("wait: true\n"))
        self.env = {
            **{name: value for name, value in sailor.env.items() if not name.startswith("ANSIBLE_")},
            "ANSIBLE_CONFIG": str(write_configuration(row, here)),
            "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join(map(str, filter(None, paths))),
            "OCAPTAIN_PROVIDER": "drydock",
        }
        for level in levels_of(row):
            self.env |= level.environment

    def run(self, *arguments: object) -> Done:
        """Run ``ansible-playbook``."""
        own = [one.format(here=self._here) for level in levels_of(self._row) for one in level.arguments]
        done = subprocess.run(
            [str(PLAYBOOK), *map(str, arguments), *own],
            env=self.env,
            cwd=self._here,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)


def sail_and_sink(sailor: Sailor, plan, here: Path, row: Row, collections: Path | None = None) -> None:
    """Sail a plan with two ships, sail it again, sink it."""
    small = plan([run_task("echo 1 > a"), run_task("echo 2 > b", "1")], verify="test -f a -a -f b")
    stranger = Stranger(sailor, here, row, collections)
    sail = ["ocaptain.fleet.sail", "-e", f"plan={small}", "-e", "ships=2", "-e", "wait=true"]
    first = stranger.run(*sail)
    assert first.code == 0, first
    voyage = sailor.json("status", "--json")["voyage"]
    assert sailor.landed(voyage) == ["1", "2"], first
    # Whenever it may end, it has said before how to go on.
    assert f"go on with ocaptain.fleet.sail -e voyage={voyage}, or end it with ocaptain.fleet.sink" in first.err
    again = stranger.run(*sail)
    assert again.code == 0, again
    assert not re.search(r"changed=[1-9]|CHANGED|\"changed\": true", again.out), again.out
    sunk = stranger.run("ocaptain.fleet.sink", "-e", f"voyage={voyage}")
    assert sunk.code == 0, sunk
    assert [name for name in sailor.names() or () if name.startswith(voyage)] == []
