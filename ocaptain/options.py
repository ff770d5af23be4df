"""The options of a voyage.

One model, from which the command line, Ansible's argument spec and documentation, the request and the
ledger's column are derived.

To add an option: a field here, its line in ``playbooks/provision.yml``, ``scripts/document`` for the module's
documentation, and the code that uses it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self, get_type_hints

from ocaptain.errors import UsageError
from ocaptain.names import PROVIDERS, VERIFY_ON

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Which settings of a repository apply: none, its hooks and permission rules, or all.
REPO_SETTINGS = ("ignore", "hooks", "trust")
MESHES = ("auto", "none", "tailscale")
#: Whether agents get the plan as their own task list; auto = where a person can see their screen.
TASK_LISTS = ("auto", "on", "off")
#: What options are about, as the help of ``sail`` groups them.
VOYAGE, FLEET, REPOSITORY, AGENTS, NETWORK, ENDING = "Voyage", "Fleet", "Repository", "Agents", "Network", "Ending"


@dataclass(frozen=True)
class Option:
    """The description of an option, for every place that offers it.

    Attributes:
        name: name of the field.
        kind: ``str``, ``int`` or ``bool``.
        help: a sentence for the command line and Ansible's documentation.
        short: its short form on the command line, with the dash.
        choices: the allowed values; empty = any.
        minimum: minimum of a number.
        on_resume: whether it may be given when a voyage is resumed.
        about: what it is about.
    """

    name: str
    kind: type
    help: str
    short: str | None = None
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    on_resume: bool = False
    about: str = VOYAGE

    @property
    def flag(self) -> str:
        """Its form on the command line."""
        return f"--{self.name.replace('_', '-')}"


def _option(text: str, default: Any = None, **more: Any) -> Any:
    return field(default=default, metadata={"help": text, **more})


@dataclass(frozen=True)
class SailOptions:
    """The options of a voyage; None = by the plan or the configuration."""

    ships: int | None = _option(
        "How many ships sail; by default what the plan recommends.", short="-n", minimum=1, about=FLEET
    )
    provider: str | None = _option("Where ships come from; by default as configured.", choices=PROVIDERS, about=FLEET)
    mesh: str | None = _option(
        "Network that ships join; auto means tailscale on sprites if its secret is set.", choices=MESHES, about=NETWORK
    )
    agent: str | None = _option("Agent of tasks that name none.", about=AGENTS)
    agent_cmd: str | None = _option("The line that agent `command` runs for tasks without metadata.run.", about=AGENTS)
    model: str | None = _option("Model of agents whose task names none.", about=AGENTS)
    max_turns: int | None = _option("Turns that an attempt of a model may take (200).", minimum=1, about=AGENTS)
    task_list: str | None = _option(
        "Whether agents get the plan as their own task list, which the captain keeps right;"
        " auto, the default, means where a person can see their screen.",
        choices=TASK_LISTS,
        on_resume=True,
        about=AGENTS,
    )
    interactive: bool = _option(
        "Give each agent its own screen in the ship's tmux, for people to watch and to type at (agent claude only).",
        default=False,
        about=AGENTS,
    )
    repo: str | None = _option(
        "Repository to start from (owner/name on GitHub, a URL or a path); by default the plan's.", about=REPOSITORY
    )
    branch: str | None = _option(
        "Branch of the repository to start from; by default the plan's, else the one that its HEAD names.",
        about=REPOSITORY,
    )
    repo_settings: str | None = _option(
        "What agents take from the repository's own settings (.claude/settings.json, .mcp.json): nothing (ignore),"
        " its hooks and permission rules, or all of it (trust); by default ignore.",
        choices=REPO_SETTINGS,
        on_resume=True,
        about=REPOSITORY,
    )
    allow_partial: bool = _option(
        "Sail without the repository's submodules and LFS files.", default=False, on_resume=True, about=REPOSITORY
    )
    no_telemetry: bool = _option(
        "Have agents report no metrics, logs and traces (OpenTelemetry) to their ships.", default=False, about=AGENTS
    )
    verify_on: str | None = _option(
        "Where the final verify runs: where no agent was (clean), or on any ship; by default as configured.",
        choices=VERIFY_ON,
        about=ENDING,
    )
    replace: bool = _option(
        "Replace ships that are lost, for as long as the voyage sails.", default=False, on_resume=True, about=FLEET
    )
    take_over: bool = _option(
        "Command the ships of a voyage whose ledger is older than its fleet.",
        default=False,
        on_resume=True,
        about=VOYAGE,
    )

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> Self:
        """Return the options among ``given``; None counts as not given."""
        names = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in given.items() if name in names and value is not None})

    def non_default(self) -> dict[str, Any]:
        """Return the options that differ from their default, as the ledger stores them."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) != one.default}

    def flags_refused_on_resume(self) -> list[str]:
        """Return the flags that were given but have no effect when a voyage is resumed."""
        chosen = self.non_default()
        return [one.flag for one in sail_options() if one.name in chosen and not one.on_resume]


def sail_options() -> Iterator[Option]:
    """Yield the description of each field of :class:`SailOptions`."""
    hints = get_type_hints(SailOptions)
    for one in fields(SailOptions):
        kind = next(
            kind for kind in (bool, int, str) if kind in (hints[one.name], *getattr(hints[one.name], "__args__", ()))
        )
        yield Option(one.name, kind, **one.metadata)


def argument_spec() -> dict[str, dict[str, Any]]:
    """Return the options in the form of Ansible's argument specs."""
    return {
        one.name: {
            "type": one.kind.__name__,
            **({"choices": list(one.choices)} if one.choices else {}),
            **({"default": False} if one.kind is bool else {}),
        }
        for one in sail_options()
    }


def documentation() -> dict[str, dict[str, Any]]:
    """Return the options in the form of a module's documentation."""
    spec = argument_spec()
    return {
        one.name: {"description": one.help.replace("`command`", "C(command)"), **spec[one.name]}
        for one in sail_options()
    }


def require_hooks(*, is_interactive: bool, repo_settings: str | None) -> None:
    """Refuse agents with screens in a repository that may switch off what tells when they are done.

    Args:
        is_interactive: whether the voyage's agents have screens of their own.
        repo_settings: what is asked for of the repository's own settings, None = as before.

    Raises:
        UsageError: it is so.
    """
    if is_interactive and repo_settings == "trust":
        why = "a trusted repository may switch off the hooks that tell when an agent is done"
        raise UsageError(f"--interactive does not go with --repo-settings trust: {why}; use ignore or hooks")
