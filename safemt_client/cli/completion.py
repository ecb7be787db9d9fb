"""What makes a shell complete the program's commands, options and their values; made from the parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from safemt_client.cli.parser import COMMANDS, make_parser

__all__ = ["completion", "script"]

_FILES = ("FILE", "PATH", "FOLDER", "CSV", "FILE.toml|NAME", "FILE|TEXT")
_BASH = """# Completion of safemt for bash: put this into ~/.bashrc.
_safemt() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} words=
    case $command in @COMMANDS@) ;; *) command=run ;; esac
    if [ "$COMP_CWORD" = 1 ] && [ "${word#-}" = "$word" ]; then
        COMPREPLY=($(compgen -W "@WORDS@" -- "$word")); return
    fi
    case $command:$before in
@VALUES@
    esac
    case $command in
@OPTIONS@
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _safemt safemt
"""
_ZSH = """# Completion of safemt for zsh: put this into ~/.zshrc.
autoload -U +X bashcompinit && bashcompinit
"""
_FISH = "# Completion of safemt for fish: keep this as ~/.config/fish/completions/safemt.fish.\n"


@dataclass(frozen=True)
class _Flag:
    """A flag of a command: its choices, whether a file is its value, and what it does."""

    name: str
    choices: tuple[str, ...]
    file: bool
    value: bool
    help: str


def completion(arguments: argparse.Namespace) -> int:
    """Print the script for a shell."""
    print(script(arguments.shell), end="")
    return 0


def script(shell: str) -> str:
    """The script that bash, zsh or fish reads."""
    if shell == "fish":
        return _FISH + "\n".join(_fish()) + "\n"
    return (_ZSH if shell == "zsh" else "") + _bash()


def _bash() -> str:
    values, listed = [], []
    for command in COMMANDS:
        flags, actions = _of(command)
        for flag in flags:
            if flag.choices:
                words = " ".join(flag.choices)
                values.append(f'        {command}:{flag.name}) words="{words}"; command=- ;;')
            elif flag.file:
                values.append(f"        {command}:{flag.name}) COMPREPLY=(); return ;;")
        names = " ".join([*actions, *(flag.name for flag in flags)])
        listed.append(f'        {command}) words="{names}" ;;')
    fills = {
        "@COMMANDS@": "|".join(COMMANDS),
        "@WORDS@": " ".join(COMMANDS),
        "@VALUES@": "\n".join(values),
        "@OPTIONS@": "\n".join(listed),
    }
    text = _BASH
    for place, fill in fills.items():
        text = text.replace(place, fill)
    return text


def _fish() -> Iterator[str]:
    known = " ".join(COMMANDS)
    first = f"not __fish_seen_subcommand_from {known}"
    for name, described in COMMANDS.items():
        yield f"complete -c safemt -f -n {_quoted(first)} -a {name} -d {_quoted(described.help)}"
    for command in COMMANDS:
        where = f"__fish_seen_subcommand_from {command}"
        if command == "run":
            where += f"; or {first}"
        flags, actions = _of(command)
        if actions:
            yield f"complete -c safemt -f -n {_quoted(where)} -a {_quoted(' '.join(actions))}"
        for flag in flags:
            takes = (
                f" -x -a {_quoted(' '.join(flag.choices))}" if flag.choices else " -r" if flag.value else ""
            )
            takes = takes.replace(" -r", " -rF") if flag.file else takes
            line = f"complete -c safemt -n {_quoted(where)} -l {flag.name[2:]}{takes}"
            yield f"{line} -d {_quoted(flag.help)}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _of(command: str) -> tuple[list[_Flag], list[str]]:
    """The flags of a command and of its actions, and the words that it takes."""
    parsers = make_parser([command])
    (commands,) = (one for one in parsers._actions if isinstance(one, argparse._SubParsersAction))
    found: dict[str, _Flag] = {}
    words: list[str] = [*COMMANDS] if command == "help" else []
    waiting: list[argparse.ArgumentParser] = [commands.choices[command]]
    while waiting:
        for action in waiting.pop()._actions:
            if isinstance(action, argparse._SubParsersAction):
                words += action.choices
                waiting += action.choices.values()
            elif action.option_strings:
                found.setdefault(action.option_strings[-1], _flag(action))
            elif action.choices is not None:
                words += map(str, action.choices)
    return list(found.values()), words


def _flag(action: argparse.Action) -> _Flag:
    choices: Sequence[str] = () if action.choices is None else tuple(map(str, action.choices))
    help_text = (action.help or "").replace("%%", "%").partition(";")[0]
    return _Flag(
        action.option_strings[-1],
        tuple(choices),
        action.metavar in _FILES,
        action.nargs != 0,
        help_text if "%(" not in help_text else help_text.partition(" (")[0],
    )
