"""Options that have Ansible run a part of a playbook, which for a voyage is none.

``--limit`` would leave ships out after they were made, ``--tags`` would call built what has no worker. Both are refused
before anything is made, with what to give instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

#: How the tags of our roles begin, and the tags by which Ansible means many tasks. A team's own roles may have others.
OUR_TAGS = ("tmux", "claude", "tailscale", "mutagen", "all", "always", "tagged", "untagged")
ON_SHIPS = "on ships that are built, a play of yours takes it: `hosts: ocaptain` (or a voyage's group) and the role"


def check_selection(run_tags: Iterable[str], skip_tags: Iterable[str], limit: str | None) -> None:
    """Refuse to sail or sink a part of a voyage.

    Args:
        run_tags: ``ansible_run_tags``.
        skip_tags: ``ansible_skip_tags``; those of a team's own roles may be skipped.
        limit: ``ansible_limit``, None if there is none.

    Raises:
        UsageError: says what to give instead.
    """
    if limit:
        raise UsageError(
            f"--limit {limit}: a voyage sails and sinks whole. Which hosts become ships is said by ocaptain_hosts "
            f"(--hosts INVENTORY:GROUP), how many by ships; {ON_SHIPS}"
        )
    wanted = sorted(set(run_tags) - {"all"})
    if wanted:
        raise UsageError(f"--tags {','.join(wanted)}: a ship is built whole; {ON_SHIPS}")
    left_out = sorted(tag for tag in skip_tags if tag.startswith(OUR_TAGS))
    if left_out:
        raise UsageError(f"--skip-tags {','.join(left_out)}: a ship is built whole; {ON_SHIPS}")
