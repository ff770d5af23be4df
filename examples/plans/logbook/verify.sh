#!/usr/bin/env bash
# Proves the merged work: every module's tests, and a voyage kept by the command line.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
log=$scratch/log.jsonl

for module in position entry store select summary table csvfile gpx page cli; do
  test -f "logbook/$module.py" || { echo "missing: logbook/$module.py"; exit 1; }
  test -f "tests/test_$module.py" || { echo "missing: tests/test_$module.py"; exit 1; }
done
python3 -m unittest discover -s tests -t . > "$scratch/tests" 2>&1 || { cat "$scratch/tests"; exit 1; }
echo "tests: $(grep -E '^Ran ' "$scratch/tests")"

python3 -m logbook add "$log" --at 2026-06-02T06:00Z --position "59°00.0'N 010°30.0'E" --wind 6 'Rounded <Færder> & "on"'
python3 -m logbook add "$log" --at 2026-06-01T06:00Z --position "60°00.0'N 010°30.0'E" --wind 3 "Cast off"
python3 -m logbook add "$log" --at 2026-06-01T18:00Z "Supper"
test "$(wc -l < "$log")" -eq 3
python3 -m logbook list "$log" | grep -n . > "$scratch/list"
grep -q "^2:.*Cast off" "$scratch/list"
grep -q "^4:.*Færder" "$scratch/list"
python3 -m logbook list "$log" --since 2026-06-02 | grep -q Færder
if python3 -m logbook list "$log" --since 2026-06-02 | grep -q Supper; then exit 1; fi
echo "list: sorted and selected"

python3 -m logbook stats "$log" > "$scratch/stats"
grep -qx 'entries: 3' "$scratch/stats"
grep -qx 'miles: 60.0' "$scratch/stats"
grep -qx 'knots: 2.5' "$scratch/stats"
grep -qx 'strongest wind: 6' "$scratch/stats"
echo "stats: 60.0 miles"

for format in csv gpx html; do
  python3 -m logbook export "$log" --format "$format" > "$scratch/out.$format"
done
python3 - "$scratch" "$log" <<'PYTHON'
import sys
import xml.etree.ElementTree as tree
from pathlib import Path

from logbook.csvfile import parse
from logbook.store import read

scratch, log = Path(sys.argv[1]), Path(sys.argv[2])
assert parse((scratch / "out.csv").read_text("utf-8")) == read(log)
root = tree.parse(scratch / "out.gpx").getroot()
points = [one for one in root.iter() if one.tag.endswith("}trkpt")]
assert [one.attrib["lat"] for one in points] == ["60.000000", "59.000000"], points
assert "<Færder>" not in (scratch / "out.html").read_text("utf-8")
PYTHON
echo "export: csv, gpx, html"

echo nonsense >> "$log"
code=0
python3 -m logbook list "$log" 2> "$scratch/error" > /dev/null || code=$?
test "$code" -eq 2
grep -q "log.jsonl.*4" "$scratch/error"
test "$(wc -l < "$scratch/error")" -eq 1
echo "errors: one line, exit 2"

python3 -m logbook stats examples/oslofjord.jsonl > "$scratch/example"
grep -q '^entries: 1[0-9]$' "$scratch/example"
grep -q 'python3 -m logbook add' README.md
echo "example and README: there"
