# A stand-in for a good agent: does the tasks of examples/generated-plans/data-pipeline, each in its own files.
set -eu
case $OCAPTAIN_TASK_ID in
1)
mkdir -p harbour tests
printf '__pycache__/\n*.pyc\nout/\n' > .gitignore
printf '"""Figures of harbours."""\n\nVERSION = "1.0"\n' > harbour/__init__.py
: > tests/__init__.py
cat > harbour/record.py <<'END'
"""What the modules hand to each other."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal


@dataclass(frozen=True)
class Arrival:
    """A ship's arrival, cleaned."""

    day: date
    harbour: str
    vessel: str
    cargo: str
    tonnes: Decimal


@dataclass(frozen=True)
class Reject:
    """A line of the file that is not used, and why."""

    line: int
    reason: str
END
cat > tests/test_record.py <<'END'
import unittest
from datetime import date
from decimal import Decimal

from harbour.record import Arrival


class TestRecord(unittest.TestCase):
    def test_equal_tonnes_are_equal_however_they_are_written(self):
        one, other = (Arrival(date(2026, 3, 5), "A", "b", "c", Decimal(text)) for text in ("1.5", "1.50"))
        self.assertEqual({one}, {other})
END
;;
2)
mkdir -p data
cat > data/arrivals.csv <<'END'
date,harbour,vessel,cargo,tonnes
2026-03-02,Bergen,Nordlys,Fish,120.5
02/03/2026,BERGEN,Nordlys,fish,120.50
2026-03-09,Genoa,Stella Mare,Oil,"12,400"
2026-03-15, genoa,Aurora,Grain,830.25
21/03/2026,Valparaíso,"Araucaria, the second",Copper,"3,150.75"
2026-03-31,Bergen,Fjordbris,Timber,410
2026-04-01,Bergen,Nordlys,Fish,98.2
2026-04-31,Genoa,Aurora,Grain,700
04/04/2026,Valparaíso,Araucaria,Copper,twelve
2026-04-07,Genoa,,Oil,50
2026-04-12,Valparaíso,Cóndor,,15.5
2026-04-20,GENOA,Stella Mare,Oil,"11,900.4"
END
;;
3)
cat > harbour/ingest.py <<'END'
"""Reads the file; changes nothing in a field."""

import csv
import io
from pathlib import Path

HEADER = ["date", "harbour", "vessel", "cargo", "tonnes"]


class IngestError(Exception):
    """The file cannot be read; the text names it."""


