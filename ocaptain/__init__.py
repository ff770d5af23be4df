"""ocaptain: sail fleets of autonomous coding agents."""

import sys

__version__ = "0.1.0"

# httpx loads the whole of its command line (click, rich, pygments) if it can, which is a fifth of the time that Ansible
# takes to load us. It does without if that module is missing.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # as the language reference allows
