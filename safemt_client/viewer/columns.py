"""The columns of the list of conversations, and which of them are chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["COLUMNS", "chosen", "told"]

COLUMNS: Mapping[str, str] = {
    "turns": "Turns",
    "target": "Target",
    "outcome": "Outcome",
    "verdict": "Verdict",
    "reply": "Reply",
    "latency": "Latency",
    "cost": "Cost",
    "scenario": "Scenario",
    "judge": "Judge",
    "reason": "Reason",
    "refusal": "Refusal (judge)",
    "rule": "Refusal (rule-based)",
    "severity": "Severity",
    "confidence": "Confidence",
    "people": "People",
    "asked": "Asked (UTC)",
    "hash": "Request hash",
}
"""Name in addresses and heading of each; the item is always the first column."""
_USUAL = ("turns", "target", "outcome", "verdict", "reply", "latency", "cost")


def chosen(cols: str) -> list[str]:
    """The columns of an address, in their order; without any, the usual ones."""
    asked = cols.split(",")
    return [name for name in COLUMNS if name in asked] or list(_USUAL)


def told(names: Sequence[str]) -> str:
    """A choice as an address has it: shortest, and empty for the usual one."""
    known = chosen(",".join(names))
    return "" if known == list(_USUAL) else ",".join(known)