def read(path):
    """Return the number of each line and its fields."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise IngestError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise IngestError(f"{path}: is not UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""))
    if [field.strip() for field in next(reader, [])] != HEADER:
        raise IngestError(f"{path}: its first line is not {','.join(HEADER)}")
    rows, line = [], reader.line_num + 1
    for fields in reader:
        if any(field.strip() for field in fields):
            whole = [*fields, *[""] * len(HEADER)]
            rows.append((line, dict(zip(HEADER, whole))))
        line = reader.line_num + 1
    return rows
END
cat > tests/test_ingest.py <<'END'
import tempfile
import unittest
from pathlib import Path

from harbour.ingest import IngestError, read


class TestIngest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name) / "in.csv"

    def read(self, text):
        self.file.write_text(f"date,harbour,vessel,cargo,tonnes\n{text}", "utf-8")
        return read(self.file)

    def test_a_field_of_two_lines_does_not_shift_the_numbers(self):
        self.assertEqual([line for line, _ in self.read('a,b,"c\nc",d,1\na,b,c,d,2\n')], [2, 4])

    def test_what_is_too_much_is_dropped(self):
        self.assertEqual(self.read("a,b,c,d,1,x,y")[0][1]["tonnes"], "1")

    def test_a_file_that_is_not_there(self):
        with self.assertRaisesRegex(IngestError, "in.csv"):
            read(self.file)
END
;;
4)
cat > harbour/clean.py <<'END'
"""Keeps what is sound, and says why the rest is not."""

import re
from datetime import date
from decimal import Decimal

from harbour.record import Arrival, Reject

_TONNES = re.compile(r"[+-]?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?", re.ASCII)


def _day(text):
    if found := re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)", text, re.ASCII):
        year, month, day = found.groups()
    elif found := re.fullmatch(r"(\d\d)/(\d\d)/(\d{4})", text, re.ASCII):
        day, month, year = found.groups()
    else:
        return None
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return None


def _tonnes(text):
    if not _TONNES.fullmatch(text):
        return None
    found = Decimal(text.replace(",", ""))
    return found if found > 0 else None


def clean(rows):
    """Return what is kept, how many duplicates were dropped, and what was rejected."""
    kept, duplicates, rejects = {}, 0, []
    for line, row in rows:
        fields = {name: text.strip() for name, text in row.items()}
        day, tonnes = _day(fields["date"]), _tonnes(fields["tonnes"])
        reasons = {
            "no harbour": not fields["harbour"],
            "no vessel": not fields["vessel"],
            "bad date": day is None,
            "bad tonnes": tonnes is None,
        }
        if reason := next((reason for reason, is_true in reasons.items() if is_true), None):
            rejects.append(Reject(line, reason))
            continue
        one = Arrival(day, fields["harbour"].title(), fields["vessel"], fields["cargo"].lower() or "unknown", tonnes)
        duplicates += one in kept
        kept.setdefault(one)
    return list(kept), duplicates, rejects
END
cat > tests/test_clean.py <<'END'
import unittest

from harbour.clean import clean


def row(day="2026-03-05", harbour="a", vessel="b", cargo="c", tonnes="1"):
    return {"date": day, "harbour": harbour, "vessel": vessel, "cargo": cargo, "tonnes": tonnes}


class TestClean(unittest.TestCase):
    def test_a_good_row(self):
        (one,), duplicates, rejects = clean([(2, row(cargo=" "))])
        self.assertEqual((one.harbour, one.cargo, duplicates, rejects), ("A", "unknown", 0, []))

    def test_bad_tonnes(self):
        for text in ("", "x", "0", "-1", "nan", "inf", "1e3", "12,00", "1.2.3"):
            with self.subTest(text):
                self.assertEqual(clean([(2, row(tonnes=text))])[2][0].reason, "bad tonnes")

    def test_bad_dates(self):
        for text in ("", "2026-3-5", "2026-02-30", "31/04/2026", "03/2026"):
            with self.subTest(text):
                self.assertEqual(clean([(2, row(day=text))])[2][0].reason, "bad date")

    def test_duplicates(self):
        kept, duplicates, _ = clean([(2, row()), (3, row(harbour="A")), (4, row(tonnes="1.00")), (5, row(tonnes="2"))])
        self.assertEqual((len(kept), duplicates), (2, 2))
END
;;
5)
cat > harbour/aggregate.py <<'END'
"""Adds up; the sums are exact."""

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True)
class Month:
    """A harbour's month."""

    harbour: str
    month: str
    arrivals: int
    tonnes: Decimal
    largest: str


def by_month(arrivals):
    """Return the months, sorted by harbour and month."""
    groups = defaultdict(list)
    for one in arrivals:
        groups[one.harbour, one.day.strftime("%Y-%m")].append(one)
    return [
        Month(
            harbour,
            month,
            len(group),
            sum((one.tonnes for one in group), Decimal(0)),
            min(group, key=lambda one: (-one.tonnes, one.vessel)).vessel,
        )
        for (harbour, month), group in sorted(groups.items())
    ]


def by_cargo(arrivals):
    """Return cargoes and their tonnes, heaviest first."""
    sums = defaultdict(Decimal)
    for one in arrivals:
        sums[one.cargo] += one.tonnes
    return sorted(sums.items(), key=lambda item: (-item[1], item[0]))
END
cat > tests/test_aggregate.py <<'END'
import unittest
from datetime import date
from decimal import Decimal

from harbour.aggregate import by_cargo, by_month
from harbour.record import Arrival


class TestAggregate(unittest.TestCase):
    def test_ten_tenths_are_one(self):
        ten = [Arrival(date(2026, 3, day), "A", f"v{day}", "tea", Decimal("0.1")) for day in range(1, 11)]
        (month,) = by_month(ten)
        self.assertEqual((month.arrivals, month.tonnes, month.largest), (10, Decimal(1), "v1"))
        self.assertEqual(by_cargo(ten), [("tea", Decimal(1))])
