"""A batch under way, and the search for one that may have been submitted: the outcome is unknown."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import anyio

from safemt_client.providers.batch.base import BatchEndpoint, BatchRefusedError, RemoteBatch

__all__ = ["LOOKS", "OpenBatch", "find", "is_gone"]

# Pauses before each search for a batch that may have been submitted: soon after its submission a slow
# gateway may still be at it; after a kill the connection is long gone.
_LOOKS_AFTER_KILL = (0.0, 1.0, 4.0)
LOOKS = (*_LOOKS_AFTER_KILL, 15.0, 40.0, 60.0)
_CLOCK_SKEW = timedelta(minutes=10)
_NO_LIST = (404, 405, 501)


@dataclass(eq=False)
class OpenBatch:
    """A batch that is submitted, or may be; `since` is when that began."""

    key: str
    hashes: tuple[str, ...]  # of the requests that have no result yet
    total: int
    since: datetime
    remote_id: str | None = None
    looks: tuple[float, ...] = _LOOKS_AFTER_KILL
    empty_looks: int = 0
    postponed: bool = False
    over: anyio.Event = field(default_factory=anyio.Event)
    not_ours: set[str] = field(default_factory=set)


async def find(
    batch: OpenBatch, endpoint: BatchEndpoint, taken: Callable[[], Set[str]]
) -> RemoteBatch | None:
    """Look for a batch at the endpoint, by our mark, or else by its size; None when there is none.

    `taken` are the ids of batches that are known to be others.

    Raises:
        BatchRefusedError: the endpoint refuses to list batches.
    """
    for wait in batch.looks:
        await anyio.sleep(wait)
        others = taken() | batch.not_ours
        found = [remote for remote in await _listed(batch, endpoint) if remote.id not in others]
        ours = [remote for remote in found if remote.mark == batch.key]
        if not endpoint.keeps_marks:
            ours += [r for r in found if r.mark is None and r.total in (0, batch.total)]
        if ours:
            return ours[0]
    return None


async def is_gone(batch: OpenBatch, endpoint: BatchEndpoint) -> bool:
    """Whether a batch that was not found is really gone, and not just looked for at a wrong address."""
    listed = await endpoint.list_since(batch.since - _CLOCK_SKEW)
    return all(remote.id != batch.remote_id for remote in listed)


async def _listed(batch: OpenBatch, endpoint: BatchEndpoint) -> list[RemoteBatch]:
    """The account's batches since a little before this one; none where the endpoint cannot tell."""
    try:
        return await endpoint.list_since(batch.since - _CLOCK_SKEW)
    except BatchRefusedError as error:
        if error.status not in _NO_LIST:
            raise
        return []
