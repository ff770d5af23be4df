"""Packs that no honest ship sends, made byte by byte: git itself would not write most of them."""

from __future__ import annotations

import functools
import hashlib
import zlib

from ocaptain.protocol.limits import Limits

MEBIBYTE = 2**20
COMMIT, TREE, BLOB, TAG, OFS_DELTA, REF_DELTA = 1, 2, 3, 4, 6, 7
NAMES = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob", TAG: b"tag"}
FILE, FOLDER, LINK, SUBMODULE = b"100644", b"40000", b"120000", b"160000"
SOMEBODY = b"s <s@x> 1700000000 +0000"


def oid_of(kind, data):
    return hashlib.sha1(b"%s %d\0" % (NAMES[kind], len(data)) + data).hexdigest()


def _head(kind, size):
    byte, size = kind << 4 | size & 15, size >> 4
    out = bytearray()
    while size:
        out.append(byte | 128)
        byte, size = size & 127, size >> 7
    return bytes([*out, byte])


def varint(number):
    out = bytearray()
    while True:
        out.append(number & 127 | (128 if number > 127 else 0))
        number >>= 7
        if not number:
            return bytes(out)


def _back(distance):
    out = [distance & 127]
    while distance := distance >> 7:
        distance -= 1
        out.append(distance & 127 | 128)
    return bytes(reversed(out))


@functools.lru_cache(maxsize=32)
def _zeros(size, first):
    return zlib.compress(first + bytes(size - len(first)), 9 if not first else 1)


class Hold:
    """A pack in the making, for a repository that has ``base`` with the tree ``entries``, and has ``limits``."""

    def __init__(self, base, entries, limits=None):
        self.base, self.entries = base, list(entries)
        self.limits = limits or Limits()
        self.pack = bytearray()
        self.count = 0

    def add(self, kind, data, *, claims=None, packed=None, base=b""):
        """Add an object as it is; return where it begins."""
        at = 12 + len(self.pack)
        self.pack += _head(kind, len(data) if claims is None else claims) + base
        self.pack += packed or zlib.compress(data, 1)
        self.count += 1
        return at

    def blob(self, data):
        self.add(BLOB, data)
        return oid_of(BLOB, data)

    def zeros(self, size, first=b""):
        data = first + bytes(size - len(first))
        self.add(BLOB, b"", claims=size, packed=_zeros(size, first))
        return oid_of(BLOB, data)

    def tree(self, *entries, ordered=True):
        """Add a tree of (mode, name, id)."""
        entries = list(entries)
        if ordered:
            entries.sort(key=lambda one: one[1] + (b"/" if one[0] == FOLDER else b""))
        data = b"".join(b"%s %s\0%s" % (mode, name, bytes.fromhex(oid)) for mode, name, oid in entries)
        self.add(TREE, data)
        return oid_of(TREE, data)

    def delta(self, at, size, result, instructions):
        """Add a delta on the object at an offset."""
        data = varint(size) + varint(result) + instructions
        here = 12 + len(self.pack)
        return self.add(OFS_DELTA, data, base=_back(here - at))

    def ref_delta(self, oid, size, result, instructions):
        data = varint(size) + varint(result) + instructions
        return self.add(REF_DELTA, data, base=bytes.fromhex(oid))

    def commit(self, tree, parents=None, text=None, message=b"x"):
        lines = [b"parent " + one.encode() for one in ([self.base] if parents is None else parents)]
        head = [b"tree " + tree.encode(), *lines, b"author " + SOMEBODY, b"committer " + SOMEBODY, b"", message, b""]
        data = b"\n".join(head) if text is None else text
        self.add(COMMIT, data)
        return oid_of(COMMIT, data)

    def land(self, *entries, **more):
        """Add the base's files with these, and a commit of it; return the bundle."""
        return self.bundle(self.commit(self.tree(*self.entries, *entries, **more)))

    def bundle(self, commit, *, count=None, cut=0, after=b"", head=None, version=2, sum_=None):
        data = b"PACK" + version.to_bytes(4, "big") + (self.count if count is None else count).to_bytes(4, "big")
        data += self.pack
        data += hashlib.sha1(data).digest() if sum_ is None else sum_
        head = head or f"# v2 git bundle\n-{self.base} \n{commit} refs/ocaptain/out\n\n".encode()
        return commit, head + data[: len(data) - cut] + after


