#!/usr/bin/env bash
# Makes the repository that examples/generated-plans/refactoring is sailed on: refactoring-repository.sh DIRECTORY
set -euo pipefail
mkdir -p "$1" && cd "$1"
git init -q -b main
cat > .gitignore <<'END'
__pycache__/
*.pyc
END
cat > README.md <<'END'
# Shop

A till for a small shop, in one file: `shop.py`.

    python3 -m shop receipt catalogue.csv tea=2 cup=1
    python3 -m shop takings sales.csv

Tests: `python3 -m unittest test_shop`.
END
cat > catalogue.csv <<'END'
code,name,price,offer
tea,Green tea,4.50,3 for 2
cup,Cup,12.00,
pot,Tea pot,39.90,10%
tin,Tin with a very long name indeed,0.99,3 for 2
END
cat > sales.csv <<'END'
day,amount
2026-03-01,12.50
2026-03-02,7.00
2026-03-01,100.10
END
cat > shop.py <<'END'
"""A till for a small shop. It has grown, and everything is in here."""

import csv
import re
import sys
from dataclasses import dataclass, field

WIDTH = 32
_PRICE = re.compile(r"(\d+)\.(\d\d)", re.ASCII)


class ShopError(Exception):
    """Something that the user did; the text says what."""


def parse_price(text):
    """Return the cents of a price such as 4.50."""
    found = _PRICE.fullmatch(text.strip())
    if not found:
        raise ShopError(f"not a price: {text}")
    return int(found[1]) * 100 + int(found[2])


def format_price(cents):
    """Return a price as it is shown; what is taken off has a minus."""
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def _share(cents, percent):
    # Half a cent is for the customer.
    return -(-cents * percent // 100)


@dataclass(frozen=True)
class Product:
    """What is sold."""

    code: str
    name: str
    price: int
    offer: str = ""


def load_catalogue(path):
    """Return the products of a file, by code."""
    products = {}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                product = _read_product(row)
                if product.code in products:
                    raise ShopError(f"{path}: {product.code} is there twice")
                products[product.code] = product
    except OSError as error:
        raise ShopError(f"{path}: {error.strerror}") from None
    return products


def _read_product(row):
    return Product(row["code"].strip(), row["name"].strip(), parse_price(row["price"]), (row["offer"] or "").strip())


def find_product(products, code):
    """Return the product of a code; a code that is not there is the user's mistake."""
    if code not in products:
        raise ShopError(f"there is no {code}; there are {', '.join(sorted(products))}")
    return products[code]


def reduction(offer, price, count):
    """Return the cents that an offer takes off: "3 for 2", "10%", or nothing."""
    if not offer:
        return 0
    if found := re.fullmatch(r"(\d+) for (\d+)", offer):
        many, paid = int(found[1]), int(found[2])
        return count // many * (many - paid) * price
    if found := re.fullmatch(r"(\d+)%", offer):
        return _share(price * count, int(found[1]))
    raise ShopError(f"not an offer: {offer}")


@dataclass
class Basket:
    """What a customer buys."""

    products: dict
    counts: dict = field(default_factory=dict)

    def add(self, code, count=1):
        """Put something into the basket."""
        if count < 1:
            raise ShopError(f"{code}: {count} of it cannot be bought")
        find_product(self.products, code)
        self.counts[code] = self.counts.get(code, 0) + count

    def lines(self):
        """Return product, count, cents and cents taken off, in the order of buying."""
        found = []
        for code, count in self.counts.items():
            product = self.products[code]
            found.append((product, count, product.price * count, reduction(product.offer, product.price, count)))
        return found

    def total(self):
        """Return the cents to pay."""
        return sum(cents - off for _, _, cents, off in self.lines())


def _line(left, right):
    room = WIDTH - len(right) - 1
    return f"{left[:room]:<{room}} {right}\n"


def render_receipt(basket):
    """Return a receipt as text."""
    out = "=" * WIDTH + "\n"
    for product, count, cents, off in basket.lines():
        out += _line(f"{count} x {product.name}", format_price(cents))
        if off:
            out += _line(f"  {product.offer}", format_price(-off))
    return out + "-" * WIDTH + "\n" + _line("To pay", format_price(basket.total()))


def takings(path):
    """Return the cents of each day of a file of sales, by day."""
    days = {}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                days[row["day"]] = days.get(row["day"], 0) + parse_price(row["amount"])
    except OSError as error:
        raise ShopError(f"{path}: {error.strerror}") from None
    return dict(sorted(days.items()))


def main(argv=None):
    """Print a receipt or the takings; return the exit code."""
    words = sys.argv[1:] if argv is None else argv
    try:
        if words[:1] == ["receipt"] and len(words) > 2:
            basket = Basket(load_catalogue(words[1]))
            for word in words[2:]:
                code, _, count = word.partition("=")
                if count and not count.isdecimal():
                    raise ShopError(f"{code}: {count} is no number")
                basket.add(code, int(count or 1))
            sys.stdout.write(render_receipt(basket))
        elif words[:1] == ["takings"] and len(words) == 2:
            for day, cents in takings(words[1]).items():
                sys.stdout.write(_line(day, format_price(cents)))
        else:
            raise ShopError("usage: shop receipt CATALOGUE CODE[=COUNT]... | shop takings SALES")
    except ShopError as error:
        print(f"shop: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
END
cat > test_shop.py <<'END'
import unittest

import shop


class TestShop(unittest.TestCase):
    def test_prices(self):
        self.assertEqual(shop.parse_price("4.50"), 450)
        self.assertEqual(shop.format_price(-5), "-0.05")
        with self.assertRaises(shop.ShopError):
            shop.parse_price("4,50")

    def test_offers(self):
        self.assertEqual(shop.reduction("3 for 2", 450, 7), 900)
        self.assertEqual(shop.reduction("10%", 3990, 1), 399)

    def test_a_basket(self):
        basket = shop.Basket(shop.load_catalogue("catalogue.csv"))
        basket.add("tea", 3)
        basket.add("cup")
        self.assertEqual(basket.total(), 2100)
        with self.assertRaises(shop.ShopError):
            basket.add("gin")

    def test_a_receipt(self):
        basket = shop.Basket(shop.load_catalogue("catalogue.csv"))
        basket.add("cup", 2)
        self.assertIn("2 x Cup                    24.00", shop.render_receipt(basket))

    def test_takings(self):
        self.assertEqual(shop.takings("sales.csv"), {"2026-03-01": 11260, "2026-03-02": 700})


if __name__ == "__main__":
    unittest.main()
END
git add -A
git -c user.name=shop -c user.email=shop@example.org commit -qm "A till in one file"
