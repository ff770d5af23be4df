"""Configuration of Claude Code's credentials."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ocaptain.config import URL, CallersPath, Token

CREDENTIALS = ("CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_API_KEY", "OCAPTAIN_CLAUDE_KEY_HELPER")
REMEDY = "set CLAUDE_CODE_OAUTH_TOKEN (from `claude setup-token`), ANTHROPIC_API_KEY or OCAPTAIN_CLAUDE_KEY_HELPER"


class ClaudeSettings(BaseModel):
    """The settings; read them by :func:`ocaptain.config.load_part`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    oauth_token: Token | None = Field(
        None,
        validation_alias="CLAUDE_CODE_OAUTH_TOKEN",
        description="Token of a Claude subscription (from `claude setup-token`).",
    )
    api_key: Token | None = Field(None, validation_alias="ANTHROPIC_API_KEY", description="Key of Anthropic's API.")
    base_url: Annotated[str, Field(pattern=URL)] | None = Field(
        None, validation_alias="ANTHROPIC_BASE_URL", description="URL of that API, if it is not Anthropic's."
    )
    #: A program on this machine that prints an API key; it is copied to the ships and runs there.
    key_helper: CallersPath | None = Field(
        None,
        validation_alias="OCAPTAIN_CLAUDE_KEY_HELPER",
        description="Program here that prints such a key; it is copied to the ships and runs there.",
    )
