"""docs/security.md: each row's test exists, and each attempt on the network has its word there."""

from __future__ import annotations

import re

from tests.drydock.ways_out import ATTEMPTS
from tests.helpers import REPO

PAGE = (REPO / "docs/security.md").read_text("utf-8")


def test_the_named_tests_exist():
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    sources = "".join(path.read_text("utf-8") for path in (REPO / "tests").rglob("test_*.py"))
    assert {name for name in named if f"def {name}(" not in sources} == set()
    assert len(named) >= 7


def test_the_named_attempts_and_files_exist():
    attempts = set(re.findall(r"`((?:its|an|any) [^`]+)`", PAGE))
    assert attempts <= ATTEMPTS.keys()
    assert len(attempts) >= 7
    assert [name for name in re.findall(r"`(tests/[\w/.]+)`", PAGE) if not (REPO / name).exists()] == []
