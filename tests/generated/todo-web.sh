# A stand-in for a good agent: does the tasks of examples/generated-plans/todo-web, each in its own files.
set -eu

# routes MODULE 'METHOD PATTERN FUNCTION'... : add routes to todo/routes.py, and leave the others as they are.
routes() {
  python3 -B - "$@" <<'END'
import sys
from pathlib import Path

module, *new = sys.argv[1:]
file = Path("todo/routes.py")
text = file.read_text("utf-8")
lines = []
for one in new:
    method, pattern, function = one.split()
    lines.append(f'    Route("{method}", "{pattern}", {module}.{function}),\n')
head, _, rest = text.partition("from todo.web import Route\n")
body, _, tail = rest.partition("ROUTES = [")
old = tail.strip().removesuffix("]").strip()
kept = f"    {old}\n" if old else ""
file.write_text(
    f"{head}from todo import {module}\nfrom todo.web import Route\n{body}ROUTES = [\n{kept}{''.join(lines)}]\n", "utf-8"
)
END
}

case $OCAPTAIN_TASK_ID in
1)
mkdir -p todo tests
printf '__pycache__/\n*.pyc\ntodo.json\n' > .gitignore
printf '"""A list of what is to be done."""\n\nVERSION = "1.0"\n' > todo/__init__.py
: > tests/__init__.py
;;
2)
cat > todo/item.py <<'END'
"""What an item is, and what a client may send of it."""

import re
from dataclasses import asdict, dataclass
from datetime import date


class Invalid(Exception):
    """What a client sent cannot be taken; the text says why."""


@dataclass(frozen=True)
class Item:
    """Something that is to be done."""

    id: int
    title: str
    done: bool = False
    due: date | None = None
    tags: tuple[str, ...] = ()


def _title(value):
    if not isinstance(value, str) or not 1 <= len(value.strip()) <= 200 or len(value.strip().splitlines()) > 1:
        raise Invalid("title must be one line of 1 to 200 characters")
    return value.strip()


def _done(value):
    if not isinstance(value, bool):
        raise Invalid("done must be true or false")
    return value


def _due(value):
    if value is None:
        return None
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise Invalid("due must be a day such as 2026-06-01, or null")


def _tags(value):
    if not isinstance(value, list) or len(value) > 10:
        raise Invalid("tags must be a list of at most 10")
    for one in value:
        if not isinstance(one, str) or not re.fullmatch(r"(?:[^\W_]|-){1,30}", one):
            raise Invalid("a tag has 1 to 30 letters, digits or -")
    return tuple(sorted({one.lower() for one in value}))


_CHECKS = {"title": _title, "done": _done, "due": _due, "tags": _tags}


def check_fields(data):
    """Return the fields that a client sent, cleaned."""
    if not isinstance(data, dict):
        raise Invalid("send a JSON object")
    for name in data:
        if name not in _CHECKS:
            raise Invalid(f"{name[:50]} is not a field; there are {', '.join(_CHECKS)}")
    return {name: _CHECKS[name](value) for name, value in data.items()}


def to_dict(item):
    """Return an item as JSON has it."""
    return {**asdict(item), "due": item.due and item.due.isoformat(), "tags": list(item.tags)}


def from_dict(data):
    """Return the item of what to_dict returned."""
    return Item(**{**data, "due": data["due"] and date.fromisoformat(data["due"]), "tags": tuple(data["tags"])})
END
cat > tests/test_item.py <<'END'
import unittest
from datetime import date

from todo.item import Invalid, Item, check_fields, from_dict, to_dict


class TestItem(unittest.TestCase):
    def test_a_title_of_200_is_taken_and_of_201_is_not(self):
        self.assertEqual(len(check_fields({"title": "x" * 200})["title"]), 200)
        with self.assertRaisesRegex(Invalid, "title"):
            check_fields({"title": "x" * 201})

    def test_tags_are_lower_sorted_and_none_twice(self):
        self.assertEqual(check_fields({"tags": ["Zoo", "äpfel", "zoo"]})["tags"], ("zoo", "äpfel"))

    def test_a_day_that_does_not_exist(self):
        with self.assertRaisesRegex(Invalid, "due"):
            check_fields({"due": "2026-02-30"})

    def test_there_and_back(self):
        for item in (Item(1, "a"), Item(2, "b", True, date(2026, 1, 2), ("x",))):
            self.assertEqual(from_dict(to_dict(item)), item)
END
;;
3)
cat > todo/web.py <<'END'
"""Requests, responses and routes; knows nothing of items."""

import json
import re
from dataclasses import dataclass, field


