"""Seeded storms: whatever dies, alone and in pairs, while a voyage is made, sails, is resumed and sunk.

``OCAPTAIN_STORM=1`` (``make storm``) plays twenty; ``OCAPTAIN_STORM_SEED`` repeats one.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time

import pytest

from tests.helpers import run_task, wait_for, write_plan
from tests.voyage.matrix import WAIT, Cell

pytestmark = [pytest.mark.root, pytest.mark.timeout(2400), pytest.mark.slow]
SEED = int(os.environ.get("OCAPTAIN_STORM_SEED") or random.SystemRandom().randrange(10**6))
VOYAGES = 20 if os.environ.get("OCAPTAIN_STORM") else 1
VICTIMS = ("agent", "supervisor", "worker", "captain", "exec sessions", "ansible", "command", "provider")
STRIKES, TASKS, MAX_RESUMES = 8, 12, 30


class Storm(Cell):
    """One voyage; see the module."""

    def __init__(self, seed, root):
        super().__init__("storm", "work", seed, root)
        self.draw = random.Random(seed)
        self.struck_so_far = []
        self.tasks = TASKS
        self.resumed = 0

    def plan(self):
        tasks = [
            run_task(
                f"echo wip > wip{n}; sleep {self.draw.uniform(0.2, 1.5):.2f}; rm wip{n}; echo {n} > f{n}",
                *([str(self.draw.randrange(1, n))] if n > 1 and self.draw.random() < 0.6 else []),
                **({"verify": f"test -f f{n}"} if n % 3 == 0 else {}),
            )
            for n in range(1, TASKS + 1)
        ]
        verify = f"for n in $(seq {TASKS}); do test $(cat f$n) = $n; done"
        return write_plan(self.root / "plan", tasks, verify=verify)

    def strike_one(self, victim):
        """Kill a victim, if it is there."""
        self.victim = victim
        self.struck_so_far.append(victim)
        with contextlib.suppress(Exception):  # what is not there now, or has just ended, cannot be killed
            if victim == "provider":
                os.kill(self.sailor.drydock().pid, signal.SIGKILL)
            elif victim == "captain":
                if pid := self.captain():
                    os.kill(pid, signal.SIGKILL)
            else:
                self.strike()

    def strikes(self):
        """Draw who dies next: one, or two at once."""
        return self.draw.sample(VICTIMS, 2 if self.draw.random() < 0.3 else 1)

    def begin(self, *arguments):
        if self.process:
            self.process.communicate(timeout=WAIT)
        self.process = self.sailor.popen(*arguments)

    def run(self):
        self.set()
        try:
            self.begin("sail", self.plan(), "-n", "2", "--wait", "--json")
            self.sail()
            voyage = self.voyage
            assert sorted(self.sailor.landed(voyage), key=int) == [str(n) for n in range(1, TASKS + 1)]
            self.sound(voyage)
            self.sink()
            self.was = "whole"
        finally:
            self.clear()

    def sail(self):
        """Strike some times, resuming what ended, as a user would; then let it come to its end."""
        for _ in range(STRIKES):
            time.sleep(self.draw.uniform(0.2, 4.0))
            if self.row("SELECT state FROM voyage") == "complete":
                break
            for victim in self.strikes():
                self.strike_one(victim)
            self.resume_what_ended()
        while self.row("SELECT state FROM voyage") != "complete":
            self.resume_what_ended()
            time.sleep(0.2)
        self.process.communicate(timeout=WAIT)

    def resume_what_ended(self):
        if self.process.poll() is not None and self.row("SELECT state FROM voyage") != "complete":
            self.resumed += 1
            _, err = self.process.communicate()
            assert "Traceback" not in err, err
            assert self.resumed <= MAX_RESUMES, err
            self.process = self.sailor.popen("sail", *self.again(), "--wait", "--json")

    def sink(self):
        """Sink, while it, what it asks and the provider die."""
        for number in range(6):
            self.begin("sink", self.voyage, "--force")
            if number < 3:
                time.sleep(self.draw.uniform(0.1, 2.0))
                self.strike_one(self.draw.choice(("command", "ansible", "provider", "worker")))
            self.process.wait(WAIT)
            if self.row("SELECT state FROM voyage") == "sunk":
                break
        _, err = self.process.communicate()
        assert self.row("SELECT state FROM voyage") == "sunk", err
        place = self.root / "state/ocaptain/drydock/sprites"
        wait_for(lambda: not self.sailor.names())
        assert self.sailor.drydock() or not place.is_dir() or not any(place.iterdir())


@pytest.mark.parametrize("number", range(VOYAGES))
def test_a_storm(tmp_path, record_property, number):
    seed = SEED + number
    record_property("storm seed", seed)
    storm = Storm(seed, tmp_path / "storm")
    try:
        storm.run()
    except BaseException as error:
        error.add_note(f"OCAPTAIN_STORM_SEED={seed}, struck: {', '.join(storm.struck_so_far)}")
        raise
