"""`power` and the dry run say what items can show, and learn from the runs of a store."""

import itertools
import json
from pathlib import Path

import pytest

import safemt_client
from safemt_client.__main__ import main


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main([*words]) == 0
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def data(items: int) -> str:
    """Items that the demo answers at six and eight turns, or declines at both: asked `kindly`, every second."""
    path = Path("items.jsonl")
    with path.open("w", encoding="utf-8") as file:
        for item, turns in itertools.product(range(items), (6, 8)):
            asked = {"role": "user", "content": f"Tell me{' kindly' * (item % 2)} about tea number {item}."}
            messages = [asked, {"role": "assistant", "content": "Gladly."}] * (turns - 1) + [asked]
            file.write(json.dumps({"id": f"{item}", "turns": turns, "messages": messages}) + "\n")
    return str(path)


def test_a_dry_run_says_what_its_items_can_show(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "--provider", "demo", "--dry-run")
    assert "15 items can show" in out
    assert "assumed: replies to one item correlate" in out
    assert safemt_client.plan(provider="demo", limit=4, turns=[1, 2]).power.items == 4  # type: ignore[union-attr]


def test_a_run_does_not_work_it_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert "can show" not in printed(capsys, "--provider", "demo", "--limit", "1", "--db", "a.duckdb")


def test_what_a_run_has_shown_takes_the_place_of_assumptions(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--provider", "demo", "--data", data(40), "--db", "a.duckdb"]
    printed(capsys, *words, "--quiet")
    run = safemt_client.plan(provider="demo", data="items.jsonl", db="a.duckdb").run_id
    again = printed(capsys, *words, "--dry-run", "--temperature", "1")
    assert f"from run {run}: replies to one item correlate by 1.00; assumed: targets differ" in again
    found = json.loads(printed(capsys, "power", "--db", "a.duckdb", "--json"))["power"]
    assert (found["items"], found["lengths"], found["effective_replies"]) == (40, 2, [40, 40])
    assert (found["shown_by_run"], found["rho"], found["assumed"]) == (run, [1, 1], ["apart"])


def test_benign_items_show_nothing_of_an_asr(capsys: pytest.CaptureFixture[str]) -> None:
    record = {"id": "a", "turns": 1, "benign": True, "messages": [{"role": "user", "content": "Hello?"}]}
    Path("b.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    assert "can show" not in printed(capsys, "--provider", "demo", "--data", "b.jsonl", "--dry-run")


def test_power_needs_no_store(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "power", "--items", "120", "--lengths", "1", "--want", "difference 3")
    assert out.splitlines()[0] == "120 items at 1 length, 95 % intervals:"
    assert "a difference of 3 points" in out
    found = json.loads(printed(capsys, "power", "--want", "width 2", "--json"))
    assert found["power"] is None
    assert found["wanted"][0]["kind"] == "width"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("power", "--items: say how many"),
        ("power --items 0", "--items 0: must be 1 or more"),
        ("power --want tea", "such as"),
        ("power --db none.duckdb", "none.duckdb"),
    ],
)
def test_bad_input_is_one_line(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.strip().splitlines()) == 1
