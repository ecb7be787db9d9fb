"""The scores of a run on the terminal."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from safemt_client.results.metrics import wilson
from safemt_client.results.reader import Queryable
from safemt_client.results.scores import as_dict, latest_run
from safemt_client.results.text import plain

__all__ = ["as_dict", "latest_run", "report"]


def report(reader: Queryable, run_id: str | None, console: Console) -> None:
    """Print ASR by length, scenario and method, the Safety Index, outcomes and spend of a run."""
    found = as_dict(reader, run_id)
    run = found["run"]
    console.print(
        _safe(
            f"run {run['run_id']}: {run['dataset_name']}, digest {run['dataset_digest'][:12]}, "
            f"licence {run['dataset_licence'] or 'not stated'}"
        )
    )
    for judge in found["judges"]:
        console.print(_safe(f"judge {judge['name']} ({judge['identity']}), rubric {judge['rubric']}"))
    _by_turn(found["asr_by_turn"], console)
    for index in found["safety_index"]:
        _index(index, console)
    _pivot("ASR by scenario", "scenario", found["asr_by_scenario"], console)
    _pivot("ASR by method", "method", found["asr_by_method"], console)
    _outcomes(found, console)
    _spend(found["spend"], console)


def _by_turn(rows: list[dict[str, Any]], console: Console) -> None:
    table = _table("Attack success rate by number of user turns (%)")
    for name in ("target", "turns", "ASR", "95 %", "unsafe/scored", "coverage", "bounds"):
        table.add_column(name, justify="left" if name == "target" else "right", no_wrap=name != "target")
    for row in rows:
        scored = row["scored"]
        low, high = wilson(row["unsafe"], scored)
        table.add_row(
            _safe(row["target"]),
            str(row["length"]),
            _percent(row["asr"]),
            f"{low:.1%} - {high:.1%}".replace("%", "") if scored else "",
            f"{row['unsafe']}/{scored}",
            _percent(row["coverage"]),
            f"{_percent(row['asr_best'])} - {_percent(row['asr_worst'])}",
        )
    console.print(table)


def _index(row: dict[str, Any], console: Console) -> None:
    name = _safe(row["target"])
    if row["safety_index"] is None:
        console.print(f"Safety Index of {name}: none, because {_safe(row['refused'])}")
        return
    console.print(
        f"Safety Index of {name}: [bold]{row['safety_index']:.4f}[/] = {row['exposure']:.4f} (exposure) x "
        f"{row['consistency']:.4f} (consistency)"
    )
    if row["best"] != row["worst"]:
        console.print(f"  if all that is not scored were safe: {row['best']:.4f}; unsafe: {row['worst']:.4f}")


def _pivot(title: str, name: str, rows: list[dict[str, Any]], console: Console) -> None:
    if not rows:
        return
    lengths = sorted({row["length"] for row in rows})
    table = _table(f"{title} (unsafe/scored)")
    table.add_column("target")
    table.add_column(name)
    for length in lengths:
        table.add_column(str(length), justify="right")
    cells: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    for row in rows:
        cells[row["target"], row[name] or "unknown"][row["length"]] = f"{row['unsafe']}/{row['scored']}"
    for (target, value), found in cells.items():
        table.add_row(_safe(target), _safe(value), *(found.get(length, "") for length in lengths))
    console.print(table)


def _outcomes(found: dict[str, Any], console: Console) -> None:
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    for row in found["outcomes"]:
        totals[row["target"]][row["outcome"]] += row["conversations"]
    for target, counts in totals.items():
        said = ", ".join(f"{outcome} {count}" for outcome, count in counts.most_common())
        console.print(_safe(f"outcomes of {target}: {said}"))
    for row in found["unscored"]:
        console.print(
            _safe(f"unscored: {row['conversations']} of {row['target']} by {row['judge']}: {row['reason']}")
        )


def _spend(rows: list[dict[str, Any]], console: Console) -> None:
    sums: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0, 0])
    for row in rows:
        total = sums[row["who"] or "unknown"]
        total[0] += row["calls"]
        total[1] += (row["prompt_tokens"] or 0) + (row["completion_tokens"] or 0)
        total[2] += row["cost_usd"] or 0
        total[3] += row["calls_of_unknown_cost"]
    for who, (calls, tokens, usd, unknown) in sums.items():
        price = f"${usd:.4f}" if unknown < calls else "cost unknown"
        if 0 < unknown < calls:
            price += f" and {unknown:.0f} calls of unknown cost"
        console.print(_safe(f"{who}: {calls:.0f} calls, {tokens:,.0f} tokens, {price}"))


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _safe(text: str) -> str:
    return escape(plain(text))
