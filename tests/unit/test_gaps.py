"""Records that are missing: when they are asked for again, and that the worker sends what is asked for."""

from __future__ import annotations

import asyncio

import pytest

from ocaptain.captain.gaps import MAX_PULLS, Gap, Missing, meet_gap
from ocaptain.protocol import decode_line
from ocaptain.worker.channels import Channel
from ocaptain.worker.journal import Journal


@pytest.mark.parametrize(
    ("known", "after", "number", "gap", "is_due"),
    [
        (None, 2, 4, Gap(2, 4), True),
        (None, 2, None, Gap(2, 2), True),  # damaged
        (Gap(1, 9), 2, 4, Gap(2, 4), True),  # another gap
        (Gap(2, 4), 2, 5, Gap(2, 5), False),  # of the same pass
        (Gap(2, 5), 2, None, Gap(2, 5), False),
        (Gap(2, 2), 2, 3, Gap(2, 3), False),
        (Gap(2, 5), 2, 5, Gap(2, 5, 2), True),  # it began anew, and lost the same again
        (Gap(2, 5, 2), 2, 4, Gap(2, 4, 3), True),
        (Gap(2, 5, MAX_PULLS), 2, 4, Gap(2, 4, MAX_PULLS + 1), False),  # from now on with the heartbeat
    ],
)
def test_a_gap_is_pulled_once_a_pass(known, after, number, gap, is_due):
    assert meet_gap(known, after, number) == (gap, is_due)


def test_what_is_lost_at_the_end_is_pulled_after_a_quiet_heartbeat():
    missing = Missing()
    assert missing.beat({"result": 3, "log": 7}, ()) == []
    assert missing.beat({"result": 3, "log": 8}, ()) == ["result"]
    assert missing.beat({"result": 3, "log": 8}, ()) == ["log"]
    assert missing.beat({"result": 3, "log": 8}, ()) == []  # there was nothing
    assert missing.beat({"result": 3, "log": 8}, ["result"]) == ["result"]  # a command waits for its result
    assert missing.beat({"result": 4, "log": 8}, ["result"]) == []
    assert missing.meet("log", 8, 10)
    assert not missing.meet("log", 8, 11)
    assert missing.beat({"result": 5, "log": 8}, ()) == ["log"]
    assert missing.beat({"result": 6, "log": 11}, ()) == []


class Slow:
    """A stream writer whose other end pulls while records are being sent."""

    def __init__(self, on_line):
        self.lines = []
        self._on_line = on_line

    def write(self, data):
        self.lines.append(decode_line(data.rstrip(b"\n")))

    async def drain(self):
        await asyncio.sleep(0)
        self._on_line(len(self.lines))


@pytest.mark.parametrize("pulled", ["log", "telemetry"])
def test_what_is_pulled_while_records_are_sent_is_not_called_dropped(tmp_path, pulled):
    journal = Journal(tmp_path / "journal")
    for number in range(40):
        journal.append({"kind": "log", "data": str(number)}, durable=False)

    def on_line(count):
        if count == 10:
            channel.seek(pulled, 2 if pulled == "log" else 0)

    writer = Slow(on_line)
    channel = Channel(None, writer)
    channel.reader = journal.reader()
    channel.sent = dict.fromkeys(channel.classes, 0)

    async def send_all():
        while await channel.send_next_records(journal):
            pass

    asyncio.run(send_all())
    journal.close()
    numbers = [line.get("n", line) for line in writer.lines]
    again = range(3, 41) if pulled == "log" else range(11, 41)
    assert numbers == [*range(1, 11), *again]
