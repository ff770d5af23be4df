# A stand-in for a good agent: does the tasks of examples/generated-plans/refactoring.
set -eu

# move MODULE HEADER OLD=NEW... : cut what is defined by these names out of shop/__init__.py, and import it instead.
move() {
  python3 -B - "$@" <<'END'
import ast
import re
import sys
from pathlib import Path

module, header, *names = sys.argv[1:]
new_names = dict(name.split("=") for name in names)
package = Path("shop/__init__.py")
text = package.read_text("utf-8")
lines = text.splitlines(keepends=True)
moved, gone = [], set()
for node in ast.parse(text).body:
    name = node.targets[0].id if isinstance(node, ast.Assign) else getattr(node, "name", None)
    if name in new_names:
        first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
        moved.append((isinstance(node, ast.Assign), "".join(lines[first - 1 : node.end_lineno])))
        gone |= set(range(first - 1, node.end_lineno))
assert len(moved) == len(new_names), (module, new_names)
rest = "".join(line for number, line in enumerate(lines) if number not in gone)
constants = "".join(part for is_constant, part in moved if is_constant)
parts = [header.rstrip("\n") + "\n", *([constants] if constants else [])]
body = "\n".join(parts) + "".join(f"\n\n{part}" for is_constant, part in moved if not is_constant)
for old, new in new_names.items():
    body = re.sub(rf"\b{old}\b", new, body)
path = Path(f"shop/{module}.py")
path.write_text(body, "utf-8")
wanted = sorted(new if old == new else f"{new} as {old}" for old, new in new_names.items() if new not in ("_PRICE", "_read_product"))
line = f"from shop.{module} import {', '.join(wanted)}\n"
at = rest.index("from dataclasses import")
at = rest.index("\n", at) + 1
rest = rest[:at] + line + rest[at:]
package.write_text(re.sub(r"\n{3,}", "\n\n\n", rest), "utf-8")
END
}

case $OCAPTAIN_TASK_ID in
1)
mkdir -p golden
golden() {
  name=$1
  shift
  printf '%s\n' "$@" > "golden/$name.args"
  code=0
  python3 -B -m shop "$@" > out.tmp 2> error.tmp || code=$?
  { cat out.tmp error.tmp; echo "exit $code"; } > "golden/$name.txt"
  rm out.tmp error.tmp
}
printf 'code,name,price,offer\na,A,1.00,half\n' > golden/no-offer.csv
printf 'code,name,price,offer\na,A,1.00,\na,B,2.00,\n' > golden/twice.csv
printf 'code,name,price,offer\na,A,1,\n' > golden/no-price.csv
golden several receipt catalogue.csv tea=4 pot tin=3 cup
golden three-for-two receipt catalogue.csv tea=7
golden percent receipt catalogue.csv pot=3
golden long-name receipt catalogue.csv tin
golden twice-in-one receipt catalogue.csv tea tea tea
golden takings takings sales.csv
golden unknown receipt catalogue.csv gin
golden none-of-it receipt catalogue.csv tea=0
golden no-number receipt catalogue.csv tea=two
golden no-file receipt nowhere.csv tea
golden no-sales takings nowhere.csv
golden no-offer receipt golden/no-offer.csv a
golden no-price receipt golden/no-price.csv a
golden twice receipt golden/twice.csv a
golden usage
cat > test_golden.py <<'END'
"""The program does what it did when golden/ was made."""

import contextlib
import io
import unittest
from pathlib import Path

import shop


class TestGolden(unittest.TestCase):
    def test_every_call(self):
        calls = sorted(Path("golden").glob("*.args"))
        self.assertGreaterEqual(len(calls), 10)
        for call in calls:
            with self.subTest(call.stem):
                out, error = io.StringIO(), io.StringIO()
                words = [word for word in call.read_text("utf-8").split("\n") if word]
                with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
                    code = shop.main(words)
                said = f"{out.getvalue()}{error.getvalue()}exit {code}\n"
                self.assertEqual(said, call.with_suffix(".txt").read_text("utf-8"))
END
;;
2)
mkdir -p shop
git mv shop.py shop/__init__.py
python3 -B - <<'END'
from pathlib import Path

package = Path("shop/__init__.py")
text = package.read_text("utf-8")
package.write_text(text[: text.index("\n\nif __name__")], "utf-8")
Path("shop/__main__.py").write_text('"""Runs the till."""\n\nimport sys\n\nfrom shop import main\n\nsys.exit(main())\n', "utf-8")
END
;;
3)
move errors '"""What a user can do wrong."""' ShopError=ShopError
move money '"""Prices in cents."""

import re

from shop.errors import ShopError' _PRICE=_PRICE parse_price=parse_price format_price=format_price _share=share
;;
4)
move catalogue '"""What is sold."""

