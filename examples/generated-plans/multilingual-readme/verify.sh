#!/usr/bin/env bash
# Proves the merged work: all translations, the index, and that README is what it was.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1

test -f README || { echo "missing: README (sail with --repo, or leave the plan's repo as it is)"; exit 1; }
# What lands is a commit that names its task.
changed=$(git log --format=%h --grep='^Task: ' -- README)
test -z "$changed" || { echo "README was changed by $changed"; exit 1; }
echo "README: as it was"

python3 - <<'PYTHON'
import re
import sys
from pathlib import Path

GREETINGS = {
    "ar": "مرحبا بالعالم!",
    "de": "Hallo Welt!",
    "es": "¡Hola, mundo!",
    "fr": "Bonjour tout le monde !",
    "ja": "こんにちは、世界！",
    "pt-BR": "Olá, mundo!",
}
SCRIPTS = {"ar": r"[\u0600-\u06ff]", "ja": r"[\u3040-\u30ff]"}
CLONE = "```\ngit clone https://github.com/octocat/Hello-World.git\n```"
LINKS = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")

faults = []


def read(name):
    try:
        return Path(name).read_bytes().decode("utf-8")
    except FileNotFoundError:
        faults.append(f"missing: {name}")
    except UnicodeDecodeError:
        faults.append(f"{name}: is not UTF-8")
    return ""


paragraphs = {}
for tag, greeting in GREETINGS.items():
    name = f"README.{tag}.md"
    text = read(name)
    if not text:
        continue
    parts = text.strip().split("\n\n")
    if len(parts) != 5:
        faults.append(f"{name}: has {len(parts)} parts, not 5")
        continue
    title, paragraph, heading, code, links = parts
    paragraphs[tag] = paragraph
    for what, good in (
        ("its first line is not the greeting", title == f"# {greeting}"),
        ("its paragraph is too short", len(paragraph) >= 40 or tag == "ja" and len(paragraph) >= 20),
        ("its paragraph is in the wrong script", len(re.findall(SCRIPTS.get(tag, "[A-Za-z]"), paragraph)) >= 15),
        ("its heading is English or missing", heading.startswith("## ") and heading != "## Get a copy"),
        ("its code block is not the one of the specification", code == CLONE),
        ("its links lead elsewhere", [to for _, to in LINKS.findall(links)] == ["README", "LANGUAGES.md"]),
        ("it does not end with one line feed", text.endswith(")\n")),
        ("it has a byte order mark", not text.startswith("\ufeff")),
    ):
        if not good:
            faults.append(f"{name}: {what}")
if len(set(paragraphs.values())) < len(paragraphs):
    faults.append("two translations have the same paragraph")

index = read("LANGUAGES.md")
if index:
    if not index.startswith("# Languages\n"):
        faults.append("LANGUAGES.md: does not begin with # Languages")
    targets = [to for _, to in LINKS.findall(index)]
    if targets != ["README", *(f"README.{tag}.md" for tag in GREETINGS)]:
        faults.append(f"LANGUAGES.md: links to {targets}")
    faults += [f"LANGUAGES.md: {to} is not there" for to in targets if not Path(to).is_file()]
    faults += [f"LANGUAGES.md: lacks the greeting {one}" for one in GREETINGS.values() if one not in index]

print("\n".join(faults) or f"translations: {len(GREETINGS)}, each whole; LANGUAGES.md leads to all of them")
sys.exit(bool(faults))
PYTHON
