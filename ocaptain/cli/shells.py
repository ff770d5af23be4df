"""Completion in shells: the script of each shell, where it goes, and which shell it is that we are typed in.

    shell ──words of the line──> `_OCAPTAIN_COMPLETE=SHELL ocaptain WORD…` ──kind, values──> shell

The first line of the answer says what it is: ``words`` (a value a line, a tab, and what it is), ``files`` or
``dirs``, which the shell completes itself, since it knows best how to quote them. No answer: nothing is known.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from ocaptain.errors import OcaptainError, UsageError

#: Set by the scripts: which shell asks.
VARIABLE = "_OCAPTAIN_COMPLETE"
SHELLS = ("bash", "zsh", "fish")
COMPLETION_FLAGS = ("--install-completion", "--show-completion")

_BASH = r"""# Completion of ocaptain for bash 4 and newer.
_ocaptain_complete() {
  local program="${1/#\~\//$HOME/}" line kind="" value tab=$'\t'
  local -a found=() values=()
  COMPREPLY=()
  while IFS= read -r line; do
    if [[ -z $kind ]]; then kind=$line; else found+=("$line"); fi
  done < <(_OCAPTAIN_COMPLETE=bash "$program" "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  case $kind in
    files) compopt -o default 2>/dev/null ;;
    dirs) compopt -o dirnames 2>/dev/null ;;
    words)
      compopt -o nosort 2>/dev/null  # newest first
      for line in "${found[@]}"; do
        value=${line%%"$tab"*}
        # Listed by a second TAB: what each is stands beside it. The line itself gets the value alone.
        [[ ${COMP_TYPE:-9} == 63 && ${#found[@]} -gt 1 && $line == *"$tab"* ]] && value+="  (${line#*"$tab"})"
        values+=("$value")
      done
      COMPREPLY=("${values[@]}")
      [[ ${#found[@]} -eq 1 && ${found[0]} == --*= ]] && compopt -o nospace 2>/dev/null
      ;;
  esac
  return 0
}
complete -F _ocaptain_complete ocaptain
"""

_ZSH = r"""#compdef ocaptain
# Completion of ocaptain for zsh.
_ocaptain_complete() {
  local program=${words[1]/#\~\//$HOME/} kind line value
  local -a found values shown
  found=("${(@f)$(_OCAPTAIN_COMPLETE=zsh $program "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  kind=$found[1]
  shift found
  case $kind in
    files) _files ;;
    dirs) _files -/ ;;
    words)
      for line in $found; do
        value=${line%%$'\t'*}
        values+=("$value")
        if [[ $line == *$'\t'* ]]; then shown+=("${(r:24:)value}  ${line#*$'\t'}"); else shown+=("$value"); fi
      done
      compadd -l -V ocaptain -d shown -a values  # -V: in this order, newest first
      ;;
  esac
}
if (( ! $+functions[compdef] )); then autoload -Uz compinit && compinit; fi
compdef _ocaptain_complete ocaptain
"""

_FISH = r"""# Completion of ocaptain for fish.
function __ocaptain_complete
  set -l words (commandline -opc)
  set -l current (commandline -ct)
  set -l program (string replace -r '^~/' "$HOME/" -- $words[1])
  set -l found (_OCAPTAIN_COMPLETE=fish $program $words[2..-1] "$current" 2>/dev/null)
  switch "$found[1]"
    case files
      __fish_complete_path "$current"
    case dirs
      __fish_complete_directories "$current" ''
    case words
      printf '%s\n' $found[2..-1]
  end
end
complete --command ocaptain --no-files --keep-order --arguments '(__ocaptain_complete)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def script_of(shell: str) -> str:
    """Return the script that makes a shell complete our command."""
    return _SCRIPTS[shell]


def this_shell() -> str:
    """Return the shell that we are typed in: the nearest above us, else the user's own (``SHELL``).

    Raises:
        UsageError: it is none that we know, as where a service or CI starts us.
    """
    own = Path(os.environ.get("SHELL", "")).name
    for name in (*_programs_above(os.getppid()), own):
        if name in SHELLS:
            return name
    raise UsageError("cannot tell which shell this is; name it: `--install-completion bash`, `zsh` or `fish`")


def _programs_above(pid: int) -> list[str]:
    """Return the names of a process and those that started it, nearest first; [] where they cannot be known."""
    found: list[str] = []
    while pid > 1 and len(found) < 32:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        except OSError:
            break
        name, _, rest = stat.partition("(")[2].rpartition(")")
        found.append(name.removeprefix("-"))
        pid = int(rest.split()[1])
    return found


def install(shell: str) -> tuple[Path, Path | None]:
    """Write a shell's script below the user's home, and have the shell read it.

    Returns:
        The script, and the file that a line was added to; None if the shell finds the script by itself.

    Raises:
        UsageError: there is no home.
        OcaptainError: a file cannot be written; names it.
    """
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises RuntimeError where there is none
    if not home.is_absolute() or not home.is_dir():
        raise UsageError(f"there is no home directory ({home}); set HOME, or use --show-completion {shell}")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
    if shell == "fish":
        return _write(config / "fish/completions/ocaptain.fish", script_of(shell)), None
    start = home / ".bashrc" if shell == "bash" else Path(os.environ.get("ZDOTDIR") or home) / ".zshrc"
    script = _write(data / f"ocaptain/completion.{shell}", script_of(shell))
    quoted = shlex.quote(str(script))
    line = f"[ -r {quoted} ] && . {quoted}  # completion of ocaptain\n"
    try:
        before = start.read_text("utf-8", "surrogateescape") if start.exists() else ""
        if line not in before:
            with start.open(
                "a", encoding="utf-8", errors="surrogateescape"
            ) as file:  # not replaced: it may be a link into somebody's repository
                file.write(line if before.endswith("\n") or not before else f"\n{line}")
    except OSError as error:
        raise OcaptainError(_unwritable(start, error, shell)) from error
    return script, start


def _write(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise OcaptainError(_unwritable(path, error, path.name.rpartition(".")[2])) from error
    return path


def _unwritable(path: Path, error: OSError, shell: str) -> str:
    return f"{path} cannot be written: {error.strerror}; mend that, or put there what --show-completion {shell} prints"
