"""What the fuzzer knows of drydock's REST surface: an OpenAPI description, kept for tests alone."""

from __future__ import annotations

STRING = {"type": "string"}
NAME = {
    "anyOf": [{"enum": ["fuzz"]}, {"enum": ["fuzz"]}, {"enum": ["nobody", "..", "fuzz%2f..", "%00", "a" * 300]}, STRING]
}
BOOL = {"enum": ["true", "false", "1", "maybe"]}
DURATION = {"enum": ["0s", "0.05s", "1ms", "0", "-1s", "x", "1e9", ""]}
MODE = {"anyOf": [{"enum": ["0644", "755", "0o600", "9", "-1", "77777"]}, {"type": "integer"}, STRING]}
MARK = "HOST-CANARY"
#: Ways out of a sandbox; {out} is where the host keeps something that no ship may touch.
NASTY = [
    "{out}/canary",
    "../../../../../../../../../../../..{out}/canary",
    "/proc/1/root{out}/canary",
    "/proc/self/root{out}/canary",
    "/proc/self/cwd/canary",
    "/dev/fd/0",
    "link-out/canary",
    "link-up/canary",
    "link-loop",
    "/home/sprite/link-out",
    "a\0b",
    "\0",
    "n" * 5000,
    "/".join(["d"] * 2000),
    "/" * 3000,
    "..",
    ".",
    "",
    "/",
    "~",
    "file\n\r\t\x1b[31m",
    "\u202e",
    "/dev/null",
    "/dev/zero",
    "/dev/tty",
    "/proc/kcore",
    "/proc/self/mem",
    "/tmp/fuzz/a",
    "/tmp/fuzz/b/c",
    "/tmp/fuzz",
]


