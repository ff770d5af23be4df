"""Run git: the argv and the environment are made as data, and one thin call runs them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from ocaptain.errors import OcaptainError
from ocaptain.protocol.git import NO_DELTAS, git_argv

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DEFAULT_SECONDS = 600.0
IDENTITY = ("ocaptain", "captain@ocaptain.invalid")
_SETTINGS = (
    "core.fsync=committed,reference",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "fetch.fsckObjects=true",
    "transfer.fsckObjects=true",
    "protocol.ext.allow=never",
    "filter.lfs.process=",
    "filter.lfs.smudge=",
    "filter.lfs.required=false",
    "commit.gpgSign=false",
    "credential.sanitizePrompt=true",
)
_WRITE_PACKS = frozenset({"bundle", "repack", "pack-objects", "index-pack"})
#: Limits git's memory for mapped packs and for delta bases, for commands on ships' objects.
_SMALL = ("core.packedGitWindowSize=16m", "core.packedGitLimit=64m", "core.deltaBaseCacheLimit=16m", "pack.threads=1")
_BOUND = 'ulimit -c 0; ulimit -d "$1" && ulimit -f "$2" && ulimit -t "$3" || exit 125; shift 3; exec "$@"'
_NO_MEMORY = re.compile(r"[Oo]ut of memory|annot allocate memory|File too large")
# The environment variables that git may see. None that starts with GIT_: GIT_DIR alone
# would make every command use another repository.
_PASSED_VARIABLES = (
    "PATH",
    "HOME",
    "USER",
    "SUDO_UID",  # whose repositories git reads for root, too
    "XDG_CONFIG_HOME",  # below which git/config is
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),  # curl knows HTTP_PROXY in small letters alone
)


class GitError(OcaptainError):
    """A git command failed; the message holds its stderr.

    Args:
        told: what git said of it, or the system.
        command: what was run, and where; "" for nothing.
    """

    def __init__(self, told: str, command: str = "") -> None:
        super().__init__(f"{command}: {told}" if command else told)
        self.told = told


class GitTimeout(GitError):
    """A git command took too long."""


class GitLimitExceeded(GitError):
    """A git command was ended because it exceeded its bounds."""


def _exceeded_bounds(code: int, stderr: str) -> bool:
    """Whether a bounded git was ended by its bounds: by their signals, or because it got no memory."""
    return -code in {signal.SIGXCPU, signal.SIGXFSZ, signal.SIGKILL} or bool(_NO_MEMORY.search(stderr))


def _collect(
    process: subprocess.Popen[bytes], stdin: bytes | None, seconds: float
) -> subprocess.CompletedProcess[bytes]:
    """Wait for a process and return its output; if it takes too long, end it and all that it started.

    Raises:
        subprocess.TimeoutExpired: it took longer than ``seconds``.
    """
    try:
        stdout, stderr = process.communicate(stdin, timeout=seconds)
    except BaseException:
        # git's helpers (ssh, git-remote-https, index-pack) would go on without it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


@dataclass(frozen=True)
class Bounds:
    """Resource limits of a command, enforced by the kernel (memory not on macOS).

    Attributes:
        memory: bytes of its own memory; mapped files do not count.
        file: bytes of one file that it writes.
        seconds: of CPU time.
    """

    memory: int
    file: int
    seconds: int

    def argv(self, argv: Sequence[str]) -> list[str]:
        """Return the command line that runs another command within these bounds."""
        numbers = (self.memory // 1024, self.file // 512 + 1, self.seconds)  # the units of POSIX's ulimit
        return ["sh", "-c", _BOUND, "sh", *(str(number) for number in numbers), *argv]


@dataclass(frozen=True)
class Git:
    """Runs git on one repository.

    Attributes:
        directory: a bare repository, or a work tree.
        with_user_config: whether to use the user's own git configuration (credentials, URL rewriting); only
            for the source that the user named, never for what ships made.
        environment: further environment variables.
    """

    directory: Path
    with_user_config: bool = False
    environment: Mapping[str, str] | None = None

    def argv(self, *arguments: str, bounds: Bounds | None = None, setting: str | None = None) -> list[str]:
        """Return the command line, with one more git setting (``name=value``) if given."""
        settings = [*_SETTINGS, *([setting] if setting else [])]
        if _WRITE_PACKS.intersection(arguments[:1]):
            settings.append(NO_DELTAS)
        if bounds is None:
            return [*git_argv(*settings), *arguments]
        return bounds.argv([*git_argv(*settings, *_SMALL), *arguments])

    def env(self) -> dict[str, str]:
        """Return the environment of the command."""
        kept = {name: os.environ[name] for name in _PASSED_VARIABLES if name in os.environ}
        isolated = {} if self.with_user_config else {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        name, email = IDENTITY
        return {
            **kept,
            **isolated,
            "LC_ALL": "C",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_DEFAULT_REF_FORMAT": "files",  # which libgit2 can read
            "GIT_DEFAULT_HASH": "sha1",
            "GIT_COMMITTER_NAME": name,
            "GIT_COMMITTER_EMAIL": email,
            "GIT_AUTHOR_NAME": name,
            "GIT_AUTHOR_EMAIL": email,
            **(self.environment or {}),
        }

    def files(self, commit: str) -> dict[str, str]:
        """Return the files of a commit: paths, with their blobs."""
        entries = self.run("ls-tree", "-r", "-z", commit).stdout.decode(errors="replace").split("\0")
        found = (entry.partition("\t") for entry in entries)
        return {path: about.split()[2] for about, _, path in found if " blob " in about}

    def content(self, blob: str, limit: int) -> bytes | None:
        """Return a file's bytes, None if it has more than ``limit``."""
        fits = int(self.text("cat-file", "-s", blob)) <= limit
        return self.run("cat-file", "blob", blob).stdout if fits else None

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        file: BinaryIO | None = None,
        output: BinaryIO | None = None,
        ok: tuple[int, ...] = (0,),
        seconds: float = DEFAULT_SECONDS,
        extra: Mapping[str, str] | None = None,
        bounds: Bounds | None = None,
        setting: str | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a git command and return its exit code and output.

        Its input is ``stdin``, or ``file`` from its current position; its output goes to ``output`` if that is given.

        Raises:
            GitError: its exit code is not in ``ok``, or it took too long.
        """
        shown = f"git {' '.join(arguments[:2])} in {self.directory}"
        try:
            with subprocess.Popen(
                self.argv(*arguments, bounds=bounds, setting=setting),
                stdin=file or subprocess.PIPE,
                stdout=output or subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self.directory,
                env={**self.env(), **(extra or {})},
                start_new_session=True,  # a Ctrl-C at the terminal must not end it half way
            ) as process:
                done = _collect(process, None if file else stdin, seconds)
        except subprocess.TimeoutExpired as error:
            raise GitTimeout(f"did not end in {seconds:g} s", shown) from error
        except FileNotFoundError as error:
            if not self.directory.exists():
                raise GitError("this directory does not exist", shown) from error
            raise GitError(f"{error.filename} was not found; is git installed?", shown) from error
        except OSError as error:  # no process, no descriptor, no memory
            raise GitError(f"it cannot be started: {error.strerror}", shown) from error
        if done.returncode not in ok:
            stderr = done.stderr.decode(errors="replace").strip()[-2000:] or f"exit {done.returncode}"
            if bounds and _exceeded_bounds(done.returncode, stderr):
                raise GitLimitExceeded(f"it exceeded its limits ({bounds}): {stderr}", shown)
            raise GitError(stderr, shown)
        return done

    def text(self, *arguments: str, stdin: bytes = b"") -> str:
        """Run a command and return its output, stripped."""
        return self.run(*arguments, stdin=stdin).stdout.decode(errors="replace").strip()

    def resolve(self, revision: str) -> str | None:
        """Return the commit a revision names, None if there is none."""
        arguments = ("rev-parse", "--quiet", "--verify", "--end-of-options", f"{revision}^{{commit}}")
        found = self.run(*arguments, ok=(0, 1, 128)).stdout.decode().strip()
        return found or None

    def refs(self, below: str) -> dict[str, str]:
        """Return the refs below a name, with what they point to."""
        lines = self.text("for-each-ref", "--format=%(objectname) %(refname)", below).split("\n")
        return {name: oid for oid, _, name in (line.partition(" ") for line in lines if line)}

    def tree(self, commit: str) -> str:
        """Return the tree of a commit."""
        return self.text("rev-parse", "--verify", "--end-of-options", f"{commit}^{{tree}}")

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether ``old`` is reachable from ``new``."""
        return self.run("merge-base", "--is-ancestor", old, new, ok=(0, 1, 128)).returncode == 0

    def merge_base(self, one: str, other: str) -> str | None:
        """Return the best common ancestor of two commits, None if there is none."""
        found = self.run("merge-base", one, other, ok=(0, 1, 128)).stdout.decode().strip()
        return found or None

    def update_ref(self, ref: str, new: str, old: str | None = None) -> bool:
        """Set a ref; with ``old``, only if it is that (compare and swap).

        Returns:
            Whether the ref is ``new`` now, or has been on the way to where it is: a git that was
            killed, or that outlived a killed captain, may have moved it in the meantime.

        Raises:
            GitError: it could not be set though it is still ``old``: a lock, a full disk.
        """
        try:
            self.run("update-ref", ref, new, *(() if old is None else (old,)))
        except GitError:
            now = self.resolve(ref)
            if now is not None and self.is_ancestor(new, now):
                return True
            if old is None or now == old:
                raise
            return False
        return True


