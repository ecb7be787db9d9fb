"""Which models a plan still has something to ask of."""

from __future__ import annotations

from safemt_client.models import Models
from safemt_client.planning.plan import Plan
from safemt_client.providers.registry import ProviderSpec

__all__ = ["asked_of_plan"]


def asked_of_plan(plan: Plan, models: Models) -> list[ProviderSpec]:
    """The targets with conversations to come, their guards, and the judges if there is something to judge."""
    targets = {target.key: target for target in plan.targets}
    pending = {conversation.target.key for conversation in plan.pending}
    found = [models.spec(targets[key].model_name) for key in pending if key in targets]
    guards = {models.moderators[key].assessor.key for key in pending if key in models.moderators}
    found += [models.guards_on[key] for key in guards if key in models.guards_on]
    if plan.judge is not None and (pending or plan.to_judge or plan.judgings):
        found += models.judge_specs.values()
    return found
