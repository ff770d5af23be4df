"""Tokens and their cost, for ship and captain. Standard library only.

Money is whole **nano-dollars** (10⁻⁹ $), so that sums are exact: a dollar per million tokens is 1,000
nano-dollars per token. Tokens are five numbers, in the order of :data:`TOKEN_KINDS`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TOKEN_KINDS = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
#: A model's prices in nano-dollars per token. "each": one number per kind. "long": for messages with a long
#: prompt: [prompt tokens above which it applies, one number per kind …].
Price = dict[str, list[int]]
Tokens = list[int]
NANO = 10**9
MAX_COUNT = 2**36  # of tokens of one kind, or of anything else that an agent counts
_DATED = re.compile(r"(?:-20[0-9]{6}|\[[0-9]+m\])+$")


def read_tokens(usage: Mapping[str, Any]) -> Tokens:
    """Return the tokens of an API message's ``usage``; an invalid number counts as 0."""
    written = _non_negative_int(usage.get("cache_creation_input_tokens"))
    split = usage.get("cache_creation")
    hour = min(written, _non_negative_int(split.get("ephemeral_1h_input_tokens"))) if isinstance(split, dict) else 0
    return [
        _non_negative_int(usage.get("input_tokens")),
        _non_negative_int(usage.get("output_tokens")),
        _non_negative_int(usage.get("cache_read_input_tokens")),
        written - hour,
        hour,
    ]


def _non_negative_int(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT else 0


def count_prompt_tokens(tokens: Sequence[int]) -> int:
    """Return the number of prompt tokens of a message."""
    return tokens[0] + tokens[2] + tokens[3] + tokens[4]


def find_price(model: str, prices: Mapping[str, Price]) -> Price | None:
    """Return a model's prices, ignoring a date or context size in its name; None if unknown."""
    return prices.get(model) or prices.get(_DATED.sub("", model))


def has_long_prompt(price: Price | None, tokens: Sequence[int]) -> bool:
    """Return whether a message is billed at the prices for long prompts."""
    return bool(price and "long" in price and count_prompt_tokens(tokens) > price["long"][0])


def cost_of(price: Price, tokens: Sequence[int], *, is_long_prompt: bool = False) -> int:
    """Return the cost of tokens in nano-dollars."""
    each = price["long"][1:] if is_long_prompt and "long" in price else price["each"]
    return sum(number * one for number, one in zip(tokens, each))


def format_dollars(nano: float) -> str:
    """Return nano-dollars as text: to the cent, or with two more digits below a dollar."""
    value = nano / NANO
    return f"${value:.2f}" if value >= 1 or not value else f"${value:.4f}"