def _nested(hold, levels, name=b"d"):
    oid, mode = hold.blob(b"x"), FILE
    for _ in range(levels):
        oid, mode = hold.tree((mode, name, oid)), FOLDER
    return hold.land((FOLDER, b"deep", oid))


def _named(name, mode=FILE):
    def make(hold):
        oid = hold.blob(b"x")
        if mode == FOLDER:
            oid = hold.tree((FILE, b"config", oid))
        return hold.land((mode, name, oid))

    return make


def _three_gigabytes_of_deltas(hold):
    at = hold.add(BLOB, b"", claims=16 * MEBIBYTE, packed=_zeros(16 * MEBIBYTE, b""))
    piece = 2**24 - 1
    hold.delta(at, 16 * MEBIBYTE, 192 * piece, b"\xf0\xff\xff\xff" * 192)
    return hold.land((FILE, b"big", "1" * 40))


def _within_each_limit_but_all(hold):
    """Files of almost 50 MB, all of them deltas on one of 16 MB."""
    zeros = 16 * MEBIBYTE
    at = hold.add(BLOB, b"", claims=zeros, packed=_zeros(zeros, b""))
    piece, files = 2**24 - 1, []
    for number in range(hold.limits.total_mib // 48 + 1):
        sign = b"%02d" % number
        hold.delta(at, zeros, 3 * piece + 2, b"\x02" + sign + b"\xf0\xff\xff\xff" * 3)
        files.append((FILE, b"big" + sign, oid_of(BLOB, sign + bytes(3 * piece))))
    return hold.land(*files)


def _claims_three_gigabytes(hold):
    hold.add(BLOB, b"", claims=3 * 2**30, packed=_zeros(16 * MEBIBYTE, b""))
    return hold.land((FILE, b"big", "1" * 40))


def _claims_little(hold):
    hold.add(BLOB, b"", claims=10, packed=_zeros(45 * MEBIBYTE, b""))
    return hold.land((FILE, b"big", "1" * 40))


def _claims_more(hold):
    hold.add(BLOB, b"", claims=1000, packed=zlib.compress(b"x"))
    return hold.land((FILE, b"big", "1" * 40))


def _many_files(hold):
    oid = hold.blob(b"")
    return hold.land((FOLDER, b"m", hold.tree(*((FILE, b"%d" % n, oid) for n in range(5001)))))


def _tree_bomb(hold):
    oid, mode = hold.blob(b"x"), FILE
    for _ in range(10):
        oid, mode = hold.tree(*((mode, b"%d" % n, oid) for n in range(10))), FOLDER
    return hold.land((FOLDER, b"bomb", oid))


def _folder_bomb(hold):
    oid = hold.tree()
    for _ in range(10):
        oid = hold.tree(*((FOLDER, b"%d" % n, oid) for n in range(10)))
    return hold.land((FOLDER, b"bomb", oid))


def _chains_of_folders(hold):
    """Each of 4,000 files in 50 folders of its own, made of few objects."""
    oid = hold.tree((FILE, b"f", hold.blob(b"x")))
    for _ in range(50):
        oid = hold.tree((FOLDER, b"d", oid))
    return hold.land((FOLDER, b"m", hold.tree(*((FOLDER, b"%d" % n, oid) for n in range(4000)))))


def _one_file_twenty_times(hold):
    oid = hold.zeros(40 * MEBIBYTE)
    return hold.land(*((FILE, b"big%d" % n, oid) for n in range(20)))


def _large_files(hold):
    files = hold.limits.pack_bytes // (49 * MEBIBYTE) + 1
    return hold.land(*((FILE, b"big%02d" % n, hold.zeros(49 * MEBIBYTE, b"%02d" % n)) for n in range(files)))


def _large_file(hold):
    return hold.land((FILE, b"big", hold.zeros(60 * MEBIBYTE)))


def _long_chain(hold):
    data = bytes(range(256)) * 40
    at = hold.add(BLOB, data)
    for number in range(1000):
        data = data[:-2] + number.to_bytes(2, "big")
        size = len(data)
        copy = b"\xb0" + (size - 2).to_bytes(2, "little")
        at = hold.delta(at, size, size, copy + b"\x02" + data[-2:])
    return hold.land((FILE, b"chained", oid_of(BLOB, data)))


def _long_chain_of_names(hold):
    data = bytes(range(256)) * 40
    hold.add(BLOB, data)
    for number in range(1000):
        before, size = oid_of(BLOB, data), len(data)
        data = data[:-2] + number.to_bytes(2, "big")
        copy = b"\xb0" + (size - 2).to_bytes(2, "little")
        hold.ref_delta(before, size, size, copy + b"\x02" + data[-2:])
    return hold.land((FILE, b"chained", oid_of(BLOB, data)))


def _delta_on_itself(hold):
    hold.add(OFS_DELTA, varint(1) + varint(1) + b"\x01x", base=_back(0))
    return hold.land((FILE, b"f", "1" * 40))


def _delta_on_nothing(hold):
    hold.ref_delta("2" * 40, 1, 1, b"\x01x")
    return hold.land((FILE, b"f", "1" * 40))


def _delta_without_sizes(hold):
    at = hold.add(BLOB, b"x")
    hold.add(OFS_DELTA, b"\x80", base=_back(12 + len(hold.pack) - at))
    return hold.land((FILE, b"f", "1" * 40))


def _history_of_many_levels(hold):
    """The files are as they were; the agent's own commit before them is not."""
    oid, mode = hold.blob(b"x"), FILE
    for _ in range(3000):
        oid, mode = hold.tree((mode, b"d", oid)), FOLDER
    tree = hold.tree(*hold.entries, (FILE, b"f", hold.blob(b"f")))
    deep = hold.commit(oid)
    return hold.bundle(hold.commit(tree, [hold.base, deep]))


def _large_commit(hold):
    tree = hold.tree(*hold.entries, (FILE, b"f", hold.blob(b"x")))
    return hold.bundle(hold.commit(tree, message=b"x" * 2 * MEBIBYTE))


def _large_tree(hold):
    """A folder of 49 MB that is no folder's content, which a parser would read to its end."""
    data = b"100644 " + b"a" * 250 + b"\0" + bytes(20)
    data *= 49 * MEBIBYTE // len(data)
    hold.add(TREE, data)
    return hold.land((FOLDER, b"m", oid_of(TREE, data)))


def _tree_of_text(hold):
    hold.add(TREE, b"no tree at all")
    return hold.land((FOLDER, b"m", oid_of(TREE, b"no tree at all")))


def _twice(hold):
    blob = hold.blob(b"x")
    folder = hold.tree((FILE, b"x", blob))
    return hold.land((FILE, b"twice", blob), (FOLDER, b"twice", folder))


def _unsorted(hold):
    blob = hold.blob(b"x")
    return hold.bundle(hold.commit(hold.tree((FILE, b"z", blob), (FILE, b"a", blob), ordered=False)))


def _sound(hold):
    return hold.commit(hold.tree(*hold.entries, (FILE, b"f", hold.blob(b"x"))))


def _tag(hold):
    tree = hold.tree(*hold.entries, (FILE, b"f", hold.blob(b"x")))
    commit = hold.commit(tree)
    hold.add(TAG, b"object %s\ntype commit\ntag t\ntagger %s\n\nx\n" % (commit.encode(), SOMEBODY))
    return hold.bundle(commit)


def _unreachable(hold, levels=2000):
    """Beside a sound commit, folders that nothing leads to."""
    oid, mode = hold.blob(b"x"), FILE
    for _ in range(levels):
        oid, mode = hold.tree((mode, b"d", oid)), FOLDER
    return hold.land((FILE, b"f", hold.blob(b"f")))


EVIL_MODULES = b'[submodule "x"]\n\tpath = x\n\turl = --upload-pack=touch owned\n'
PACKS = {
    "a name of 300 bytes": _named(b"n" * 300),
    "3,000 levels": functools.partial(_nested, levels=3000),
    "101 levels": functools.partial(_nested, levels=100),
    "a path of 5,000 bytes": functools.partial(_nested, levels=20, name=b"p" * 250),
    "3 GB out of 15 KB": _three_gigabytes_of_deltas,
    "within each limit, but not all together": _within_each_limit_but_all,
    "claims 3 GB": _claims_three_gigabytes,
    "claims 10 bytes": _claims_little,
    "claims more than it has": _claims_more,
    "a file of 60 MB": _large_file,
    "more in all than there may be": _large_files,
    "one file of 40 MB at 20 paths": _one_file_twenty_times,
    "5,001 files": _many_files,
    "10 billion files": _tree_bomb,
    "10 billion folders": _folder_bomb,
    "200,000 folders": _chains_of_folders,
    ".git": _named(b".git", FOLDER),
    ".GIT": _named(b".GIT", FOLDER),
    ".git on HFS+": _named(".g\u200cit".encode(), FOLDER),
    ".git on NTFS": _named(b"GIT~1", FOLDER),
    ".git with a stream": _named(b".git::$INDEX_ALLOCATION", FOLDER),
    "..": _named(b"..", FOLDER),
    ".": _named(b".", FOLDER),
    "an empty name": _named(b""),
    "a name with a slash": _named(b"a/../../x"),
    "a file and a folder of one name": _twice,
    "a tree out of order": _unsorted,
    "a tree that is none": _tree_of_text,
    "a tree of 49 MB": _large_tree,
    "1,000 deltas one upon the other": _long_chain,
    "1,000 deltas by name": _long_chain_of_names,
    "a delta on itself": _delta_on_itself,
    "a delta on nothing": _delta_on_nothing,
    "a delta without sizes": _delta_without_sizes,
    "a missing file": lambda hold: hold.land((FILE, b"f", "1" * 40)),
    "a missing folder": lambda hold: hold.land((FOLDER, b"f", "1" * 40)),
    "a missing tree": lambda hold: hold.bundle(hold.commit("1" * 40)),
    "a missing parent": lambda hold: hold.bundle(
        hold.commit(hold.tree(*hold.entries, (FILE, b"f", hold.blob(b"x"))), ["1" * 40])
    ),
    "a commit of text": lambda hold: hold.bundle(hold.commit("", text=b"no commit at all\n")),
    "a file for a commit": lambda hold: hold.bundle(hold.blob(b"x")),
    "a commit of 2 MB": _large_commit,
    "a tag": _tag,
    "a submodule": lambda hold: hold.land((SUBMODULE, b"sub", "1" * 40)),
    "an odd mode": _named(b"f", b"100777"),
    "a device": _named(b"f", b"20666"),
    "a link to 5,000 bytes": lambda hold: hold.land((LINK, b"l", hold.blob(b"x" * 5000))),
    "a link to nothing": lambda hold: hold.land((LINK, b"l", hold.blob(b""))),
    ".gitmodules with an option": lambda hold: hold.land((FILE, b".gitmodules", hold.blob(EVIL_MODULES))),
    ".gitmodules as a link": lambda hold: hold.land((LINK, b".gitmodules", hold.blob(b"/etc/passwd"))),
    "a history of 3,000 levels": _history_of_many_levels,
    "2,000 levels beside it": _unreachable,
    "cut": lambda hold: hold.bundle(_sound(hold), cut=30),
    "bytes after its end": lambda hold: hold.bundle(_sound(hold), after=b"x" * 100),
    "another sum": lambda hold: hold.bundle(_sound(hold), sum_=bytes(20)),
    "4 billion objects": lambda hold: hold.bundle(_sound(hold), count=2**32 - 1),
    "fewer objects than it says": lambda hold: hold.bundle(_sound(hold), count=50),
    "another version": lambda hold: hold.bundle(_sound(hold), version=9),
    "no bundle": lambda hold: hold.bundle(_sound(hold), head=b"no bundle\n"),
    "two tips": lambda hold: hold.bundle(
        commit := _sound(hold), head=f"# v2 git bundle\n{commit} a\n{hold.base} b\n\n".encode()
    ),
    "a header without an end": lambda hold: hold.bundle(_sound(hold), head=b"# v2 git bundle\n" + b"@x\n" * 10000),
}
