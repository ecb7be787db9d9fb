"""docs/options.md, made from the settings: `python -m safemt_client.cli.options > docs/options.md`."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import Literal, get_args, get_origin

from safemt_client.cli.flags import flag_of
from safemt_client.cli.parser import COMMANDS
from safemt_client.option import Option
from safemt_client.settings import RunSettings, default_of, kind_of, options

__all__ = ["document"]

_HEAD = """# Options

Each option of a run is a flag, a key of the settings file, and a keyword in Python:

    safemt --provider gpt-4o --data SafeMT/ --turns 1,2 --max-cost 5

    # night.toml, for: safemt --config night.toml
    provider = "gpt-4o"
    data = "SafeMT/"
    turns = [1, 2]
    max-cost = 5

    import safemt_client as safemt
    safemt.run(provider="gpt-4o", data="SafeMT/", turns=[1, 2], max_cost=5)

Flags take precedence over the file. In the file, `-` and `_` are the same. An option that is repeatable takes
a list there, a switch takes `true`.

An option marked with * decides replies or labels: a store keeps it with the run, and another value makes
another run. All others may change from one session to the next, and the same run goes on. The last column
names the commands besides `run` that have the flag.

This page is made from the settings by `python -m safemt_client.cli.options`.
"""
_COMMANDS_HEAD = """## Commands

Without a command, `run` is meant. `safemt COMMAND --help` lists the flags of each.

| command | what it does |
|---|---|
"""
_TABLE = "| flag | value | default | what it does | also in |\n|---|---|---|---|---|"
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most"}
_KINDS = {int: "integer", float: "number", Path: "path", str: "text", bool: "switch"}


def document() -> str:
    """The text of docs/options.md."""
    parts = [_HEAD]
    for group, named in groupby(options().items(), key=lambda item: item[1].group):
        parts += [f"## {group}\n", _TABLE, *(_row(name, option) for name, option in named), ""]
    rows = [f"| `{command.name}` | {_cell(command.help)} |" for command in COMMANDS.values()]
    return "\n".join(parts) + "\n" + _COMMANDS_HEAD + "\n".join(rows) + "\n"


def _row(name: str, option: Option) -> str:
    flag = f"`{flag_of(name)}`" if option.commands else f"`[{name}.NAME]` in the file"
    others = ", ".join(f"`{command}`" for command in option.commands if command != "run")
    default = "required" if RunSettings.model_fields[name].is_required() else default_of(name) or ""
    cells = (flag + "\\*" * option.decides, _value(name, option), default, option.help)
    return f"| {' | '.join(_cell(cell) for cell in cells)} | {others} |"


def _value(name: str, option: Option) -> str:
    """What may be given: the words of the type, or its name and bounds."""
    kind = kind_of(name)
    if get_origin(kind) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(kind))
    if get_origin(kind) is dict:
        return "table"
    words = f"`{option.metavar}`" if option.metavar else _KINDS[kind]
    if kind in (int, float):
        words += f": {_KINDS[kind]}{_bounds(name)}"
    return words


def _bounds(name: str) -> str:
    """The bounds of a number in words, as the model's JSON schema has them."""
    schema = RunSettings.model_json_schema()["properties"][name]
    (number, *_) = schema.get("anyOf", [schema])
    return "".join(f", {words} {number[key]:,}" for key, words in _BOUNDS.items() if key in number)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Print the document."""
    sys.stdout.write(document())


if __name__ == "__main__":
    main()
