"""Simulated coverage of every interval of a report, as the table of `docs/metrics.md`.

    python tests/simulations/coverage.py                          # print the table
    python tests/simulations/coverage.py --write docs/metrics.md  # put it into the page

The slow test `test_coverage.py` runs the same studies. A module of this folder with `STUDIES` is one of `MODULES`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

if __name__ == "__main__":  # as a script: import from `tests`, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from simulations.study import Study

__all__ = ["MODULES", "every_study", "table", "written"]

MODULES = ("rates", "index", "differences", "trends", "judges", "samples", "adaptive")
"""The modules with studies, in the order of the table."""

_BEGIN, _END = "<!-- simulated coverage: begin -->", "<!-- simulated coverage: end -->"


def every_study() -> list[Study]:
    """The studies of all modules."""
    return [study for name in MODULES for study in import_module(f"simulations.{name}").STUDIES]


def table(covered: Mapping[Study, int]) -> str:
    """The table, a line for each study."""
    lines = ["| interval | simulated | nominal % | covers % | ± | studies |", "|---|---|---:|---:|---:|---:|"]
    for study, count in covered.items():
        lines.append(
            f"| {study.interval} | {study.design} | {100 * study.nominal:g} | "
            f"{100 * count / study.studies:.1f} | {100 * study.error(count):.1f} | {study.studies:,} |"
        )
    return "\n".join(lines)


def written(page: str, found: str) -> str:
    """The page with this table in place of the one that it has.

    Raises:
        ValueError: the page has no place for it.
    """
    place = re.compile(f"{_BEGIN}.*{_END}", re.DOTALL)
    if not place.search(page):
        raise ValueError(f"no {_BEGIN!r} and {_END!r} in the page")
    return place.sub(lambda _: f"{_BEGIN}\n\n{found}\n\n{_END}", page)


def main() -> None:
    """Run every study, and print the table or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="the page that the table is put into")
    page = parser.parse_args().write
    covered = {}
    for study in every_study():
        covered[study] = study.simulate(study.studies)
        print(
            f"{study.interval}, {study.design}: {covered[study]}/{study.studies}", file=sys.stderr, flush=True
        )
    if page is None:
        print(table(covered))
    else:
        page.write_text(written(page.read_text(encoding="utf-8"), table(covered)), encoding="utf-8")


if __name__ == "__main__":
    main()