class HttpError(Exception):
    """A request that cannot be answered as was wished."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True)
class Request:
    """What a client asks; the path is decoded."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Response:
    """What a client gets."""

    status: int = 200
    body: bytes = b""
    type: str = "application/json"


@dataclass(frozen=True)
class Route:
    """Which function answers which path; <name> in the pattern is a number."""

    method: str
    pattern: str
    function: object

    def match(self, path):
        """Return the parameters of a path, None if it is not this route's."""
        expression = re.sub(r"<(\w+)>", r"(?P<\1>[0-9]{1,9})", self.pattern)
        found = re.fullmatch(expression, path)
        return found and {name: int(number) for name, number in found.groupdict().items()}


def json_response(data, status=200):
    """Return data as JSON."""
    return Response(status, json.dumps(data, ensure_ascii=False).encode())


def read_json(request):
    """Return the object that a client sent."""
    try:
        data = json.loads(request.body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise HttpError(400, "send JSON in UTF-8") from None
    if not isinstance(data, dict):
        raise HttpError(400, "send a JSON object")
    return data


def handle(routes, request, store):
    """Return the answer of the route that fits."""
    try:
        others = False
        for route in routes:
            parameters = route.match(request.path)
            if parameters is None:
                continue
            if route.method == request.method:
                return route.function(request, store, **parameters)
            others = True
        raise HttpError(405, "another method would do") if others else HttpError(404, "there is no such path")
    except HttpError as error:
        return json_response({"error": error.message}, error.status)
END
printf '"""All routes; each module of the API adds its own."""\n\nfrom todo.web import Route\n\nROUTES = [\n]\n' > todo/routes.py
cat > tests/test_web.py <<'END'
import json
import unittest

from todo.web import HttpError, Request, Response, Route, handle, read_json


def gone(request, store, id):
    raise HttpError(404, f"no {id}")


class TestWeb(unittest.TestCase):
    def test_an_error_becomes_an_answer(self):
        found = handle([Route("GET", "/a/<id>", gone)], Request("GET", "/a/3"), None)
        self.assertEqual((found.status, json.loads(found.body)), (404, {"error": "no 3"}))

    def test_the_method_decides_among_routes_of_one_path(self):
        routes = [Route("GET", "/a", lambda *_: Response(200)), Route("PUT", "/a", lambda *_: Response(201))]
        self.assertEqual(handle(routes, Request("PUT", "/a"), None).status, 201)
        self.assertEqual(handle(routes, Request("POST", "/a"), None).status, 405)

    def test_json_that_is_none(self):
        for body in (b"", b"{", b"[]", b"\xff", b"[" * 100_000):
            with self.assertRaises(HttpError):
                read_json(Request("POST", "/", {}, body))
END
;;
4)
cat > todo/store.py <<'END'
"""Keeps the list in a file."""

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

from todo.item import Item, from_dict, to_dict


class NotFound(Exception):
    """There is no such item."""


class Store:
    """The list; threads may call it at the same time."""

    def __init__(self, path):
        self._path = Path(path)
        self._lock = threading.Lock()
        self._items, self._next = {}, 1
        try:
            data = json.loads(self._path.read_text("utf-8"))
            self._items = {item.id: item for item in map(from_dict, data["items"])}
            self._next = int(data["next"])
        except FileNotFoundError:
            pass
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}: is not a list of this program: {error}") from None

    def _save(self):
        data = {"next": self._next, "items": [to_dict(item) for item in self._items.values()]}
        beside = self._path.with_name(self._path.name + ".new")
        with beside.open("w", encoding="utf-8") as file:
            json.dump(data, file, ensure_ascii=False, indent=1)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)

    def _find(self, id):
        if id not in self._items:
            raise NotFound(f"there is no item {id}")
        return self._items[id]

    def all(self):
        """Return all items."""
        with self._lock:
            return list(self._items.values())

    def get(self, id):
        """Return an item."""
        with self._lock:
            return self._find(id)

    def add(self, **fields):
        """Add an item; return it."""
        with self._lock:
            item = Item(self._next, **fields)
            self._items[item.id] = item
            self._next += 1
            self._save()
            return item

    def change(self, id, **fields):
        """Change an item; return it."""
        with self._lock:
            self._items[id] = replace(self._find(id), **fields)
            self._save()
            return self._items[id]

    def remove(self, id):
        """Remove an item."""
        with self._lock:
            self._find(id)
            del self._items[id]
            self._save()

    def clear_done(self):
        """Remove what is done; return how many."""
        with self._lock:
            rest = {id: item for id, item in self._items.items() if not item.done}
            removed = len(self._items) - len(rest)
            if removed:
                self._items = rest
                self._save()
            return removed
END
cat > tests/test_store.py <<'END'
import tempfile
import unittest
from pathlib import Path

from todo.store import Store


