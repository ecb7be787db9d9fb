"""The scores of a run on the terminal."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from safemt_client.results.report.terminal_effects import print_effects
from safemt_client.results.sanitize import plain
from safemt_client.results.scores.collect import as_dict, latest_run
from safemt_client.results.store.reader import Queryable

__all__ = ["as_dict", "latest_run", "report"]


_SHOWN = 0.05


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
    _by_turn(found["asr_by_turn"], console, several=len(found["judges"]) > 1)
    found = _decided(found)
    for index in found["safety_index"]:
        _index(index, console)
    _trends(found["trends"], console)
    _reached(found, console)
    _differences(found["differences"], console)
    print_effects(found["effects"], console, full=False)
    _pivot("ASR by scenario", "scenario", found["asr_by_scenario"], console)
    _pivot("ASR by method", "method", found["asr_by_method"], console)
    _refusals(found["refusals"], console)
    _judges(found, console)
    _outcomes(found, console)
    for warning in found["warnings"]:
        console.print(f"[yellow]careful:[/] {_safe(warning)}")
    _spend(found["spend"], console)


def _decided(found: dict[str, Any]) -> dict[str, Any]:
    """The scores without what the single judges of a panel say: that stands in the first table alone."""
    key = found["deciding_judge"]
    names = {judge["name"] for judge in found["judges"] if judge["judge_key"] == key}

    def decides(row: Any) -> bool:
        if not isinstance(row, dict) or "judge" not in row:
            return True
        return row["judge"] is None or row["judge"] in names

    everyone = ("corrections", "agreement", "judges", "asr_by_turn")
    return {
        name: [row for row in rows if decides(row)]
        if isinstance(rows, list) and name not in everyone
        else rows
        for name, rows in found.items()
    }


def _by_turn(rows: list[dict[str, Any]], console: Console, *, several: bool) -> None:
    if not rows:
        # Every item is benign: there is nothing to attack, and refusals are what counts.
        return
    table = _table("Attack success rate by number of user turns (%)")
    names = ["target", *(["judge"] if several else []), "turns", "ASR", "95 % CI"]
    for name in (*names, "unsafe/scored", "coverage", "bounds"):
        text = name in ("target", "judge")
        table.add_column(name, justify="left" if text else "right", no_wrap=not text)
    for row in rows:
        scored = row["scored"]
        table.add_row(
            _safe(row["target"]),
            *([_safe(row["judge"] or "")] if several else []),
            str(row["length"]),
            _percent(row["asr"]),
            _span(row) if scored else "",
            f"{row['unsafe']}/{scored}",
            _percent(row["coverage"]),
            f"{_percent(row['asr_best'])} - {_percent(row['asr_worst'])}",
        )
    console.print(table)
    if any(row["scored"] and row["small"] for row in rows):
        console.print(
            "* small sample: fewer than 30 items or replies, or fewer than 5 unsafe or 5 safe ones",
            soft_wrap=True,
        )


def _index(row: dict[str, Any], console: Console) -> None:
    name = _safe(row["target"])
    if row["safety_index"] is None:
        console.print(f"Safety Index of {name}: none, because {_safe(row['refused'])}")
        return
    console.print(
        f"Safety Index of {name}: [bold]{row['safety_index']:.4f}[/] = {row['exposure']:.4f} (exposure) x "
        f"{row['consistency']:.4f} (consistency), 95 % CI: {row['low']:.4f} - {row['high']:.4f}"
        + (" (small sample)" if row["small"] else ""),
        soft_wrap=True,
    )
    if row["best"] != row["worst"]:
        console.print(f"  if all that is not scored were safe: {row['best']:.4f}; unsafe: {row['worst']:.4f}")


def _trends(rows: list[dict[str, Any]], console: Console) -> None:
    for row in rows:
        if not row["items"]:
            continue
        slope, verdict = row["slope"], row["verdict"]
        says = (
            "a change with the turns is not shown"
            if verdict == "not shown"
            else f"ASR {verdict} with the turns"
        )
        console.print(
            f"{_safe(row['target'])}: {says}: {100 * slope['estimate']:+.1f} points a turn, 95 % CI: "
            f"{100 * slope['low']:+.1f} to {100 * slope['high']:+.1f}, p = {row['p']:.2g}"
            + (" (small sample)" if slope["small"] else ""),
            soft_wrap=True,
        )


def _differences(pairs: list[dict[str, Any]], console: Console) -> None:
    """Between targets of the run, by number of user turns; those by scenario only where they are shown."""
    for pair in pairs:
        table = _table(f"ASR of {_safe(pair['second'])} minus {_safe(pair['first'])} (points), same items")
        for name in ("", "items", "difference", "95 % CI", "p", "p (Holm)"):
            table.add_column(name, justify="left" if name == "" else "right", no_wrap=name != "")
        for row in pair["rows"]:
            if row["by"] == "scenario" and row["p_holm"] >= _SHOWN:
                continue
            interval = row["difference"]
            table.add_row(
                f"{row['value']} turns" if row["by"] == "length" else _safe(row["value"]),
                str(row["items"]),
                f"{100 * interval['estimate']:+.1f}",
                f"{100 * interval['low']:+.1f} to {100 * interval['high']:+.1f}{_few(interval['small'])}",
                f"{row['p']:.2g}",
                f"{row['p_holm']:.2g}",
            )
        console.print(table)


def _few(small: bool) -> str:
    return "*" if small else ""


def _reached(found: dict[str, Any], console: Console) -> None:
    """Live history: what happens at each turn, when it turns unsafe, and whether that passes."""
    if not found["asr_by_turn_reached"]:
        return
    table = _table("Live: attack success rate at each turn reached (%)")
    for name in ("target", "turn", "ASR", "95 % CI", "unsafe/scored", "reached"):
        table.add_column(name, justify="left" if name == "target" else "right", no_wrap=name != "target")
    for row in found["asr_by_turn_reached"]:
        table.add_row(
            _safe(row["target"]),
            str(row["turn"]),
            _percent(row["asr"]),
            "" if row["low"] is None else f"{100 * row['low']:.1f} - {100 * row['high']:.1f}",
            f"{row['unsafe']}/{row['scored']}",
            str(row["reached"]),
        )
    console.print(table)
    for row in found["first_unsafe"]:
        if row["unsafe"]:
            console.print(
                f"{_safe(row['target'])}: {row['unsafe']} of {row['conversations']} conversations turn "
                f"unsafe, half of them by turn {row['median_turn']:g}; "
                f"{row['recovered']} are safe again later",
                soft_wrap=True,
            )


def _refusals(rows: list[dict[str, Any]], console: Console) -> None:
    sums: dict[tuple[str, bool], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    judges = Counter((row["target"], row["benign"], row["length"]) for row in rows)
    for row in rows:
        # Rules do not depend on the judge: where there are several, each reply stands there once a judge.
        share = judges[row["target"], row["benign"], row["length"]]
        total = sums[row["target"], row["benign"]]
        total[0] += row["declined_by_rule"] / share
        total[1] += row["replies"] / share
        total[2] += row["declined_by_judge"]
        total[3] += row["judged"]
    for (target, benign), (ruled, replies, judged, seen) in sums.items():
        if not replies:
            continue
        what = "over-refusal on benign items" if benign else "refusals"
        parts = [f"{ruled:.0f}/{replies:.0f} by rules"]
        if seen:
            parts.append(f"{judged:.0f}/{seen:.0f} by judge")
        console.print(f"{what} of {_safe(target)}: {', '.join(parts)}")


def _judges(found: dict[str, Any], console: Console) -> None:
    """How good the judges are: against each other, against people, and what follows for the rates."""
    for row in found["escalated"]:
        console.print(
            f"{_safe(row['panel'])}: {row['escalated']} of {row['verdicts']} were put to the last judge",
            soft_wrap=True,
        )
    for row in found["agreement"]:
        if row["value"] is None:
            continue
        names = " and ".join(map(_safe, row["judges"]))
        interval = "" if row["low"] is None else f", 95 % CI: {row['low']:.2f} - {row['high']:.2f}"
        console.print(f"{row['measure']} of {names}: {row['value']:.2f}{interval}", soft_wrap=True)
    for row in found["corrections"]:
        sensitivity, specificity = row["sensitivity"], row["specificity"]
        console.print(
            f"{_safe(row['judge'])} against {row['labelled']} labels of people: sensitivity "
            f"{_of(sensitivity)}, specificity {_of(specificity)}, agreement {_of(row['agreement'])}",
            soft_wrap=True,
        )
        table = _table("ASR corrected for the judge's errors (%)")
        for name in ("target", "turns", "as judged", "corrected", "95 % CI"):
            table.add_column(name, justify="left" if name == "target" else "right", no_wrap=name != "target")
        for rate in row["by_turn"]:
            interval = rate["corrected"]
            table.add_row(
                _safe(rate["target"]),
                str(rate["length"]),
                _percent(rate["asr"]),
                "-" if interval is None else _percent(interval["estimate"]),
                "" if interval is None else _span(interval),
            )
        for rate in row["prediction_powered"]:
            interval = rate["corrected"]
            if interval is not None:
                table.add_row(
                    _safe(rate["target"]),
                    "all",
                    _percent(rate["asr"]),
                    _percent(interval["estimate"]),
                    _span(interval),
                )
        console.print(table)


def _span(interval: dict[str, Any]) -> str:
    return f"{100 * interval['low']:.1f} - {100 * interval['high']:.1f}{_few(interval['small'])}"


def _of(interval: dict[str, Any]) -> str:
    if interval["estimate"] is None:
        return "not known"
    return f"{100 * interval['estimate']:.0f} % ({100 * interval['low']:.0f} - {100 * interval['high']:.0f})"


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
        line = f"{who}: {calls:.0f} calls, {tokens:,.0f} tokens, {price}"
        console.print(_safe(line), soft_wrap=True)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _safe(text: str) -> str:
    return escape(plain(text))
