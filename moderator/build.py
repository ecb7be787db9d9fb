"""Builds a guard's adapter from the value of `--moderator`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safemt_client.moderator.types import INTERVENTIONS, Guard, GuardType, Intervention
from safemt_client.providers.errors import InputError

__all__ = [
    "ModeratorSpec",
    "check_guard_options",
    "guard_of",
    "guard_options",
    "parse_moderator",
]


@dataclass(frozen=True, slots=True)
class ModeratorSpec:
    """What a value of `--moderator` stands for; `head` is the name without the provider.

    `provider` is None if the guard provides its own, or if it is missing.
    """

    name: str
    head: str
    guard: str
    kind: GuardType
    interventions: frozenset[Intervention]
    provider: str | None


def parse_moderator(text: str) -> ModeratorSpec:
    """Read `GUARD[+INTERVENTION...][=PROVIDER]`.

    Raises:
        InputError: it is not of that form, or there is no such guard.
    """
    # Most runs have no guard, and there are many kinds of them.
    from safemt_client.moderator.guards import guard_type

    head, _, provider = text.partition("=")
    name, *wanted = head.split("+")
    unknown = [word for word in wanted if word not in INTERVENTIONS]
    if not name or unknown:
        raise InputError(
            f"--moderator {text!r}: write GUARD+INTERVENTION=PROVIDER, where INTERVENTION is one of "
            f"{', '.join(INTERVENTIONS)}"
        )
    kind = guard_type(name)
    guard = kind.card.name if name in kind.aliases else name
    given = [word for word in INTERVENTIONS if word in wanted]
    asked = provider or kind.aliases.get(name) or kind.provider
    return ModeratorSpec(text, head, guard, kind, frozenset(given or [kind.intervention]), asked)


def guard_options(template: str | None, given: Sequence[str] | None) -> dict[str, str]:
    """The options of `--guard-template` and `--guard-option NAME=VALUE`, by name.

    Raises:
        InputError: one is not of that form.
    """
    options = {} if template is None else {"template": template}
    for text in given or ():
        name, mark, value = text.partition("=")
        if not name or not mark:
            raise InputError(f"--guard-option {text!r}: write NAME=VALUE, such as generation=4.1")
        options[name] = value
    return options


def check_guard_options(options: Mapping[str, str], guards: Sequence[GuardType]) -> None:
    """Refuse an option that none of these guards takes."""
    taken = {name for guard in guards for name in guard.options}
    for name in options:
        if name not in taken:
            known = ", ".join(sorted(taken)) or "none"
            raise InputError(
                f"--guard-option {name}: no guard of this run has this option; known are: {known}"
            )


def guard_of(spec: ModeratorSpec, options: Mapping[str, str]) -> Guard:
    """The adapter; it gets the options that its kind takes.

    Raises:
        InputError: an option cannot be used, or the guard does not assess what the interventions need.
    """
    guard = spec.kind.make(**{name: options[name] for name in spec.kind.options if name in options})
    if "output" in spec.interventions and "output" not in guard.card.stages:
        raise InputError(f"--moderator {spec.name}: {spec.guard} does not assess replies: leave out +output")
    return guard