class TestStore(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name) / "list.json"

    def test_a_new_store_finds_what_the_old_one_kept(self):
        one = Store(self.file).add(title="a", tags=("x",))
        self.assertEqual(Store(self.file).all(), [one])

    def test_the_last_id_does_not_come_back(self):
        store = Store(self.file)
        store.remove(store.add(title="a").id)
        self.assertEqual(Store(self.file).add(title="b").id, 2)

    def test_a_damaged_file_is_named(self):
        for text in ("nonsense", "[]", '{"items": [1], "next": 2}', "{}"):
            self.file.write_text(text)
            with self.assertRaisesRegex(ValueError, "list.json"):
                Store(self.file)
END
;;
5)
cat > todo/select.py <<'END'
"""Selects and sorts."""

from datetime import date

_SHOW = {"all": {False, True}, "open": {False}, "done": {True}}


def select(items, show="all", tag="", words=""):
    """Return the items that are wished for, sorted."""
    if show not in _SHOW:
        raise ValueError(f"show is one of {', '.join(_SHOW)}")
    wanted = words.casefold().split()
    found = [
        item
        for item in items
        if item.done in _SHOW[show]
        and (not tag or tag.lower() in item.tags)
        and all(word in item.title.casefold() for word in wanted)
    ]
    return sorted(found, key=lambda item: (item.done, item.due or date.max, item.id))
END
cat > tests/test_select.py <<'END'
import unittest

from todo.item import Item
from todo.select import select


class TestSelect(unittest.TestCase):
    def test_every_word_must_be_there(self):
        some = [Item(1, "Buy green tea"), Item(2, "Buy bread")]
        self.assertEqual([one.id for one in select(some, words="TEA buy")], [1])

    def test_an_unknown_choice(self):
        with self.assertRaisesRegex(ValueError, "all, open, done"):
            select([], show="some")
END
;;
6)
cat > todo/stats.py <<'END'
"""Counts."""

from collections import Counter


def summarise(items, today):
    """Return the counts of a list."""
    still = [item for item in items if not item.done]
    return {
        "total": len(items),
        "open": len(still),
        "done": len(items) - len(still),
        "overdue": sum(1 for item in still if item.due and item.due < today),
        "tags": dict(sorted(Counter(tag for item in still for tag in item.tags).items())),
    }
END
cat > tests/test_stats.py <<'END'
import unittest
from datetime import date

from todo.item import Item
from todo.stats import summarise


class TestStats(unittest.TestCase):
    def test_what_is_done_is_not_overdue_and_its_tags_do_not_count(self):
        found = summarise([Item(1, "a", True, date(2020, 1, 1), ("x",))], date(2026, 1, 1))
        self.assertEqual((found["overdue"], found["tags"]), (0, {}))
END
;;
7)
cat > todo/export.py <<'END'
"""The list for other programs."""

import csv
import io
import re


