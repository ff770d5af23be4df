"""Let ``merge=union`` and ``-merge`` of a repository's .gitattributes decide its merges, and nothing else of them.

``git merge-tree`` in a bare repository reads no .gitattributes, but ``info/attributes``. That file is written
before each merge, from the .gitattributes of the head. The text comes from ships and is hostile: only git's built-in
ways to merge are passed on. A named driver would be a command, so its name is never written.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ocaptain.git.run import GitError
from ocaptain.protocol.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ocaptain.git.run import Git

FILE = b".gitattributes"
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
MAX_FILES = 200
MAX_BYTES = 256 * 1024  # of all .gitattributes; more are not heeded, and the merge is git's normal one
MAX_LINE = 2048  # git's own limit (attr.h)
_MACRO = b"[attr]"
_BLANK = b" \t\r\n"
_NAME = re.compile(rb"[A-Za-z0-9_.][A-Za-z0-9_.-]*")
_ESCAPES = {b"a": 7, b"b": 8, b"f": 12, b"n": 10, b"r": 13, b"t": 9, b"v": 11, b"\\": 92, b'"': 34}
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(rb"\\([0-3][0-7]{2}|.)", re.DOTALL)


def write_merge_attributes(git: Git, head: str) -> None:
    """Write ``info/attributes`` of a bare repository from the .gitattributes files of a commit.

    Raises:
        GitError: they cannot be read, or the file cannot be written.
    """
    text = merge_attributes(_read_files(git, head))
    path = git.directory / "info" / "attributes"
    try:
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, text, durable=False)
    except OSError as error:
        raise GitError(f"{path}: it cannot be written: {error.strerror}") from error


def _read_files(git: Git, head: str) -> dict[bytes, bytes]:
    """Return the .gitattributes files of a commit by their folders (``b""`` is the top), within limits."""
    listed = git.run(
        *("diff-tree", "-r", "-z", "--no-renames", "--raw", EMPTY_TREE, head, "--", ":(top,glob)**/.gitattributes")
    ).stdout.split(b"\0")
    blobs = {
        name[: -len(FILE)].rstrip(b"/"): about.split()[3].decode()
        for about, name in zip(listed[::2], listed[1::2], strict=False)
        if about.split()[1] in {b"100644", b"100755"}
    }
    folders = sorted(blobs, key=_depth)[:MAX_FILES]
    sizes = git.text("cat-file", "--batch-check=%(objectsize)", stdin=_lines(blobs[one] for one in folders)).split()
    while sum(map(int, sizes)) > MAX_BYTES:
        del sizes[-1], folders[-1]
    rest = git.run("cat-file", "--batch", stdin=_lines(blobs[one] for one in folders)).stdout
    found = {}
    for folder, size in zip(folders, sizes, strict=True):
        start = rest.index(b"\n") + 1
        found[folder], rest = rest[start : start + int(size)], rest[start + int(size) + 1 :]
    return found


def _depth(folder: bytes) -> tuple[int, bytes]:
    return folder.count(b"/") + bool(folder), folder


def _lines(words: Iterable[str]) -> bytes:
    return "".join(f"{word}\n" for word in words).encode()


def merge_attributes(files: Mapping[bytes, bytes]) -> bytes:
    """Return the lines for ``info/attributes`` that decide merges as .gitattributes files do.

    Args:
        files: the files' contents by their folders (``b""`` is the top).
    """
    ordered = sorted(files, key=_depth)  # deeper ones override
    lines = {folder: list(_parse(files[folder])) for folder in ordered}
    macros = _merge_macros([(name, words) for is_macro, name, words in lines.get(b"", ()) if is_macro])
    written: list[bytes] = []
    for folder in ordered:
        for is_macro, name, words in lines[folder]:
            kept = [word for word in map(_merge_word, words) if word.lstrip(b"-!").partition(b"=")[0] in macros]
            if is_macro and not folder and name in macros:  # git takes macros from the top alone
                written.append(b" ".join([_MACRO + name, *kept]))
            elif not is_macro and kept and (pattern := _from_top(folder, name)):
                written.append(b" ".join([_quote(pattern), *kept]))
    return b"".join(line + b"\n" for line in written)


def _parse(text: bytes) -> Iterator[tuple[bool, bytes, list[bytes]]]:
    """Yield the lines of a .gitattributes file: whether one defines a macro, its name or pattern, its attributes."""
    for line in text.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        stripped = line.lstrip(_BLANK)
        if not stripped or stripped.startswith(b"#") or len(line) >= MAX_LINE or b"\0" in line:
            continue
        quoted = _QUOTED.match(stripped)
        if quoted and (pattern := _unquote(quoted[1])) is not None:
            rest = stripped[quoted.end() :]
        else:
            pattern, rest = re.split(rb"[ \t\r]+|$", stripped, maxsplit=1)
        words = [_without_value(word) for word in re.split(rb"[ \t\r]+", rest) if word]
        if not all(map(_is_attribute, words)):
            continue  # git takes nothing of such a line
        if pattern.startswith(_MACRO) and pattern != _MACRO:
            name = pattern[len(_MACRO) :].lstrip(_BLANK)
            if _NAME.fullmatch(name):
                yield True, name, words
        elif not pattern.startswith(b"!"):  # which git forbids
            yield False, pattern, words


def _without_value(word: bytes) -> bytes:
    """Return an attribute without the value that git does not heed: ``-x=1`` is ``-x``."""
    return word.partition(b"=")[0] if word[:1] in {b"-", b"!"} else word


def _is_attribute(word: bytes) -> bool:
    name = word[1:] if word[:1] in {b"-", b"!"} else word.partition(b"=")[0]
    return bool(_NAME.fullmatch(name))


def _merge_word(word: bytes) -> bytes:
    """Return an attribute as it may be passed on: of ``merge``, only what git has built in."""
    if word == b"merge=binary":
        return b"-merge"
    if word.partition(b"=")[0] == b"merge" and word != b"merge=union":
        return b"!merge"  # text, or a named driver, which is never run: git's normal way
    name, has_value, _ = word.partition(b"=")
    return b"-" + name if has_value and word != b"merge=union" else word  # a macro with a value is not expanded


def _merge_macros(defined: Sequence[tuple[bytes, Sequence[bytes]]]) -> frozenset[bytes]:
    """Return ``merge`` and the names of all macros that set it, directly or by other macros."""
    found = {b"merge", b"binary"}
    for _ in defined:
        more = {name for name, words in defined if found & {word.lstrip(b"-!").partition(b"=")[0] for word in words}}
        if more <= found:
            break
        found |= more
    return frozenset(found)


def _from_top(folder: bytes, pattern: bytes) -> bytes | None:
    """Return a pattern of a folder's file as a pattern of the top; None if it can match no file."""
    if pattern.endswith(b"/"):
        return None
    if not folder:
        return pattern
    prefix = re.sub(rb"([\\*?\[])", rb"\\\1", folder)
    if b"/" in pattern:
        return prefix + b"/" + pattern.lstrip(b"/")
    return prefix + b"/**/" + pattern


def _quote(pattern: bytes) -> bytes:
    """Return a pattern in quotes, as git reads it in any case."""
    return b'"' + b"".join(_quoted_bytes(pattern)) + b'"'


def _quoted_bytes(pattern: bytes) -> Iterable[bytes]:
    for byte in pattern:
        plain = 32 <= byte < 127 and byte not in b'"\\'
        yield bytes([byte]) if plain else b"\\%03o" % byte


def _unquote(text: bytes) -> bytes | None:
    """Return what a text in quotes means to git (quote.c), None if git does not take it for quoted."""
    for found in _ESCAPED.finditer(text):
        if len(found[1]) == 1 and found[1] not in _ESCAPES:
            return None
    return _ESCAPED.sub(lambda found: bytes([_ESCAPES[found[1]] if len(found[1]) == 1 else int(found[1], 8)]), text)
