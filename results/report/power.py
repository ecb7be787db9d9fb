"""The lines that say what a planned number of items can show."""

from __future__ import annotations

from collections.abc import Iterable

from safemt_client.results.scores.power import RATES, Power, Spread, Wanted

__all__ = ["power_lines", "stands_on", "wanted_line"]


def power_lines(found: Power) -> list[str]:
    """What it can show, in three lines: an ASR, a difference, and what that stands on."""
    rates = [f"{rate:.0%}".replace("%", " %") for rate in RATES]
    one = _each(rates, ((half, half) for half in found.one))
    lines = [f"ASR at one length: {one}"]
    if found.lengths > 1:
        lines[0] += f"; over all {found.lengths}: {_each(rates, found.all)}"
    return [*lines, _difference(found), stands_on(found.spread, found.lengths)]


def wanted_line(wanted: Wanted, lengths: int, spread: Spread) -> str:
    """How many items it takes to show what is wanted, at one length and over all."""
    what = (
        f"a difference of {100 * wanted.size:g} points, seen 3 times in 4"
        if wanted.kind == "difference"
        else f"an ASR to ±{100 * wanted.size:g} points, whatever it is"
    )
    sizes = [f"{_items(wanted.items(1, spread))} at one length"]
    if lengths > 1:
        sizes.append(f"{_items(wanted.items(lengths, spread))} over all {lengths}")
    return f"{what}: {', '.join(sizes)}"


def stands_on(spread: Spread, lengths: int) -> str:
    """What of it a run has shown, and what is assumed."""
    said = {
        "rho": f"replies to one item correlate by {_span(spread.rho, 2, 1)}",
        "apart": f"targets differ by chance on {_span(spread.apart, 0)} % of replies",
    }
    if lengths == 1:
        del said["rho"]
    shown = [text for name, text in said.items() if name in spread.known]
    assumed = [text for name, text in said.items() if name not in spread.known]
    parts = [f"from run {spread.run_id}: {' and '.join(shown)}"] if shown else []
    parts += [f"assumed: {' and '.join(assumed)}"] if assumed else []
    return "; ".join(parts)


def _difference(found: Power) -> str:
    one, all_ = _seen(found.difference_one), _seen(found.difference_all)
    if one is None and (found.lengths == 1 or all_ is None):
        return "two targets: too few items to see any difference"
    sizes = [f"{one or 'none'} at one length"]
    if found.lengths > 1:
        sizes.append(f"{all_ or 'none'} over all {found.lengths}")
    return f"smallest difference of two targets seen 3 times in 4, in points: {', '.join(sizes)}"


def _each(rates: Iterable[str], halves: Iterable[tuple[float, float]]) -> str:
    return ", ".join(f"±{_span(half, 1)} at {rate}" for rate, half in zip(rates, halves, strict=True))


def _seen(ends: tuple[float | None, float | None]) -> str | None:
    low, high = ends
    if low is None:
        return None
    return f"{100 * low:.1f} or more" if high is None else _span((low, high), 1)


def _items(ends: tuple[int | None, int | None]) -> str:
    few, many = ends
    if few is None:
        return "no number of items is enough"
    if many is None:
        return f"{few:,} items or more"
    few, many = sorted((few, many))
    return f"{few:,} items" if few == many else f"{few:,} to {many:,} items"


def _span(ends: tuple[float, float], digits: int, scale: float = 100) -> str:
    low, high = (f"{scale * end:.{digits}f}" for end in ends)
    return low if low == high else f"{low} to {high}"
