"""The HTTP and WebSocket surface of drydock.

::

    app.py          routes; the gate: token, version header, counts, waking
    common.py       bodies, durations, streams of lines, dialects of a refusal
    sprites.py exec.py fs.py services.py checkpoints.py policy.py tasks.py streams.py
"""
