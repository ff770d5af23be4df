"""What the documents say: their commands, their links, their options.

a document ──> blocks (indented or fenced) ──> a command, and the output that is shown below it
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.helpers import REPO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Which test runs which command; the words at its top say how it is read.
TABLE = REPO / "tests/documents.toml"
#: Made from the program itself; its examples are in ``test_help.py``.
GENERATED = {REPO / "docs/reference.md"}
#: How a line begins that is typed, where no ``$`` says so.
_WORDS = (
    "ocaptain",
    "make",
    "ansible",
    "uv",
    "pipx",
    "pip",
    "claude",
    "git",
    "bash",
    "sh",
    "export",
    "python",
    "npm",
    "molecule",
)
_TYPED = re.compile(rf"(?:{'|'.join(_WORDS)})(?:-[a-z]+)? ")
#: A word in brackets that is no text of a shell: a synopsis.
_SYNOPSIS = re.compile(r"\[-{1,2}\w|\[[A-Z]+\b|[A-Z]\]…")
_COMMENT = re.compile(r"\s{2,}#.*$")
_FENCE = re.compile(r"\s*```(\w*)")
_HEADING = re.compile(r"#+ (.*)")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
_SPAN = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")


@dataclass(frozen=True)
class Command:
    """A command as a document shows it.

    Attributes:
        line: what is typed, without comments; continued lines are joined.
        output: the lines that are shown below it, "" if none are.
        where: document and number of the line.
    """

    line: str
    output: str
    where: str


def documents() -> list[Path]:
    """Return every document that people read, but for the generated one."""
    found = [REPO / "README.md", REPO / "CONTRIBUTING.md", REPO / "docs/json/README.md"]
    found += [*(REPO / "docs").glob("*.md"), *(REPO / "examples").rglob("README.md")]
    return sorted(set(found) - GENERATED)


def commands() -> list[Command]:
    """Return the commands of all documents, in their order."""
    return [one for path in documents() for one in commands_of(path.read_text("utf-8"), str(path.relative_to(REPO)))]


def commands_of(text: str, name: str) -> list[Command]:
    """Return the commands of a document."""
    return [one for start, block in blocks(text) for one in _in_block(block, name, start)]


def blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each block of code without its indent, and the number of its first line."""
    block: list[str] = []
    start, indent, in_fence, was_blank = 0, 0, False, True
    for number, line in enumerate([*text.split("\n"), "end"], 1):
        inside = in_fence or (line.startswith(" " * max(indent, 4)) and (bool(block) or was_blank))
        if fence := _FENCE.match(line):
            if in_fence or block:
                yield start, block
            block, indent, in_fence, start = [], 0, not in_fence, number + 1
        elif inside and (line.strip() or in_fence):
            if not block:
                start = number
                # A list's own text is indented as well; a block in it by four more.
                indent = 0 if in_fence else len(line) - len(line.lstrip())
            block.append(line[indent:])
        elif block and not in_fence:
            if line.strip():
                yield start, block
                block, indent = [], 0
            else:
                block.append("")
        was_blank = not line.strip()
        assert fence or not in_fence or inside


def _in_block(block: list[str], name: str, start: int) -> Iterator[Command]:
    """Yield the commands of a block. After a line with ``$`` only such lines are typed, the others are output."""
    has_prompts = any(line.startswith("$ ") for line in block)
    at = 0
    while at < len(block):
        first, line = at, block[at]
        at += 1
        is_typed = line.startswith("$ ") if has_prompts else bool(_TYPED.match(line)) and not _SYNOPSIS.search(line)
        if not is_typed:
            continue
        typed = line.removeprefix("$ ")
        while typed.endswith("\\"):
            typed = f"{typed[:-1].rstrip()} {block[at].strip()}"
            at += 1
        output = []
        while has_prompts and at < len(block) and not block[at].startswith("$ "):
            output.append(block[at])
            at += 1
        yield Command(_COMMENT.sub("", typed), "\n".join(output).strip("\n"), f"{name}:{start + first}")


def outsideblocks(text: str) -> str:
    """Return a document's prose: blocks of code are empty lines."""
    lines = text.split("\n")
    for start, block in blocks(text):
        for number in range(start - 1, min(start - 1 + len(block), len(lines))):
            lines[number] = ""
    return "\n".join(lines)


def links_of(text: str) -> list[str]:
    """Return where the links and pictures of a document lead."""
    return [one or other for one, other in _LINK.findall(outsideblocks(text))]


def anchors_of(text: str) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = [found[1] for line in outsideblocks(text).split("\n") if (found := _HEADING.match(line))]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def spans_of(text: str) -> list[str]:
    """Return what stands between backticks in a document's prose."""
    return [" ".join(one.split()) for one in _SPAN.findall(outsideblocks(text))]


@dataclass(frozen=True)
class Row:
    """What becomes of a command.

    Attributes:
        line: the command, without the document's name that may stand before it in the table.
        document: the only document that it is about, "" for any.
        how: ``alone``, ``voyage``, ``elsewhere`` or ``never``.
        more: what the entry says beside.
    """

    line: str
    document: str
    how: str
    more: dict[str, object]


def table() -> list[Row]:
    """Return what becomes of each command, in the order of the table."""
    found = []
    for how, entries in tomllib.loads(TABLE.read_text("utf-8")).items():
        for entry in entries:
            more = {key: value for key, value in entry.items() if key != "commands"}
            for command in entry["commands"]:
                document, _, line = command.rpartition(".md: ")
                found.append(Row(line.strip(), f"{document}.md" if document else "", how, more))
    return found


def row_of(command: Command, rows: list[Row]) -> Row | None:
    """Return the row of a command: the one for its document, else the one for all."""
    alike = [row for row in rows if row.line == command.line]
    own = [row for row in alike if row.document == command.where.partition(":")[0]]
    return next(iter([*own, *[row for row in alike if not row.document]]), None)


def shown(row: Row) -> list[Command]:
    """Return where documents show a row's command with output."""
    rows = table()
    return [one for one in commands() if one.output and row_of(one, rows) == row]


def shape_of(text: str) -> list[str]:
    """Return the lines of an output with a word in the place of all that differs from run to run."""
    for pattern, word in _DIFFERS:
        text = pattern.sub(word, text)
    return [line.rstrip() for line in text.strip("\n").split("\n") if line.strip()]


_DIFFERS = [
    (re.compile(r"\b(voyage-)[0-9a-f]{12}\b"), r"\1ID"),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "CLOCK"),
    (re.compile(r"\b\d+:\d\d(?::\d\d)?\b"), "TIME"),
    (re.compile(r"\b\d+(?:\.\d+)? (?:s|ms|min)\b"), "TIME"),
    (re.compile(r"(?:/[\w.-]+)+/voyages\b|~/voyages\b"), "VOYAGES"),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{7,40}\b"), "COMMIT"),
    (re.compile(r"@[0-9a-f]{6}\b"), "@COMMIT"),
    (re.compile(r"127\.0\.0\.1:\d+"), "ADDRESS"),
]
