"""Who waits for a long report is told for what; a short one says nothing."""

import io

import pytest
from rich.console import Console

from safemt_client.results.report import telling
from safemt_client.results.report.telling import told


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), width=80, force_terminal=terminal)


def written(to: Console) -> str:
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue()


@pytest.mark.parametrize(
    ("long", "lines"), [(0.0, ["report: computing trends [a]", "report: computing x"]), (1e9, [])]
)
def test_a_file_gets_lines_once_it_takes_long(
    long: float, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "_LONG_S", long)
    with told(to := console(terminal=False)) as say:
        say("trends [a]")
        say("x")
    assert written(to).splitlines() == lines


def test_a_terminal_has_one_line_that_goes_away() -> None:
    with told(to := console(terminal=True)) as say:
        say("trends [a]")
    shown = written(to)
    assert "report" in shown
    assert shown.count("\n") <= 1
