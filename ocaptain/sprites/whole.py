"""Commands whose output arrives whole, however much they write.

The live service was seen to lose output beyond about 512 KiB in mid-stream. So a script on the sprite collects what the
command writes in two files. A small output then goes over the stream, with its length; a large one stays in the
files, which are fetched by the fs API and compared with their checksums. The script ends with a line on stderr::

    command ── pipe ──> /tmp/MARK/out, err
        ── sent over the stream ──> MARK OUT-BYTES ERR-BYTES
        ── left in the files ─────> MARK OUT-BYTES ERR-BYTES OUT-SHA256 ERR-SHA256
        ── a file was cut ────────> MARK lost

Without room for the files it begins with ``MARK none`` and becomes the command, whose output is then not verified.
In a dialogue what the files hold is also sent as they grow. That serves to answer, and may be cut at any place: each
stream then has a MARK and, if it is small, the output once more.

The command writes to pipes, as without the script: a file would be cut by whatever opens ``/dev/stderr`` anew.
What it left running in the background may hold them open. A second after its end they are read no more, once they are
empty: a reader that sleeps waits for data, since it writes to a file only.
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
from ocaptain.sprites.errors import (
    DeadlinePassed,
    ExecInterrupted,
    OutputLost,
    SpritesError,
    SpriteWedged,
    TooLarge,
)
from ocaptain.sprites.transfer import RemoteFile, download_known

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Dialogue = Callable[[bytes, bytes], bytes | None]

#: Bytes of output that go over the stream: half of what was seen to be safe.
INLINE_OUTPUT = 256 * 1024
SCRATCH = "/tmp"  # noqa: S108 - of the sprite; the names in it cannot be guessed, and mkdir takes none that exists
CLEAN_SECONDS = 60.0
#: After a failure: its cause may keep the files from being removed, and the caller waits to hear of it.
CLEAN_SECONDS_FAILED = 10.0
DAY = 86_400
SIGNALLED = 128
# $1 = the mark, $2 = blocks of 512 bytes that a file may have, $3 = bytes that go over the stream, $4 = days that files
# of others may be old, $5 = "live" for a dialogue. A reader ends with 0, or with 138 (USR1) by the watch in the middle.
COLLECT_SCRIPT = """mark=$1 most=$2 inline=$3 days=$4 live=$5
shift 5
exec 3>&2 2>/dev/null  # a shell has words of its own for a command that a signal ends
for old in /tmp/ocaptain-output-*; do
  [ ! -e "$old" ] || find /tmp/ocaptain-output-* -prune -type d -mtime "+$days" -exec rm -rf {} +
  break
done
d=/tmp/$mark
mkdir -m 700 "$d" && { mkfifo "$d/1" "$d/2" || { rm -rf "$d"; false; }; } || {
  echo "$mark none" >&3
  exec "$@" 2>&3 3>&-
}
(ulimit -f "$most"; exec cat <"$d/1" >"$d/out" 3>&-) &
o=$!
(ulimit -f "$most"; exec cat <"$d/2" >"$d/err" 3>&-) &
e=$!
if [ "$live" ]; then
  : >>"$d/out" >>"$d/err"
  tail -f -c +1 "$d/out" 3>&- &
  t=$!
  tail -f -c +1 "$d/err" >&3 3>&- &
  u=$!
fi
"$@" >"$d/1" 2>"$d/2" 3>&-
code=$?
{
  sleep 1
  for r in "$o" "$e"; do
    while read -r _ _ state parent _ <"/proc/$r/stat" && [ "$parent" = "$$" ]; do
      case $state in S|Z) kill -s USR1 "$r"; break ;; esac
      sleep 1
    done
  done
} >/dev/null </dev/null 3>&- &
w=$!
wait "$o"
a=$?
wait "$e"
b=$?
kill "$w"
[ -z "$live" ] || { kill -s KILL "$t" "$u"; wait "$t" "$u"; }
set -- $(stat -c %s "$d/out" "$d/err")
case $a,$b,$# in
  0,0,2|0,138,2|138,0,2|138,138,2) ;;
  *) [ "$((${1:-0} + ${2:-0}))" -ge "$((most * 512))" ] || { rm -rf "$d"; echo "$mark lost" >&3; exit "$code"; } ;;
esac
[ -z "$live" ] || { printf %s "$mark"; printf %s "$mark" >&3; }
saved=
if [ "$(($1 + $2))" -le "$inline" ]; then
  [ "$1" = 0 ] || cat "$d/out"
  [ "$2" = 0 ] || cat "$d/err" >&3
  rm -rf "$d"
else
  a=$(sha256sum <"$d/out") b=$(sha256sum <"$d/err")
  saved=" ${a%% *} ${b%% *}"
