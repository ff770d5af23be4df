#!/usr/bin/env bash
# Proves the merged work: every module's tests, and figures that were worked out by hand.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

for module in record ingest clean aggregate tables report chart; do
  test -f "harbour/$module.py" || { echo "missing: harbour/$module.py"; exit 1; }
  test -f "tests/test_$module.py" || { echo "missing: tests/test_$module.py"; exit 1; }
done
python3 -m unittest discover -s tests -t . > "$scratch/tests" 2>&1 || { cat "$scratch/tests"; exit 1; }
echo "tests: $(grep -E '^Ran ' "$scratch/tests")"

# 13 rows: 4 are rejected, 1 is a duplicate of another spelling, 8 are kept.
printf '\xef\xbb\xbf' > "$scratch/in.csv"
cat >> "$scratch/in.csv" <<'CSV'
date,harbour,vessel,cargo,tonnes
2026-03-05,BERGEN,Fjord <1>,Timber,"1,200.5"
05/03/2026, bergen ,Fjord <1>,timber,1200.50
2026-03-30,Bergen,Nordlys,Fish,0.25
,,,,

2026-04-01,Bergen,Nordlys,fish,10
2026-03-07,genoa,Stella | Mare,Oil,300
31/03/2026,Genoa,Aurora,Oil,300.0
2026-02-30,Genoa,Aurora,Oil,5
2026-03-08,Genoa,Aurora,Oil,nan
2026-03-08,Genoa,,Oil,5
2026-03-08,,Aurora,Oil,-1
2026-04-02,Genoa,Aurora,,0.1
2026-04-03,Genoa,Aurora,,0.2
2026-04-04,Genoa,Borea,OIL,"10,000"
CSV
said=$(python3 -m harbour "$scratch/in.csv" --out "$scratch/out")
test "$said" = "13 rows read, 8 kept, 1 duplicate, 4 rejected" || { echo "it said: $said"; exit 1; }
cat > "$scratch/months.csv" <<'CSV'
harbour,month,arrivals,tonnes,largest
Bergen,2026-03,2,1200.8,Fjord <1>
Bergen,2026-04,1,10.0,Nordlys
Genoa,2026-03,2,600.0,Aurora
Genoa,2026-04,3,10000.3,Borea
CSV
cat > "$scratch/rejects.csv" <<'CSV'
line,reason
10,bad date
11,bad tonnes
12,no vessel
13,no harbour
CSV
diff "$scratch/months.csv" "$scratch/out/months.csv"
diff "$scratch/rejects.csv" "$scratch/out/rejects.csv"
echo "figures: as worked out by hand"

python3 - "$scratch/out" <<'PYTHON'
import sys
import xml.etree.ElementTree as tree
from pathlib import Path

out = Path(sys.argv[1])
report = (out / "report.md").read_text("utf-8")
cells = [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in report.splitlines()]
for row in (["oil", "10600.0"], ["timber", "1200.5"], ["fish", "10.3"], ["unknown", "0.3"]):
    assert row in cells, f"report.md has no row {row}"
assert [one[0] for one in cells if one[0] in {"oil", "timber", "fish", "unknown"}] == ["oil", "timber", "fish", "unknown"]
chart = tree.parse(out / "chart.svg").getroot()
bars = [one for one in chart.iter() if one.tag.endswith("}rect") and one.get("class") == "bar"]
heights = [float(one.attrib["height"]) for one in bars]
assert len(bars) == 2, f"chart.svg has {len(bars)} bars, not 2"
assert abs(heights[0] / heights[1] - 1210.75 / 10600.3) < 0.01, f"the bars are {heights}"
PYTHON
python3 -m harbour "$scratch/in.csv" --out "$scratch/again" > /dev/null
diff -r "$scratch/out" "$scratch/again"
echo "report and chart: the same figures, and the same bytes again"

code=0
python3 -m harbour "$scratch/none.csv" --out "$scratch/no" > /dev/null 2> "$scratch/error" || code=$?
test "$code" -eq 2
grep -q none.csv "$scratch/error"
test "$(wc -l < "$scratch/error")" -eq 1
echo "errors: one line, exit code 2"

said=$(python3 -m harbour data/arrivals.csv --out "$scratch/sample")
grep -qF "$said" README.md
echo "sample and README: $said"
