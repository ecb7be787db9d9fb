"""Figures in words: the sentences that analyses, the terminal and the report share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safemt_client.results.sanitize import plain

__all__ = [
    "CI",
    "EQUAL",
    "IMPORTED",
    "NOT_ESTIMABLE",
    "OWN",
    "P95",
    "UNANSWERED",
    "WHOLE",
    "chance",
    "change",
    "control",
    "control_means",
    "effect",
    "even_panel",
    "not_finished",
    "paired",
    "per_turn",
    "rate",
    "sequence_in_words",
    "small",
    "step",
    "trend",
]

CI = "95 % CI"
"""What the interval of a figure is called, in every output."""

IMPORTED = " (imported)"
"""What stands behind the name of a target whose replies were not asked for by this program."""

EQUAL, OWN, WHOLE = "taken as equal over lengths", "of this length", "of all lengths"
"""Which errors of a judge a rate is corrected for; the first is an assumption."""

NOT_ESTIMABLE = "not estimable"
"""What stands in place of a figure that no label bears on."""

P95 = "p95"
"""What the 95th percentile is called."""

UNANSWERED: Mapping[str, str] = {
    "turns": "not known: no target has scored replies at two lengths",
    "images": "not known: run the same targets again with --images off or blank, in the same store",
    "history": "not known: run the same targets again with --history live or none, in the same store",
    "scenarios": "not known: fewer than two scenarios have scored replies",
    "moderator": "not known: run the model with --moderator none as well",
    "methods": "not known: the data name no jailbreak methods, or only one",
    "length-control": "not known: there are no controls of harmful items: see data build --with-original",
}
"""What an analysis, by its name, says where the data do not answer it."""


def even_panel(panel: str, judges: int) -> str:
    """What to say of a panel under `majority` that can be split into halves."""
    return (
        f"{plain(panel)}: {judges} judges under majority can be split in halves, and a reply so split"
        " is unscored (panel_split): an odd number of judges decides every reply that all of them label"
    )


def change(interval: Mapping[str, float]) -> str:
    """A difference of two rates with its interval, in points."""
    return (
        f"{100 * interval['estimate']:+.1f} points "
        f"({CI}: {100 * interval['low']:+.1f} to {100 * interval['high']:+.1f})"
    )


def rate(interval: Mapping[str, float]) -> str:
    """A rate with its interval, in percent."""
    return (
        f"{100 * interval['estimate']:.1f} % "
        f"({CI}: {100 * interval['low']:.1f} to {100 * interval['high']:.1f})"
    )


def not_finished(row: Mapping[str, Any]) -> str:
    """What of a target is still to come; see `unfinished.unfinished`."""
    if row["stopped"]:
        return (
            f"stopped when its rules were decided: of {row['planned']:,} conversations "
            f"{row['not_needed']:,} were not asked"
        )
    parts = [f"{row[name]:,} {said}" for name, said in _TO_COME.items() if row[name]]
    return f"not finished: of {row['planned']:,} conversations {' and '.join(parts)}"


def sequence_in_words(row: Mapping[str, Any]) -> str:
    """Which confidence sequence an interval is of; see `stopped.Followed`."""
    level = f"{100 * (1 - row['alpha']):.4g} %"
    said = f"confidence sequence at {level}, {row['items']:,} of {row['population']:,} items"
    return said + (", alpha spent anew" if row["anew"] else "")


_TO_COME = {"pending": "are pending", "unjudged": "are not judged yet"}


def small(sample_is_small: bool) -> str:
    """What to add to a sentence about a small sample."""
    return "; small sample" if sample_is_small else ""


def per_turn(change: float) -> str:
    """A change of the rate for each additional turn, in points, with its sign."""
    # Adding 0 takes the sign of what is rounded to nothing.
    return f"{round(100 * change, 2) + 0.0:+.2f}"


def step(found: Mapping[str, Any]) -> str:
    """The change between two neighbouring lengths with its interval; see `stats.trend.Step`."""
    return f"from {found['first']} to {found['second']} turns, {change(found['difference'])}"


def trend(row: Mapping[str, Any]) -> str:
    """Whether ASR changes with the turns, how fast, and the largest steps; see `stats.trend`."""
    slope, verdict = row["slope"], row["verdict"]
    head = "no change with the turns is shown" if verdict == "not shown" else f"ASR {verdict} with the turns"
    sentence = (
        f"{head}: on average {per_turn(slope['estimate'])} points per additional turn "
        f"({CI}: {per_turn(slope['low'])} to {per_turn(slope['high'])}), "
        f"p {row['p']:.2g} ({row['items']} items)"
    )
    if (row["p"] < 0.05) == (slope["low"] <= 0 <= slope["high"]):
        sentence += "; test and interval disagree"
    # The largest rise says nothing new of what rises.
    for name in ("drop",) if verdict == "rises" else ("drop", "rise"):
        if row[name] is not None:
            sentence += f"; largest {name} between neighbouring lengths: {step(row[name])}"
    return sentence + small(slope["small"])


def chance(p: float, name: str = "p") -> str:
    """A p-value; what is as good as 0 is not printed as if its size meant something."""
    return f"{name} < 1e-12" if p < 1e-12 else f"{name} {p:.2g}"


def paired(row: Mapping[str, Any], higher: str, lower: str, none: str) -> str:
    """What a row of `pairs.compared_pairs` shows: on how many replies, the difference, and the claim.

    `higher`, `lower` and `none` are the claims in words.
    """
    claim = {"higher": higher, "lower": lower}.get(row["claim"] or "", none)
    if not row["agrees"]:
        claim = "nothing is claimed, as interval and test disagree about 0"
    said = (
        f"difference {change(row['difference'])}, {chance(row['p'])}: {claim} "
        f"({chance(row['p_holm'], 'p (Holm)')}; {row['replies']} replies to {row['items']} items)"
    )
    bounds = row["bounds"]
    if unscored := bounds["replies"] - row["replies"]:
        low, high = 100 * bounds["low"], 100 * bounds["high"]
        said += f"; with the {unscored} that are not scored in both it may be {low:+.1f} to {high:+.1f}"
    if not row["same_rates"]:
        said += "; both rates are those of these replies, not of all that one side has scored"
    return said + small(row["difference"]["small"])


def effect(found: Mapping[str, Any]) -> str:
    """The effect of a moderator: ASR without and with it on the same replies, and what that shows."""
    whole = next((row for row in found["rows"] if row["by"] == "all"), None)
    name = plain(found["target"])
    if whole is None:
        return f"{name}: no reply is scored both with and without the moderator"
    return (
        f"{name}: ASR {100 * whole['asr_first']:.1f} % without, {100 * whole['asr_second']:.1f} % with; "
    ) + paired(whole, "raises ASR", "lowers ASR", "no effect is shown")


def control(row: Mapping[str, Any]) -> str:
    """What a condition of controls shows beside the originals; see `controls.controls`."""
    name = f"{plain(row['target'])}, {plain(row['condition'])}"
    if row["open"]:
        return f"{name}: not finished: {row['open']:,} replies of it or of the originals are still to come"
    whole = next((found for found in row["rows"] if found["by"] == "all"), None)
    if whole is None:
        lacks = row["without_original"] == row["planned"]
        said = "no reply is scored in the original and in the control"
        said += ": the run lacks the originals (data build --with-original)" if lacks else ""
    else:
        said = f"ASR {100 * whole['asr_first']:.1f} % in the originals, {100 * whole['asr_second']:.1f} % in "
        said += "the controls; " + paired(whole, "raises ASR", "lowers ASR", "no difference is shown")
    return "; ".join([f"{name}: {said}", *map(_turns_of_controls, _slopes(row))])


def _slopes(row: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], str, str, str]]:
    """The slopes of a condition, each with what it is called if it claims something, and if not."""
    own = "ASR of the controls {} with their own turns"
    other = "with the turns ASR {} than in the originals"
    found = []
    if row["trend"] is not None:
        found.append((row["trend"], "slope", own, "no change with the controls' own turns is shown"))
    if row["slope"] is not None:
        found.append(
            (
                row["slope"],
                "difference",
                other,
                "no other change with the turns than in the originals is shown",
            )
        )
    return found


def _turns_of_controls(found: tuple[Mapping[str, Any], str, str, str]) -> str:
    row, name, claims, none = found
    words = {"higher": "rises more, or falls less,", "lower": "rises less, or falls more,"}
    head = none if row["claim"] is None else claims.format(words.get(row["claim"], row["claim"]))
    if not row["agrees"]:
        head = "nothing is claimed of the slope, as interval and test disagree about 0"
    interval = row[name]
    return (
        f"{head}: {per_turn(interval['estimate'])} points per additional turn "
        f"({CI}: {per_turn(interval['low'])} to {per_turn(interval['high'])}), {chance(row['p'])}, "
        f"{chance(row['p_holm'], 'p (Holm)')} ({row['items']} items)" + small(interval["small"])
    )


def control_means(row: Mapping[str, Any]) -> str | None:
    """What that says of length and content: of turns that say nothing; None of other controls."""
    if row["condition"] not in ("pad", "repeat") or row["trend"] is None:
        return None
    slope = None if row["slope"] is None else row["slope"]["claim"]
    if row["trend"]["claim"] == "rises":
        if row["slope"] is None:
            return "turns that say nothing raise ASR"
        more = {
            "lower": ", and the original turns raise it more",
            "higher": ", more than the original ones",
        }.get(slope or "", "; that the original turns raise it more is not shown")
        return f"turns that say nothing raise ASR{more}"
    if slope == "lower":
        return (
            "the original turns raise ASR more than turns that say nothing, which are not shown to raise it"
        )
    return "that turns that say nothing raise ASR is not shown, which is not the same as that they do not"
