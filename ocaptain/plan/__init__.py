"""Plans: a directory of ``spec.md``, ``verify.sh``, ``voyage.json`` and ``tasks/N.json``.

``load_plan`` reads everything and answers with a :class:`Report`: the plan if it can be
sailed, and every fault and warning otherwise. Nothing stops at the first fault.
"""

from ocaptain.plan.graph import critical_paths, edges, find_cycle
from ocaptain.plan.load import Report, load_plan
from ocaptain.plan.models import Finding, Manifest, Metadata, Plan, Task
from ocaptain.plan.overlap import comes_last, count_passed_over
from ocaptain.plan.simulate import Run, enough_ships, estimates, jobs_of, simulate

__all__ = [
    "Finding",
    "Manifest",
    "Metadata",
    "Plan",
    "Report",
    "Run",
    "Task",
    "comes_last",
    "count_passed_over",
    "critical_paths",
    "edges",
    "enough_ships",
    "estimates",
    "find_cycle",
    "jobs_of",
    "load_plan",
    "simulate",
]
