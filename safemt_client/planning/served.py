"""Which models a plan still has something to ask of, and which guards ran in earlier versions' process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from safemt_client.models import Models
from safemt_client.planning.plan import Plan
from safemt_client.providers.registry import ProviderSpec

if TYPE_CHECKING:
    from safemt_client.results.store.store import Store

__all__ = ["asked_of_plan", "ran_in_process"]


def asked_of_plan(plan: Plan, models: Models) -> list[ProviderSpec]:
    """The targets with conversations to come, their guards, and the judges if there is something to judge."""
    targets = {target.key: target for target in plan.targets}
    pending = {key for key, count in plan.turns.items() if count}
    found = [models.spec(targets[key].model_name) for key in pending if key in targets]
    guards = {models.moderators[key].assessor.key for key in pending if key in models.moderators}
    found += [models.guards_on[key] for key in guards if key in models.guards_on]
    if plan.judge is not None and (pending or plan.verdicts):
        found += models.judge_specs.values()
    return found


def ran_in_process(store: Store | None) -> Callable[[], frozenset[str]]:
    """What looks up a store's guards and judges that ran in earlier versions' process, by identity."""

    def found() -> frozenset[str]:
        if store is None:
            return frozenset()
        rows = store.query(
            """SELECT identity FROM run_moderators WHERE starts_with(identity, 'local-model/')
               UNION SELECT identity FROM run_judges WHERE starts_with(identity, 'local-model/')""",
            [],
        ).rows
        return frozenset(str(row[0]) for row in rows)

    return found
