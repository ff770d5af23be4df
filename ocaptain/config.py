"""Configuration: the environment over ``./.env`` over ``~/.config/ocaptain/.env``.

:mod:`ocaptain.sources` reads them; here they are checked.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from ocaptain.errors import UsageError
from ocaptain.names import ProviderName, VerifyOn  # noqa: TC001 - pydantic reads annotations
from ocaptain.sources import (
    DEFAULT_HOME,
    first_set,
    place_of_voyages,
    relative_to_caller,
    sources,
)
from ocaptain.text import plain_reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_SHIPS = 3
MAX_SHIPS = 500
URL = r"^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[^\s]*)?$"
#: A URL that receives a secret: https, or this machine.
_TRUSTED_URL = r"^(https://[A-Za-z0-9._-]+|http://(127\.0\.0\.1|localhost|\[::1\]))(:[0-9]{1,5})?(/[^\s]*)?$"


def _check_printable(token: SecretStr) -> SecretStr:
    """Refuse characters that an HTTP header cannot carry: the header's error would show the token."""
    if not re.fullmatch(r"[!-~]+", token.get_secret_value()):
        raise ValueError("the token contains spaces or invalid characters; copy it again from your account")
    return token


def _check_address(url: str) -> str:
    """Refuse an address or a port that there is none of, though it has the right form."""
    try:
        _ = urlsplit(url).port
    except ValueError:
        raise ValueError("its address or its port is wrong") from None
    return url


Token = Annotated[SecretStr, AfterValidator(_check_printable)]
CallersPath = Annotated[Path, AfterValidator(relative_to_caller)]


_Model = TypeVar("_Model", bound=BaseModel)


