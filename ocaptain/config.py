"""Configuration: the environment over ``./.env`` over ``~/.config/ocaptain/.env``.

Also the places on this machine: the voyages' home, drydock's state and its cache.
"""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from ocaptain.errors import UsageError
from ocaptain.names import ProviderName, VerifyOn  # noqa: TC001 - pydantic reads annotations

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DEFAULT_SHIPS = 3
MAX_SHIPS = 500
#: The directory whose ``.env`` counts; the runner changes directory, so the CLI names it here.
DOTENV_DIRECTORY = "OCAPTAIN_DOTENV_DIR"
URL = r"^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[^\s]*)?$"
#: A secret goes to it: https, or this machine.
_TRUSTED_URL = r"^(https://[A-Za-z0-9._-]+|http://(127\.0\.0\.1|localhost|\[::1\]))(:[0-9]{1,5})?(/[^\s]*)?$"
#: In a provider's place: the voyage's ships are hosts of an inventory; nothing makes or destroys them.
HOSTS = "hosts"
#: Of the path of all voyages. What lies below it must still have a path that the system takes.
MAX_HOME = 1000


def _printable(token: SecretStr) -> SecretStr:
    """A token travels in a header: what was pasted along with it would fail there, and be shown."""
    if not re.fullmatch(r"[!-~]+", token.get_secret_value()):
        raise ValueError("the token contains spaces or characters that no token has; copy it again from your account")
    return token


def _from_here(path: Path) -> Path:
    """A relative path is the caller's; the runner changes directory."""
    return (_here() / path.expanduser()).absolute()


Token = Annotated[SecretStr, AfterValidator(_printable)]
CallersPath = Annotated[Path, AfterValidator(_from_here)]


_Model = TypeVar("_Model", bound=BaseModel)


