#!/usr/bin/env bash
# Proves the merged work: every module's tests, the page's parts, and a list that is kept over a restart.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

for module in item store select stats export web api_items api_item api_stats api_export static server; do
  test -f "todo/$module.py" || { echo "missing: todo/$module.py"; exit 1; }
  test -f "tests/test_$module.py" || { echo "missing: tests/test_$module.py"; exit 1; }
done
for file in tests/test_main.py tests/test_end_to_end.py static/index.html static/style.css static/app.js docs/api.md README.md; do
  test -f "$file" || { echo "missing: $file"; exit 1; }
done
python3 -m unittest discover -s tests -t . > "$scratch/tests" 2>&1 || { cat "$scratch/tests"; exit 1; }
echo "tests: $(grep -E '^Ran ' "$scratch/tests")"

python3 - <<'PYTHON'
import re
from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.ids, self.files, self.labels = set(), [], set()

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids.add(found.get("id"))
        self.files += [found[name] for name in ("src", "href") if name in found]
        self.labels |= {found.get("for")} if tag == "label" else set()


page = Page()
page.feed(Path("static/index.html").read_text("utf-8"))
wanted = {"add", "title", "due", "tags", "show", "items", "stats", "clear", "message"}
assert wanted <= page.ids, f"index.html lacks the ids {wanted - page.ids}"
assert {"title", "due", "tags", "show"} <= page.labels, f"index.html has labels for {page.labels} alone"
assert {"style.css", "app.js"} <= {one.lstrip("/").removeprefix("./") for one in page.files}, page.files
scripts = {name: Path(f"static/{name}.js").read_text("utf-8") for name in ("api", "view", "app")}
for name, text in scripts.items():
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", text), f"{name}.js writes HTML"
    assert not re.search(r"https?://", text), f"{name}.js asks another host"
    for names, module in re.findall(r"import\s*\{([^}]*)\}\s*from\s*[\"']\./(\w+)\.js[\"']", text):
        for one in filter(None, (part.split(" as ")[0].strip() for part in names.split(","))):
            assert re.search(rf"export (async )?function {one}\b", scripts[module]), f"{module}.js does not export {one}"
for one in re.findall(r"getElementById\([\"']([\w-]+)[\"']\)", scripts["app"]):
    assert one in page.ids, f"app.js looks for #{one}, which index.html lacks"
print("page: ids, labels and imports fit together")
PYTHON

python3 - "$scratch/data.json" <<'PYTHON'
import contextlib
import json
import subprocess
import sys
import urllib.error
import urllib.request


@contextlib.contextmanager
def server():
    argv = [sys.executable, "-m", "todo", "--data", sys.argv[1], "--port", "0"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip().rstrip("/")
    finally:
        process.terminate()
        process.wait(10)


def call(method, url, data=None):
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as reply:
            return reply.status, reply.read(), reply.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


def ask(method, url, data=None, status=200):
    found, body, _ = call(method, url, data)
    assert found == status, (method, url, found, body)
    return json.loads(body) if body else None


with server() as url:
    items = f"{url}/api/items"
    tea = ask("POST", items, {"title": "  Buy tea ", "due": "2020-01-02", "tags": ["Home", "home"]}, 201)
    assert tea == {"id": 1, "title": "Buy tea", "done": False, "due": "2020-01-02", "tags": ["home"]}, tea
    for title in ("Mend <the> roof", "Sleep"):
        ask("POST", items, {"title": title}, 201)
    assert ask("PATCH", f"{items}/3", {"done": True})["title"] == "Sleep"
    for bad in ({}, {"title": " "}, {"title": "x", "color": "red"}, {"title": 1}, {"title": "x", "due": "soon"}, []):
        assert ask("POST", items, bad, 400)["error"]
    for method, path, status in (
        ("GET", "/api/items/99", 404),
        ("GET", "/api/items/x", 404),
        ("GET", "/api/nothing", 404),
        ("PUT", "/api/items", 405),
        ("GET", "/api/items?show=some", 400),
        ("GET", "/api/export?format=xml", 400),
        ("GET", "/../todo/store.py", 404),
        ("GET", "/%2e%2e/todo/store.py", 404),
    ):
        assert ask(method, url + path, None, status)["error"]
    assert call("POST", items, {"title": "x" * 70_000})[0] == 413
    print("API: items are added and changed, and what is wrong is refused")

with server() as url:
    items = f"{url}/api/items"
    assert [one["id"] for one in ask("GET", items)["items"]] == [1, 2, 3]
    assert [one["id"] for one in ask("GET", f"{items}?show=open&words=ROOF")["items"]] == [2]
    assert ask("GET", f"{url}/api/stats") == {"total": 3, "open": 2, "done": 1, "overdue": 1, "tags": {"home": 1}}
    assert ask("POST", f"{url}/api/clear-done") == {"removed": 1}
    assert call("DELETE", f"{items}/2")[:2] == (204, b"")
    assert [ask("POST", items, {"title": title}, 201)["id"] for title in ("Later", "Latest")] == [4, 5]
    status, text, headers = call("GET", f"{url}/api/export?format=csv")
    assert headers["Content-Type"].startswith("text/csv") and b"1,Buy tea" in text, text
    status, text, headers = call("GET", f"{url}/")
    assert status == 200 and b"app.js" in text
    assert headers["Content-Security-Policy"] == "default-src 'self'" and headers["X-Content-Type-Options"] == "nosniff"
    assert call("GET", f"{url}/app.js")[2]["Content-Type"].startswith("text/javascript")
    print("restart: the list is still there, no id came back, and the page is served")
PYTHON

for path in /api/items /api/stats /api/clear-done /api/export; do
  grep -qF "$path" docs/api.md || { echo "not in docs/api.md: $path"; exit 1; }
done
grep -qF 'python3 -m todo' README.md
echo "docs: every call is there"
