"""What a user should know of addresses before a run: what moved them, and which replies came from another."""

from __future__ import annotations

from collections.abc import Iterator

from safemt_client.models import Models
from safemt_client.planning.plan import Plan
from safemt_client.planning.target import Target
from safemt_client.providers.addresses import host_of
from safemt_client.results.store.store import Store

__all__ = ["notes_of"]


def notes_of(plan: Plan, models: Models, store: Store | None) -> tuple[str, ...]:
    """What the environment says about addresses, and stored replies that came from another one."""
    if store is None:
        return models.routes.notes
    asked = [target for target in plan.targets if target.key in models.providers]
    return (
        *models.routes.notes,
        *(note for target in asked for note in _elsewhere(target, plan, models, store)),
    )


def _elsewhere(target: Target, plan: Plan, models: Models, store: Store) -> Iterator[str]:
    """How many stored replies of the target came from which other hosts."""
    spec = models.spec(target.model_name)
    host = None if spec.kind == "demo" else host_of(spec.base_url)
    hashes = [step.request_hash for step in plan.steps if step.target_key == target.key]
    if host is None or not hashes:
        return
    rows = store.query(
        """SELECT host, count(*) FROM current_turns
           WHERE request_hash IN (SELECT unnest(?)) AND host <> ? GROUP BY host ORDER BY 2 DESC, 1""",
        [hashes, host],
    ).rows
    if rows:
        origins = ", ".join(f"{count:,} from {other}" for other, count in rows)
        yield (
            f"{target.name}: stored replies came from another address ({origins}; now {host}); "
            "if that is another model, give this one a name of its own: ALIAS=MODEL@URL"
        )
