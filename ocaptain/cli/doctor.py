"""``doctor``: check whether a voyage could sail from this machine, and print what to fix if not."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from ocaptain.cli import render
from ocaptain.cli.next_step import after_command
from ocaptain.text import clean_line
from ocaptain.voyage.doctor import run_checks

STATUS_LABELS = {"ok": ("ok", "green"), "warning": ("warn", "yellow"), "fault": ("FAULT", "red")}


def run_doctor(provider: str | None, *, as_json: bool) -> int:
    """Run all checks and print their results; return the exit code: 1 if `sail` would fail."""
    findings = run_checks(provider)
    ok = all(finding.status != "fault" for finding in findings)
    if as_json:
        render.print_json("doctor", {"ok": ok, "checks": [finding.as_dict() for finding in findings]})
        return 0 if ok else 1
    console = render.out()
    separator = "  " if console.is_plain else "\n"
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        label, style = STATUS_LABELS[finding.status]
        detail = Text(clean_line(finding.detail))
        if finding.remedy:
            detail.append(f"{separator}→ {clean_line(finding.remedy)}", style="bold")
        table.add_row(Text(label, style=style), finding.name, detail)
    console.show(table)
    render.print_next(after_command("doctor", ok=ok))
    return 0 if ok else 1