#: The helper that git asks for credentials: it answers only for the hosts that the token is for, and without TLS only
#: on this machine. The text is git's ``Username for 'https://host:port': `` and
#: ``Password for 'https://user@host:port': ``.
ASKPASS = """#!/bin/sh
host=${1#*://}
host=${host%%\\'*}
host=${host%%/*}
host=$(printf %s "${host##*@}" | tr A-Z a-z)
case $1 in
  *"'https://"*) ;;
  *) case $host in 127.0.0.1 | 127.0.0.1:* | localhost | localhost:*) ;; *) exit 1 ;; esac ;;
esac
case " $OCAPTAIN_ASKPASS_HOSTS " in
  *" $host "* | *" ${host%:*} "*) ;;
  *) exit 1 ;;
esac
case $1 in
  Username*) echo x-access-token ;;
  *) printenv OCAPTAIN_ASKPASS ;;
esac
"""


def askpass_environment(token: str | None, script: Path, hosts: Sequence[str]) -> dict[str, str]:
    """Return the environment that makes git authenticate with ``token``, which is in no argv and no URL.

    Args:
        token: a GitHub token, or None for no authentication.
        script: path to which the helper that git asks is written.
        hosts: that may see the token (lower case, with or without a port); a redirection to another
            host, or a repository elsewhere, does not get it.
    """
    if not token:
        return {}
    script.write_text(ASKPASS)
    script.chmod(0o700)
    # For these hosts the user's own helpers are disabled: they would store the token, or take precedence over it.
    helpers = [f"credential.{scheme}://{host}.helper" for host in hosts for scheme in ("https", "http")]
    settings = {"GIT_CONFIG_COUNT": str(len(helpers))}
    for number, name in enumerate(helpers):
        settings |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": ""}
    asked = {"GIT_ASKPASS": str(script), "OCAPTAIN_ASKPASS": token, "OCAPTAIN_ASKPASS_HOSTS": " ".join(hosts)}
    return {**asked, **settings}
