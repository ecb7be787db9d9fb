"""What a user should know before a run: about addresses, judges, where replies came from, images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from safemt_client.models import Models
from safemt_client.planning.plan import Plan
from safemt_client.planning.target import Target
from safemt_client.providers.addresses import host_of
from safemt_client.results.scores.wording import even_panel

if TYPE_CHECKING:
    from safemt_client.results.store.store import Store

__all__ = ["hosts_of", "notes_of"]


def notes_of(plan: Plan, models: Models, store: Store | None) -> tuple[str, ...]:
    """On open files, addresses, a panel that may be split, images, replies from elsewhere or to others."""
    found = [
        *models.keyless,
        *models.routes.notes,
        *models.limits.notes(),
        *models.local.notes,
        *_changes(plan),
    ]
    if plan.judge is not None and plan.judge.identity == "panel/majority" and len(plan.members) % 2 == 0:
        found.append(even_panel(plan.judge.name, len(plan.members)))
    for target in plan.targets:
        if target.key not in models.providers:
            continue
        if store is not None:
            found += _elsewhere(target, plan, models, store)
        found += _earlier(target, plan)
        found += _images(target, plan, models)
    return tuple(found)


def _changes(plan: Plan) -> Iterator[str]:
    """What was done to the images that are to be sent, and what is odd about them."""
    images = {sha256: image for target in plan.targets for sha256, image in plan.images(target).items()}
    changes = Counter(note for image in images.values() for note in image.notes)
    if changes:
        kinds = ", ".join(f"{count:,} {note}" for note, count in changes.most_common())
        changed = sum(bool(image.notes) for image in images.values())
        yield f"{changed:,} of {len(images):,} images are changed or odd: {kinds}"


def _earlier(target: Target, plan: Plan) -> Iterator[str]:
    """How many stored replies were given to pictures as an earlier version of the program prepared them."""
    if count := plan.earlier_pictures.get(target.key):
        yield (
            f"{target.name}: {count:,} of {plan.cached_turns[target.key]:,} replies were given to pictures "
            "prepared as before; --fresh asks again"
        )


def _images(target: Target, plan: Plan, models: Models) -> Iterator[str]:
    """Images that the target is to be asked about, and that its vendor does not take by its own account."""
    vendor = models.spec(target.model_name).vendor
    kinds_of = (image.media_type.removeprefix("image/") for image in plan.images(target).values())
    other = Counter(kind for kind in kinds_of if kind not in vendor.images)
    if vendor.images and other:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(other.items()))
        yield (
            f"{target.name}: {vendor.name} takes {', '.join(vendor.images)} and may refuse images: {kinds}; "
            "--image-format common sends JPEG and PNG"
        )


def _elsewhere(target: Target, plan: Plan, models: Models, store: Store) -> Iterator[str]:
    """How many stored replies of the target came from which other hosts."""
    spec = models.spec(target.model_name)
    host = None if spec.kind == "demo" else host_of(spec.base_url)
    if host is None:
        return
    hosts = hosts_of(plan, target, store) if plan.counted is None else plan.counted.hosts[target.key]
    if others := sorted((-count, other) for other, count in hosts.items() if other != host):
        origins = ", ".join(f"{-count:,} from {other}" for count, other in others)
        yield (
            f"{target.name}: stored replies came from another address ({origins}; now {host}); "
            "if that is another model, give this one a name of its own: ALIAS=MODEL@URL"
        )


def hosts_of(plan: Plan, target: Target, store: Store) -> dict[str, int]:
    """How many stored replies of the target, as the steps of the plan have them, came from which hosts."""
    hashes = [step.request_hash for step in plan.steps if step.target_key == target.key]
    if not hashes:
        return {}
    rows = store.query(
        """SELECT host, count(*) FROM current_turns
           WHERE request_hash IN (SELECT unnest(?)) AND host IS NOT NULL GROUP BY host""",
        [hashes],
    ).rows
    return {str(host): int(count) for host, count in rows}
