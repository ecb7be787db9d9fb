"""The report from facts has every figure of the report from their store."""

import json
from pathlib import Path

import pytest
from support.made import Made
from support.program import at_once


@pytest.mark.slow
def test_every_block_is_that_of_the_store(made: Made, tmp_path: Path) -> None:
    for run in (made.older, made.run):
        words = ("export", "--format", "facts", "--db", str(made.db), "--run", run, "--out", str(tmp_path))
        done = at_once(*words)
        assert (done.returncode, done.stderr) == (0, "")
    told = at_once("report", "--json", "--db", str(tmp_path))
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert found.keys() == made.json.keys()
    for block, expected in made.json.items():
        mine = found[block]
        if block == "run":
            mine, expected = ({**one, "settings": None, "dataset_path": None} for one in (mine, expected))
        elif block == "moderators":
            mine, expected = ([row | {"settings": None} for row in rows] for rows in (mine, expected))
        assert mine == expected, block
