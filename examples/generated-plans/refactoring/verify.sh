#!/usr/bin/env bash
# Proves the merged work: the program does what it did, and its parts are where they belong.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# -- what it does is what it did -------------------------------------------------------------------

test -f test_shop.py || { echo "missing: test_shop.py (sail with --repo)"; exit 1; }
# What lands is a commit that names its task.
changed=$(git log --format=%h --grep='^Task: ' -- test_shop.py catalogue.csv sales.csv)
test -z "$changed" || { echo "the old tests or their data were changed by $changed"; exit 1; }
test "$(git log --format=%h --grep='^Task: ' -- golden | wc -l)" -eq 1 || { echo "golden/ was not written just once"; exit 1; }
for module in test_shop test_golden test_layers; do
  python3 -m unittest -q "$module" 2> "$scratch/tests" || { cat "$scratch/tests"; exit 1; }
done
echo "tests: the old ones, unchanged, and the golden ones of before"

cat > "$scratch/catalogue.csv" <<'CSV'
code,name,price,offer
nut,Walnut,0.35,15%
oil,Oil of the very first pressing,19.99,4 for 3
CSV
cat > "$scratch/expected" <<'TEXT'
================================
3 x Walnut                  1.05
  15%                      -0.16
9 x Oil of the very first 179.91
  4 for 3                 -39.98
--------------------------------
To pay                    140.82
TEXT
python3 -m shop receipt "$scratch/catalogue.csv" nut oil=9 nut=2 | diff "$scratch/expected" -
code=0
python3 -m shop receipt "$scratch/catalogue.csv" gin > "$scratch/out" 2> "$scratch/error" || code=$?
test "$code" -eq 2
test ! -s "$scratch/out"
test "$(cat "$scratch/error")" = "shop: there is no gin; there are nut, oil"
echo "behaviour: a receipt worked out by hand, and an error"

# -- the parts are where they belong ----------------------------------------------------------------

python3 - <<'PYTHON'
import ast
import sys
from pathlib import Path

HOMES = {
    "errors": {"ShopError"},
    "money": {"_PRICE", "parse_price", "format_price", "share"},
    "layout": {"WIDTH", "line"},
    "catalogue": {"Product", "load_catalogue", "_read_product", "find_product"},
    "offers": {"reduction"},
    "sales": {"takings"},
    "basket": {"Basket"},
    "receipt": {"render_receipt"},
    "cli": {"main"},
    "__main__": set(),
    "__init__": {"__all__"},
}
MAY = {
    "errors": set(),
    "money": {"errors"},
    "layout": set(),
    "catalogue": {"errors", "money"},
    "offers": {"errors", "money"},
    "sales": {"errors", "money"},
    "basket": {"errors", "catalogue", "offers"},
    "receipt": {"layout", "money"},
    "cli": set(HOMES) - {"cli", "__main__", "__init__"},
    "__main__": {"cli"},
    "__init__": set(HOMES) - {"__main__", "__init__"},
}
faults = ["shop.py is still there"] if Path("shop.py").exists() else []
found = {path.stem: path for path in Path("shop").glob("*.py")}
faults += [f"missing: shop/{name}.py" for name in sorted(HOMES.keys() - found.keys())]
faults += [f"not in the specification: shop/{name}.py" for name in sorted(found.keys() - HOMES.keys())]
for name in sorted(HOMES.keys() & found.keys()):
    text = found[name].read_text("utf-8")
    tree = ast.parse(text)
    own = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Assign):
            own |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    if own != HOMES[name]:
        faults.append(f"shop/{name}.py: defines {sorted(own)}, not {sorted(HOMES[name])}")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or node.module == "shop"):
            faults.append(f"shop/{name}.py:{node.lineno}: import by the full name of the module")
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [one.name for one in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            if module.startswith("shop.") and module.removeprefix("shop.") not in MAY[name]:
                faults.append(f"shop/{name}.py:{node.lineno}: may not import {module}")
    if len(text.splitlines()) > 60:
        faults.append(f"shop/{name}.py: has more than 60 lines")
if not faults:
    import shop

    public = {name for names in HOMES.values() for name in names if not name.startswith("_")} - {"share", "WIDTH", "line"}
    if set(shop.__all__) != public:
        faults.append(f"shop.__all__ is {sorted(shop.__all__)}")
    faults += [f"shop.{name} is still there" for name in ("_share", "_line") if hasattr(shop, name)]
print("\n".join(faults) or f"modules: {len(HOMES)}, each with its own part and no forbidden import")
sys.exit(bool(faults))
PYTHON
grep -q 'shop/money.py' README.md
echo "README.md: it shows the modules"
