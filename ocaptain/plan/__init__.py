"""Plans: a directory of ``spec.md``, ``verify.sh``, ``voyage.json`` and ``tasks/N.json``.

``load_plan`` reads everything and answers with a :class:`Report`: the plan if it can be
sailed, and every fault and warning otherwise. Nothing stops at the first fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.lazy import lazy_names

if TYPE_CHECKING:
    from ocaptain.plan.graph import critical_paths, dependency_graph, find_cycle
    from ocaptain.plan.load import Report, load_plan, load_task
    from ocaptain.plan.models import Finding, Manifest, Metadata, Plan, Task
    from ocaptain.plan.overlap import count_deferrals, deferred_tasks
    from ocaptain.plan.simulate import (
        SimulationResult,
        build_jobs,
        claim_priorities,
        estimate_seconds,
        known_estimates,
        sufficient_ships,
    )

__all__ = [
    "Finding",
    "Manifest",
    "Metadata",
    "Plan",
    "Report",
    "SimulationResult",
    "Task",
    "build_jobs",
    "claim_priorities",
    "count_deferrals",
    "critical_paths",
    "deferred_tasks",
    "dependency_graph",
    "estimate_seconds",
    "find_cycle",
    "known_estimates",
    "load_plan",
    "load_task",
    "sufficient_ships",
]

__getattr__ = lazy_names(
    __name__,
    {
        "ocaptain.plan.graph": ("critical_paths", "dependency_graph", "find_cycle"),
        "ocaptain.plan.load": ("Report", "load_plan", "load_task"),
        "ocaptain.plan.models": ("Finding", "Manifest", "Metadata", "Plan", "Task"),
        "ocaptain.plan.overlap": ("count_deferrals", "deferred_tasks"),
        "ocaptain.plan.simulate": (
            "SimulationResult",
            "build_jobs",
            "claim_priorities",
            "estimate_seconds",
            "known_estimates",
            "sufficient_ships",
        ),
    },
)
