"""What the targets and judges of a plan are called on the screen."""

from __future__ import annotations

from safemt_client.planning.plan import Plan
from safemt_client.results.names import addresses, short_names
from safemt_client.results.sanitize import plain, without_secrets

__all__ = ["address_lines", "shown_names"]


def shown_names(plan: Plan) -> dict[str, str]:
    """The names of targets and of the judge by their keys: `NAME@URL` is NAME where that is clear."""
    targets = short_names(target.name for target in plan.targets)
    names = {target.key: targets[target.name] for target in plan.targets}
    if plan.judge is not None:
        names[plan.judge.judge_key] = short_names(_judges(plan))[plan.judge.name]
    return {key: plain(without_secrets(name)) for key, name in names.items()}


def address_lines(plan: Plan) -> list[str]:
    """Where the models are whose addresses these names leave out; a line for each address."""
    found = addresses([*(target.name for target in plan.targets), *_judges(plan)])
    return [
        f"at {plain(without_secrets(place))}: {plain(', '.join(names))}" for place, names in found.items()
    ]


def _judges(plan: Plan) -> list[str]:
    return [row.name for row in (*plan.members, *((plan.judge,) if plan.judge is not None else ()))]
