"""The real Claude Code behind a drydock's default fence: `sail` itself opens the way to a scripted API on loopback."""

from __future__ import annotations

import os

import pytest

from tests.claude.api import Say, Turn
from tests.claude.cli import layer
from tests.claude.hostile import Thief
from tests.claude.test_sail_claude import OAUTH, Harbour, bash, write
from tests.helpers import run_task, write_plan

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]
STATUS = "curl -s -o /dev/null -w %{{http_code}} {way} http://127.0.0.1:{port}/"


class Fenced(Harbour):
    """A harbour whose drydock was started without a word about its network."""

    def options(self) -> tuple[str, ...]:
        return ("--layer", str(layer()))


@pytest.fixture
def harbour(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("drydock needs root")
    made = Fenced(tmp_path / "home")
    yield made
    made.end()


def test_an_agent_reaches_the_api_that_its_user_named_and_no_other_service(harbour, tmp_path):
    thief = Thief()
    port, other = harbour.anthropic.port, thief.port
    tries = f"{STATUS.format(way='', port=other)}; {STATUS.format(way='--noproxy none -x $http_proxy', port=other)}"
    harbour.anthropic.script = {
        "Try the other server": (
            (Turn((bash(f"({tries}) > tried.txt"), write("made.txt"))), Turn((Say("It is written."),))),
        ),
    }
    harbour.anthropic.keys = {OAUTH}
    plan = write_plan(
        tmp_path / "plan",
        [
            {"subject": "Try the other server"},
            run_task("env | grep -ci _proxy= > proxies.txt"),
        ],
        verify="test -f made.txt",
    )
    sailed = harbour.run("sail", plan, "-n", "1", "--wait", "--json", env={"CLAUDE_CODE_OAUTH_TOKEN": OAUTH})
    assert sailed.code == 0, sailed.err
    voyage = sailed.json["voyage"]
    opened = (
        f"port {port} of this machine is open to the ships of this voyage, until they are gone (ANTHROPIC_BASE_URL)"
    )
    assert opened in " ".join(sailed.err.split())
    assert harbour.anthropic.billed("Try the other server")
    assert harbour.git(voyage, "show", f"{voyage}:tried.txt") == "000403"  # nobody is there; and the proxy refuses
    assert harbour.git(voyage, "show", f"{voyage}:proxies.txt") == "6"
    assert thief.got == []
    # That silence proves something: once its port is opened to this very ship, the same call arrives.
    name = f"{voyage}-ship-0"
    reply = harbour.api("PUT", f"/drydock/sprites/{name}/ports", {"ports": [port, other]})
    assert reply.json() == {"ports": sorted([port, other]), "network": "proxy"}
    assert harbour.inside(name, f"{STATUS.format(way='', port=other)}; true") == "200"
    assert len(thief.got) == 1
    thief.close()
