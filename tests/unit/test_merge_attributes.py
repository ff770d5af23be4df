"""A repository's .gitattributes decide its merges by git's built-in ways, and by nothing else."""

from __future__ import annotations

import subprocess

import pytest

from ocaptain.git import Conflict, Git, Merged, merge
from ocaptain.git.attributes import MAX_BYTES, merge_attributes
from tests.unit.test_workspace import commit

OURS, THEIRS = "top\nours\n", "top\ntheirs\n"


@pytest.fixture
def git(tmp_path):
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "repo.git"], check=True)
    return Git(tmp_path / "repo.git")


def merged(git, attributes, path):
    """Merge two additions at the same place of ``path``; return the content, None for a conflict."""
    base = commit(git, {**attributes, path: "top\n"})
    head = commit(git, {**attributes, path: OURS}, base)
    theirs = commit(git, {**attributes, path: THEIRS}, base)
    found = merge(git, head, theirs)
    if isinstance(found, Conflict):
        return None
    assert isinstance(found, Merged)
    return git.run("cat-file", "blob", f"{found.tree}:{path}").stdout.decode()


UNION = "top\nours\ntheirs\n"


@pytest.mark.parametrize(
    ("folder", "text", "path"),
    [
        ("", "CHANGELOG.md merge=union", "CHANGELOG.md"),
        ("", "CHANGELOG.md merge=union", "deep/below/CHANGELOG.md"),
        ("", "*.md text merge=union eol=lf\r", "a.md"),
        ("", "/docs/*.md merge=union", "docs/a.md"),
        ("", "docs/** merge=union", "docs/x/y"),
        ("", '"a file.md" merge=union', "a file.md"),
        ("", '"caf\\303\\251.md" merge=union', "café.md"),
        ("", "[attr]log merge=union\n*.md log", "a.md"),
        ("", "[attr]one two\n[attr]two merge=union\n*.md one", "a.md"),
        ("", "*.md merge=other\n*.md merge=union", "a.md"),
        ("", "[attr]log merge=union\n*.md -merge log", "a.md"),
        ("docs/", "*.md merge=union", "docs/a.md"),
        ("docs/", "*.md merge=union", "docs/x/a.md"),
        ("docs/", "/a.md merge=union", "docs/a.md"),
        ("docs/", "x/*.md merge=union", "docs/x/a.md"),
        ("do[c]s *?/", "*.md merge=union", "do[c]s *?/a.md"),
        ('quo"te\\/', "*.md merge=union", 'quo"te\\/a.md'),
    ],
)
def test_union_is_honoured_where_git_would(git, folder, text, path):
    assert merged(git, {f"{folder}.gitattributes": text + "\n"}, path) == UNION


@pytest.mark.parametrize(
    ("folder", "text", "path"),
    [
        ("", "*.md merge=union\na.md merge", "a.md"),
        ("", "*.md merge=union\na.md !merge", "a.md"),
        ("", "*.md merge=union\na.md -merge", "a.md"),
        ("", "*.md merge=union\na.md merge=binary", "a.md"),
        ("", "*.md merge=union\na.md binary", "a.md"),
        ("", "*.md merge=union\na.md merge=evil", "a.md"),
        ("", "[attr]log merge=union\n*.md log\na.md -log", "a.md"),
        ("", "[attr]log merge=union\n*.md log=yes", "a.md"),
        ("", "!*.md merge=union", "a.md"),
        ("", "#*.md merge=union", "a.md"),
        ("", "docs/ merge=union", "docs/a.md"),
        ("docs/", "*.md merge=union", "a.md"),
        ("docs/", "*.md merge=union", "other/docs/a.md"),
        ("docs/", "/a.md merge=union", "docs/x/a.md"),
        ("d?cs/", "*.md merge=union", "docs/a.md"),
        ("docs/", "[attr]log merge=union\n*.md log", "docs/a.md"),
    ],
)
def test_what_does_not_ask_for_union_conflicts(git, folder, text, path):
    assert merged(git, {f"{folder}.gitattributes": text + "\n"}, path) is None


def test_a_deeper_file_overrides_and_an_unmergeable_one_conflicts_without_markers(git):
    files = {".gitattributes": "*.md merge=union\n*.bin -merge\n", "docs/.gitattributes": "a.md !merge\n"}
    assert merged(git, files, "docs/a.md") is None
    assert merged(git, files, "docs/b.md") == UNION
    base = commit(git, {**files, "x.bin": "1\n2\n3\n4\n5\n"})
    head, theirs = (commit(git, {**files, "x.bin": text}, base) for text in ("0\n2\n3\n4\n5\n", "1\n2\n3\n4\n6\n"))
    assert merge(git, head, theirs) == Conflict(("x.bin",))


def test_no_command_is_chosen_by_a_ships_text(git, tmp_path):
    """Not even if a driver of that name were configured."""
    git.run("config", "merge.evil.driver", f"touch {tmp_path / 'owned'}")
    (git.directory / "info").mkdir(exist_ok=True)
    (git.directory / "info/attributes").write_text("* merge=evil\n")
    text = "*.md merge=evil\n[attr]x merge=evil\n* x\n*.md merge=union filter=evil diff=evil\nb.md merge=evil\n"
    assert merged(git, {".gitattributes": text}, "a.md") == UNION
    assert merged(git, {".gitattributes": text}, "b.md") is None
    assert merged(git, {".gitattributes": '"a" merge=evil\n'}, "a") is None
    assert not (tmp_path / "owned").exists()
    assert b"evil" not in merge_attributes({b"": text.encode(), b"d": b"* merge=evil\n"})


def test_attributes_without_end_are_not_heeded(git):
    text = "*.md merge=union\n" + "#" * MAX_BYTES + "\n"
    assert merged(git, {".gitattributes": text}, "a.md") is None
    assert merged(git, {".gitattributes": "*.md merge=union\n", "d/.gitattributes": text}, "a.md") == UNION


@pytest.mark.parametrize(
    "text",
    [
        b"* -merge=x",  # git heeds no value here
        b"* -merge\n* merge=union b@d",  # nor a line with an odd name
        b"* -merge\n* merge=union -",
        b"[attr] x merge=union\n* x",  # a pattern, not a macro
        b"[attr]binary\n* -merge binary",
        b"[attr]x text\n* merge=union x",
        b"\xef\xbb\xbf* merge=union\r\n",
        b"*.md -merge\r\n\xef\xbb\xbf* merge=union\r\n",
    ],
)
def test_odd_lines_mean_what_they_mean_to_git(git, tmp_path, text):
    subprocess.run(["git", "init", "-q", tmp_path / "tree"], check=True)
    (tmp_path / "tree/.gitattributes").write_bytes(text)
    (git.directory / "info").mkdir(exist_ok=True)
    (git.directory / "info/attributes").write_bytes(merge_attributes({b"": text}))
    asked = ("check-attr", "merge", "--", "a.md", "a", "t")
    there = subprocess.run(["git", *asked], cwd=tmp_path / "tree", check=True, capture_output=True, timeout=240)
    assert git.run(*asked).stdout == there.stdout


@pytest.mark.parametrize(
    "text", [b'"a merge=union', b"\xff\xfe merge=union", b"\0 merge=union", b"[attr]", b"[attr] x y"]
)
def test_odd_lines_break_no_merge(git, text):
    (git.directory / "info").mkdir(exist_ok=True)
    (git.directory / "info/attributes").write_bytes(merge_attributes({b"": text, b"d": text}))
    done = git.run("check-attr", "merge", "--", "a")
    assert (done.stderr, b"merge" in done.stdout) == (b"", True)