END
;;
6)
cat > harbour/tables.py <<'END'
"""The tables as CSV."""

import csv
import io
from decimal import ROUND_HALF_UP, Decimal


def _csv(header, rows):
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([header, *rows])
    return out.getvalue()


def months_csv(months):
    """Return the months, tonnes with one decimal."""
    rows = [
        (one.harbour, one.month, one.arrivals, one.tonnes.quantize(Decimal("0.1"), ROUND_HALF_UP), one.largest)
        for one in months
    ]
    return _csv(("harbour", "month", "arrivals", "tonnes", "largest"), rows)


def rejects_csv(rejects):
    """Return the lines that were rejected, and why."""
    return _csv(("line", "reason"), [(one.line, one.reason) for one in rejects])
END
cat > tests/test_tables.py <<'END'
import unittest
from decimal import Decimal

from harbour.aggregate import Month
from harbour.tables import months_csv


class TestTables(unittest.TestCase):
    def test_half_is_up(self):
        for given, shown in (("0.25", "0.3"), ("0.35", "0.4"), ("0.24", "0.2"), ("1E+3", "1000.0")):
            with self.subTest(given):
                self.assertIn(f",{shown},", months_csv([Month("A", "2026-03", 1, Decimal(given), "v")]))
END
;;
7)
cat > harbour/report.py <<'END'
"""The report in Markdown."""

from decimal import ROUND_HALF_UP, Decimal


def _cell(value):
    if isinstance(value, Decimal):
        value = value.quantize(Decimal("0.1"), ROUND_HALF_UP)
    return " ".join(str(value).split()).replace("|", "\\|")


def _table(header, rows):
    lines = [header, ["---"] * len(header), *([_cell(one) for one in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def render(months, cargoes, counts):
    """Return the report."""
    read, kept, duplicates, rejected = counts
    rows = [(one.harbour, one.month, one.arrivals, one.tonnes, one.largest) for one in months]
    return (
        "# Harbour figures\n\n"
        f"Of {read} rows {kept} were kept; {duplicates} were duplicates and {rejected} were rejected.\n\n"
        "## Months\n\n"
        f"{_table(['Harbour', 'Month', 'Arrivals', 'Tonnes', 'Largest'], rows)}\n"
        "## Cargoes\n\n"
        f"{_table(['Cargo', 'Tonnes'], cargoes)}"
    )
END
cat > tests/test_report.py <<'END'
import unittest
from decimal import Decimal

from harbour.report import render


class TestReport(unittest.TestCase):
    def test_it_says_the_counts(self):
        self.assertIn("Of 9 rows 6 were kept; 1 were duplicates and 2 were rejected.", render([], [], (9, 6, 1, 2)))

    def test_a_bar_in_a_name_does_not_break_the_table(self):
        self.assertIn("| a\\|b | 1.0 |", render([], [("a|b", Decimal(1))], (1, 1, 0, 0)))
END
;;
8)
cat > harbour/chart.py <<'END'
"""The tonnes of each harbour as bars."""

from decimal import ROUND_HALF_UP, Decimal
from html import escape

WIDTH, HEIGHT, MARGIN = 640, 320, 40


def render(months):
    """Return an SVG with one bar a harbour."""
    sums = {}
    for one in months:
        sums[one.harbour] = sums.get(one.harbour, Decimal(0)) + one.tonnes
    most = max(sums.values(), default=Decimal(1))
    step = (WIDTH - 2 * MARGIN) / max(1, len(sums))
    parts = []
    for number, (harbour, tonnes) in enumerate(sorted(sums.items())):
        size = float(tonnes / most) * (HEIGHT - 2 * MARGIN)
        left, top = MARGIN + number * step, HEIGHT - MARGIN - size
        middle = left + step / 2
        shown = tonnes.quantize(Decimal("0.1"), ROUND_HALF_UP)
        parts.append(
            f'<rect class="bar" x="{left + step * 0.2:.2f}" y="{top:.2f}" width="{step * 0.6:.2f}" height="{size:.4f}"/>'
            f'<text x="{middle:.2f}" y="{top - 6:.2f}">{shown} t</text>'
            f'<text x="{middle:.2f}" y="{HEIGHT - MARGIN + 18}">{escape(harbour)}</text>'
        )
    style = ".bar{fill:#2a6f97}text{font:12px sans-serif;text-anchor:middle}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="Tonnes by harbour"><style>{style}</style>{"".join(parts)}</svg>\n'
    )
END
cat > tests/test_chart.py <<'END'
import unittest
import xml.etree.ElementTree as tree
from decimal import Decimal

from harbour.aggregate import Month
from harbour.chart import render


class TestChart(unittest.TestCase):
    def test_names_are_escaped(self):
        root = tree.fromstring(render([Month("<A> & B", "2026-03", 1, Decimal(1), "v")]))
        self.assertIn("<A> & B", [one.text for one in root.iter()])
END
;;
9)
cat > harbour/__main__.py <<'END'
"""The command line."""