class Settings(BaseModel):
    """Everything that is configured outside the command line. Build it by :func:`load_settings`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    sprites_token: Token | None = Field(
        None, validation_alias=AliasChoices("SPRITES_TOKEN", "SPRITE_TOKEN"), description="Token of the Sprites API."
    )
    sprites_api_url: str = Field(
        "https://api.sprites.dev",
        validation_alias="SPRITES_API_URL",
        pattern=URL,
        description="URL of the Sprites API.",
    )
    api_timeout: Annotated[float, Field(gt=0, le=3600)] = Field(
        60.0, validation_alias="OCAPTAIN_API_TIMEOUT", description="Seconds that a call to a provider may take."
    )
    sprites_org: str | None = Field(
        None,
        validation_alias="OCAPTAIN_SPRITES_ORG",
        description="Organisation that the token must belong to; else nothing is created.",
    )
    provider: ProviderName | None = Field(
        None, validation_alias="OCAPTAIN_PROVIDER", description="Where ships come from: sprites or drydock."
    )
    default_ships: Annotated[int, Field(ge=1, le=MAX_SHIPS)] = Field(
        DEFAULT_SHIPS,
        validation_alias="OCAPTAIN_DEFAULT_SHIPS",
        description="How many ships sail if neither plan nor --ships says it.",
    )
    verify_on: VerifyOn = Field(
        "clean",
        validation_alias="OCAPTAIN_VERIFY_ON",
        description="Where the final verify runs: clean (where no agent was) or any.",
    )
    home: Path = Field(Path(DEFAULT_HOME), validation_alias="OCAPTAIN_HOME", description="Directory of all voyages.")
    gh_token: SecretStr | None = Field(
        None, validation_alias="GH_TOKEN", description="Token for repositories on GitHub."
    )
    gh_host: str | None = Field(
        None, validation_alias="GH_HOST", description="Host of GitHub, if it is not github.com."
    )
    #: What tokens and machines cost, over our own table.
    prices: Path | None = Field(
        None, validation_alias="OCAPTAIN_PRICES", description="File of prices (TOML) that goes before our own table."
    )
    mesh: Literal["auto", "none", "tailscale"] = Field(
        "auto", validation_alias="OCAPTAIN_MESH", description="Network that ships join: auto, none or tailscale."
    )
    mutagen: Literal["auto", "off"] = Field(
        "auto",
        validation_alias="OCAPTAIN_MUTAGEN",
        description="Mirrors of ships' files by Mutagen: auto (where it is on PATH) or off.",
    )
    tailscale_oauth_secret: Token | None = Field(
        None, validation_alias="OCAPTAIN_TAILSCALE_OAUTH_SECRET", description="Secret of an OAuth client of Tailscale."
    )
    #: The secret names its client; the service takes any id beside it.
    tailscale_oauth_client_id: str = Field(
        "ocaptain",
        validation_alias="OCAPTAIN_TAILSCALE_OAUTH_CLIENT_ID",
        pattern=r"^[!-9;-~]+$",
        description="Id of that client; any will do.",
    )
    tailscale_api_url: str = Field(
        "https://api.tailscale.com",
        validation_alias="OCAPTAIN_TAILSCALE_API_URL",
        pattern=_TRUSTED_URL,
        description="URL of Tailscale's API.",
    )
    tailscale_tailnet: str = Field(
        "-",
        validation_alias="OCAPTAIN_TAILSCALE_TAILNET",
        pattern=r"^[A-Za-z0-9._@-]+$",
        description="Tailnet of that client; - is its own.",
    )
    tailscale_tag: str = Field(
        "tag:ship",
        validation_alias="OCAPTAIN_TAILSCALE_TAG",
        pattern=r"^tag:[A-Za-z][A-Za-z0-9-]*$",
        description="Tag that ships have on the tailnet.",
    )
    otlp_endpoint: Annotated[str, AfterValidator(_check_address)] | None = Field(
        None,
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        pattern=URL,
        description="Collector (OTLP over HTTP) that telemetry is forwarded to, without /v1/….",
    )
    otlp_headers: SecretStr | None = Field(
        None,
        validation_alias="OTEL_EXPORTER_OTLP_HEADERS",
        description="Headers for that collector: name=value,name=value; a secret.",
    )
    tailscale_login_server: str | None = Field(
        None,
        validation_alias="OCAPTAIN_TAILSCALE_LOGIN_SERVER",
        pattern=r"^https?://[^\s'\"{}%]+$",
        description="Control server of the tailnet, if it is not Tailscale's.",
    )

    @property
    def voyages(self) -> Path:
        """The directory that contains one directory for each voyage; relative to the caller's directory.

        Raises:
            UsageError: its path is too long, or below the home of a user who does not exist.
        """
        return place_of_voyages(self.home)


def merge_sources(given: Sequence[Mapping[str, str | None]], model: type[BaseModel] = Settings) -> dict[str, str]:
    """Return the variables of a model, each from the first source that sets it; an empty value counts as not set.

    If a setting has two spellings, the first source that sets either of them decides.
    """
    found: dict[str, str] = {}
    for field in model.model_fields.values():
        alias = field.validation_alias
        names = [str(one) for one in alias.choices] if isinstance(alias, AliasChoices) else [str(alias)]
        found |= first_set(given, names)
    return found


def load_settings() -> Settings:
    """Read the configuration.

    Raises:
        UsageError: a value is invalid; names the variable, never the value.
    """
    return load_part(Settings)


def load_part(model: type[_Model]) -> _Model:
    """Read the part of the configuration that a model describes by the aliases of its fields.

    Raises:
        UsageError: as :func:`load_settings`.
    """
    try:
        return model.model_validate(merge_sources(sources(), model))
    except ValidationError as error:
        faults = [
            f"{fault['loc'][0]}: {plain_reason(fault['msg'])}{_example(model, str(fault['loc'][0]), fault['type'])}"
            for fault in error.errors(include_input=False)
        ]
        message = "configuration is wrong (environment, ./.env or ~/.config/ocaptain/.env):"
        raise UsageError(message, faults) from None


def _example(model: type[BaseModel], alias: str, fault: str) -> str:
    """Return the end of a message about a text of the wrong form: one of the right form, where one is known."""
    defaults = (field.default for field in model.model_fields.values() if field.validation_alias == alias)
    known = next(defaults, None) if fault == "string_pattern_mismatch" else None
    return f"; an example is {known}" if known else ""
