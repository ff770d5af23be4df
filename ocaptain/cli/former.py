"""Words for what we call otherwise: those of ocaptain 0.0.x, and those of other programs."""

from __future__ import annotations

#: Commands, and what does what they are thought to do.
COMMANDS = {
    "voyage-plan": "in Claude Code, /voyage-plan writes a plan; without it: `ocaptain plan new PLAN`",
    "attach": "look at a ship's agent: `ocaptain shell [ID] [SHIP]`",
    "ssh": "look at a ship's agent: `ocaptain shell [ID] [SHIP]`; a login shell: `ocaptain shell --raw`",
    "ps": "all voyages: `ocaptain ls`; one voyage: `ocaptain status [ID]`",
    "log": "the output of the agents: `ocaptain logs [ID]`",
    "run": "start work on a plan: `ocaptain sail PLAN`",
    "up": "start work on a plan: `ocaptain sail PLAN`",
    "start": "start work on a plan: `ocaptain sail PLAN`; drydock: `ocaptain drydock start`",
    "resume": "go on with a voyage: `ocaptain sail --resume ID`",
    "stop": "finish what is under way and start nothing new: `ocaptain pause [ID]`; end it: `ocaptain sink [ID]`",
    "kill": "fetch the work and destroy the ships: `ocaptain sink [ID]`",
    "down": "fetch the work and destroy the ships: `ocaptain sink [ID]`",
    "destroy": "fetch the work and destroy the ships: `ocaptain sink [ID]`; leftover ships: `ocaptain sweep`",
    "rm": "fetch the work and destroy the ships: `ocaptain sink [ID]`; leftover ships: `ocaptain sweep`",
    "cancel": "fetch the work and destroy the ships: `ocaptain sink [ID]`",
    "check": "check a plan: `ocaptain plan check PLAN`; check this machine: `ocaptain doctor`",
    "validate": "check a plan: `ocaptain plan check PLAN`",
    "simulate": "predict how long fleets need: `ocaptain plan simulate PLAN`",
    "costs": "what agents and machines cost: `ocaptain cost [ID]`",
    "task": "all tasks: `ocaptain tasks [ID]`; one task: `ocaptain why [ID] TASK`",
    "sync": "work comes by git when a task is done, and lands if its check passes; fetch it: `ocaptain clone [ID]`",
    "pull": "fetch all work that has landed: `ocaptain clone [ID]`",
}
#: Options by their command, likewise.
OPTIONS = {
    ("sail", "--detach"): "`ocaptain sail` returns when the ships sail; `--wait` waits for the end",
    ("logs", "--lines"): "the last lines: `ocaptain logs --tail N`",
    ("sink", "--yes"): "destroy without a question: `ocaptain sink --force`",
    ("sink", "-y"): "destroy without a question: `ocaptain sink --force`",
    ("sweep", "--yes"): "destroy without a question: `ocaptain sweep --force`",
    ("sweep", "-y"): "destroy without a question: `ocaptain sweep --force`",
}


def instead_of(word: str) -> str | None:
    """Return what to say of a command that we do not have; None if we know nothing of it."""
    said = COMMANDS.get(word)
    return said and f"there is no command {word!r}; {said}"


def instead_of_option(command: str, flag: str) -> str | None:
    """Return what to say of an option that a command does not have, likewise."""
    said = OPTIONS.get((command, flag))
    return said and f"`ocaptain {command}` has no option {flag}; {said}"
