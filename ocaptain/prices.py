"""Prices of tokens and machines: the built-in table, overridden by the user's."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ocaptain.errors import UsageError
from ocaptain.paths import expand_home
from ocaptain.protocol.usage import NANO, TOKEN_KINDS
from ocaptain.text import plain_reason

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ocaptain.protocol.usage import Price

DEFAULT_FILE = "~/.config/ocaptain/prices.toml"
_TOKENS = 10**6  # a price is for so many tokens


def _decimal(value: Any) -> Any:
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value


Dollars = Annotated[Decimal, BeforeValidator(_decimal), Field(ge=0, le=10**6, allow_inf_nan=False)]
#: A tenth of a cent a million tokens is one nano-dollar a token: sums stay whole numbers.
TokenPrice = Annotated[Decimal, BeforeValidator(_decimal), Field(ge=0, le=10**6, decimal_places=3)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tokens(_Table):
    """Dollars for a million tokens."""

    input: TokenPrice
    output: TokenPrice
    cache_read: TokenPrice
    cache_write_5m: TokenPrice
    cache_write_1h: TokenPrice

    def nano_dollars_per_token(self) -> list[int]:
        """Return nano-dollars per token, in the order of :data:`ocaptain.protocol.usage.TOKEN_KINDS`."""
        return [int(getattr(self, kind) * (NANO // _TOKENS)) for kind in TOKEN_KINDS]


class LongTokens(Tokens):
    """Prices of messages whose prompt has more than ``above`` tokens."""

    above: Annotated[int, Field(gt=0)]


class ModelPrice(Tokens):
    """Prices of one model."""

    long: LongTokens | None = None

    def as_price(self) -> Price:
        """Return the prices in the form that ships use."""
        return {
            "each": self.nano_dollars_per_token(),
            **({"long": [self.long.above, *self.long.nano_dollars_per_token()]} if self.long else {}),
        }


class MachinePrice(_Table):
    """Size of a machine, and its prices for an hour awake."""

    cpus: Dollars
    memory_gb: Dollars
    cpu_hour: Dollars
    memory_gb_hour: Dollars

    def cost(self, seconds: float) -> int:
        """Return the cost of a number of seconds awake, in nano-dollars."""
        hour = self.cpus * self.cpu_hour + self.memory_gb * self.memory_gb_hour
        return round(Decimal(seconds) * hour * NANO / 3600)


class _File(_Table):
    models: dict[str, ModelPrice] = {}
    machines: dict[str, MachinePrice] = {}


@dataclass(frozen=True)
class Prices:
    """A table of prices.

    Attributes:
        models: prices by model, in the form that ships use.
        machines: prices by provider.
        own: models that the user priced; the cost that an agent reports for them does not count.
    """

    models: Mapping[str, Price]
    machines: Mapping[str, MachinePrice]
    own: frozenset[str] = field(default_factory=frozenset)


def built_in_prices() -> Prices:
    """Return the built-in table."""
    ours = _parse((files("ocaptain") / "prices.toml").read_text("utf-8"), "ocaptain/prices.toml")
    return Prices({name: price.as_price() for name, price in ours.models.items()}, ours.machines)


def load_prices(path: Path | None = None) -> Prices:
    """Return the built-in table, overridden by the user's.

    Args:
        path: the user's file (``OCAPTAIN_PRICES``); None = :data:`DEFAULT_FILE`, which may be missing.

    Raises:
        UsageError: the file cannot be read or is invalid; names field and file.
    """
    ours = built_in_prices()
    place = expand_home(path or DEFAULT_FILE)
    theirs = _File()
    if path or place.exists():
        try:
            theirs = _parse(place.read_text("utf-8"), str(place))
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise UsageError(f"the prices in {place} (OCAPTAIN_PRICES) cannot be read: {why}") from error
    models = {**ours.models, **{name: price.as_price() for name, price in theirs.models.items()}}
    return Prices(models, {**ours.machines, **theirs.machines}, frozenset(theirs.models))


def _parse(text: str, where: str) -> _File:
    try:
        return _File.model_validate(tomllib.loads(text, parse_float=Decimal))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where} is not valid TOML: {error}") from error
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, one['loc']))}: {plain_reason(one['msg'])}" for one in error.errors(include_input=False)
        ]
        raise UsageError(f"{where}: these prices are wrong (dollars, at most three decimals):", faults) from None