import argparse
import sys
from pathlib import Path

from harbour import chart, report, tables
from harbour.aggregate import by_cargo, by_month
from harbour.clean import clean
from harbour.ingest import IngestError, read


def main(argv=None):
    """Run the pipeline; return the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m harbour", description="Turns arrivals into figures.")
    parser.add_argument("file", type=Path, help="a CSV file of arrivals")
    parser.add_argument("--out", type=Path, default=Path("out"), help="where the figures are written (out)")
    options = parser.parse_args(argv)
    try:
        rows = read(options.file)
    except IngestError as error:
        print(error, file=sys.stderr)
        return 2
    arrivals, duplicates, rejects = clean(rows)
    months = by_month(arrivals)
    counts = (len(rows), len(arrivals), duplicates, len(rejects))
    options.out.mkdir(parents=True, exist_ok=True)
    for name, text in {
        "months.csv": tables.months_csv(months),
        "rejects.csv": tables.rejects_csv(rejects),
        "report.md": report.render(months, by_cargo(arrivals), counts),
        "chart.svg": chart.render(months),
    }.items():
        (options.out / name).write_text(text, "utf-8", newline="\n")
    word = "duplicate" if duplicates == 1 else "duplicates"
    print(f"{counts[0]} rows read, {counts[1]} kept, {duplicates} {word}, {counts[3]} rejected")
    return 0


if __name__ == "__main__":
    sys.exit(main())
END
cat > tests/test_main.py <<'END'
import contextlib
import io
import tempfile
import unittest
from pathlib import Path

from harbour.__main__ import main


class TestMain(unittest.TestCase):
    def test_an_empty_list(self):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as said:
            file = Path(folder) / "in.csv"
            file.write_text("date,harbour,vessel,cargo,tonnes\n", "utf-8")
            self.assertEqual(main([str(file), "--out", folder]), 0)
        self.assertEqual(said.getvalue(), "0 rows read, 0 kept, 0 duplicates, 0 rejected\n")

    def test_a_file_that_is_not_there(self):
        with contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertEqual(main(["/nowhere/in.csv"]), 2)
        self.assertIn("/nowhere/in.csv", said.getvalue())
END
;;
10)
out=$(mktemp -d)
said=$(python3 -B -m harbour data/arrivals.csv --out "$out")
{
  printf '# Harbour figures\n\nTurns lists of arrivals, as harbours send them, into figures. Python 3 is all that it needs.\n\n'
  printf '    $ python3 -m harbour data/arrivals.csv --out out\n    %s\n' "$said"
  printf '    $ head -n 4 out/months.csv\n'
  head -n 4 "$out/months.csv" | sed 's/^/    /'
  cat <<'END'

It writes `months.csv`, `rejects.csv` (line and reason), `report.md` and `chart.svg`.

Dates are `2026-03-05` or `05/03/2026`; tonnes may have commas between thousands. Harbours are compared without regard to
case. A row that says the same as an earlier one is dropped; a row without harbour, vessel, date or tonnes is rejected.

Tests: `python3 -m unittest discover -s tests -t .`
END
} > README.md
rm -rf "$out"
;;
*) echo "there is no task $OCAPTAIN_TASK_ID in this plan" >&2; exit 1 ;;
esac
