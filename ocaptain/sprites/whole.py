"""Commands whose output arrives whole, however much they write.

The live service was seen to lose output beyond about 512 KiB in mid-stream. So a script on the sprite collects what the
command writes in two files. A small output then goes over the stream, with its length; a large one stays in the
files, which are fetched by the fs API and compared with their checksums::

    command ── pipe ──> /tmp/ocaptain-XXXX/out, err
        ── at its end, on stderr ──> MARK OUT-BYTES ERR-BYTES [DIRECTORY OUT-SHA256 ERR-SHA256]

The command writes to pipes, as without the script: a file would be cut by whatever opens ``/dev/stderr`` anew.
What it left running in the background may hold them open; it is waited for no longer than drydock would do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.sprites.client import MAX_OUTPUT, Completed, SpritesClient
from ocaptain.sprites.errors import OutputLost, SpritesError, TooLarge
from ocaptain.sprites.transfer import RemoteFile, download_known

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Bytes of output that go over the stream: half of what was seen to be safe.
INLINE_OUTPUT = 256 * 1024
CLEAN_SECONDS = 60.0
# $1 = the mark, $2 = blocks of 512 bytes that a file may have, $3 = bytes that go over the stream, $4 = "live" to send
# them at once, for a dialogue. Without room for the files the command runs as it is.
COLLECT_SCRIPT = """mark=$1 most=$2 inline=$3 live=$4
shift 4
exec 3>&2 2>/dev/null  # a shell has words of its own for a command that a signal ends
d=$(mktemp -d /tmp/ocaptain-XXXXXXXXXX) && mkfifo "$d/1" "$d/2" || { [ -z "$d" ] || rm -rf "$d"; exec "$@" 2>&3 3>&-; }
if [ "$live" ]; then
  tee "$d/out" <"$d/1" &
  o=$!
  tee "$d/err" <"$d/2" >&3 &
else
  (ulimit -f "$most"; exec cat <"$d/1" >"$d/out") &
  o=$!
  (ulimit -f "$most"; exec cat <"$d/2" >"$d/err") &
fi
e=$!
"$@" >"$d/1" 2>"$d/2" 3>&-
code=$?
{ sleep 1; kill "$o" "$e"; } >/dev/null </dev/null 3>&- &
w=$!
wait "$o" "$e"
kill "$w"
set -- $(stat -c %s "$d/out" "$d/err")
saved=
if [ $(($1 + $2)) -le "$inline" ]; then
  [ "$live" ] || { cat "$d/out"; cat "$d/err" >&3; }
  rm -rf "$d"
else
  saved=" $d $(sha256sum <"$d/out" | cut -c 1-64) $(sha256sum <"$d/err" | cut -c 1-64)"
fi
echo "$mark $1 $2$saved" >&3
exit "$code"
"""


@dataclass(frozen=True)
class Account:
    """What the script says of a command's output.

    Attributes:
        out, err: bytes that the command wrote.
        saved: the files that hold it, None if it went over the stream.
    """

    out: int
    err: int
    saved: tuple[RemoteFile, RemoteFile] | None = None


def split_account(stderr: bytes, mark: str) -> tuple[bytes, Account | None]:
    """Return the error output without the script's last line, and what that line says; None if it did not arrive."""
    before, found, line = stderr.rpartition(mark.encode())
    words = line.decode("ascii", "replace").split()
    if not found or len(words) not in {2, 5} or not (words[0].isdigit() and words[1].isdigit()):
        return stderr, None
    out, err = int(words[0]), int(words[1])
    if len(words) == 2:
        return before, Account(out, err)
    directory, out_digest, err_digest = words[2:]
    files = RemoteFile(f"{directory}/out", out, out_digest), RemoteFile(f"{directory}/err", err, err_digest)
    return before, Account(out, err, files)


async def run_whole(
    client: SpritesClient,
    name: str,
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    seconds: float,
    answer_output: Callable[[bytes, bytes], bytes | None] | None = None,
) -> Completed:
    """Run a command as :meth:`SpritesClient.run` does; its output arrives whole or not at all.

    Without a dialogue the output is seen only after the command's end, and stdout before stderr.

    Raises:
        OutputLost: the command ended, and its output did not arrive whole.
        TransferFailed: its output arrived damaged in every try.
        TooLarge: it is longer than :data:`ocaptain.sprites.client.MAX_OUTPUT`; the command was cut off.
        SpritesError: as for :meth:`SpritesClient.run`.
    """
    mark = f"ocaptain-{os.urandom(8).hex()}"
    live = "live" if answer_output else ""
    script = ["sh", "-c", COLLECT_SCRIPT, "sh", mark, str(MAX_OUTPUT // 512 + 1), str(INLINE_OUTPUT), live, *argv]
    done = await client.run(name, script, stdin=stdin, seconds=seconds, answer_output=answer_output)
    stderr, account = split_account(done.stderr, mark)
    lost = f"exec on {name}: {argv[0]} ended with exit code {done.code}, but its output did not arrive whole"
    if account is None:
        # The script was killed with the command, or had no room for its files.
        if len(done.stdout) + len(stderr) > INLINE_OUTPUT:
            raise OutputLost(f"{lost}: nothing tells how long it is")
        return done
    if account.saved:
        return Completed(done.code, *await _fetch_saved(client, name, argv[0], account.saved))
    if (len(done.stdout), len(stderr)) != (account.out, account.err):
        arrived = f"{len(done.stdout)} of {account.out} bytes, and {len(stderr)} of {account.err} of its errors"
        raise OutputLost(f"{lost}: {arrived}")
    return Completed(done.code, done.stdout, stderr)


async def _fetch_saved(
    client: SpritesClient, name: str, program: str, files: tuple[RemoteFile, RemoteFile]
) -> tuple[bytes, bytes]:
    """Fetch the files, and remove them on the sprite."""
    try:
        if sum(file.size for file in files) > MAX_OUTPUT:
            raise TooLarge(f"exec on {name}: {program} wrote more than {MAX_OUTPUT} bytes")
        with tempfile.TemporaryDirectory() as scratch:
            found = []
            for number, file in enumerate(files):
                target = Path(scratch, str(number))
                await download_known(client, name, file, target)
                found.append(await asyncio.to_thread(target.read_bytes))
        return found[0], found[1]
    finally:
        directory = files[0].path.rpartition("/")[0]
        with contextlib.suppress(SpritesError):  # it is scratch, and the output is here or lost
            await client.run(name, ["rm", "-rf", "--", directory], seconds=CLEAN_SECONDS)
