"""Plans: a directory of ``spec.md``, ``verify.sh``, ``voyage.json`` and ``tasks/N.json``.

``load_plan`` reads everything and answers with a :class:`Report`: the plan if it can be
sailed, and every fault and warning otherwise. Nothing stops at the first fault.
"""

from ocaptain.plan.graph import critical_paths, edges, find_cycle
from ocaptain.plan.load import Report, load_plan
from ocaptain.plan.models import Finding, Manifest, Metadata, Plan, Task

__all__ = [
    "Finding",
    "Manifest",
    "Metadata",
    "Plan",
    "Report",
    "Task",
    "critical_paths",
    "edges",
    "find_cycle",
    "load_plan",
]