class Settings(BaseModel):
    """Everything that is configured outside the command line. Build it by :func:`load_settings`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    sprites_token: Token | None = Field(None, validation_alias=AliasChoices("SPRITES_TOKEN", "SPRITE_TOKEN"))
    sprites_api_url: str = Field(
        "https://api.sprites.dev",
        validation_alias="SPRITES_API_URL",
        pattern=URL,
    )
    api_timeout: Annotated[float, Field(gt=0, le=3600)] = Field(60.0, validation_alias="OCAPTAIN_API_TIMEOUT")
    sprites_org: str | None = Field(None, validation_alias="OCAPTAIN_SPRITES_ORG")
    provider: ProviderName | None = Field(None, validation_alias="OCAPTAIN_PROVIDER")
    default_ships: Annotated[int, Field(ge=1, le=MAX_SHIPS)] = Field(
        DEFAULT_SHIPS, validation_alias="OCAPTAIN_DEFAULT_SHIPS"
    )
    verify_on: VerifyOn = Field("clean", validation_alias="OCAPTAIN_VERIFY_ON")
    home: Path = Field(Path("~/voyages"), validation_alias="OCAPTAIN_HOME")
    gh_token: SecretStr | None = Field(None, validation_alias="GH_TOKEN")
    gh_host: str | None = Field(None, validation_alias="GH_HOST")
    #: What tokens and machines cost, over our own table.
    prices: Path | None = Field(None, validation_alias="OCAPTAIN_PRICES")
    mesh: Literal["auto", "none", "tailscale"] = Field("auto", validation_alias="OCAPTAIN_MESH")
    tailscale_oauth_secret: Token | None = Field(None, validation_alias="OCAPTAIN_TAILSCALE_OAUTH_SECRET")
    #: The secret names its client; the service takes any id beside it.
    tailscale_oauth_client_id: str = Field(
        "ocaptain", validation_alias="OCAPTAIN_TAILSCALE_OAUTH_CLIENT_ID", pattern=r"^[!-9;-~]+$"
    )
    tailscale_api_url: str = Field(
        "https://api.tailscale.com", validation_alias="OCAPTAIN_TAILSCALE_API_URL", pattern=_TRUSTED_URL
    )
    tailscale_tailnet: str = Field("-", validation_alias="OCAPTAIN_TAILSCALE_TAILNET", pattern=r"^[A-Za-z0-9._@-]+$")
    tailscale_tag: str = Field(
        "tag:ship", validation_alias="OCAPTAIN_TAILSCALE_TAG", pattern=r"^tag:[A-Za-z][A-Za-z0-9-]*$"
    )
    tailscale_login_server: str | None = Field(
        None, validation_alias="OCAPTAIN_TAILSCALE_LOGIN_SERVER", pattern=r"^https?://[^\s'\"{}%]+$"
    )

    @property
    def voyages(self) -> Path:
        """The directory that holds one directory a voyage; a relative one is the caller's.

        Raises:
            UsageError: its path is too long.
        """
        path = _from_here(self.home)
        most = os.pathconf("/", "PC_PATH_MAX") * 3 // 4
        size = len(os.fsencode(path))
        if len(str(path)) > MAX_HOME or size > most:
            raise UsageError(
                f"OCAPTAIN_HOME is a path of {len(str(path))} characters ({size} bytes), which is more than"
                f" {MAX_HOME} ({most} bytes); choose a shorter one"
            )
        return path


def _here() -> Path:
    return Path(os.environ.get(DOTENV_DIRECTORY) or ".").absolute()


def dotenv_files() -> tuple[Path, Path]:
    """Return the files that settings are read from, the stronger one first."""
    return _here() / ".env", Path("~/.config/ocaptain/.env").expanduser()


def chosen(sources: Sequence[Mapping[str, str | None]], model: type[BaseModel] = Settings) -> dict[str, str]:
    """Return the variables of a model that count, of sources in their order: the strongest first; an empty one is none.

    Of a setting that has two spellings the stronger source decides, whichever it uses.
    """
    found: dict[str, str] = {}
    for field in model.model_fields.values():
        alias = field.validation_alias
        names = [str(one) for one in alias.choices] if isinstance(alias, AliasChoices) else [str(alias)]
        found |= _strongest(sources, names)
    return found


def _strongest(sources: Sequence[Mapping[str, str | None]], names: Sequence[str]) -> dict[str, str]:
    """Return the one of these spellings that the strongest source sets, with its value; {} if none is set."""
    given = ((name, value) for source in sources for name in names if (value := source.get(name)))
    return dict(itertools.islice(given, 1))


def _dotenv(file: Path) -> Mapping[str, str | None]:
    from dotenv import dotenv_values  # noqa: PLC0415 - most have no such file

    return dotenv_values(file, encoding="utf-8")


def load_settings() -> Settings:
    """Read the configuration.

    Raises:
        UsageError: a value is not what it should be; names the variable, never the value.
    """
    return load(Settings)


def load(model: type[_Model]) -> _Model:
    """Read the part of the configuration that a model describes by the aliases of its fields.

    Raises:
        UsageError: as :func:`load_settings`.
    """
    try:
        return model.model_validate(chosen(_sources(), model))
    except ValidationError as error:
        faults = [f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors(include_input=False)]
        message = "configuration is wrong (environment, ./.env or ~/.config/ocaptain/.env):"
        raise UsageError(message, faults) from None


def variables(names: Iterable[str]) -> dict[str, str]:
    """Return those of the variables that are set.

    Raises:
        UsageError: a ``.env`` file cannot be read.
    """
    sources = _sources()
    return {name: value for one in names for name, value in _strongest(sources, [one]).items()}


def _sources() -> list[Mapping[str, str | None]]:
    try:
        return [os.environ, *(_dotenv(file) for file in dotenv_files() if file.is_file())]
    except (OSError, UnicodeDecodeError) as error:
        message = f"a .env file cannot be read ({', '.join(str(file) for file in dotenv_files())}): {error}"
        raise UsageError(message) from None


def _xdg(variable: str, fallback: str) -> Path:
    given = os.environ.get(variable, "")
    return (Path(given) if given.startswith("/") else Path(fallback).expanduser()) / "ocaptain"


def state_directory() -> Path:
    """``$XDG_STATE_HOME/ocaptain``: drydock's server record, token and sandboxes."""
    return _xdg("XDG_STATE_HOME", "~/.local/state")


def cache_directory() -> Path:
    """``$XDG_CACHE_HOME/ocaptain``: what can be made again, as drydock's base layer."""
    return _xdg("XDG_CACHE_HOME", "~/.cache")
