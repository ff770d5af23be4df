"""Git on the user's machine: the one place that runs it.

Everything that comes from ships is handled by plumbing (index-pack, merge-tree, commit-tree,
update-ref) in a bare repository, with no configuration but our own and no hook, filter,
file-system monitor or submodule: nothing of it is ever executed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.lazy import lazy_names

if TYPE_CHECKING:
    from ocaptain.git.bundles import BadBundle, Part, fsck, write_bundle, write_proven_bundle
    from ocaptain.git.contents import Incomplete, find_incomplete
    from ocaptain.git.landing import Conflict, Merged, commit_message, merge
    from ocaptain.git.packing import drop_unreachable, pack
    from ocaptain.git.quarantine import BundleRefused, TooLarge, admit_bundle, clear_quarantine
    from ocaptain.git.run import Git, GitError, GitTimeout, askpass_environment
    from ocaptain.git.start_refs import StartRefs, pack_start_refs
    from ocaptain.git.store import BareRepository
    from ocaptain.git.trees import BadTree, compare_trees

__all__ = [
    "BadBundle",
    "BadTree",
    "BareRepository",
    "BundleRefused",
    "Conflict",
    "Git",
    "GitError",
    "GitTimeout",
    "Incomplete",
    "Merged",
    "Part",
    "StartRefs",
    "TooLarge",
    "admit_bundle",
    "askpass_environment",
    "clear_quarantine",
    "commit_message",
    "compare_trees",
    "drop_unreachable",
    "find_incomplete",
    "fsck",
    "merge",
    "pack",
    "pack_start_refs",
    "write_bundle",
    "write_proven_bundle",
]

__getattr__ = lazy_names(
    __name__,
    {
        "ocaptain.git.bundles": ("BadBundle", "Part", "fsck", "write_bundle", "write_proven_bundle"),
        "ocaptain.git.contents": ("Incomplete", "find_incomplete"),
        "ocaptain.git.landing": ("Conflict", "Merged", "commit_message", "merge"),
        "ocaptain.git.packing": ("drop_unreachable", "pack"),
        "ocaptain.git.quarantine": ("BundleRefused", "TooLarge", "admit_bundle", "clear_quarantine"),
        "ocaptain.git.run": ("Git", "GitError", "GitTimeout", "askpass_environment"),
        "ocaptain.git.start_refs": ("StartRefs", "pack_start_refs"),
        "ocaptain.git.store": ("BareRepository",),
        "ocaptain.git.trees": ("BadTree", "compare_trees"),
    },
)
