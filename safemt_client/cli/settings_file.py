"""A settings file to begin with: every option with what it does and its default, made from the settings."""

from __future__ import annotations

import json
import textwrap
from itertools import groupby
from pathlib import Path

from safemt_client.option import Option
from safemt_client.settings import RunSettings, default_of, kind_of, options

__all__ = ["settings_file"]

_HEAD = """# Settings of a run, for: safemt --config {name}
# A line such as `# turns = K,K` is a setting that is not made: take the `# ` away and give it a value.
# Values that are shown are the defaults. Flags take precedence over this file. Keys are not kept here: they
# come from the environment, such as OPENAI_API_KEY.

# As it stands this file asks the built-in demo on a harmless sample, which costs nothing:
provider = ["demo"]
data = "sample"
# With a model and the SafeMT data instead:
# provider = ["gpt-4o"]
# data = "SafeMT/"
"""
_MADE = ("provider", "data")
_TABLES = """
# --- Tables: of one model, and of one account ---

# [providers."gpt-4o"]
# temperature = 0.7
# max-tokens = 500

# [accounts.openai]
# rpm = 500
"""


def settings_file(name: str) -> str:
    """The text of a settings file that is called `name`."""
    parts = [_HEAD.format(name=name)]
    for group, named in groupby(options("run").items(), key=lambda item: item[1].group):
        listed = [(field, option) for field, option in named if field not in _MADE]
        if listed:
            parts += [f"\n# --- {group} ---\n", *(_setting(field, option) for field, option in listed)]
    return "\n".join(parts) + _TABLES


def _setting(field: str, option: Option) -> str:
    default = default_of(field)
    text = option.help + (f" (default: {default})" if default and _value(field) is None else "")
    value = _value(field) or option.metavar or "VALUE"
    lines = textwrap.wrap(text, 98, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
    return "\n".join(["", *lines, f"# {field.replace('_', '-')} = {value}"])


def _value(field: str) -> str | None:
    """A setting's default as TOML has it; None where there is no value for it."""
    default = RunSettings.model_fields[field].default
    if isinstance(default, bool | int | float | str):
        return json.dumps(default)
    if isinstance(default, Path):
        return json.dumps(str(default))
    return "true" if kind_of(field) is bool else None
