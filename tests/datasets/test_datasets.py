"""Every form and oddity of the data: read, noted, never silently dropped."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safemt_client.datasets import open_dataset
from safemt_client.datasets.check import check
from safemt_client.datasets.records import read_record
from safemt_client.moderator.guards.common import SCENARIOS
from safemt_client.providers.errors import InputError


def record(**changes: object) -> dict[str, object]:
    base = {
        "id": "mllm_satire_1",
        "scenario": "Satire",
        "image_path": "/images/a.png",
        "dialogue": [{"role": "user", "content": "hello"}],
    }
    return base | changes


def test_sample_is_complete() -> None:
    found = check(open_dataset("sample"))
    assert found.items >= 12
    assert len(found.scenarios) >= 6
    assert list(found.lengths) == [1, 2, 4, 6, 8]
    assert len(set(found.lengths.values())) == 1
    assert [found.missing_ids, found.missing_images, found.broken_images, found.oddities] == [{}, [], [], {}]
    assert set(found.scenarios) <= set(SCENARIOS)


@pytest.mark.parametrize("as_text", [json.dumps, repr])
def test_dialogue_as_text_and_other_image_field(as_text) -> None:
    text = as_text([{"role": "user", "content": "it's\nhere"}])
    given_record = {"id": "mm_x_1", "dialogue": text, "image_rel_path": "b.jpg"}
    found = read_record(given_record, "f", [])
    assert found.messages[0].text == "it's\nhere"
    assert found.messages[0].images == ("b.jpg",)
    assert found.source == "mm"


def test_oddities_are_noted_and_kept(tmp_path: Path) -> None:
    odd = record(
        dialogue=[
            {"role": "user", "content": " "},
            {"role": "assistant", "content": " x"},
            {"role": "user", "content": "[image]"},
        ]
    )
    (tmp_path / "2_turn.json").write_text(json.dumps([odd]))
    (tmp_path / "4_turn.json").write_text(json.dumps([odd | {"id": "other"}]))
    data = open_dataset(str(tmp_path))
    assert len(data.dialogues) == 2
    found = check(data)
    assert found.oddities == {"empty message": 2, "image placeholder": 2, "length": 1, "white space": 2}
    assert len(found.missing_images) == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": None}, "id"),
        ({"dialogue": "import os"}, "dialogue"),
        ({"dialogue": []}, "dialogue"),
        ({"dialogue": [{"role": "system", "content": "x"}]}, "role"),
        ({"dialogue": [{"role": "user", "content": 5}]}, "content"),
        ({"scenario": 5}, "scenario"),
        ({"image_path": 5}, "image_path"),
        ({"benign": "yes"}, "benign"),
    ],
)
def test_wrong_shapes_name_the_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(InputError, match=f"here.*{field}"):
        read_record(record(**change), "here", [])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
    )
)
def test_any_json_is_read_or_refused(content: object) -> None:
    for given_record in (content, record(dialogue=content), record(id=content)):
        with contextlib.suppress(InputError):
            read_record(given_record, "here", [])


def test_images_never_leave_the_folder_unless_links_are_trusted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out.png").write_text("x")
    (tmp_path / "in" / "a.png").write_text("x")
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "out.png")
    (tmp_path / "in" / "d.jsonl").write_text(json.dumps(record()) + "\n")
    data = open_dataset(str(tmp_path / "in" / "d.jsonl"))
    with pytest.raises(InputError, match="points outside"):
        data.image_path("../out.png")
    with pytest.raises(InputError, match="--follow-links"):
        data.image_path("link.png")
    with pytest.raises(InputError, match="missing"):
        data.image_path("none.png")
    assert data.image_path("/a.png") == tmp_path / "in" / "a.png"
    trusted = open_dataset(str(tmp_path / "in" / "d.jsonl"), follow_links=True)
    assert trusted.image_path("link.png") == tmp_path / "in" / "link.png"
    with pytest.raises(InputError, match="points outside"):
        trusted.image_path("../out.png")


def test_mt_bench_is_live_only(tmp_path: Path) -> None:
    line = {"question_id": 81, "category": "writing", "turns": ["a", "b"], "reference": ["c"]}
    (tmp_path / "question.jsonl").write_text(json.dumps(line) + "\n")
    data = open_dataset(str(tmp_path))
    assert data.live_only
    assert data.dialogues[0].length == 2
    assert data.dialogues[0].extra == {"reference": ["c"]}
