"""``doctor``: check whether a voyage could sail from this machine, and print what to fix if not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from ocaptain.cli import render
from ocaptain.cli.next_step import after_command
from ocaptain.cli.style import BAD, BUSY, GOOD, HEAD
from ocaptain.cli.tables import GAP, paragraph
from ocaptain.voyage.doctor import run_checks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocaptain.voyage.doctor import Finding

STATUS_LABELS = {"ok": ("✓ ok", GOOD), "warning": ("! warn", BUSY), "fault": ("✗ FAULT", BAD)}
_LABEL_WIDTH = max(len(label) for label, _ in STATUS_LABELS.values())


def run_doctor(provider: str | None, *, as_json: bool) -> int:
    """Run all checks and print their results; return the exit code: 1 if `sail` would fail."""
    findings = run_checks(provider)
    ok = all(finding.status != "fault" for finding in findings)
    if as_json:
        render.print_json("doctor", {"ok": ok, "checks": [finding.as_dict() for finding in findings]})
        return 0 if ok else 1
    console = render.out()
    if console.is_piped:
        render.print_records((_word(one), one.name, one.detail, one.remedy) for one in findings)
    else:
        render.print_lines(console, doctor_lines(findings, console.width))
    render.print_next(after_command("doctor", ok=ok))
    return 0 if ok else 1


def _word(finding: Finding) -> str:
    return STATUS_LABELS[finding.status][0].split()[-1]


def doctor_lines(findings: Sequence[Finding], width: int) -> list[Text]:
    """Return the findings for a terminal, then whether a voyage can sail or what to mend."""
    names = max((len(one.name) for one in findings), default=0)
    before = _LABEL_WIDTH + names + 2 * GAP
    lines = []
    for one in findings:
        label, style = STATUS_LABELS[one.status]
        lead = Text.assemble((label.ljust(_LABEL_WIDTH), style), " " * GAP, one.name.ljust(names), " " * GAP)
        lines += paragraph(lead, one.detail, width)
        if one.remedy:
            lines += paragraph(Text(f"{' ' * before}→ "), one.remedy, width, style=HEAD)
    return [*lines, *verdict_lines(findings, width)]


def verdict_lines(findings: Sequence[Finding], width: int) -> list[Text]:
    """Return the last line: ready, or what to mend."""
    faults = [one.name for one in findings if one.status == "fault"]
    warnings = [one.name for one in findings if one.status == "warning"]
    if faults:
        return paragraph(Text("not ready: ", style=BAD), f"mend {', '.join(faults)}", width)
    less = f", with less than it could have: see {', '.join(warnings)}" if warnings else ""
    return paragraph(Text("ready: ", style=GOOD), f"a voyage can sail from here{less}", width)