def to_csv(items):
    """Return the list as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "title", "done", "due", "tags"])
    for item in items:
        # A spreadsheet would run what looks like a formula.
        title = f"'{item.title}" if item.title[0] in "=+-@" else item.title
        writer.writerow([item.id, title, str(item.done).lower(), item.due or "", " ".join(item.tags)])
    return out.getvalue()


def to_markdown(items):
    """Return the list as Markdown."""
    lines = []
    for item in items:
        title = re.sub(r"([\\`*_\[\]<>#|~!])", r"\\\1", item.title)
        day = f" ({item.due})" if item.due else ""
        tags = "".join(f" #{tag}" for tag in item.tags)
        lines.append(f"- [{'x' if item.done else ' '}] {title}{day}{tags}\n")
    return "".join(lines)
END
cat > tests/test_export.py <<'END'
import csv
import io
import unittest

from todo.export import to_csv, to_markdown
from todo.item import Item


class TestExport(unittest.TestCase):
    def test_csv_can_be_read_again(self):
        rows = list(csv.DictReader(io.StringIO(to_csv([Item(1, 'a "b", c')]))))
        self.assertEqual(rows[0]["title"], 'a "b", c')

    def test_markup_is_escaped(self):
        self.assertEqual(to_markdown([Item(1, "<b>")]), "- [ ] \\<b\\>\n")
END
;;
8)
cat > todo/static.py <<'END'
"""Serves the files of static/."""

from pathlib import Path

from todo.web import HttpError, Response

FOLDER = Path(__file__).resolve().parent.parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def serve(path):
    """Return a file; whatever leads out of the folder is not there."""
    try:
        file = (FOLDER / ("index.html" if path == "/" else path.removeprefix("/"))).resolve(strict=True)
        if file.suffix in TYPES and file.is_relative_to(FOLDER.resolve()) and file.is_file():
            return Response(200, file.read_bytes(), TYPES[file.suffix])
    except (OSError, ValueError):
        pass
    raise HttpError(404, "there is no such file")
END
cat > tests/test_static.py <<'END'
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from todo import static
from todo.web import HttpError


class TestStatic(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.folder = Path(place.name) / "static"
        self.folder.mkdir()
        (self.folder / "index.html").write_text("hello")
        (self.folder / "look.css").write_text("a {}")
        (self.folder.parent / "secret.js").write_text("no")
        patch = mock.patch.object(static, "FOLDER", self.folder)
        patch.start()
        self.addCleanup(patch.stop)

    def test_files(self):
        self.assertEqual(static.serve("/").body, b"hello")
        self.assertEqual(static.serve("/look.css").type, "text/css; charset=utf-8")

    def test_nothing_leads_out(self):
        (self.folder / "link.js").symlink_to("../secret.js")
        for path in ("/../secret.js", f"/{self.folder.parent}/secret.js", "/link.js"):
            with self.assertRaises(HttpError):
                static.serve(path)
END
;;
9)
cat > todo/api_items.py <<'END'
"""List and create."""

from todo.item import Invalid, check_fields, to_dict
from todo.select import select
from todo.web import HttpError, json_response, read_json


def list_items(request, store):
    """Return the items that are wished for."""
    wish = {name: request.query[name] for name in ("show", "tag", "words") if name in request.query}
    try:
        return json_response({"items": [to_dict(item) for item in select(store.all(), **wish)]})
    except ValueError as error:
        raise HttpError(400, str(error)) from None


def create_item(request, store):
    """Add an item."""
    try:
        fields = check_fields(read_json(request))
    except Invalid as error:
        raise HttpError(400, str(error)) from None
    if "title" not in fields:
        raise HttpError(400, "a new item needs a title")
    return json_response(to_dict(store.add(**fields)), 201)
END
cat > tests/test_api_items.py <<'END'
import json
import tempfile
import unittest
from pathlib import Path

from todo.api_items import create_item, list_items
from todo.store import Store
from todo.web import HttpError, Request


class TestItems(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.store = Store(Path(folder.name) / "list.json")

    def create(self, data):
        return create_item(Request("POST", "/api/items", {}, json.dumps(data).encode()), self.store)

    def test_create_and_list(self):
        self.assertEqual(self.create({"title": "a", "tags": ["x"]}).status, 201)
        self.create({"title": "b"})
        found = json.loads(list_items(Request("GET", "/api/items", {"tag": "x"}), self.store).body)
        self.assertEqual([one["title"] for one in found["items"]], ["a"])

    def test_what_is_wrong_is_not_kept(self):
        with self.assertRaises(HttpError):
            self.create({"tags": []})
        self.assertEqual(self.store.all(), [])
END
routes api_items 'GET /api/items list_items' 'POST /api/items create_item'
;;
10)
cat > todo/api_item.py <<'END'
"""One item."""

from todo.item import Invalid, check_fields, to_dict
from todo.store import NotFound
from todo.web import HttpError, Response, json_response, read_json


def get_item(request, store, id):
    """Return an item."""
    try:
        return json_response(to_dict(store.get(id)))
    except NotFound as error:
        raise HttpError(404, str(error)) from None


def change_item(request, store, id):
    """Change what was sent of an item."""
    try:
        return json_response(to_dict(store.change(id, **check_fields(read_json(request)))))
    except Invalid as error:
        raise HttpError(400, str(error)) from None
    except NotFound as error:
        raise HttpError(404, str(error)) from None


def remove_item(request, store, id):
    """Remove an item."""
    try:
        store.remove(id)
    except NotFound as error:
        raise HttpError(404, str(error)) from None
    return Response(204)
END
cat > tests/test_api_item.py <<'END'
import tempfile
import unittest
from datetime import date
from pathlib import Path

from todo.api_item import change_item, get_item
from todo.store import Store
from todo.web import HttpError, Request


class TestItem(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.store = Store(Path(folder.name) / "list.json")

    def test_what_was_not_sent_stays(self):
        self.store.add(title="a", due=date(2026, 1, 1))
        change_item(Request("PATCH", "/api/items/1", {}, b'{"title": "b"}'), self.store, 1)
        self.assertEqual((self.store.get(1).title, self.store.get(1).due), ("b", date(2026, 1, 1)))

    def test_an_item_that_is_not_there(self):
        with self.assertRaises(HttpError) as caught:
            get_item(Request("GET", "/api/items/1"), self.store, 1)
        self.assertEqual(caught.exception.status, 404)
END
routes api_item 'GET /api/items/<id> get_item' 'PATCH /api/items/<id> change_item' 'DELETE /api/items/<id> remove_item'
;;
11)
cat > todo/api_stats.py <<'END'
"""Counts and clearing."""

from datetime import date

from todo.stats import summarise
from todo.web import json_response


def get_stats(request, store):
    """Return the counts of today."""
    return json_response(summarise(store.all(), date.today()))


def clear_done(request, store):
    """Remove what is done."""
    return json_response({"removed": store.clear_done()})
END
cat > tests/test_api_stats.py <<'END'
import json
import tempfile
import unittest
from datetime import date
from pathlib import Path

from todo.api_stats import clear_done, get_stats
from todo.store import Store
from todo.web import Request


class TestStats(unittest.TestCase):
    def test_counts_and_clearing(self):
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder) / "list.json")
            store.add(title="a", due=date(2020, 1, 1))
            store.add(title="b", done=True)
            self.assertEqual(json.loads(get_stats(Request("GET", "/api/stats"), store).body)["overdue"], 1)
            self.assertEqual(json.loads(clear_done(Request("POST", "/api/clear-done"), store).body), {"removed": 1})
            self.assertEqual([one.title for one in store.all()], ["a"])
END
routes api_stats 'GET /api/stats get_stats' 'POST /api/clear-done clear_done'
;;
12)
cat > todo/api_export.py <<'END'
"""The export."""

from todo.export import to_csv, to_markdown
from todo.select import select
from todo.web import HttpError, Response

_FORMATS = {"csv": ("text/csv", to_csv), "md": ("text/markdown", to_markdown)}


def export(request, store):
    """Return the whole list in another format."""
    if (wish := request.query.get("format")) not in _FORMATS:
        raise HttpError(400, f"format is one of {', '.join(_FORMATS)}")
    kind, write = _FORMATS[wish]
    return Response(200, write(select(store.all())).encode(), f"{kind}; charset=utf-8")
END
cat > tests/test_api_export.py <<'END'
import tempfile
import unittest
from pathlib import Path

from todo.api_export import export
from todo.store import Store
from todo.web import HttpError, Request


class TestExport(unittest.TestCase):
    def test_the_formats(self):
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder) / "list.json")
            store.add(title="Tëa")
            found = export(Request("GET", "/api/export", {"format": "md"}), store)
            self.assertEqual(found.body.decode(), "- [ ] Tëa\n")
            with self.assertRaisesRegex(HttpError, "csv, md"):
                export(Request("GET", "/api/export", {"format": "pdf"}), store)
END
routes api_export 'GET /api/export export'
;;
13)
mkdir -p static
cat > static/index.html <<'END'
<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width">
  <title>Todo</title>
  <link rel="stylesheet" href="style.css">
  <script type="module" src="app.js"></script>
</head>
<body>
  <main>
    <h1>Todo</h1>
    <form id="add">
      <p><label for="title">What is to be done</label> <input id="title" required maxlength="200" autocomplete="off"></p>
      <p><label for="due">By which day</label> <input id="due" type="date"></p>
      <p><label for="tags">Tags, with blanks between</label> <input id="tags" autocomplete="off"></p>
      <button>Add</button>
    </form>
    <p id="message" role="status"></p>
    <h2>The list</h2>
    <p>
      <label for="show">Show</label>
      <select id="show">
        <option value="all">all</option>
        <option value="open">open</option>
        <option value="done">done</option>
      </select>
      <button id="clear" type="button">Remove what is done</button>
    </p>
    <ul id="items"></ul>
    <p id="stats"></p>
  </main>
</body>
</html>
END
;;
14)
mkdir -p static
cat > static/style.css <<'END'
:root { color-scheme: light dark; --ink: #1d2733; --paper: #fbfaf7; --line: #d8d4cb; --mark: #1f6feb; --late: #b3261e }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e7e5e0; --paper: #16191d; --line: #363c44; --mark: #79b0ff; --late: #ff9a91 }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif }
main { max-width: 40rem; margin: 0 auto; padding: 1.5rem 1rem }
label { display: block; font-size: .9rem }
input, select, button { font: inherit; padding: .4rem .6rem; border: 1px solid var(--line); border-radius: .4rem }
#title, #tags { width: 100% }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px }
#items { list-style: none; padding: 0 }
.item { display: flex; gap: .6rem; align-items: center; padding: .5rem 0; border-bottom: 1px solid var(--line) }
.item .title { flex: 1; overflow-wrap: anywhere }
.done .title { text-decoration: line-through; opacity: .65 }
.overdue time { color: var(--late); font-weight: 700 }
.overdue time::before { content: "! " }
.tag { font-size: .85rem; padding: 0 .5rem; border: 1px solid var(--line); border-radius: 1rem }
.remove { min-width: 2.5rem }
#message:empty { display: none }
END
;;
15)
mkdir -p static
cat > static/api.js <<'END'
// Talks to the server.

async function call(method, path, data) {
  const options = { method, headers: { "Content-Type": "application/json" } };
  if (data !== undefined) options.body = JSON.stringify(data);
  const reply = await fetch(`/api/${path}`, options);
  if (reply.status === 204) return null;
  const found = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Error(found.error || `the server answered ${reply.status}`);
  return found;
}

export function listItems(show) {
  return call("GET", `items?show=${encodeURIComponent(show)}`);
}

export function createItem(fields) {
  return call("POST", "items", fields);
}

export function changeItem(id, fields) {
  return call("PATCH", `items/${encodeURIComponent(id)}`, fields);
}

export function removeItem(id) {
  return call("DELETE", `items/${encodeURIComponent(id)}`);
}

export function getStats() {
  return call("GET", "stats");
}

export function clearDone() {
  return call("POST", "clear-done");
}
END
;;
16)
mkdir -p static
cat > static/view.js <<'END'
// Makes elements; knows no server.

function make(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text) element.textContent = text;
  return element;
}

export function renderItem(item, today) {
  const line = make("li", "item");
  line.dataset.id = item.id;
  line.classList.toggle("done", item.done);
  line.classList.toggle("overdue", !item.done && item.due !== null && item.due < today);
  const box = make("input");
  box.type = "checkbox";
  box.checked = item.done;
  box.setAttribute("aria-label", `Done: ${item.title}`);
  line.append(box, make("span", "title", item.title));
  if (item.due !== null) {
    const day = make("time", "", item.due);
    day.dateTime = item.due;
    line.append(day);
  }
  line.append(...item.tags.map((tag) => make("span", "tag", tag)));
  const button = make("button", "remove", "×");
  button.type = "button";
  button.setAttribute("aria-label", `Remove: ${item.title}`);
  line.append(button);
  return line;
}

export function renderList(list, items, today) {
  list.replaceChildren(...items.map((item) => renderItem(item, today)));
}

export function renderStats(element, stats) {
  const late = stats.overdue ? `, ${stats.overdue} overdue` : "";
  element.textContent = `${stats.open} open${late}, ${stats.done} done`;
}
END
;;
17)
cat > static/app.js <<'END'
// Puts the page, the server and the elements together.

import { changeItem, clearDone, createItem, getStats, listItems, removeItem } from "./api.js";
import { renderList, renderStats } from "./view.js";

const form = document.getElementById("add");
const title = document.getElementById("title");
const due = document.getElementById("due");
const tags = document.getElementById("tags");
const show = document.getElementById("show");
const list = document.getElementById("items");
const message = document.getElementById("message");

function today() {
  const now = new Date();
  return new Date(now.getTime() - now.getTimezoneOffset() * 60000).toISOString().slice(0, 10);
}

async function draw() {
  const [found, stats] = await Promise.all([listItems(show.value), getStats()]);
  renderList(list, found.items, today());
  renderStats(document.getElementById("stats"), stats);
}

async function act(action) {
  try {
    await action();
    message.textContent = "";
    await draw();
    return true;
  } catch (error) {
    message.textContent = error.message;
    return false;
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const words = tags.value.split(/\s+/).filter(Boolean);
  if (await act(() => createItem({ title: title.value, due: due.value || null, tags: words }))) form.reset();
  title.focus();
});

list.addEventListener("change", async (event) => {
  const { id } = event.target.closest(".item").dataset;
  const wished = event.target.checked;
  if (!(await act(() => changeItem(id, { done: wished })))) event.target.checked = !wished;
});

list.addEventListener("click", (event) => {
  if (event.target.matches(".remove")) act(() => removeItem(event.target.closest(".item").dataset.id));
});

show.addEventListener("change", () => act(async () => {}));
document.getElementById("clear").addEventListener("click", () => act(clearDone));
act(async () => {});
END
;;
18)
cat > todo/server.py <<'END'
"""The server: HTTP on one side, routes and files on the other."""

import sys
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

from todo.routes import ROUTES
from todo.static import serve
from todo.web import HttpError, Request, handle, json_response

MAX_BODY = 64 * 1024


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def _body(self):
        if "Transfer-Encoding" in self.headers:
            raise HttpError(400, "send a Content-Length")
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit() and len(length) < 10):
            raise HttpError(400, "Content-Length is no number")
        if int(length) > MAX_BODY:
            raise HttpError(413, f"a body has at most {MAX_BODY} bytes")
        return self.rfile.read(int(length))

    def _find(self):
        try:
            body = self._body()
        except HttpError:
            self.close_connection = True  # what follows cannot be told from a request
            raise
        path, _, query = self.path.partition("?")
        path = unquote(urlsplit(path).path if "://" in path else path)
        method = "GET" if self.command == "HEAD" else self.command
        if path.startswith("/api/"):
            return handle(ROUTES, Request(method, path, dict(parse_qsl(query, True)), body), self.server.store)
        if method != "GET":
            raise HttpError(405, "another method would do")
        return serve(path)

    def _answer(self):
        try:
            found = self._find()
        except HttpError as error:
            found = json_response({"error": error.message}, error.status)
        except Exception:  # a bug is shown where the server runs, not to the client
            traceback.print_exc(file=sys.stderr)
            found = json_response({"error": "the server made a mistake"}, 500)
        self.send_response(found.status)
        if found.status != 204:
            self.send_header("Content-Type", found.type)
            self.send_header("Content-Length", str(len(found.body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        if found.type.startswith("text/html"):
            self.send_header("Content-Security-Policy", "default-src 'self'")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(found.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def log_message(self, *_):
        """Print nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True


