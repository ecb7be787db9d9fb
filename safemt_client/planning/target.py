"""The model under evaluation, with its parameters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from safemt_client.planning.messages import HistoryOfTarget
from safemt_client.providers.types import Sampling
from safemt_client.results.store.rows import TargetRow

__all__ = ["Target", "digest_of"]


@dataclass(frozen=True)
class Target:
    """The model under evaluation: a provider plus parameters.

    `sample` is the sample index of its first sample: 0, or more with `--fresh`.

    `moderator` is the key of its moderator, None without one; then `provider` is the name of the model alone.
    `system_prompt` is the text of a message before the dialogue. `imported_from` says where replies were read
    from that were not asked for, and `imported_at` when.
    """

    name: str
    identity: str
    history: HistoryOfTarget
    images: str
    sampling: Sampling
    sample: int = 0
    prices: Mapping[str, float] | None = None
    moderator: str | None = None
    provider: str | None = None
    system_prompt: str | None = None
    imported_from: str | None = None
    imported_at: datetime | None = None

    @property
    def model_name(self) -> str:
        """The name of the model alone."""
        return self.provider or self.name

    @cached_property
    def key(self) -> str:
        """Hash of all that decides the replies; the name and the prices are left out."""
        content: list[Any] = [self.identity, self.history, self.images, self.sampling.as_dict()]
        content += [self.moderator, self.sample]
        # Only where there is one, so that keys of earlier versions stay.
        content += [] if self.system_prompt is None else [self.system_prompt]
        return digest_of(content)[:16]

    def sampling_of(self, sample: int) -> Sampling:
        """The sampling of one of its samples, counted from 1: with a seed, each has one of its own."""
        seed = self.sampling.seed
        return self.sampling if seed is None else replace(self.sampling, seed=seed + sample - 1)

    def row(self, run_id: str) -> TargetRow:
        """The row of table `run_targets`."""
        return TargetRow(
            run_id,
            self.key,
            self.name,
            self.identity,
            self.history,
            self.images,
            json.dumps(self.sampling.as_dict(), sort_keys=True),
            self.moderator,
            self.sample,
            None if self.prices is None else json.dumps(dict(self.prices)),
            self.system_prompt,
            self.imported_from,
            self.imported_at,
        )


def digest_of(content: Any) -> str:
    """SHA-256 of JSON-able data."""
    return hashlib.sha256(_json(content).encode()).hexdigest()


# `json.dumps` with an option makes a new encoder at each call.
_json = json.JSONEncoder(sort_keys=True).encode