def describe(out: str) -> dict:
    """Return the description; ``out`` is a folder of the host."""
    path = {"anyOf": [{"enum": [one.format(out=out) for one in NASTY]}, STRING]}
    cwd = {"anyOf": [{"enum": ["/", "/home/sprite", "/tmp", out, "", "..", "\0"]}, STRING]}

    def query(name, schema, *, required=False):
        return {"name": name, "in": "query", "required": required, "schema": schema}

    def place(name, schema):
        return {"name": name, "in": "path", "required": True, "schema": schema}

    def operation(*parameters, body=None, raw=False):
        found = {"parameters": list(parameters), "responses": {"default": {"description": "anything but a 5xx"}}}
        if raw:
            binary = {"schema": {"type": "string", "format": "binary"}}
            found["requestBody"] = {"content": {"application/octet-stream": binary}}
        elif body is not None:
            schema = {"type": "object", "properties": body}
            found["requestBody"] = {"content": {"application/json": {"schema": schema}}}
        return found

    one = place("name", NAME)
    files = {
        "path": path,
        "source": path,
        "dest": path,
        "workingDir": cwd,
        "recursive": {"type": "boolean"},
        "preserveAttrs": {"type": "boolean"},
        "mode": MODE,
        "uid": {"anyOf": [{"type": "integer"}, STRING]},
        "gid": {"anyOf": [{"type": "integer"}, STRING]},
    }
    as_query = [query("path", path), query("workingDir", cwd), query("recursive", BOOL), query("pattern", STRING)]
    command = [
        query("cmd", {"type": "array", "items": {"anyOf": [{"enum": ["echo", "true", "sh", "-c", "id"]}, STRING]}}),
        query("path", STRING),
        query("env", {"type": "array", "items": {"anyOf": [{"enum": ["A=b", "=", "A", "PATH="]}, STRING]}}),
        query("dir", path),
        query("stdin", BOOL),
        query("max_run_after_disconnect", DURATION),
    ]
    service = place("service", {"anyOf": [{"enum": ["s", "t", "..", "%00"]}, STRING]})
    definition = {
        "cmd": {"anyOf": [{"enum": ["true", "sleep"]}, STRING]},
        "args": {"type": "array", "items": STRING},
        "env": {"type": "object", "additionalProperties": STRING},
        "dir": path,
        "needs": {"type": "array", "items": STRING},
        "http_port": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    }
    checkpoint = place("id", {"anyOf": [{"enum": ["v1", "v2", "v0", "..", "v999999999999"]}, STRING]})
    rule = {"domain": STRING, "action": {"enum": ["allow", "deny", "x"]}, "include": {"enum": ["defaults", "x"]}}
    rules = {"type": "array", "items": {"type": "object", "properties": rule}}
    base = "/v1/sprites/{name}"
    paths = {
        "/v1/sprites": {
            "get": operation(
                query("prefix", STRING), query("max_results", {"anyOf": [{"type": "integer"}, STRING]}),
                query("continuation_token", STRING), query("bulk_load", BOOL),
            ),
            "post": operation(body={
                "name": {"enum": ["fuzz", "", "A", "-", "x" * 64, "a/b", "..", "ä"]},
                "labels": {"type": "array", "items": STRING},
                "environment": {"type": "object", "additionalProperties": STRING},
                "url_settings": {"type": "object"},
                "config": {"type": "object"},
            }),
        },
        base: {
            "get": operation(one),
            "put": operation(one, body={
                "labels": {"type": "array", "items": STRING}, "clear_labels": {"type": "boolean"},
                "url_settings": {"type": "object"},
            }),
            "delete": operation(place("name", {"enum": ["nobody", "..", "%00", "fuzz%20", "ä"]})),
        },
        base + "/check": {"get": operation(one)},
        base + "/upgrade": {"post": operation(one)},
        base + "/exec": {"get": operation(one), "post": operation(one, *command, raw=True)},
        base + "/exec/{id}/kill": {"post": operation(
            one, place("id", {"anyOf": [{"enum": ["1", "0", "-1", "999999"]}, STRING]}),
            query("signal", {"anyOf": [{"enum": ["TERM", "SIGKILL", "9", "0", "-9", "99"]}, STRING]}),
            query("timeout", DURATION), body={"signal": STRING, "timeout": {"type": "integer"}},
        )},
        base + "/fs/read": {"get": operation(one, *as_query)},
        base + "/fs/write": {"put": operation(one, *as_query, query("mode", MODE), raw=True)},
        base + "/fs/list": {"get": operation(one, *as_query)},
        base + "/fs/delete": {"delete": operation(one, *as_query)},
        **{base + f"/fs/{verb}": {"post": operation(one, body=files)} for verb in ("rename", "copy", "chmod", "chown")},
        base + "/services": {"get": operation(one)},
        base + "/services/signal": {"post": operation(one, body={"name": STRING, "signal": STRING})},
        base + "/services/{service}": {
            "get": operation(one, service),
            "put": operation(one, service, query("duration", DURATION), body=definition),
            "delete": operation(one, service),
        },
        base + "/services/{service}/logs": {"get": operation(
            one, service, query("lines", {"type": "integer"}), query("duration", DURATION))},
        base + "/services/{service}/{verb}": {"post": operation(
            one, service, place("verb", {"enum": ["start", "stop", "restart", "x"]}),
            query("duration", DURATION), query("timeout", DURATION))},
        base + "/checkpoint": {"post": operation(one, body={"comment": STRING})},
        base + "/checkpoints": {"get": operation(one, query("history", STRING))},
        base + "/checkpoints/{id}": {"get": operation(one, checkpoint), "delete": operation(one, checkpoint)},
        base + "/policy/network": {"get": operation(one), "post": operation(one, body={"rules": rules})},
        base + "/policy/privileges": {
            "get": operation(one), "delete": operation(one),
            "post": operation(one, body={"profile": STRING, "devices": {"type": "array", "items": STRING}}),
        },
        base + "/policy/resources": {
            "get": operation(one), "delete": operation(one),
            "post": operation(one, body={"memory": {"type": "object"}}),
        },
        base + "/control": {"get": operation(one)},
        "/v1/organization": {"get": operation()},
        "/drydock/metrics": {"get": operation()},
    }  # fmt: skip
    return {"openapi": "3.0.3", "info": {"title": "drydock", "version": "1"}, "paths": paths}