def make_server(store, port=0, host="127.0.0.1"):
    """Return a server that listens; port 0 is a free one."""
    server = _Server((host, port), _Handler)
    server.store = store
    return server
END
cat > tests/test_server.py <<'END'
import http.client
import threading
import unittest
from unittest import mock

from todo import server
from todo.web import Response, Route


def broken(request, store):
    raise RuntimeError("secret")


def echo(request, store):
    return Response(200, f"{request.query} {request.body.decode()}".encode(), "text/plain")


class TestServer(unittest.TestCase):
    def setUp(self):
        routes = [Route("GET", "/api/broken", broken), Route("POST", "/api/echo", echo)]
        for patch in (mock.patch.object(server, "ROUTES", routes), mock.patch.object(server.traceback, "print_exc")):
            patch.start()
            self.addCleanup(patch.stop)
        self.server = server.make_server(None)
        thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    def call(self, method, path, body=None):
        line = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=10)
        self.addCleanup(line.close)
        line.request(method, path, body)
        reply = line.getresponse()
        return reply.status, reply.read().decode()

    def test_a_bug_is_not_shown(self):
        status, text = self.call("GET", "/api/broken")
        self.assertEqual(status, 500)
        self.assertNotIn("secret", text)

    def test_query_and_body(self):
        self.assertEqual(self.call("POST", "/api/echo?a=b%20c", "d"), (200, "{'a': 'b c'} d"))

    def test_head_has_no_body(self):
        self.assertEqual(self.call("HEAD", "/api/nothing"), (404, ""))
