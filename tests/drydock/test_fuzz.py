"""Random calls and random frames: no 5xx, nothing left running, no way out of the sandbox.

``OCAPTAIN_FUZZ`` is the number of cases on the REST surface, and on the exec socket as many again
(1,000 in the suite, 10,000 by ``make fuzz``).
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import httpx
import pytest
import requests
import schemathesis
import websockets
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from tests.drydock.openapi import MARK, describe
from tests.drydock.test_life import Dock
from tests.helpers import wait_for

CASES = int(os.environ.get("OCAPTAIN_FUZZ", "1000"))
pytestmark = [pytest.mark.root, pytest.mark.timeout(900 + CASES)]
OUT = Path(tempfile.gettempdir()) / f"ocaptain-fuzz-{os.getppid()}-{os.getpid()}"
schema = schemathesis.openapi.from_dict(describe(str(OUT)))
schema.config.generation.update(modes=list(GenerationMode))
OPERATIONS = sum(1 for _ in schema.get_all_operations())
FUZZING = settings(
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)


@pytest.fixture(autouse=True)
def _parse_again(monkeypatch):
    """Parse again what CPython 3.11 gives up on by an error of its own (gh-106905), where Hypothesis reads a lambda."""
    parse = ast.parse

    def patient(*arguments, **more):
        for _ in range(20):
            with contextlib.suppress(SystemError):
                return parse(*arguments, **more)
        return parse(*arguments, **more)

    monkeypatch.setattr(ast, "parse", patient)


@pytest.fixture(scope="module")
def dock(tmp_path_factory):
    OUT.mkdir()
    (OUT / "canary").write_text(MARK)
    made = Dock(tmp_path_factory.mktemp("fuzz"))
    made.make("fuzz").run(
        "sh",
        "-c",
        f"ln -s {OUT} ~/link-out; ln -s ../../../../../../../../../..{OUT} ~/link-up; ln -s link-loop ~/link-loop",
    )
    yield made
    made.end()
    shutil.rmtree(OUT)


@pytest.fixture(autouse=True)
def _nothing_escaped(dock):
    yield
    assert [path.name for path in OUT.iterdir()] == ["canary"]
    found = (OUT / "canary").stat()
    assert ((OUT / "canary").read_text(), found.st_uid, found.st_mode & 0o777) == (MARK, os.getuid(), 0o644)
    assert dock.rest.get("/v1/sprites/fuzz/check").json()["status"] == "healthy"
    for service in dock.rest.get("/v1/sprites/fuzz/services").json():
        dock.rest.delete(f"/v1/sprites/fuzz/services/{service['name']}")

    def commands():
        """What runs in the ship beside its init: nothing."""
        done = dock.sdk.sprite("fuzz").run("ps", "-eo", "pid=,ppid=,args=", capture_output=True)
        lines = [line.split(None, 2) for line in done.stdout.decode(errors="replace").splitlines()]
        return [
            args
            for pid, parent, args in lines
            if "1" not in {pid, parent if "sleep" in args else ""} and "ps -eo" not in args
        ]

    wait_for(lambda: dock.rest.get("/v1/sprites/fuzz/exec").json()["count"] == 0)
    wait_for(lambda: commands() == [])


@pytest.fixture(scope="module")
def session():
    with requests.Session() as made:
        made.trust_env = False
        yield made


@schema.parametrize()
@settings(FUZZING, max_examples=max(1, -(-CASES // OPERATIONS)))
def test_random_calls(dock, session, case):
    headers = {"Authorization": f"Bearer {dock.token}"}
    reply = case.call(base_url=dock.record["url"], headers=headers, session=session, timeout=240)
    assert reply.status_code < 500, (case.as_curl_command(), reply.text[:500])
    if not case.path.startswith("/v1/sprites/{name}/exec"):  # a ship's command may say anything
        assert MARK.encode() not in reply.content


FRAMES = st.lists(
    st.one_of(
        st.binary(max_size=300),
        st.sampled_from(
            [b"", b"\x00", b"\x04", b"\x00input\n", b"\x01x", b"\x02", b"\x03\x00", b"\x03", b"\xff" * 70000]
        ),
        st.text(max_size=200),
        st.builds(
            lambda kind, rows, cols, name: json.dumps({"type": kind, "rows": rows, "cols": cols, "signal": name}),
            st.sampled_from(["resize", "signal", "exit", "session_info", "x"]),
            st.one_of(st.integers(), st.text(max_size=3), st.none()),
            st.one_of(st.integers(), st.floats()),
            st.sampled_from(["TERM", "SIGKILL", "KILL", "STOP", "0", "-1", "USR1", "", "\0"]),
        ),
        st.sampled_from(["[" * 5000, "{", "null", '{"type":', '{"type": {"a": 1}}']),
    ),
    max_size=8,
)


@settings(FUZZING, max_examples=CASES)
@given(frames=FRAMES, tty=st.booleans(), stdin=st.booleans(), polite=st.booleans())
def test_random_frames(dock, frames, tty, stdin, polite):
    query = f"cmd=cat&tty={str(tty).lower()}&stdin={str(stdin).lower()}&max_run_after_disconnect=20ms"
    with dock.socket(f"/v1/sprites/fuzz/exec?{query}") as socket, contextlib.suppress(websockets.ConnectionClosed):
        for frame in frames:
            socket.send(frame)
        if polite and not tty:
            socket.send(b"\x04")
            for message in socket:
                if isinstance(message, bytes) and message[:1] == b"\x03":
                    break


RAW = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /v1/sprites HTTP/9.9\r\nHost: x\r\n\r\n",
    b"POST /v1/sprites HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/sprites HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n{",
    b"POST /v1/sprites HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /" + b"a" * 700_000 + b" HTTP/1.1\r\n\r\n",
    b"\0" * 1000,
]


@pytest.mark.parametrize("data", RAW, ids=range(len(RAW)))
def test_what_is_no_http(dock, data):
    import socket

    url = httpx.URL(dock.record["url"])
    with socket.create_connection((url.host, url.port), timeout=10) as raw:
        raw.settimeout(3)
        with contextlib.suppress(OSError):
            raw.sendall(data)
            said = raw.recv(4096)
            assert not said or said.split()[1].startswith(b"4"), said
    time.sleep(0.05)