fi
echo "$mark $1 $2$saved" >&3
exit "$code"
"""


@dataclass(frozen=True)
class Saved:
    """An output that waits in files on the sprite.

    Attributes:
        code: exit code of the command.
        files: stdout and stderr.
    """

    code: int
    files: tuple[RemoteFile, RemoteFile]


def settle_output(done: Completed, mark: str, *, live: bool) -> Completed | Saved:
    """Decide what a command's output is, from what arrived of it and of the script's last line.

    Args:
        done: what arrived.
        mark: the script's.
        live: whether there was a dialogue.

    Raises:
        OutputLost: it did not arrive whole; the message says only what is missing.
    """
    announced = f"{mark} none\n".encode()
    if done.stderr.startswith(announced):
        return _accept_unverified(Completed(done.code, done.stdout, done.stderr[len(announced) :]))
    stderr, found, line = done.stderr.rpartition(mark.encode())
    words = line.decode("ascii", "replace").split()
    if found and words == ["lost"]:
        raise OutputLost("the sprite could not write it to /tmp; has it any room?")
    if not found or len(words) not in {2, 4} or not (words[0].isdigit() and words[1].isdigit()):
        if done.code < SIGNALLED:
            raise OutputLost("nothing tells how long it is")
        # What ended the command may have ended the script as well.
        shown = [(show_output(data, mark) if live else data) for data in (done.stdout, done.stderr)]
        return _accept_unverified(Completed(done.code, *shown))
    sizes = int(words[0]), int(words[1])
    if len(words) == 4:
        directory = f"{SCRATCH}/{mark}"
        out, err = (
            RemoteFile(f"{directory}/out", sizes[0], words[2]),
            RemoteFile(f"{directory}/err", sizes[1], words[3]),
        )
        return Saved(done.code, (out, err))
    return _check_lengths(Completed(done.code, done.stdout, stderr), sizes, mark.encode() if live else b"")


def _accept_unverified(done: Completed) -> Completed:
    if len(done.stdout) + len(done.stderr) > INLINE_OUTPUT:
        raise OutputLost("nothing tells how long it is")
    return done


def _check_lengths(done: Completed, sizes: tuple[int, int], before: bytes) -> Completed:
    """Return the output behind ``before``, if it is as long as it should be."""
    found = []
    for data, size in zip((done.stdout, done.stderr), sizes, strict=True):
        start = len(data) - size
        if start < 0 or not data[:start].endswith(before) or (start and not before):
            out, err = (f"{len(one)} of {whole}" for one, whole in ((done.stdout, sizes[0]), (done.stderr, sizes[1])))
            raise OutputLost(f"{out} bytes, and {err} of its errors")
        found.append(data[start:])
    return Completed(done.code, *found)


def show_output(stream: bytes, mark: str) -> bytes:
    """Return what a dialogue may see of a stream: one copy of the output, the longer one."""
    first, _, second = stream.partition(mark.encode())
    return max(first, second.removeprefix(b" none\n"), key=len)


def may_have_left_files(error: BaseException) -> bool:
    """Whether a command that failed may have left its files on the sprite, and they can be removed now."""
    if isinstance(error, SpritesError):  # others say that nothing was started
        return isinstance(error, ExecInterrupted | DeadlinePassed | TooLarge) and not isinstance(error, SpriteWedged)
    return True


async def run_whole(
    client: SpritesClient,
    name: str,
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    seconds: float,
    answer_output: Dialogue | None = None,
) -> Completed:
    """Run a command as :meth:`SpritesClient.run` does; its output arrives whole or not at all.

    Without a dialogue the output is seen only after the command's end, and stdout before stderr. If the sprite has
    no room for files, or a signal ended the script together with the command, up to :data:`INLINE_OUTPUT` bytes are
    returned unverified. After a failure the files on the sprite are removed if that takes no longer than
    :data:`CLEAN_SECONDS_FAILED`; what stays is removed by a command of a later day.

    Raises:
        OutputLost: the command ended, and its output did not arrive whole.
        TransferFailed: its output arrived damaged in every try.
        TooLarge: it is longer than :data:`ocaptain.sprites.client.MAX_OUTPUT`; the command was cut off.
        SpritesError: as for :meth:`SpritesClient.run`.
    """
    mark = f"ocaptain-output-{os.urandom(8).hex()}"
    live = answer_output is not None
    numbers = [MAX_OUTPUT // 512 + 1, INLINE_OUTPUT, seconds // DAY]
    script = ["sh", "-c", COLLECT_SCRIPT, "sh", mark, *(f"{number:.0f}" for number in numbers), "live" * live, *argv]
    dialogue = _show_once(answer_output, mark) if answer_output else None
    try:
        done = await client.run(name, script, stdin=stdin, seconds=seconds, answer_output=dialogue)
        try:
            settled = settle_output(done, mark, live=live)
        except OutputLost as error:
            ended = f"exec on {name}: {argv[0]} ended with exit code {done.code}"
            raise OutputLost(f"{ended}, but its output did not arrive whole: {error}") from None
        if isinstance(settled, Completed):
            if mark.encode() not in done.stderr:  # the script did not come to its end
                await _remove_files(client, name, mark, CLEAN_SECONDS_FAILED)
            return settled
        output = await _fetch_saved(client, name, argv[0], settled.files)
    except BaseException as error:
        if may_have_left_files(error):
            await _remove_files(client, name, mark, CLEAN_SECONDS_FAILED)
        raise
    await _remove_files(client, name, mark, CLEAN_SECONDS)
    return Completed(settled.code, *output)


def _show_once(answer_output: Dialogue, mark: str) -> Dialogue:
    """Return a dialogue that sees each stream once, and nothing of the script."""
    return lambda stdout, stderr: answer_output(show_output(stdout, mark), show_output(stderr, mark))


async def _fetch_saved(
    client: SpritesClient, name: str, program: str, files: tuple[RemoteFile, RemoteFile]
) -> tuple[bytes, bytes]:
    if sum(file.size for file in files) > MAX_OUTPUT:
        raise TooLarge(f"exec on {name}: {program} wrote more than {MAX_OUTPUT} bytes")
    with tempfile.TemporaryDirectory() as scratch:
        found = []
        for number, file in enumerate(files):
            target = Path(scratch, str(number))
            await download_known(client, name, file, target)
            found.append(await asyncio.to_thread(target.read_bytes))
    return found[0], found[1]


async def _remove_files(client: SpritesClient, name: str, mark: str, seconds: float) -> None:
    """Remove a command's files on the sprite; they are scratch, so that no error of it counts."""
    with contextlib.suppress(SpritesError):
        await client.run(name, ["rm", "-rf", "--", f"{SCRATCH}/{mark}"], seconds=seconds)