END
;;
19)
cat > todo/__main__.py <<'END'
"""Starts the server."""

import argparse
import signal
import sys

from todo.server import make_server
from todo.store import Store


def main(argv=None):
    """Serve until it is interrupted or terminated; return the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m todo", description="A list of what is to be done.")
    parser.add_argument("--data", default="todo.json", help="where the list is kept (todo.json)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (8000)")
    parser.add_argument("--host", default="127.0.0.1", help="whom it listens to (127.0.0.1)")
    options = parser.parse_args(argv)
    try:
        server = make_server(Store(options.data), options.port, options.host)
    except (OSError, OverflowError, ValueError) as error:
        print(f"todo: {error}", file=sys.stderr)
        return 2
    with server:
        try:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            print(f"http://{options.host}:{server.server_port}/", flush=True)
            server.serve_forever()
        except KeyboardInterrupt:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
END
cat > tests/test_main.py <<'END'
import contextlib
import io
import subprocess
import sys
import tempfile
import unittest

from todo.__main__ import main


class TestMain(unittest.TestCase):
    def test_it_says_where_it_is_and_ends_when_it_is_told(self):
        with tempfile.TemporaryDirectory() as folder:
            argv = [sys.executable, "-m", "todo", "--data", f"{folder}/list.json", "--port", "0"]
            with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
                self.assertRegex(process.stdout.readline(), r"^http://127\.0\.0\.1:\d+/$")
                process.terminate()
                self.assertEqual(process.wait(10), 0)

    def test_a_port_that_does_not_exist(self):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertEqual(main(["--data", f"{folder}/list.json", "--port", "70000"]), 2)
        self.assertEqual(said.getvalue().count("\n"), 1)
END
;;
20)
cat > tests/test_end_to_end.py <<'END'
"""A list as a browser keeps it, by HTTP, over a restart."""

import http.client
import json
import re
import tempfile
import threading
import unittest
from pathlib import Path

from todo.server import make_server
from todo.store import Store


class TestEndToEnd(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name) / "list.json"
        self.start()
        self.addCleanup(self.stop)

    def start(self):
        self.server = make_server(Store(self.file))
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def call(self, method, path, data=None):
        line = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=10)
        try:
            line.request(method, path, None if data is None else json.dumps(data))
            reply = line.getresponse()
            text = reply.read().decode()
        finally:
            line.close()
        return reply.status, json.loads(text) if "json" in (reply.headers["Content-Type"] or "") else text

    def test_a_list_outlives_the_server(self):
        for title in ("a", "b", "c"):
            self.assertEqual(self.call("POST", "/api/items", {"title": title})[0], 201)
        self.assertTrue(self.call("PATCH", "/api/items/2", {"done": True})[1]["done"])
        self.assertEqual(self.call("GET", "/api/stats")[1]["open"], 2)
        self.stop()
        self.start()
        found = self.call("GET", "/api/items?show=open")[1]["items"]
        self.assertEqual([one["title"] for one in found], ["a", "c"])

    def test_export_clear_and_remove(self):
        self.call("POST", "/api/items", {"title": "a", "done": True})
        self.call("POST", "/api/items", {"title": "b"})
        self.assertIn("- [x] a\n", self.call("GET", "/api/export?format=md")[1])
        self.assertEqual(self.call("POST", "/api/clear-done")[1], {"removed": 1})
        self.assertEqual(self.call("DELETE", "/api/items/2"), (204, ""))
        self.assertEqual(self.call("GET", "/api/items")[1], {"items": []})

    def test_the_page_and_all_that_it_loads(self):
        status, page = self.call("GET", "/")
        self.assertEqual(status, 200)
        wanted = set(re.findall(r'(?:src|href)="([^"]+)"', page))
        for script in sorted(name for name in wanted if name.endswith(".js")):
            wanted |= set(re.findall(r'from "\./([^"]+)"', self.call("GET", f"/{script}")[1]))
        self.assertLessEqual({"style.css", "app.js", "api.js", "view.js"}, wanted)
        for name in wanted:
            self.assertEqual(self.call("GET", f"/{name}")[0], 200, name)
END
;;
21)
mkdir -p docs
cat > docs/api.md <<'END'
# The API

Bodies are JSON in UTF-8, of at most 64 KiB (413). An error is `{"error": "what is wrong"}`: 400 for what was sent, 404 for
what is not there, 405 for another method. The examples are of a server at `http://127.0.0.1:8000`.

An item is `{"id": 1, "title": "Buy tea", "done": false, "due": "2026-06-01", "tags": ["home"]}`; `due` may be `null`.

## GET /api/items

`show` (`all`, `open`, `done`), `tag` and `words` select. Open ones come first, then by day.

    $ curl 'http://127.0.0.1:8000/api/items?show=open&words=tea'
    {"items": [{"id": 1, "title": "Buy tea", "done": false, "due": null, "tags": []}]}

## POST /api/items

Adds an item; `title` must be there. 201.

    $ curl -d '{"title": "Buy tea"}' http://127.0.0.1:8000/api/items
    {"id": 1, "title": "Buy tea", "done": false, "due": null, "tags": []}

## GET /api/items/<id>

    $ curl http://127.0.0.1:8000/api/items/1
    {"id": 1, "title": "Buy tea", "done": false, "due": null, "tags": []}

## PATCH /api/items/<id>

Changes the fields that are sent.

    $ curl -X PATCH -d '{"done": true}' http://127.0.0.1:8000/api/items/1
    {"id": 1, "title": "Buy tea", "done": true, "due": null, "tags": []}

## DELETE /api/items/<id>

204, no body.

    $ curl -X DELETE http://127.0.0.1:8000/api/items/1

## GET /api/stats

Tags are those of open items.

    $ curl http://127.0.0.1:8000/api/stats
    {"total": 1, "open": 0, "done": 1, "overdue": 0, "tags": {}}

## POST /api/clear-done

Removes what is done.

    $ curl -X POST http://127.0.0.1:8000/api/clear-done
    {"removed": 1}

## GET /api/export

`format` is `csv` or `md`.

    $ curl 'http://127.0.0.1:8000/api/export?format=md'
    - [x] Buy tea
END
;;
22)
cat > README.md <<'END'
# Todo

A list of what is to be done, in the browser. Python 3.11 is all that it needs.

    $ python3 -m todo --data todo.json --port 8000
    http://127.0.0.1:8000/

The list is kept in the file that `--data` names, `todo.json` by default. Nobody but this machine can reach it, unless
`--host` says otherwise.

- What other programs can call: [docs/api.md](docs/api.md)
- Tests: `python3 -m unittest discover -s tests -t .`
END
;;
*) echo "there is no task $OCAPTAIN_TASK_ID in this plan" >&2; exit 1 ;;
esac
