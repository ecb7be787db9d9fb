"""Guards: one adapter for each kind of model, by name.

A module of this package declares its guards in `GUARDS`, an installed package by an entry point in the group
`safemt_client.guards`.

guard = build_guard("llama-guard-4")
request = guard.request(messages, "input")
assessment = guard.parse(reply, "input")
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from safemt_client.moderator.guards.plugin import plugin_guard
from safemt_client.moderator.types import Guard, GuardType, NotAssessableError
from safemt_client.providers.errors import InputError
from safemt_client.providers.plugins import find, say_hidden

__all__ = ["GUARDS", "GuardType", "NotAssessableError", "build_guard", "guard_type", "guards_table"]


def _built_in() -> dict[str, GuardType]:
    modules = (
        importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)
    )
    return {kind.card.name: kind for module in modules for kind in getattr(module, "GUARDS", ())}


GUARDS: dict[str, GuardType] = _built_in()
"""All built-in guards, by the names of their cards."""
_ALIASES = {alias: name for name, kind in GUARDS.items() for alias in kind.aliases}


def guard_type(name: str) -> GuardType:
    """The kind of guard of this name: a built-in one, or else a plug-in's.

    Raises:
        InputError: there is none, or the plug-in is broken.
    """
    name = _ALIASES.get(name, name)
    if name in GUARDS:
        say_hidden("guards", name)
        return GUARDS[name]
    if (plugin := find("guards", name)) is not None:
        return plugin_guard(plugin)
    raise InputError(f"{name}: there is no such guard; the known ones are {', '.join(GUARDS)}")


def build_guard(name: str, *, options: Mapping[str, str] | None = None, template: str | None = None) -> Guard:
    """The guard of this name. `template` is the path of a file, short for the option of that name.

    Raises:
        InputError: there is no such guard or option, or the template cannot be used.
    """
    kind = guard_type(name)
    given = dict(options or {})
    if template is not None:
        given["template"] = template
    for option in given:
        if option not in kind.options:
            takes = ", ".join(kind.options) or "none"
            raise InputError(f"{name}: there is no option {option}; its options are: {takes}")
    return kind.make(**given)


def guards_table() -> str:
    """All built-in guards as a Markdown table, from their cards."""
    rows = [
        "| name | model | licence | pictures | stages | labels | source | not confirmed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, kind in GUARDS.items():
        card = kind.card
        cells = [
            f"`{name}`",
            card.model,
            card.licence,
            "yes" if card.sees_images else "no",
            ", ".join(card.stages),
            ", ".join(card.labels),
            f"[{card.title}]({card.source})",
            card.unconfirmed or "",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)
