"""What ships say of agents' other commits is hostile: only what their bundle brought is saved, under our names."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import shutil
from functools import partial

import pytest

from ocaptain.captain.landing import Owner, save_other_work
from ocaptain.captain.refs import other_ref
from ocaptain.git import Git, write_bundle
from ocaptain.protocol import MAX_PARTS
from ocaptain.protocol.codec import Malformed, from_dict, to_dict
from ocaptain.protocol.limits import MAX_OTHER_TIPS
from ocaptain.protocol.messages import Bundle, OtherTip, OtherWork, Part
from tests.unit.test_landing import Sea
from tests.unit.test_workspace import commit


@pytest.fixture
def sea(tmp_path):
    here = Sea(tmp_path)
    shutil.copytree(here.git.directory, tmp_path / "ship.git")
    here.there = Git(tmp_path / "ship.git")
    yield here
    here.ledger.close()


def offer(sea, tips, left_out=(), tree=None):
    """Return what a ship offers of commits that are in its own repository, small enough to come in the message."""
    parents = [word for one in tips for word in ("-p", one.commit)]
    oid = sea.there.text("commit-tree", tree or f"{sea.base}^{{tree}}", *parents, "-m", "other")
    path = sea.there.directory / "bundle"
    write_bundle(sea.there, oid, "refs/ocaptain/out", sea.base, path)
    data = path.read_bytes()
    part = Part(".ocaptain/out/attempt-1-other.0", len(data), hashlib.sha256(data).hexdigest())
    bundle = Bundle((part,), "refs/ocaptain/out", base64.b64encode(data).decode())
    return OtherWork(sea.base, oid, bundle, tuple(tips), tuple(left_out))


def save(sea, work):
    """Save it for the first attempt at task 1; return the refs."""
    row = sea.ledger.attempt_row(1)
    claim = sea.ledger.claim("ship-0") if row is None else None
    owner = Owner("ship-0", 1, "1")
    assert claim is None or (claim.token, claim.task) == (1, "1")
    return asyncio.run(save_other_work(sea.git, sea.lander, sea.ledger, None, work, owner, partial(other_ref, "1", 1)))


def events(sea, kind):
    return [one["text"] for one in sea.ledger.events_after(0) if one["kind"] == kind]


def test_commits_are_saved_once_under_our_names(sea):
    tips = [
        OtherTip(f"refs/heads/x{n}\x1b[2J", commit(sea.there, {"a.txt": str(n)}, sea.base), 5, is_work=True)
        for n in range(3)
    ]
    refs = save(sea, offer(sea, tips))
    assert refs == [f"refs/ocaptain/tasks/1/1/other/{k}" for k in (1, 2, 3)]
    assert [sea.git.resolve(ref) for ref in refs] == [tip.commit for tip in tips]
    rows = sea.ledger.rows("saved_refs", "ref")
    assert [(row["name"], row["bytes"], row["token"]) for row in rows] == [
        (f"refs/heads/x{n}\\x1b[2J", 5, 1) for n in range(3)
    ]
    assert "\x1b" not in events(sea, "saved")[0]
    assert save(sea, offer(sea, tips)) == [], "they are here"


def test_a_commit_that_the_bundle_did_not_bring_is_not_named(sea):
    mine = commit(sea.there, {"a.txt": "mine"}, sea.base)
    work = offer(sea, [OtherTip("mine", mine, 1)])
    secret = commit(sea.git, {"secret": "x"}, sea.base)  # of the captain's own repository
    tips = (OtherTip("secret", secret, 1), *work.tips, OtherTip("none", "1" * 40, 1))
    refs = save(sea, OtherWork(work.base, work.commit, work.bundle, tips))
    assert [sea.git.resolve(ref) for ref in refs] == [mine]


def test_what_is_no_bundle_costs_the_files_nothing(sea):
    tip = OtherTip("x", commit(sea.there, {"a.txt": "x"}, sea.base), 1)
    good = offer(sea, [tip])
    (part,) = good.bundle.parts
    data = base64.b64decode(good.bundle.data)[:-9]
    cut = Part(part.path, len(data), hashlib.sha256(data).hexdigest())
    bundle = Bundle((cut,), "r", base64.b64encode(data).decode())
    assert save(sea, OtherWork(good.base, good.commit, bundle, good.tips, ("y: \x07 too large",))) == []
    assert sea.git.refs("refs/ocaptain") == {}
    (told,) = events(sea, "left out")
    assert told.startswith("commits that are not in the files could not all be saved: y: \\x07 too large; all of it: ")


def test_tips_without_a_bundle_are_the_ships_fault_not_ours(sea):
    for oid in ("1" * 40, sea.base):
        assert save(sea, OtherWork(oid, oid, tips=(OtherTip("x", "2" * 40, 1),))) == []
        assert "without a bundle" in events(sea, "left out")[-1]


def test_its_files_are_judged_like_any_offer(sea):
    """The commit that joins the tips is fetched as an offer is: its own tree may hold no surprise."""
    tip = OtherTip("x", commit(sea.there, {"a.txt": "x"}, sea.base), 1)
    tree = sea.there.text("mktree", stdin=f"160000 commit {sea.base}\tsub\n".encode())
    assert save(sea, offer(sea, [tip], tree=tree)) == []
    assert "submodule" in events(sea, "left out")[0]


def test_more_than_the_limit_is_no_message(sea):
    tips = [OtherTip("x", "1" * 40, 1)] * (MAX_OTHER_TIPS + 1)
    with pytest.raises(Malformed):
        from_dict(OtherWork, to_dict(OtherWork(sea.base, sea.base, tips=tuple(tips))))
    parts = (Part(".ocaptain/out/x.0", 1, "0" * 64),) * (MAX_PARTS + 1)
    with pytest.raises(Malformed):
        OtherWork(sea.base, sea.base, Bundle(parts))
