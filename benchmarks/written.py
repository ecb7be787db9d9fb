"""The section of README.md about throughput.py, made from results.json: no figure in it is typed by hand."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from measuring import BARE, HERE, PLAN, US, peer_file

__all__ = ["README", "RESULTS", "render", "section", "table", "where", "written"]

RESULTS, README = HERE / "results.json", HERE / "README.md"
BEGIN, END = "<!-- made by throughput.py --write -->", "<!-- end of what throughput.py makes -->"


def where() -> dict[str, Any]:
    """The machine and the versions that are measured."""
    found: dict[str, Any] = {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }
    versions = {}
    for name in ("uvloop", "httpx", "aiohttp", "openai", "litellm"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "none"
    if python := peer_file("INSPECT_PYTHON"):
        said = "import importlib.metadata as m; print(m.version('inspect_ai'))"
        versions["inspect_ai"] = subprocess.check_output([python, "-c", said], text=True).strip()
    if script := peer_file("PROMPTFOO"):
        package = json.loads((Path(script).parents[2] / "package.json").read_text())
        node = subprocess.check_output(["node", "--version"], text=True).strip().removeprefix("v")
        versions |= {"promptfoo": package["version"], "node": node}
    return found | {"versions": versions}


def table(found: dict[str, Any]) -> str:
    """The figures of one condition."""
    programs, dialogues = found["programs"], found["dialogues"]
    ideal = dialogues * found["calls"] * found["latency_s"] / found["connections"]
    sized = "MB" if "picture" in found["title"] else ""
    head = ["", "CPU s / 1,000 turns", "to ours", "to bare", "sending / ideal", "whole s", "peak MB"]
    head += ["MB/s", "CPU ms / MB"] if sized else []
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for name, one in programs.items():
        if "failed" in one:
            lines.append(f"| {name} | {one['failed']} |" + " |" * (len(head) - 2))
            continue
        cells = [
            f"{one['cpu_s'] * 1000 / dialogues:.2f}",
            *(_ratio(one, programs.get(base)) for base in (US, BARE)),
            f"{one['sending_s'] / ideal:.2f}" if one["sending_s"] else "",
            f"{one['wall_s']:.1f}",
            f"{one['peak_mb']:.0f}",
        ]
        if sized:
            sent = one["sent_mb"]
            cells += (
                [f"{sent / one['sending_s']:.0f}", f"{one['cpu_s'] * 1000 / sent:.1f}"] if sent else ["", ""]
            )
        failures = one.get("failures", 0)
        told = f"{name} (failed in {failures} of {one['times'] + failures})" if failures else name
        lines.append(f"| {told} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _ratio(one: dict[str, Any], base: dict[str, Any] | None) -> str:
    return f"{one['cpu_s'] / base['cpu_s']:.2f}" if base and "failed" not in base else ""


def section(results: dict[str, Any]) -> str:
    """All conditions, and what they say about the goals."""
    parts = []
    for found in results.values():
        times = sorted({one["times"] for one in found["programs"].values() if "times" in one} or {0})
        parts.append(f"### {found['title']}")
        parts.append(
            f"{found['dialogues']:,} dialogues, {found['connections']:,} connections, "
            f"{found['latency_s'] * 1000:.0f} ms, {_each(found['calls'])}; "
            f"medians of {' to '.join(map(str, dict.fromkeys((times[0], times[-1]))))}; "
            f"load of the machine at the start: {found['where']['load']}."
        )
        parts.append(table(found))
    if lines := _goals(results):
        parts += ["### Goals", "\n".join(lines)]
    took = sum(
        one["wall_s"] * one["times"]
        for found in results.values()
        for one in found["programs"].values()
        if "times" in one
    )
    parts += ["### Time", f"The programs of these tables ran for {took / 60:.0f} minutes in all."]
    parts += ["### Versions", "\n".join(_versions(results))]
    return "\n\n".join(parts)


def _each(calls: int) -> str:
    return "one request each" if calls == 1 else f"{calls} requests each"


def _goals(results: dict[str, Any]) -> list[str]:
    lines = []

    def figures(key: str, name: str, base: str, field: str) -> float | None:
        programs = results.get(key, {}).get("programs", {})
        one, other = programs.get(name, {}), programs.get(base, {})
        return one[field] / other[field] if field in one and field in other else None

    def goal(said: str, found: float | None, most: float, shown: str) -> None:
        if found is not None:
            lines.append(f"- {said}: {'met' if found <= most else 'missed'}, {shown}.")

    for key, connections in (("200", "200"), ("1000", "1,000")):
        ratio = figures(key, US, "inspect_ai", "cpu_s")
        goal(
            f"*CPU at most 1/25 of inspect_ai's at {connections} connections*",
            ratio,
            1 / 25,
            f"1/{1 / ratio:.1f}" if ratio else "",
        )
    ratio = figures("200", US, BARE, "cpu_s")
    goal("*CPU at most 1.8 times the bare calls' at 200 connections*", ratio, 1.8, f"{ratio or 0:.2f}")
    ratio = figures("200", PLAN, BARE, "cpu_s")
    goal("*Start and plan at most 0.5 times the bare calls'*", ratio, 0.5, f"{ratio or 0:.2f}")
    ratio = figures("1000", US, BARE, "sending_s")
    shown = f"{ratio or 0:.2f}"
    if seen := figures("1000", US, BARE, "since_first_s"):
        shown += f"; {seen:.2f} from the first request that the endpoint sees"
    goal("*Sending at most 1.3 times the bare calls' at 1,000 connections*", ratio, 1.3, shown)
    return lines


def _versions(results: dict[str, Any]) -> list[str]:
    """Each machine and set of versions once, with the conditions that were measured there."""
    there: dict[str, list[str]] = {}
    for found in results.values():
        place = found["where"]
        versions = ", ".join(f"{name} {number}" for name, number in place["versions"].items())
        said = f"{place['cores']} cores, Python {place['python']}, {versions}"
        there.setdefault(said, []).append(found["title"])
    if len(there) == 1:
        return [f"{next(iter(there))}."]
    return [f"- {', '.join(titles)}: {said}." for said, titles in there.items()]


def written(text: str, results: dict[str, Any]) -> str:
    """README.md with its section made anew."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{section(results)}\n\n{END}{after}"


def render() -> None:
    """Make the section of README.md from results.json."""
    README.write_text(written(README.read_text(), json.loads(RESULTS.read_text())))
    print(f"{README.name} is written", file=sys.stderr)
