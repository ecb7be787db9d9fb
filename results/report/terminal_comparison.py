"""Comparisons and leaderboards on the terminal."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from safemt_client.results.sanitize import plain

__all__ = ["difference_table", "print_comparisons", "print_leaderboard"]


def print_comparisons(rows: list[dict[str, Any]], console: Console) -> None:
    """Each condition against the first: in what they differ, what to be careful about, and the table."""
    for row in rows:
        console.print(
            escape(f"{plain(row['second'])} against {plain(row['first'])}"), soft_wrap=True, highlight=False
        )
        for name, (one, two) in row["differs"].items():
            text = f"  {name}: {plain(str(one))} -> {plain(str(two))}"
            console.print(escape(text), soft_wrap=True, highlight=False)
        for text in row["careful"]:
            console.print(f"  [yellow]careful:[/] {escape(plain(text))}", soft_wrap=True, highlight=False)
        if not row["rows"]:
            console.print("  no item is scored in both")
            continue
        console.print(difference_table("ASR of the first and the second (%), same items", row["rows"]))
    if any(one["difference"]["small"] for row in rows for one in row["rows"]):
        console.print(
            "better, worse: items with fewer, more unsafe replies; "
            "* small sample: few items, or few that differ",
            highlight=False,
            soft_wrap=True,
        )


def difference_table(
    title: str, rows: list[dict[str, Any]], names: tuple[str, str] = ("first", "second")
) -> Table:
    """The rows of `pairs.compared` as a table; `names` are what the two conditions are called."""
    table = Table(
        title=escape(plain(title)),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("", min_width=10)
    for name in ("items", *names, "difference (95 % CI)", "better/\nworse", "p\n(Holm)"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        change = row["difference"]
        label = f"{row['value']} turns" if row["by"] == "length" else plain(str(row["value"]))
        table.add_row(
            escape(label),
            str(row["items"]),
            f"{100 * row['asr_first']:.1f}",
            f"{100 * row['asr_second']:.1f}",
            f"{100 * change['estimate']:+.1f} ({100 * change['low']:+.1f} to {100 * change['high']:+.1f})"
            + ("*" if change["small"] else ""),
            f"{row['only_first']}/{row['only_second']}",
            f"{row['p_holm']:.2g}",
        )
    return table


def print_leaderboard(rows: list[dict[str, Any]], console: Console) -> None:
    """The targets from safest to least safe, with the places that the data leave open."""
    table = Table(
        title="Leaderboard: mean ASR over the lengths (%), safest first",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    lengths = list(rows[0]["asr"]) if rows else []
    table.add_column("places", no_wrap=True)
    table.add_column("target")
    for name in ("mean ASR (95 % CI)", "Safety Index (95 % CI)", *(f"{length}" for length in lengths)):
        table.add_column(name, justify="right", no_wrap=name not in ("Safety Index (95 % CI)",))
    for row in rows:
        best, worst = row["ranks"]
        mean = row["mean_asr"]
        index = "none"
        if row["safety_index"] is not None:
            index = f"{row['safety_index']:.4f} ({row['low']:.4f} - {row['high']:.4f})"
        table.add_row(
            (str(best) if best == worst else f"{best} - {worst}") + ("*" if row["small"] else ""),
            escape(plain(row["target"])),
            f"{100 * mean['estimate']:.1f} ({100 * mean['low']:.1f} - {100 * mean['high']:.1f})",
            index,
            *(f"{100 * row['asr'][length]['estimate']:.0f}" for length in lengths),
        )
    console.print(table)
    console.print(
        "places: all that the differences between targets leave open, together at 95 % confidence"
        + ("; * small sample: few items" if any(row["small"] for row in rows) else ""),
        highlight=False,
        soft_wrap=True,
    )
    for row in rows:
        if row["refused"]:
            text = f"no Safety Index of {plain(row['target'])}: {plain(row['refused'])}"
            console.print(escape(text), highlight=False, soft_wrap=True)
