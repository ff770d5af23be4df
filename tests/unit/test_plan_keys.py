"""Keys that are almost right, and what becomes of a wish for a ship."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocaptain.plan import load_plan
from ocaptain.plan.keys import MANIFEST_KEYS, METADATA_KEYS, TASK_KEYS, SuspectKey, edit_distance, find_suspect_keys


@pytest.mark.parametrize(
    ("one", "other", "edits"),
    [
        ("verify", "verify", 0),
        ("verfiy", "verify", 1),
        ("verif", "verify", 1),
        ("verifyy", "verify", 1),
        ("vetify", "verify", 1),
        ("vefriy", "verify", 2),
        ("ca", "abc", 3),
        ("completely", "verify", 3),
        ("", "ab", 2),
    ],
)
def test_distance(one, other, edits):
    assert edit_distance(one, other) == edit_distance(other, one) == edits


@given(st.text("ab", max_size=6), st.text("ab", max_size=6))
def test_distance_is_one_of_words_that_differ_by_an_edit(one, other):
    near = {one[:i] + letter + one[i:] for i in range(len(one) + 1) for letter in "ab"}
    near |= {one[:i] + one[i + 1 :] for i in range(len(one))}
    near |= {one[:i] + letter + one[i + 1 :] for i in range(len(one)) for letter in "ab"}
    near |= {one[:i] + one[i + 1] + one[i] + one[i + 2 :] for i in range(len(one) - 1)}
    assert (edit_distance(one, other) <= 1) == (one == other or other in near)


@pytest.mark.parametrize(
    ("known", "key", "found"),
    [
        (METADATA_KEYS, "verfiy", SuspectKey("verfiy", "verify")),
        (METADATA_KEYS, "veriyf_timeuot", SuspectKey("veriyf_timeuot", "verify_timeout")),
        (METADATA_KEYS, "pins", SuspectKey("pins", "pin", is_fault=False)),
        (METADATA_KEYS, "runs", SuspectKey("runs", "run", is_fault=False)),
        (METADATA_KEYS, "pat", None),
        (MANIFEST_KEYS, "repository", SuspectKey("repository", "repo", how="means what here is")),
        (MANIFEST_KEYS, "repo-url", SuspectKey("repo-url", "repo", how="means what here is")),
        (MANIFEST_KEYS, "x_repository", None),
        (TASK_KEYS, "repository", None),
        (METADATA_KEYS, "command", SuspectKey("command", "run", is_fault=False, how="means what here is")),
        (TASK_KEYS, "prompt", SuspectKey("prompt", "description", is_fault=False, how="means what here is")),
        (METADATA_KEYS, "paths", None),
        (METADATA_KEYS, "hold", None),
        (METADATA_KEYS, "holds", SuspectKey("holds", "hold")),
        (METADATA_KEYS, "budget", SuspectKey("budget", None)),
        (METADATA_KEYS, "x_verfiy", None),
        (METADATA_KEYS, "voyage", None),
        (METADATA_KEYS, "repo", None),
        (METADATA_KEYS, "model_name", None),
        (TASK_KEYS, "blocked_by", SuspectKey("blocked_by", "blockedBy")),
        (TASK_KEYS, "Subject", SuspectKey("Subject", "subject")),
        (TASK_KEYS, "priority", None),
        (MANIFEST_KEYS, "egress", SuspectKey("egress", None)),
        (MANIFEST_KEYS, "recomended_ships", SuspectKey("recomended_ships", "recommended_ships")),
        (MANIFEST_KEYS, "max_parallel_width", None),
        (MANIFEST_KEYS, "total_tasks", None),
    ],
)
def test_doubts(known, key, found):
    assert find_suspect_keys([key], known) == ([found] if found else [])


def plan(tmp_path, tasks, manifest=None):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "spec.md").write_text("spec")
    (tmp_path / "verify.sh").write_text("true")
    (tmp_path / "voyage.json").write_text(json.dumps(manifest or {}))
    for name, task in tasks.items():
        (tmp_path / f"tasks/{name}.json").write_text(json.dumps({"id": name, "subject": "s", **task}))
    return load_plan(tmp_path)


def test_what_is_found_names_file_field_and_remedy(tmp_path):
    report = plan(
        tmp_path,
        {"1": {"metadata": {"verfiy": "x", "budget": 3, "runs": "x"}}, "2": {"blocked_by": []}},
        {"models": []},
    )
    own = "A key of your own may begin with x_"
    assert [str(one) for one in report.faults] == [
        "voyage.json: models: is not enforced by this version; remove it",
        f"tasks/1.json: metadata.verfiy: is not a key, and is almost `verify`; did you mean `verify`? {own}",
        "tasks/1.json: metadata.budget: is not enforced by this version; remove it",
        f"tasks/2.json: blocked_by: is not a key, and is almost `blockedBy`; did you mean `blockedBy`? {own}",
    ]
    assert [one.field for one in report.warnings] == ["metadata.runs"]


@pytest.mark.parametrize("wish", ["ship-9", "ship-1-abc", 3, None, ["a"]])
def test_a_wish_for_a_ship_is_never_a_fault(tmp_path, wish):
    report = plan(tmp_path, {"1": {"metadata": {"ship": wish}}})
    assert report.plan
    assert not report.faults


@pytest.mark.parametrize(
    ("ids", "problem"),
    [
        (("a", "A"), "differs from the id of tasks/"),
        (("voyage-1",), "begins as a voyage or a ship does"),
        (("ship-1",), "begins as a voyage or a ship does"),
    ],
)
def test_ids_that_cannot_be_told_apart_are_faults(tmp_path, ids, problem):
    (fault,) = plan(tmp_path, {one: {} for one in ids}).faults
    assert problem in fault.problem
