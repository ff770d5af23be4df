"""What help shows beside the options: which commands belong together, and examples of each. Data alone."""

from __future__ import annotations

#: Commands by what they are for, in the order of ``--help``. A name that is no command (yet) is left out.
PANELS: dict[str, tuple[str, ...]] = {
    "Sail": ("sail", "pause", "sink", "clone", "artifacts"),
    "Look": ("ls", "status", "tasks", "watch", "logs", "diff", "events", "cost", "report"),
    "When a task fails": ("why", "retry", "approve", "land"),
    "Ships": ("shell", "exec", "open", "proxy", "sweep"),
    "Tools": ("plan", "doctor", "drydock", "telemetry", "help", "version"),
}

#: Examples of each command: a line, and what it does.
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "ocaptain": (
        ("ocaptain doctor", "is this machine ready?"),
        ("ocaptain sail examples/plans/lighthouse --wait", "sail a plan and watch it"),
        ("ocaptain status", "how far is it?"),
        ("ocaptain sink", "fetch all work and destroy the ships"),
    ),
    "sail": (
        ("ocaptain sail my-plan", "as many ships as the plan recommends"),
        ("ocaptain sail my-plan -n 5 --wait", "five ships; watch until the end"),
        ("ocaptain sail my-plan --dry-run", "what would be made; nothing is"),
        ("ocaptain sail --task 'Fix the failing test' --wait", "without a plan, in a repository"),
        ("ocaptain sail my-plan --repo owner/name", "start from a repository on GitHub"),
        ("ocaptain sail my-plan --interactive", "agents have their own screens, to watch and to type at"),
        ("ocaptain sail my-plan -i hosts.yml:builders", "your own machines as ships"),
        ("ocaptain sail --resume voyage-4f59 --wait", "go on with a voyage"),
    ),
    "ls": (
        ("ocaptain ls", "all voyages, newest first"),
        ("ocaptain ls --json | jq -r '.voyages[].voyage'", "their ids"),
    ),
    "status": (
        ("ocaptain status", "the only active voyage"),
        ("ocaptain status voyage-4f59 --json", "another one, for a program"),
    ),
    "tasks": (
        ("ocaptain tasks", "of the only active voyage"),
        ("ocaptain tasks voyage-4f59 -s failed", "only those that failed"),
        ("ocaptain tasks --all", "those that landed as well"),
    ),
    "watch": (
        ("ocaptain watch", "the only active voyage; ? shows the keys"),
        ("ocaptain watch voyage-4f59", "another one"),
    ),
    "events": (
        ("ocaptain events -f", "all that happens, until the voyage ends"),
        ("ocaptain events -f --json | jq -c 'select(.kind == \"failed\")'", "for a program"),
        ("ocaptain events --since 10m --task 17", "of one task, in the last ten minutes"),
    ),
    "artifacts": (
        ("ocaptain artifacts", "the files that agents left, with task and size"),
        ("ocaptain artifacts voyage-4f59 17 --to ~/reports", "copy those of task 17 to ~/reports/17"),
    ),
    "cost": (
        ("ocaptain cost", "a line for each ship"),
        ("ocaptain cost voyage-4f59 --by task", "a line for each task"),
    ),
    "logs": (
        ("ocaptain logs -f", "all ships, until the voyage ends"),
        ("ocaptain logs ship-0 -n 20", "the last 20 lines of a ship"),
        ("ocaptain logs voyage-4f59 17 -g 'error|warn'", "lines of task 17 that match"),
    ),
    "diff": (
        ("ocaptain diff", "what the agents have changed so far, each ship after the other"),
        ("ocaptain diff ship-0 --stat", "the files of one ship, with counts of lines"),
        ("ocaptain diff --json", "likewise, for a program"),
    ),
    "clone": (
        ("ocaptain clone", "into ./ID"),
        ("ocaptain clone voyage-4f59 -d work", "into ./work"),
    ),
    "pause": (
        ("ocaptain pause", "then: ocaptain sail --resume ID"),
        ("ocaptain pause voyage-4f59", "of several active voyages, this one"),
    ),
    "why": (
        ("ocaptain why 17", "each attempt of task 17, and what it waits for"),
        ("ocaptain why voyage-4f59 17 --json", "for a program"),
    ),
    "retry": (
        ("ocaptain retry", "all tasks that failed for good"),
        ("ocaptain retry 17 23 --any", "two of them, on any ship"),
        ("ocaptain retry 17 --task-file tasks/17.json", "with a corrected task"),
    ),
    "approve": (
        ("ocaptain approve 17", "let ships have task 17"),
        ("ocaptain approve voyage-4f59 17 23", "of this voyage, two tasks"),
    ),
    "land": (
        ("ocaptain land", "the commits that you made in workspace/"),
        ("ocaptain land -m 'Fix the gate' verify.sh", "commit a file there, and land it"),
        ("ocaptain land voyage-4f59 --json", "of this voyage, for a program"),
    ),
    "sink": (
        ("ocaptain sink", "the only active voyage; asks first"),
        ("ocaptain sink voyage-4f59 --force", "asks nothing"),
        ("ocaptain sink --all", "all active voyages, and leftover ships"),
    ),
    "shell": (
        ("ocaptain shell ship-0", "look on; Ctrl-b d leaves"),
        ("ocaptain shell ship-0 --write", "type to the agent"),
        ("ocaptain shell voyage-4f59 ship-0 --raw", "a login shell beside it"),
    ),
    "exec": (
        ("ocaptain exec ship-0 -- git log --oneline -5", "what the agent has committed"),
        ("ocaptain exec voyage-4f59 ship-2 -- df -h .", "on a ship of another voyage"),
        ("ocaptain exec ship-0 -- tar c . > work.tar", "all files of the agent"),
    ),
    "open": (
        ("ocaptain open ship-0 3000", "what the agent's program serves there, for a browser here"),
        ("ocaptain open voyage-4f59 ship-2 8080", "of a ship of another voyage"),
    ),
    "proxy": (
        ("ocaptain proxy ship-0 22", "join this terminal to port 22"),
        ("ssh -o ProxyCommand='ocaptain proxy %h %p' voyage-4f5966aa0c1d-ship-0", "ssh to a ship"),
    ),
    "doctor": (
        ("ocaptain doctor", "where ships would come from as configured"),
        ("ocaptain doctor --provider drydock", "drydock alone"),
    ),
    "sweep": (
        ("ocaptain sweep --dry-run", "list leftover ships"),
        ("ocaptain sweep", "destroy them; asks first"),
    ),
    "plan": (
        ("ocaptain plan check my-plan", "is it valid?"),
        ("ocaptain plan simulate my-plan", "how many ships are worth it?"),
    ),
    "plan new": (("ocaptain plan new my-plan", "spec.md, verify.sh, voyage.json and two tasks"),),
    "plan show": (
        ("ocaptain plan show my-plan", "its waves and its critical path"),
        ("ocaptain plan show my-plan --json", "for a program"),
    ),
    "plan graph": (
        ("ocaptain plan graph my-plan", "as a tree"),
        ("ocaptain plan graph my-plan --format mermaid", "for a page"),
    ),
    "plan check": (
        ("ocaptain plan check my-plan", "every error, or exit 0"),
        ("ocaptain plan check my-plan --json", "for a program"),
    ),
    "plan simulate": (
        ("ocaptain plan simulate my-plan", "fleets of 1 to 8 ships"),
        ("ocaptain plan simulate my-plan -n 4..12 --seconds 90", "4 to 12; 90 s where no estimate is"),
    ),
    "drydock": (
        ("ocaptain drydock start", "ships in sandboxes of this machine"),
        ("OCAPTAIN_PROVIDER=drydock ocaptain sail my-plan", "sail on it"),
    ),
    "drydock start": (
        ("ocaptain drydock start", "on any free port"),
        ("ocaptain drydock start --limit 4 --network isolated", "at most 4 ships at once, with no way out"),
        ("ocaptain drydock start --allow-host mirror.example:443", "ships reach a private mirror, too"),
        ("ocaptain drydock start --ship-memory 2G --ship-pids 2000", "no ship takes the machine from the others"),
    ),
    "drydock status": (("ocaptain drydock status", "where it listens"),),
    "drydock stop": (("ocaptain drydock stop", "end it and its sprites"),),
    "drydock base": (("ocaptain drydock base build", "make the base layer now"),),
    "drydock base build": (("ocaptain drydock base build", "make the base layer now"),),
    "telemetry": (
        ("ocaptain telemetry export voyage-4f59", "all that the agents of a voyage reported"),
        ("ocaptain telemetry start", "receive what agents on this machine report"),
    ),
    "telemetry start": (
        ("ocaptain telemetry start", "on port 4318, where exporters look"),
        ("ocaptain telemetry start --port 0", "on any free port"),
    ),
    "telemetry stop": (("ocaptain telemetry stop", "what it has stored stays"),),
    "telemetry export": (
        ("ocaptain telemetry export", "of the only active voyage"),
        ("ocaptain telemetry export voyage-4f59 | grep resourceSpans", "its traces"),
        ("ocaptain telemetry export --receiver", "what the receiver stored"),
    ),
    "help": (
        ("ocaptain help sail", "as: ocaptain sail --help"),
        ("ocaptain help environment", "the variables that are read"),
    ),
    "version": (("ocaptain version", "as: ocaptain --version"),),
}

#: What ``--help`` ends with.
LEARN_MORE: tuple[tuple[str, str], ...] = (
    ("ocaptain help COMMAND", "options and examples of a command"),
    ("ocaptain help environment", "the variables and files that configure it"),
    ("ocaptain --show-completion", "completion for bash, zsh and fish"),
    ("README.md, docs/", "plans, repositories, hosts, mesh, faults, Ansible"),
)
