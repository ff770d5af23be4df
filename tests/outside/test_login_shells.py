"""Hosts whose users have another login shell: Debian's fish and tcsh. Needs its package registry."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.helpers import Sailor, run_task
from tests.voyage.hosts import Machines

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif("OCAPTAIN_OUTSIDE" not in os.environ, reason="needs packages of Debian (make outside)"),
    pytest.mark.timeout(3600),
]
PACKAGES = ["fish", "fish-common", "libpcre2-32-0", "tcsh"]


@pytest.fixture(scope="module")
def shells(tmp_path_factory):
    """Return a directory with the files of both shells."""
    place = tmp_path_factory.mktemp("shells")
    subprocess.run(["apt-get", "-q", "download", *PACKAGES], cwd=place, check=True, timeout=300)
    for package in place.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, place / "root"], check=True, timeout=60)
    for program in (place / "root/bin").iterdir():  # where /bin is a link
        program.rename(place / "root/usr/bin" / program.name)
    (place / "root/bin").rmdir()
    return place / "root"


def test_a_login_shell_that_is_not_posix_works_or_is_refused_by_name(tmp_path, tmp_path_factory, plan, shells):
    machines = Machines(tmp_path_factory.mktemp("hosts"))
    (tmp_path / "home").mkdir()
    sailor = Sailor(tmp_path / "home")
    try:
        for name, program in (("fishy", "/usr/bin/fish"), ("seashell", "/bin/tcsh")):
            machine = machines.add(name, "deck", "/srv/deck")
            shutil.copytree(shells, machine.directory / "tmp/root", symlinks=True)
            machine.inside(f"cp -a /tmp/root/. / && usermod -s {program} deck && su deck -c 'echo fine'")
        directory = plan([run_task("echo 1 > a")], verify="test -f a")
        done = sailor.run("sail", directory, "--hosts", machines.inventory(), "--wait", "--json")
        assert done.code == 3, done
        ships = {ship["sprite"]: (ship["state"], ship["reason"]) for ship in done.json["ships"]}
        assert ships["fishy"][1] is None, ships
        assert "the login shell /bin/tcsh cannot run what roles run" in ships["seashell"][1], ships
        assert sailor.landed(done.json["voyage"]) == ["1"]
        sunk = sailor.run("sink", done.json["voyage"], "--force")
        assert sunk.code == 0, sunk
    finally:
        machines.end()
