"""Git on the user's machine: the one place that runs it.

Everything that comes from ships is handled by plumbing (index-pack, merge-tree, commit-tree,
update-ref) in a bare repository, with no configuration but our own and no hook, filter,
file-system monitor or submodule: nothing of it is ever executed.
"""

from ocaptain.git.bundles import BadBundle, Part, fsck, write_bundle, write_proven_bundle
from ocaptain.git.landing import Conflict, Merged, commit_message, merge
from ocaptain.git.packing import pack
from ocaptain.git.quarantine import Quarantined, TooLarge, admit, clear_quarantine
from ocaptain.git.run import Git, GitError, askpass_environment
from ocaptain.git.store import Store
from ocaptain.git.trees import BadTree, compare

__all__ = [
    "BadBundle",
    "BadTree",
    "Conflict",
    "Git",
    "GitError",
    "Merged",
    "Part",
    "Quarantined",
    "Store",
    "TooLarge",
    "admit",
    "askpass_environment",
    "clear_quarantine",
    "commit_message",
    "compare",
    "fsck",
    "merge",
    "pack",
    "write_bundle",
    "write_proven_bundle",
]
