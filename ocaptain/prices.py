"""What tokens and machines cost: a table of ours, with the user's over it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ocaptain.errors import UsageError
from ocaptain.protocol.usage import NANO, TOKEN_KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ocaptain.protocol.usage import Price

DEFAULT_FILE = "~/.config/ocaptain/prices.toml"
_TOKENS = 10**6  # prices are for so many


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

    def each(self) -> list[int]:
        """Return nano-dollars a token, in the order of :data:`ocaptain.protocol.usage.TOKEN_KINDS`."""
        return [int(getattr(self, kind) * (NANO // _TOKENS)) for kind in TOKEN_KINDS]


class LongTokens(Tokens):
    """Of messages whose prompt has more than ``above`` tokens."""

    above: Annotated[int, Field(gt=0)]


class ModelPrice(Tokens):
    """Of one model."""

    long: LongTokens | None = None

    def as_price(self) -> Price:
        """Return it as the ship takes it."""
        return {"each": self.each(), **({"long": [self.long.above, *self.long.each()]} if self.long else {})}


class MachinePrice(_Table):
    """Of an hour awake."""

    cpus: Dollars
    memory_gb: Dollars
    cpu_hour: Dollars
    memory_gb_hour: Dollars

    def cost(self, seconds: float) -> int:
        """Return what so many seconds cost, in nano-dollars."""
        hour = self.cpus * self.cpu_hour + self.memory_gb * self.memory_gb_hour
        return round(Decimal(seconds) * hour * NANO / 3600)


class _File(_Table):
    models: dict[str, ModelPrice] = {}
    machines: dict[str, MachinePrice] = {}


@dataclass(frozen=True)
class Prices:
    """The table.

    Attributes:
        models: by name, as the ship takes them.
        machines: by provider.
        own: models that the user priced: then what an agent says that it cost does not count.
    """

    models: Mapping[str, Price]
    machines: Mapping[str, MachinePrice]
    own: frozenset[str] = field(default_factory=frozenset)


def our_prices() -> Prices:
    """Return our table alone."""
    ours = _parse((files("ocaptain") / "prices.toml").read_text("utf-8"), "ocaptain/prices.toml")
    return Prices({name: price.as_price() for name, price in ours.models.items()}, ours.machines)


def load_prices(path: Path | None = None) -> Prices:
    """Return our table with the user's over it.

    Args:
        path: the user's (``OCAPTAIN_PRICES``); None = the usual place, where none need be.

    Raises:
        UsageError: the file cannot be read or is wrong; names field and file.
    """
    ours = our_prices()
    place = (path or Path(DEFAULT_FILE)).expanduser()
    theirs = _File()
    if path or place.exists():
        try:
            theirs = _parse(place.read_text("utf-8"), str(place))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the prices in {place} (OCAPTAIN_PRICES) cannot be read: {error}") from error
    models = {**ours.models, **{name: price.as_price() for name, price in theirs.models.items()}}
    return Prices(models, {**ours.machines, **theirs.machines}, frozenset(theirs.models))


def _parse(text: str, where: str) -> _File:
    try:
        return _File.model_validate(tomllib.loads(text, parse_float=Decimal))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where} is not valid TOML: {error}") from error
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_input=False)]
        raise UsageError(f"{where}: these prices are wrong (dollars, at most three decimals):", faults) from None