import csv
from dataclasses import dataclass

from shop.errors import ShopError
from shop.money import parse_price' Product=Product load_catalogue=load_catalogue _read_product=_read_product find_product=find_product
;;
5)
move offers '"""What an offer takes off."""

import re

from shop.errors import ShopError
from shop.money import share' reduction=reduction
sed 's/_share(/share(/' shop/offers.py > shop/offers.tmp
mv shop/offers.tmp shop/offers.py
;;
6)
move sales '"""What was sold."""

import csv

from shop.errors import ShopError
from shop.money import parse_price' takings=takings
;;
7)
move layout '"""Lines of a receipt."""' WIDTH=WIDTH _line=line
;;
8)
move basket '"""What a customer buys."""

from dataclasses import dataclass, field

from shop.catalogue import find_product
from shop.errors import ShopError
from shop.offers import reduction' Basket=Basket
;;
9)
move receipt '"""The receipt as text."""

from shop.layout import WIDTH, line
from shop.money import format_price' render_receipt=render_receipt
python3 -B - <<'END'
import re
from pathlib import Path

module = Path("shop/receipt.py")
module.write_text(re.sub(r"\b_line\(", "line(", module.read_text("utf-8")), "utf-8")
END
;;
10)
move cli '"""The command line."""

import sys

from shop.basket import Basket
from shop.catalogue import load_catalogue
from shop.errors import ShopError
from shop.layout import line
from shop.money import format_price
from shop.receipt import render_receipt
from shop.sales import takings' main=main
sed 's/_line(/line(/' shop/cli.py > shop/cli.tmp
mv shop/cli.tmp shop/cli.py
printf '"""Runs the till."""\n\nimport sys\n\nfrom shop.cli import main\n\nsys.exit(main())\n' > shop/__main__.py
cat > shop/__init__.py <<'END'
"""A till for a small shop."""

from shop.basket import Basket
from shop.catalogue import Product, find_product, load_catalogue
from shop.cli import main
from shop.errors import ShopError
from shop.layout import line as _line
from shop.money import format_price, parse_price
from shop.money import share as _share
from shop.offers import reduction
from shop.receipt import render_receipt
from shop.sales import takings

__all__ = [
    "Basket",
    "Product",
    "ShopError",
    "find_product",
    "format_price",
    "load_catalogue",
    "main",
    "parse_price",
    "reduction",
    "render_receipt",
    "takings",
]
END
;;
11)
cat > test_layers.py <<'END'
"""Which module may import which."""

import ast
import unittest
from pathlib import Path

PARTS = {"errors", "money", "layout", "catalogue", "offers", "sales", "basket", "receipt"}
MAY = {
    "errors": set(),
    "money": {"errors"},
    "layout": set(),
    "catalogue": {"errors", "money"},
    "offers": {"errors", "money"},
    "sales": {"errors", "money"},
    "basket": {"errors", "catalogue", "offers"},
    "receipt": {"layout", "money"},
    "cli": PARTS,
    "__main__": {"cli"},
    "__init__": PARTS | {"cli"},
}


def imports(path):
    """Yield the modules of ours that a file imports."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        names += [one.name for one in node.names] if isinstance(node, ast.Import) else []
        yield from (name.partition(".")[2] for name in names if name.split(".")[0] == "shop")


class TestLayers(unittest.TestCase):
    def test_the_table_has_every_module(self):
        self.assertEqual({path.stem for path in Path("shop").glob("*.py")}, set(MAY))

    def test_no_import_is_forbidden(self):
        for name, allowed in MAY.items():
            with self.subTest(name):
                self.assertLessEqual(set(imports(Path(f"shop/{name}.py"))), allowed)
END
;;
12)
python3 -B - <<'END'
from pathlib import Path

readme = Path("README.md")
text = readme.read_text("utf-8").replace("A till for a small shop, in one file: `shop.py`.", "A till for a small shop.")
modules = {
    "errors": "what a user can do wrong",
    "money": "prices in cents",
    "layout": "lines of a receipt",
    "catalogue": "what is sold",
    "offers": "what an offer takes off",
    "sales": "what was sold",
    "basket": "what a customer buys",
    "receipt": "the receipt as text",
    "cli": "the command line",
}
lines = "".join(f"- `shop/{name}.py`: {what}\n" for name, what in modules.items())
readme.write_text(f"{text}\n## Modules\n\n{lines}", "utf-8")
END
;;
13)
grep -v -e 'import line as _line' -e 'import share as _share' shop/__init__.py > shop/init.tmp
mv shop/init.tmp shop/__init__.py
;;
*) echo "there is no task $OCAPTAIN_TASK_ID in this plan" >&2; exit 1 ;;
esac
