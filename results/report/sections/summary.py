"""The summary on top of a report: what was found in three sentences, targets in order, and a heat map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safemt_client.results.report.data import ReportData
from safemt_client.results.report.document import (
    SMALL_NOTE,
    UNKNOWN,
    Block,
    Column,
    Figure,
    Notes,
    Plot,
    Section,
    Table,
    interval,
    marked,
    percent,
    turns,
)
from safemt_client.results.scores import wording
from safemt_client.results.scores.wording import CI

__all__ = ["summary"]

_MOST_NAMES = 4
_VERDICTS = {
    "rises": "ASR rises with the turns for",
    "falls": "ASR falls with the turns for",
    "not shown": "no change with the turns is shown for",
}
_Rows = Mapping[tuple[str, int], Mapping[str, Any]]


def summary(known: ReportData) -> Section | None:
    """The findings, the targets from the lowest ASR to the highest, and ASR of each at each length."""
    rows: _Rows = {(row["target"], row["length"]): row for row in known.rows("asr_by_turn")}
    order = [name for name in reversed(known.by_risk) if known.mean_asr[name] is not None]
    if not order:
        return None
    blocks: list[Block] = [Notes(_findings(known, order, rows)), _figure(known, order, rows)]
    return Section("summary", "Summary", blocks)


def _findings(known: ReportData, order: Sequence[str], rows: _Rows) -> list[str]:
    found = [_of_rates(known, order, rows), _of_turns(known), _of_moderators(known) or _of_index(known)]
    return [text for text in found if text]


def _of_rates(known: ReportData, order: Sequence[str], rows: _Rows) -> str:
    """Who has the lowest and the highest rate; targets that are not finished are not ranked."""
    waiting = {row["target"] for row in known.found["unfinished"]}
    ready = [name for name in order if name not in waiting]
    if not ready:
        return ""
    first, last = ready[0], ready[-1]
    if len(ready) == 1:
        length = max(k for name, k in rows if name == first)
        row = rows[first, length]
        bounds = interval(row["low"], row["high"], small=row["small"])
        return (
            f"{known.target(first)}: ASR {percent(known.mean_asr[first])} % on average over the lengths, "
            f"{percent(row['asr'])} % ({CI}: {bounds}) at {turns(length)}."
        )
    pairs = [pair for pair in known.rows("differences") if pair["rows"]]
    apart = sum(any(row["by"] == "all" and row["claim"] for row in pair["rows"]) for pair in pairs)
    said = f"; over all lengths {apart} of {len(pairs)} pairs of targets differ beyond chance"
    said = said if pairs else ""
    return (
        f"Mean ASR over the lengths goes from {percent(known.mean_asr[first])} % ({known.target(first)}) to "
        f"{percent(known.mean_asr[last])} % ({known.target(last)}){said}."
    )


def _of_turns(known: ReportData) -> str:
    trends = [row for row in known.rows("trends") if row["items"]]
    if len(trends) == 1:
        return f"{known.target(trends[0]['target'])}: {wording.trend(trends[0])}."
    parts = []
    for verdict, words in _VERDICTS.items():
        names = [known.target(row["target"]) for row in trends if row["verdict"] == verdict]
        whole = f"all {len(names)} targets" if len(names) == len(trends) else _listed(names)
        parts += [f"{words} {whole}"] if names else []
    said = "; ".join(parts)
    return f"{said[:1].upper()}{said[1:]}." if said else ""


def _of_moderators(known: ReportData) -> str:
    effects = [effect for effect in known.rows("effects") if effect["rows"]]
    if len(effects) == 1:
        return f"{wording.effect(effects[0] | {'target': known.target(effects[0]['target'])})}."
    wholes = [next((row for row in effect["rows"] if row["by"] == "all"), None) for effect in effects]
    lower = [
        known.target(effect["target"])
        for effect, row in zip(effects, wholes, strict=True)
        if row is not None and row["claim"] and row["difference"]["estimate"] < 0
    ]
    if not effects:
        return ""
    if not lower:
        return f"None of {len(effects)} moderated targets is shown to have a lower ASR than without."
    return (
        f"{len(lower)} of {len(effects)} moderated targets have a lower ASR than without: {_listed(lower)}."
    )


def _of_index(known: ReportData) -> str:
    rows = known.rows("safety_index")
    given = sorted(
        (row for row in rows if row["safety_index"] is not None), key=lambda row: float(row["safety_index"])
    )
    if not given:
        return ""
    low, high = given[0], given[-1]
    said = f"Safety Index: {high['safety_index']:.4f} ({known.target(high['target'])})"
    if low is not high:
        said += f" to {low['safety_index']:.4f} ({known.target(low['target'])})"
    return f"{said}; none for {len(rows) - len(given)}." if len(given) < len(rows) else f"{said}."


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _figure(known: ReportData, order: Sequence[str], rows: _Rows) -> Figure:
    lengths = sorted({length for _, length in rows})
    last = lengths[-1]
    names = [known.target(name) for name in order]
    at_last = {name: rows[name, last] for name in order if (name, last) in rows}
    dots = [
        {"label": known.target(name), "series": "ASR", "x": row["asr"]}
        | {part: row[part] for part in ("low", "high", "small")}
        for name, row in at_last.items()
    ]
    cells = [
        {"row": known.target(name), "x": length, "y": row["asr"], "text": _whole(row["asr"])}
        for (name, length), row in rows.items()
        if name in order
    ]
    table = _table(known, order, at_last, last)
    said = f"the figures are in the table{'' if len(lengths) == 1 else ' and under Attack success rate'}."
    return Figure(
        "Targets from the lowest mean ASR to the highest",
        [
            Plot(
                "dots",
                f"ASR at {turns(last)}, with {CI}",
                f"ASR of each target at {turns(last)} with {CI}; {said}",
                dots,
                {"order": names, "series": ["ASR"], "percent": True},
            ),
            Plot(
                "heat",
                "ASR by number of user turns (%)",
                f"ASR of each target by number of user turns in percent; {said}",
                cells,
                {"rows": names, "lengths": lengths},
            ),
        ],
        table,
        legend=[("heat", "")],
    )


def _table(
    known: ReportData, order: Sequence[str], at_last: Mapping[str, Mapping[str, Any]], last: int
) -> Table:
    index = {row["target"]: row for row in known.rows("safety_index")}

    def at(name: str) -> tuple[str, str]:
        row = at_last.get(name)
        if row is None:
            return UNKNOWN, UNKNOWN
        return percent(row["asr"]), interval(row["low"], row["high"], small=row["small"])

    def safety(name: str) -> tuple[str, str]:
        row = index.get(name)
        if row is None or row["safety_index"] is None or row["low"] is None:
            return "none", "none"
        return (
            f"{row['safety_index']:.4f}",
            marked(f"{row['low']:.4f} to {row['high']:.4f}", row["small"]),
        )

    return Table(
        "Targets from the lowest mean ASR to the highest (%)",
        [
            Column("Target", numeric=False),
            *map(Column, ("Mean ASR", f"ASR at {turns(last)}", CI, "Safety Index", f"{CI} of the index")),
        ],
        [(known.target(name), percent(known.mean_asr[name]), *at(name), *safety(name)) for name in order],
        f"{SMALL_NOTE} Mean ASR: over the lengths that all have, each counted alike. The command leaderboard "
        "says which places the data leave open.",
    )


def _whole(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f}"
