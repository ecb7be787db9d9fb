"""From what `--moderator` names to a guard's adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safemt_client.moderator.moderator import INTERVENTIONS, Intervention
from safemt_client.moderator.types import Guard
from safemt_client.providers.errors import InputError

__all__ = [
    "LOCAL_MODEL",
    "ModeratorSpec",
    "check_guard_options",
    "guard_of",
    "guard_options",
    "parse_moderator",
]


LOCAL_MODEL = "local-model:"
"""What a guard's provider begins with where it is a model in this process: then a folder or a hub's name."""


_ALIASES = {
    "demo-guard": ("llm", "demo-guard"),
    "openai-moderation": ("openai-moderation", "openai/omni-moderation-latest"),
}


# Guards that hand the model a policy of their own; the others are used to block.
_GIVE_POLICIES = ("llm", "chatshield")


@dataclass(frozen=True, slots=True)
class ModeratorSpec:
    """What a name after `--moderator` stands for; `head` is the name without the provider.

    `provider` is None where the guard has one of its own, or where it is missing.
    """

    name: str
    head: str
    guard: str
    interventions: frozenset[Intervention]
    provider: str | None


def parse_moderator(text: str) -> ModeratorSpec:
    """Read `GUARD[+INTERVENTION...][=PROVIDER]`.

    Raises:
        InputError: it is not of that form.
    """
    head, _, provider = text.partition("=")
    name, *wanted = head.split("+")
    guard, own = _ALIASES.get(name, (name, ""))
    unknown = [word for word in wanted if word not in INTERVENTIONS]
    if not name or unknown:
        raise InputError(
            f"--moderator {text!r}: write GUARD+INTERVENTION=PROVIDER, with {', '.join(INTERVENTIONS)}"
        )
    given = [word for word in INTERVENTIONS if word in wanted]
    default: Intervention = "policy" if guard in _GIVE_POLICIES else "block"
    return ModeratorSpec(text, head, guard, frozenset(given or [default]), provider or own or None)


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


def check_guard_options(options: Mapping[str, str], guards: Sequence[str]) -> None:
    """Refuse an option that none of these guards takes."""
    from safemt_client.moderator.guards import GUARDS

    taken = {name for guard in guards if guard in GUARDS for name in GUARDS[guard].options}
    for name in options:
        if name not in taken:
            known = ", ".join(sorted(taken)) or "none"
            raise InputError(f"--guard-option {name}: no guard of this run takes it; they take {known}")


def guard_of(spec: ModeratorSpec, options: Mapping[str, str]) -> Guard:
    """The adapter; of the options those count that its kind takes.

    Raises:
        InputError: there is no such guard, an option cannot be used, or the guard does not assess what the
            interventions need.
    """
    guard = _adapter(spec, options)
    if "output" in spec.interventions and "output" not in guard.card.stages:
        raise InputError(f"--moderator {spec.name}: {spec.guard} assesses no replies: leave +output out")
    return guard


def _adapter(spec: ModeratorSpec, options: Mapping[str, str]) -> Guard:
    if spec.guard == "profanity":
        from safemt_client.moderator.local.classifier import ClassifierGuard

        return ClassifierGuard()
    from safemt_client.moderator.guards import GUARDS, build_guard

    takes = GUARDS[spec.guard].options if spec.guard in GUARDS else ()
    return build_guard(spec.guard, options={name: options[name] for name in takes if name in options})
