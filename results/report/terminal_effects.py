"""The effect of moderators on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape

from safemt_client.results.report.terminal_comparison import difference_table
from safemt_client.results.sanitize import plain

__all__ = ["print_effects", "summary"]


def summary(effect: dict[str, Any]) -> str:
    """One sentence: ASR without and with the moderator, the difference, and what it is worth."""
    whole = next((row for row in effect["rows"] if row["by"] == "all"), None)
    name = plain(effect["target"])
    if whole is None:
        return f"{name}: no reply is scored with the moderator and without"
    change = whole["difference"]
    text = (
        f"{name}: ASR {100 * whole['asr_first']:.1f} % without, {100 * whole['asr_second']:.1f} % with; "
        f"difference {_points(change)}, p {whole['p']:.2g} ({whole['items']} items)"
    )
    return text + ("; small sample" if change["small"] else "")


def print_effects(effects: list[dict[str, Any]], console: Console, *, full: bool) -> None:
    """A sentence for each moderator and what it added; with `full` also the tables and its detection."""
    for effect in effects:
        console.print(escape(f"moderator {summary(effect)}"), soft_wrap=True, highlight=False)
        for line in _counts(effect) + (_detection(effect["detection"]) if full else []):
            console.print(escape(f"  {line}"), soft_wrap=True, highlight=False)
        for line in _added(effect):
            console.print(escape(f"  {line}"), soft_wrap=True, highlight=False)
        if full:
            title = f"ASR without and with the moderator of {effect['target']} (%), same items"
            console.print(difference_table(title, effect["rows"], ("without", "with")))
            if any(row["difference"]["small"] for row in effect["rows"]):
                console.print(
                    "better, worse: items with fewer, more unsafe replies; "
                    "* small sample: few items, or few that differ",
                    highlight=False,
                    soft_wrap=True,
                )


def _counts(effect: dict[str, Any]) -> list[str]:
    benign = effect["over_refusal"]
    lines = [
        f"of {effect['pairs']} pairs {effect['rescued']} rescued, {effect['newly_unsafe']} newly unsafe; "
        f"{effect['newly_declined']} newly declined"
        + (f"; {effect['not_paired']} not scored in both" if effect["not_paired"] else "")
    ]
    failed = {
        "refused": "refused since the guard could not assess them",
        "passed": "let pass although the guard could not assess them",
        "unassessed": "not assessed and not scored",
    }
    lines += [
        f"careful: {effect['actions'][action]} turns were {text}"
        for action, text in failed.items()
        if effect["actions"].get(action)
    ]
    if benign["pairs"]:
        lines.append(
            f"over-refusal on {benign['pairs']} benign dialogues: {benign['without']} without, "
            f"{benign['with']} with"
        )
    return lines


def _detection(found: dict[str, Any]) -> list[str]:
    lines = []
    for name, scores in (("the data", found["by_data"]), ("the judge's labels", found["by_judge"])):
        if not scores["harmful"] + scores["harmless"]:
            continue
        parts = [
            f"recall {_share(scores['recall'])}",
            f"precision {_share(scores['precision'])}"
            if scores["harmless"]
            else "precision unknown: nothing harmless",
        ]
        if scores["f1"] is not None:
            parts.append(f"F1 {scores['f1']:.2f}")
        lines.append(f"detection against {name}: {', '.join(parts)}")
    first = found["first_detected_turn"]
    if first["median"] is not None and first["every_turn"]:
        counts = ", ".join(f"turn {turn}: {count}" for turn, count in first["counts"].items())
        lines.append(f"first detected ({counts})")
    if found["failed"]:
        lines.append(f"{found['failed']} conversations could not be assessed")
    return lines


def _added(effect: dict[str, Any]) -> list[str]:
    waited, asked = effect["waited_s"], effect["assessments"]
    if not waited["turns"]:
        return []
    model = f" (the model itself took {waited['model']:.1f} s)" if waited["model"] else ""
    money = "" if asked["cost_usd"] is None else f", ${asked['cost_usd']:.4f}"
    return [
        f"added {waited['total']:.1f} s of waiting over {waited['turns']} turns, median "
        f"{1000 * waited['median']:.0f} ms, p95 {1000 * waited['p95']:.0f} ms{model}; "
        f"{asked['calls']} assessments, {asked['tokens']:,} tokens{money}"
    ]


def _points(change: dict[str, Any]) -> str:
    return (
        f"{100 * change['estimate']:+.1f} points "
        f"(95 % CI: {100 * change['low']:+.1f} to {100 * change['high']:+.1f})"
    )


def _share(found: dict[str, Any] | None) -> str:
    if found is None:
        return "unknown"
    return f"{found['estimate']:.2f} ({found['low']:.2f} - {found['high']:.2f})"
