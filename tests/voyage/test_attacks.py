"""What a voyage depends on breaks for good: each command ends by itself, and says what to do."""

from __future__ import annotations

import subprocess
import threading
from http.server import ThreadingHTTPServer

import pytest

from ocaptain.captain import rescue
from ocaptain.config import load_settings
from ocaptain.git import Git
from ocaptain.voyage.home import VoyageDirectory
from ocaptain.voyage.rescue import begin_sink
from tests.helpers import HELD, run_task, wait_for
from tests.voyage.test_private import GitServer, url

pytestmark = pytest.mark.root


@pytest.fixture
def dying(tmp_path):
    """A server that answers what it has, and breaks off in the middle of the pack; returns the repository's URL."""
    source = tmp_path / "served/source.git"
    source.parent.mkdir()
    Git(tmp_path).run("init", "-q", "--bare", str(source))
    git = Git(source)
    blob = git.text("hash-object", "-w", "--stdin", stdin=bytes(range(256)) * 400)
    tree = git.text("mktree", stdin=f"100644 blob {blob}\tfile\n".encode())
    git.update_ref("refs/heads/main", git.text("commit-tree", tree, "-m", "x"))
    git.run("symbolic-ref", "HEAD", "refs/heads/main")

    class Dying(GitServer):
        root, asked = tmp_path / "served", []

        def is_allowed(self, _given):
            return True

        def send_content(self, content):
            self.wfile.write(content[: len(content) // 2] if b"PACK" in content else content)
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Dying)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"{url(server)}/source.git"
    server.shutdown()
    server.server_close()


def test_a_source_that_dies_in_the_middle_of_its_clone(lone, plan, dying):
    done = lone.run("sail", plan([run_task("true")]), "--repo", dying, "-n", "1")
    assert done.code == 1, (done.out, done.err)
    assert f"the clone of {dying} broke off: " in done.err
    assert "early EOF" in done.err
    assert done.err.endswith("; nothing was created: try again\n")
    assert lone.sprites() == 0
    assert {one.name for one in lone.voyages.iterdir()} <= {".lock"}
    assert not list(lone.home.rglob("*.pack"))


def test_a_full_disk_of_the_users_keeps_the_ships_until_there_is_room(lone, plan, tmp_path):
    """SQLite says no more than an error of the disk's; a captain that lives would have waited (the kill matrix)."""
    disk = tmp_path / "voyages"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "full", disk], check=True)
    lone.env["OCAPTAIN_HOME"], lone.voyages = str(disk), disk
    ended = threading.Event()

    def fill():
        with (disk / "filler").open("wb", buffering=0) as file:
            while not ended.wait(0.02):
                try:
                    while file.write(bytes(1024)):
                        pass
                except OSError:
                    continue

    filler = threading.Thread(target=fill)
    try:
        voyage = lone.json("sail", plan([run_task(f"echo wip > wip; echo there; {HELD}")]), "-n", "1", "--json")[
            "voyage"
        ]
        wait_for(lambda: "there" in lone.run("logs", voyage).out)
        filler.start()
        for more in ((), ("--abandon",)):
            done = lone.run("sink", voyage, "--force", *more)
            assert done.code == 1, (done.out, done.err)
            assert "its disk is full: free some space, then try again" in done.err
            assert lone.sprites() == 1
        ended.set()
        filler.join()
        (disk / "filler").unlink()
        sunk = lone.json("sink", voyage, "--force", "--json")
        assert (sunk["left"], len(sunk["rescued"])) == ([], 1)
    finally:
        ended.set()
        lone.scuttle()
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_ship_whose_exec_never_answers_while_its_api_does(lone, plan, monkeypatch):
    """A sink asks it for so long, keeps it, and destroys it when it is told to."""
    monkeypatch.setattr(rescue, "REACH_SECONDS", 15.0)  # within which the sound ship has to answer
    tasks = [run_task(f"echo wip{n} > wip; echo there; {HELD}") for n in range(2)]
    voyage = lone.json("sail", plan(tasks), "-n", "2", "--json")["voyage"]
    wait_for(lambda: lone.run("logs", voyage).out.count("there") == 2)
    lone.faults({"call": f"WS /v1/sprites/{voyage}-ship-0/exec", "kind": "hang"})
    for name, value in lone.env.items():
        monkeypatch.setenv(name, value)
    hung, sound = begin_sink(VoyageDirectory(lone.voyage(voyage)), load_settings()).ships
    assert (hung.ok, hung.ref, "does not answer" in hung.reason) == (False, None, True)
    assert (sound.ok, bool(sound.ref)) == (True, True)
    assert len([one for one in lone.injected() if "ship-0" in one["call"]]) == 1
    assert lone.sprites() == 2
