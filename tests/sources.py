"""Repositories of every kind that a voyage may be asked to start from, and servers for them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

IDENTITY = ("-c", "user.name=U", "-c", "user.email=u@example.invalid", "-c", "init.defaultBranch=main")
BY = "A <a@example.invalid> 1313584730 +0000"
#: What git's strict check dislikes about a commit: its lines after those of tree and parent.
ODD_COMMITS = {
    "badTimezone": "author A <a@b.invalid> 1313584730 +051800\ncommitter A <a@b.invalid> 1313584730 +051800\n",
    "missingSpaceBeforeEmail": "author A<a@b.invalid> 1313584730 +0000\ncommitter A<a@b.invalid> 1313584730 +0000\n",
    "missingSpaceBeforeDate": "author A <a@b.invalid>1313584730 +0000\ncommitter A <a@b.invalid>1313584730 +0000\n",
    "missingEmail": "author A 1313584730 +0000\ncommitter A 1313584730 +0000\n",
    "zeroPaddedDate": "author A <a@b.invalid> 0013584730 +0000\ncommitter A <a@b.invalid> 0013584730 +0000\n",
    "badDate": "author A <a@b.invalid> x +0000\ncommitter A <a@b.invalid> x +0000\n",
    "multipleAuthors": f"author {BY}\nauthor {BY}\ncommitter {BY}\n",
    "missingAuthor": f"committer {BY}\n",
}


def git(directory, *arguments, stdin=b"", check=True):
    """Run git; return its output as text."""
    argv = ["git", *IDENTITY, *map(str, arguments)]
    done = subprocess.run(argv, cwd=directory, input=stdin, capture_output=True, check=False, timeout=240)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.decode(errors="replace").strip()


def save(repo, files, message="x"):
    """Commit files; return the commit."""
    for name, content in files.items():
        path = Path(repo) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", message, "--allow-empty")
    return git(repo, "rev-parse", "HEAD")


def make(directory):
    """Return a repository with three commits; ``x`` is only in the second."""
    git(directory.parent, "init", "-q", directory)
    save(directory, {"a.txt": "one\n", "src/b.txt": "two\n"})
    save(directory, {"x": "only here\n"})
    git(directory, "rm", "-q", "x")
    save(directory, {})
    return directory


def write_object(repo, kind, data):
    """Store an object whatever git thinks of it; return its id."""
    return git(repo, "hash-object", "-t", kind, "-w", "--stdin", "--literally", stdin=data)


def write_commit(repo, lines, tree="HEAD^{tree}"):
    """Commit a tree on main with these lines about its author; return the commit."""
    about = f"tree {git(repo, 'rev-parse', tree)}\nparent {git(repo, 'rev-parse', 'HEAD')}\n{lines}\nodd\n"
    commit = write_object(repo, "commit", about.encode())
    git(repo, "update-ref", "HEAD", commit)
    return commit


def write_odd_tree(repo, *entries):
    """Store a folder of main's content whose modes have a leading zero, and of further entries; return its id."""
    listed = [line.split(None, 3) for line in git(repo, "ls-tree", "HEAD").splitlines()]
    found = [(f"{mode} {name}", oid) for mode, _, oid, name in listed] + list(entries)
    whole = sorted(found, key=lambda one: one[0].partition(" ")[2])
    return write_object(repo, "tree", b"".join(head.encode() + b"\0" + bytes.fromhex(oid) for head, oid in whole))


def path_of(repo, revision):
    """Return the path of a loose object."""
    oid = git(repo, "rev-parse", revision)
    return Path(repo) / ".git/objects" / oid[:2] / oid[2:]


class GitHttp(BaseHTTPRequestHandler):
    """git http-backend; ``fault`` says what goes wrong."""

    root: Path
    fault = ""
    over: threading.Event

    def log_message(self, *arguments):
        pass

    def ask_for_credentials(self):
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="private"')
        self.end_headers()

    def answer_without_git(self):
        """Answer what git is not to answer; return whether this was such a request."""
        if self.fault == "deny":
            self.ask_for_credentials()
        return self.fault == "deny"

    def do_GET(self):
        if self.answer_without_git():
            return
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, capture_output=True, check=False, timeout=240, env=environment
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        self.send_response(200)
        for line in head.decode().split("\r\n"):
            name, _, value = line.partition(": ")
            self.send_header(name, value)
        self.end_headers()
        self.send_content(content)

    do_POST = do_GET  # noqa: N815 - http.server's spelling

    def send_content(self, content):
        has_pack = b"PACK" in content
        self.wfile.write(content[: content.index(b"PACK") + 20] if has_pack and self.fault else content)
        if has_pack and self.fault == "stall":
            self.wfile.flush()
            self.over.wait(60)


@contextlib.contextmanager
def serve(root, fault=""):
    """Serve the repositories in a directory over HTTP; yield the URL."""
    over = threading.Event()
    handler = type("Handler", (GitHttp,), {"root": root, "fault": fault, "over": over})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()
