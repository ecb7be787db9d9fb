"""What is made from the settings: docs/options.md, and with `--keywords` the types of the API's keywords.

python -m safemt_client.cli.options > docs/options.md
python -m safemt_client.cli.options --keywords > safemt_client/keywords.py
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from types import NoneType
from typing import Literal, get_args, get_origin

from safemt_client.cli.flags import flag_of
from safemt_client.cli.parser import COMMANDS
from safemt_client.option import Option
from safemt_client.settings import TABLES, RunSettings, default_of, kind_of, options, takes_none

__all__ = ["document", "keywords"]

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


_KEYWORDS_HEAD = '''"""The keywords of the API with their types, for editors and type checkers.

Made from the settings by `python -m safemt_client.cli.options --keywords`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

__all__ = ["JudgeKeywords", "RunKeywords"]
'''
# What takes objects too; lists are also taken as a single value.
_OBJECTS = {"provider": "object | Sequence[object]", "judge": "object | Sequence[object] | None"}
_MAPPINGS = {
    "accounts": "Mapping[str, Mapping[str, float]]",
    "providers": "Mapping[str, Mapping[str, Any]]",
    "extra_body": "str | Mapping[str, Any] | None",
}


def keywords() -> str:
    """The text of safemt_client/keywords.py. The store is a parameter of its own where a run is judged."""
    judging = [name for name in (*options("judge"), *TABLES) if name != "db"]
    others = [name for name in options() if name not in judging]
    lines = [_KEYWORDS_HEAD]
    for name, doc, base, named in (
        ("JudgeKeywords", "What `rejudge` takes beside the store and the run.", "TypedDict", judging),
        ("RunKeywords", "What `run`, `arun` and `plan` take.", "JudgeKeywords", others),
    ):
        lines += ["", f"class {name}({base}, total=False):", f'    """{doc}"""', ""]
        lines += [f"    {keyword}: {_type_of(keyword)}" for keyword in named]
        lines += [""]
    return "\n".join(lines)


def _type_of(name: str) -> str:
    """A field's type as source text."""
    if name in _OBJECTS:
        return _OBJECTS[name]
    optional = " | None" if NoneType in get_args(RunSettings.model_fields[name].annotation) else ""
    kind = kind_of(name)
    if get_origin(kind) is Literal:
        return "Literal[" + ", ".join(f'"{word}"' for word in get_args(kind)) + "]" + optional
    if get_origin(kind) is dict:
        return _MAPPINGS[name]
    if kind is Path:
        return "str | Path"
    if get_origin(kind) is list:
        # One text stands for a list: a name, or numbers with commas.
        return f"str | Sequence[{get_args(kind)[0].__name__}]{optional}"
    none = ' | Literal["none"]' if takes_none(name) else ""
    return f"{kind.__name__}{none}{optional}"


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
    if get_origin(kind) is dict and not option.commands:
        return "table"
    words = f"`{option.metavar}`" if option.metavar else _KINDS[kind]
    if kind in (int, float):
        words += f": {_KINDS[kind]}{_bounds(name)}" + (", or `none`" if takes_none(name) else "")
    return words


def _bounds(name: str) -> str:
    """The bounds of a number in words, as the model's JSON schema has them."""
    schema = RunSettings.model_json_schema()["properties"][name]
    (number, *_) = schema.get("anyOf", [schema])  # the others are null and `none`
    return "".join(f", {words} {number[key]:,}" for key, words in _BOUNDS.items() if key in number)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Print the document, or the keywords."""
    sys.stdout.write(keywords() if sys.argv[1:] == ["--keywords"] else document())


if __name__ == "__main__":
    main()
