"""Anchors: whether a run's judge has changed since, in a few lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from safemt_client.results.report.document import estimate, interval, marked, show
from safemt_client.results.scores.wording import CI

__all__ = ["anchor_lines", "anchor_of_run"]


def anchor_of_run(found: Mapping[str, Any] | None, judge: str) -> list[str]:
    """What a run's report says of the latest anchor of its judge; nothing where there is none."""
    if found is None:
        return []
    model = _models(found)
    asked = f"{judge}, asked again about {found['compared']:,} of its replies on {_day(found['created_at'])}"
    return [f"{asked}: {_same(found)}, {_shift(found)}" + (f"; {model}" if found["model_changed"] else "")]


def anchor_lines(found: Mapping[str, Any]) -> list[str]:
    """All that is said at the end of an anchor."""
    before = _days(found["judged_from"], found["judged_to"])
    again = _days(found["again_from"], found["again_to"])
    lines = [
        f"anchor {show(found['anchor_id'])}, number {found['number']} of run {show(found['run_id'])}: "
        f"{show(found['judge'])} on {again}, against its labels of {before}"
    ]
    if found["same_labels"] is None:
        return [*lines, "no reply has a label on both occasions: nothing can be said"]
    lines += [_same(found), _shift(found)]
    if (since := found["since"]) is not None:
        other = f"against the anchor of {_day(since['created_at'])}, {since['replies']:,} replies"
        lines.append(f"{other}: {_same(since)}, {_moves(since)}")
    lines.append(_models(found))
    for name, words in (("unscored", "without a label now"), ("errors", "with an error of the judge")):
        if found[name]:
            lines.append(f"in no share: {found[name]:,} replies {words}")
    return lines


def _same(found: Mapping[str, Any]) -> str:
    kappa, of = found["kappas"], "kappa not defined: one label has all"
    if kappa is not None:
        bounds = marked(f"{kappa['low']:.2f} to {kappa['high']:.2f}", kappa["small"])
        of = f"kappa {kappa['estimate']:.2f} ({bounds})"
    return f"labels that are the same: {estimate(found['same_labels'])} (%, with {CI}), {of}"


def _moves(found: Mapping[str, Any]) -> str:
    return (
        f"{found['to_unsafe']:,} from safe to unsafe and {found['to_safe']:,} back "
        f"(McNemar's mid-p {_p(found['shift']['p'])})"
    )


def _shift(found: Mapping[str, Any]) -> str:
    shift, moves = found["shift"], _moves(found)
    points = f"{100 * shift['estimate']:+.1f}"
    bounds = interval(shift["low"], shift["high"], small=shift["small"], signed=True)
    if found["changed"]:
        return f"{moves}: the judge has changed, its unsafe share by {points} points ({bounds})"
    size = found["could_show"]
    seen = (
        "so few replies can show none"
        if size is None
        else f"{found['compared']:,} replies show one of {100 * size:.1f} points 4 times in 5"
    )
    return f"{moves}: no change of its unsafe share shown ({points} points, {bounds}); {seen}"


def _models(found: Mapping[str, Any]) -> str:
    before, again = found["models_before"], found["models_again"]
    if not again:
        return "the endpoint does not say which model answered"
    if not before:
        return f"model that answered: {_named(again)}; which one did before is not recorded"
    if found["model_changed"]:
        return f"another model answered: {_named(again)}, and before {_named(before)}"
    return f"model that answered: {_named(again)}, as before"


def _named(models: Sequence[str]) -> str:
    return ", ".join(map(show, models))


def _p(p: float) -> str:
    return "below .001" if p < 0.001 else f"{p:.3f}"


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d}"


def _days(first: datetime | None, last: datetime | None) -> str:
    if first is None or last is None:
        return "no day yet"
    return _day(first) if _day(first) == _day(last) else f"{_day(first)} to {_day(last)}"
