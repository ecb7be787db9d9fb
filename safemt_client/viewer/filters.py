"""The filters of the list of conversations, read from the page's address and written back to it."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

__all__ = ["CHANGES", "DISAGREE", "SCENARIO", "SORTS", "Filters", "item_value"]

SORTS = {
    "item": "item_id, length, target, target_key, sample",
    "recent": "last_asked DESC NULLS LAST, item_id, length, target_key, sample",
    "slow": "latency_s DESC NULLS LAST, item_id, length, target_key, sample",
    "costly": "cost_usd DESC NULLS LAST, item_id, length, target_key, sample",
}
"""Orders of the list by name. Each ends with columns that make it total, so that pages do not overlap."""
CHANGES = {
    "rescued": "change = 'rescued'",
    "newly_unsafe": "change = 'newly_unsafe'",
    "newly_refused": "newly_refused",
}
"""What a moderator changed, compared with the same model without one."""
DISAGREE = {
    "judges": "split",
    "people": "human IN ('safe', 'unsafe') AND label IS NOT NULL AND human <> label",
}
"""Who disagrees: the judges with each other, or people with the judge that is shown."""
SCENARIO = (
    "CASE WHEN regexp_full_match(scenario, '[^\\p{Cc}\\p{Cf}]*') THEN scenario "
    "ELSE 'md5:' || md5(scenario) END"
)
"""A scenario's name in addresses and forms: one with control characters would not come back unchanged."""
_MOST = 300


@dataclass(frozen=True, slots=True)
class Filters:
    """Empty fields do not filter.

    `judge` is the key of the judge whose labels count; empty for the one that decides. `expr` is a condition
    in SQL, see `expressions`, which checks it where it is used. `cols` are the columns of the list, see
    `columns`.
    """

    run: str = ""
    item: str = ""
    target: str = ""
    scenario: str = ""
    length: str = ""
    outcome: str = ""
    verdict: str = ""
    disagree: str = ""
    change: str = ""
    did: str = ""
    condition: str = ""
    q: str = ""
    expr: str = ""
    judge: str = ""
    sort: str = ""
    cols: str = ""

    @classmethod
    def read(cls, parameters: Mapping[str, str]) -> Filters:
        """From the parameters of an address; unknown ones are ignored."""
        found = {f.name: parameters.get(f.name, "").strip()[:_MOST] for f in fields(cls)}
        # Not cut: what is left of a condition would be another one.
        return cls(**found | {"expr": parameters.get("expr", "").strip()})

    def query(self, **changes: object) -> str:
        """As the parameters of an address, with changes and additions."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)} | changes
        return urlencode({name: value for name, value in values.items() if value not in ("", None)})

    def pairs(self) -> list[tuple[str, str]]:
        """As the hidden fields of a form."""
        return [(f.name, value) for f in fields(self) if (value := getattr(self, f.name))]

    @property
    def narrowed(self) -> bool:
        """Whether any filter is set besides the run."""
        return replace(self, run="", sort="", judge="", cols="") != Filters()

    def where(self) -> tuple[str, list[Any]]:
        """The condition on `conversation_index` without free text and `expr`, and its parameters."""
        conditions, values = ["run_id = ?"], [self.run]
        if self.judge:
            conditions.append("judge_key = ?")
            values.append(self.judge)
        else:
            conditions.append("decides")
        for name, column in (
            ("target", "target_key"),
            ("scenario", SCENARIO),
            ("length", "CAST(length AS VARCHAR)"),
            ("outcome", "coalesce(outcome, state)"),
            ("verdict", "coalesce(label, 'none')"),
            ("did", "intervention"),
            ("condition", "coalesce(condition, 'original')"),
        ):
            if value := getattr(self, name):
                conditions.append(f"{column} = ?")
                values.append(value)
        if self.item:
            conditions.append("? IN (item_id, 'md5:' || md5(item_id))")
            values.append(self.item)
        for name, known in (("disagree", DISAGREE), ("change", CHANGES)):
            if condition := known.get(getattr(self, name)):
                conditions.append(f"({condition})")
        return " AND ".join(conditions), values

    def order(self) -> str:
        """The order of the list."""
        return SORTS.get(self.sort, SORTS["item"])


def item_value(item_id: str) -> str:
    """An item's id in addresses: its hash, if it would not come back unchanged."""
    odd = any(unicodedata.category(one) in ("Cc", "Cf") for one in item_id)
    if odd or len(item_id) > _MOST or item_id != item_id.strip():
        return "md5:" + hashlib.md5(item_id.encode(), usedforsecurity=False).hexdigest()
    return item_id
