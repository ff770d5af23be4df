#!/usr/bin/env bash
# Proves the merged work: data, modules, the site and its links, and that site/ is what build.py makes.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1

for file in data/lights.json almanac/{__init__,load,flash,chart,render,feed}.py assets/style.css build.py README.md; do
  test -f "$file" || { echo "missing: $file"; exit 1; }
done
echo "files: all there"

python3 - <<'PYTHON'
from almanac.flash import phases
from almanac.load import load

lights = load()
assert len(lights) >= 5, "too few lights"
for light in lights:
    period = float(light["flash"].split()[-1].rstrip("s"))
    assert abs(sum(seconds for seconds, _ in phases(light["flash"])) - period) < 1e-9, light["slug"]
print(f"data: {len(lights)} lights are sound")
PYTHON

cp -r site site.committed
trap 'rm -rf site.committed' EXIT
python3 build.py
diff -r site site.committed
echo "build: the same bytes as what is committed"

python3 - <<'PYTHON'
import re
from pathlib import Path

from almanac.load import load

site = Path("site")
pages = {path.name for path in site.glob("*.html")}
assert pages == {"index.html", *(f"{light['slug']}.html" for light in load())}, pages
links = 0
for name in sorted(pages):
    for target in re.findall(r'(?:href|src)="([^"]+)"', (site / name).read_text("utf-8")):
        assert (site / target).is_file(), f"{name} leads to {target}, which is not there"
        links += 1
print(f"site: {len(pages)} pages, {links} links, all of them lead somewhere")
PYTHON
