"""The trial of the gate: which programs a first line names, and what a result means."""

from __future__ import annotations

import base64
import queue
import socketserver
import threading
from http.server import BaseHTTPRequestHandler

import pytest

from ocaptain.captain.decide.trial import judge_gate_trial
from ocaptain.protocol.messages import Trial, TrialResult
from ocaptain.protocol.shebang import named_programs
from ocaptain.worker.errors import WorkspaceError
from ocaptain.worker.hold import Hold
from ocaptain.worker.state import State
from ocaptain.worker.trial import GateTrial
from tests.helpers import PATIENCE
from tests.unit.test_workspace import Ship


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (b"echo x", ()),
        (b"#!", ()),
        (b"#!/bin/sh -e", ("/bin/sh",)),
        (b"#! \t /bin/sh\t-e ", ("/bin/sh",)),
        (b"#!/bin/bash\r", ("/bin/bash\r",)),
        (b"#!python3", ("python3",)),
        (b"#!/usr/bin/env", ("/usr/bin/env",)),
        (b"#!/usr/bin/env python3.13", ("/usr/bin/env", "python3.13")),
        (b"#!/usr/bin/env \t python3.13 \t", ("/usr/bin/env", "python3.13")),
        (b"#!/usr/bin/env bash\r", ("/usr/bin/env", "bash\r")),
        # Without -S all of it is one name.
        (b"#!/usr/bin/env python3 -u", ("/usr/bin/env", "python3 -u")),
        (b"#!/usr/bin/env -S python3 -u", ("/usr/bin/env", "python3")),
        (b"#!/usr/bin/env -Snode --flag", ("/usr/bin/env", "node")),
        (b"#!/usr/bin/env -vS node", ("/usr/bin/env", "node")),
        (b"#!/usr/bin/env --split-string=node x", ("/usr/bin/env", "node")),
        (b"#!/usr/bin/env -S LANG=C A=b node\r", ("/usr/bin/env", "node")),
        # Only a run can tell.
        (b"#!/usr/bin/env -S PATH=/x node", ("/usr/bin/env",)),
        (b"#!/usr/bin/env -S -i node", ("/usr/bin/env",)),
        (b"#!/usr/bin/env -S ${TOOL} x", ("/usr/bin/env",)),
        (b"#!/usr/bin/env -S 'a b'", ("/usr/bin/env",)),
        (b"#!/usr/bin/env -i", ("/usr/bin/env",)),
        (b"#!/usr/bin/env A=b", ("/usr/bin/env",)),
        (b"#!/usr/bin/env -S tools/run x", ("/usr/bin/env",)),
        (b"#!/usr/bin/env -S /opt/run x", ("/usr/bin/env", "/opt/run")),
    ],
)
def test_what_a_first_line_names(line, named):
    assert named_programs(line + b"\necho never\n") == named


PROGRAMS = ("/usr/bin/env", "python3.13", "bash\r")


@pytest.mark.parametrize(
    ("result", "outcome", "said"),
    [
        (TrialResult(0, 1, stage="setup", missing="python3.13"), "interpreter", "not on the ship: `python3.13`, "),
        (TrialResult(0, 1, stage="setup", missing="bash\r"), "interpreter", "Windows line ends"),
        # A setup that fails before any work may bring it in the end.
        (TrialResult(1, 1, stage="setup", missing="python3.13"), "missing", "`python3.13` is not on the ship yet"),
        # Only what the plan's own first line names: the ship may lie.
        (TrialResult(0, 1, stage="setup", missing="pnpm"), "passes", "proves nothing"),
        (TrialResult(127, 1, tail="x: line 3: pnpm: command not found\n"), "missing", "`pnpm` is not on the ship yet"),
        (TrialResult(127, 1, tail="./x.sh: 1: pnpm: not found"), "missing", "`pnpm` is"),
        (TrialResult(127, 1, tail="env: \u2018node\u2019: No such file or directory"), "missing", "`node` is"),
        (TrialResult(127, 1, stage="setup", tail="?"), "missing", "a program that setup needs is not on the ship yet"),
        (TrialResult(126, 1), "missing", "cannot be run yet"),
        (TrialResult(0, 1), "passes", "verify.sh passes before any work: it proves nothing"),
        (TrialResult(124, 9, timed_out=True), "late", "verify.sh had not ended on the start commit after 9 s"),
        (TrialResult(124, 9, timed_out=True, stage="setup", missing="python3.13"), "late", "setup had not ended"),
        (TrialResult(1, 1), "expected", "verify.sh fails before any work"),
        (TrialResult(1, 1, stage="setup"), "expected", "setup fails before any work"),
    ],
)
def test_what_a_result_means(result, outcome, said):
    found = judge_gate_trial(result, PROGRAMS, 9.0)
    assert (found.outcome, found.stops, said in found.text) == (outcome, outcome == "interpreter", True), found.text


def test_what_a_ship_says_is_shown_as_one_clean_line():
    found = judge_gate_trial(TrialResult(127, 1, tail=f"x: \x1b[31m{'y' * 500}: not found"), (), 9.0)
    assert "\x1b" not in found.text
    assert len(found.text) < 300


def test_a_trial_keeps_a_ship_awake_only_while_it_runs(tmp_path):
    """An attempt's worker waits for the captain to take the result; a trial's result may come when it wakes."""
    calls = queue.Queue()

    class Tasks(BaseHTTPRequestHandler):
        def do_PUT(self):
            calls.put(self.command)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_DELETE(self):
            self.do_PUT()

        def address_string(self):
            return "worker"

        def log_message(self, *_):
            """Say nothing."""

    with socketserver.UnixStreamServer(str(tmp_path / "api.sock"), Tasks) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hold = Hold(tmp_path / "api.sock")
        assert calls.get(timeout=PATIENCE) == "DELETE"  # of an earlier worker
        with hold.keep_awake(linger=False):
            assert calls.get(timeout=PATIENCE) == "PUT"
        assert calls.get(timeout=PATIENCE) == "DELETE"
        server.shutdown()


def test_a_trial_that_is_stopped_before_it_begins_does_not_run(tmp_path):
    ship = Ship(tmp_path)
    ran = tmp_path / "ran"
    script = base64.b64encode(f"touch {ran}".encode()).decode()
    command = Trial(ship.base, "voyage", script, 60.0, "trial")
    trial = GateTrial(State(ship.places))
    trial.expect()
    trial.stop()
    with pytest.raises(WorkspaceError) as error:
        trial.run(command)
    assert (error.value.code, ran.exists()) == ("stopped", False)
    trial.expect()
    assert trial.run(command).code == 0
    assert ran.exists()
    assert not (ship.places.voyage / "trial").exists()
