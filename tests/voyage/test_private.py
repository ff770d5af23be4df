"""Private repositories over git's HTTP, with a token that must not go astray."""

from __future__ import annotations

import base64
import subprocess
import threading
from http.server import ThreadingHTTPServer

import pytest

from ocaptain.git.run import askpass_environment
from ocaptain.voyage.source import token_hosts
from tests.helpers import run_task
from tests.sources import GitHttp

TOKEN = "canary-gh/token+x"  # not a real one, and with characters that are easily mangled


class GitServer(GitHttp):
    """git http-backend behind Basic authentication; ``/moved`` sends elsewhere."""

    elsewhere = ""
    asked: list[tuple[str, str | None]]

    def is_allowed(self, given):
        return given == "Basic " + base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()

    def answer_without_git(self):
        given = self.headers.get("Authorization")
        self.asked.append((self.path, given))
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", self.elsewhere + self.path.removeprefix("/moved"))
            self.end_headers()
            return True
        if not self.is_allowed(given):
            self.ask_for_credentials()
            return True
        return False


@pytest.fixture
def servers(tmp_path):
    """Two servers with the same private repository: the second stands for somebody else's."""
    source = tmp_path / "served/me/private.git"
    source.parent.mkdir(parents=True)
    work = tmp_path / "work"
    identity = ["-c", "user.name=u", "-c", "user.email=u@x"]
    subprocess.run(["git", "init", "-q", "-b", "main", work], check=True)
    (work / "README").write_text("private\n")
    subprocess.run(["git", "-C", work, "add", "-A"], check=True)
    subprocess.run(["git", "-C", work, *identity, "commit", "-qm", "first"], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", work, source], check=True)
    made = []
    for _ in range(2):
        handler = type("Handler", (GitServer,), {"root": tmp_path / "served", "asked": []})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made.append(server)
    yield made
    for server in made:
        server.shutdown()
        server.server_close()


def url(server):
    return f"http://127.0.0.1:{server.server_address[1]}"


@pytest.mark.root
def test_a_private_repository(sailor, plan, servers):
    repo = f"{url(servers[0])}/me/private.git"
    directory = plan([run_task("cat README > copy")], verify="grep private copy")
    for environment in ({}, {"GH_TOKEN": "wrong"}):
        refused = sailor.run("sail", directory, "--repo", repo, env=environment)
        assert refused.code == 2, refused.err
        assert ("set GH_TOKEN" in refused.err) is (not environment)
        assert sailor.sprites() == 0
    done = sailor.run("sail", directory, "--repo", repo, "-n", "1", "--wait", "--json", env={"GH_TOKEN": TOKEN})
    assert done.code == 0, done.err
    voyage = done.json["voyage"]
    assert sailor.git(voyage, "show", f"{voyage}:copy") == "private"
    for found in sailor.voyage(voyage).rglob("*"):
        if found.is_file():
            assert TOKEN.encode() not in found.read_bytes(), found


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("github.com", True),
        ("github.com:443", True),
        ("enterprise.example", True),
        ("GitHub.com", True),
        ("127.0.0.1:1234", True),
        ("127.0.0.1:4321", False),
        ("localhost", False),
        ("evil.example", False),
        ("github.com.evil.example", False),
        ("evil-github.com", False),
        ("evil.example:443", False),
    ],
)
def test_the_token_is_for_its_hosts_alone(tmp_path, host, answered):
    given = askpass_environment(TOKEN, tmp_path / "askpass", ["github.com", "enterprise.example", "127.0.0.1:1234"])
    for prompt, wanted in (
        (f"Username for 'https://{host}': ", "x-access-token"),
        (f"Password for 'https://x-access-token@{host}': ", TOKEN),
        (f"Password for 'https://x-access-token@{host}/me/private.git': ", TOKEN),
        (f"Password for 'https://github.com@{host}/github.com': ", TOKEN),
    ):
        done = subprocess.run(
            [given["GIT_ASKPASS"], prompt], env={**given, "PATH": "/usr/bin:/bin"}, capture_output=True, check=False
        )
        assert done.stdout.decode().strip() == (wanted if answered else "")


def test_in_clear_text_the_token_is_for_this_machine_alone(tmp_path):
    given = askpass_environment(TOKEN, tmp_path / "askpass", ["github.com", "127.0.0.1"])
    for host, wanted in (("github.com", ""), ("127.0.0.1:80", TOKEN)):
        argv = [given["GIT_ASKPASS"], f"Password for 'http://x@{host}': "]
        done = subprocess.run(argv, env={**given, "PATH": "/usr/bin:/bin"}, capture_output=True, check=False)
        assert done.stdout.decode().strip() == wanted


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:80/x.git", ["127.0.0.1:80"]),
        ("http://u@localhost/x.git", ["localhost"]),
        ("https://github.com/o/r", []),
        ("https://evil.example/127.0.0.1/", []),
    ],
)
def test_whose_token_it_is(url, local):
    assert token_hosts(url, "GH.example") == ["github.com", "gist.github.com", "gh.example", *local]


@pytest.mark.root
def test_the_users_own_helper_neither_stores_nor_replaces_the_token(sailor, plan, servers, tmp_path):
    home = tmp_path / "gituser"
    home.mkdir()
    store = home / "stored"
    store.write_text(f"{url(servers[0]).replace('//', '//old:stale@')}\n")
    (home / ".gitconfig").write_text(f"[credential]\n\thelper = store --file {store}\n")
    environment = {"GH_TOKEN": TOKEN, "GIT_CONFIG_GLOBAL": "", "HOME": str(home), "OCAPTAIN_HOME": str(home / "v")}
    repo = f"{url(servers[0])}/me/private.git"
    done = sailor.run("sail", plan([run_task("true")]), "--repo", repo, "-n", "1", "--json", env=environment)
    assert done.code == 0, done.err
    assert "stale" in store.read_text()
    assert "canary" not in store.read_text()
    assert sailor.run("sink", "--all", "--force", "--abandon", env=environment).code == 0


def test_without_a_token_nothing_is_asked(tmp_path):
    assert askpass_environment(None, tmp_path / "askpass", []) == {}
    assert not (tmp_path / "askpass").exists()
