"""What the lengths of an item have in common: it is paired by its id, so that differences are said."""

import json
from pathlib import Path

from safemt_client.datasets import open_dataset


def record(item: str, length: int, **more: object) -> dict[str, object]:
    said = [{"role": "user", "content": "What is this?"}]
    for _ in range(length - 1):
        said += [{"role": "assistant", "content": "A pot."}, {"role": "user", "content": "And then?"}]
    return {"id": item, "dialogue": said, "question": "q", "scenario": "Satire", **more}


def oddities(folder: Path, *records: dict[str, object]) -> list[tuple[str, str, str]]:
    path = folder / "data.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in records))
    kinds = ("differs over lengths", "id in two forms")
    return [(o.kind, o.where, o.text) for o in open_dataset(str(path)).warnings if o.kind in kinds]


def test_an_item_has_one_picture_question_and_scenario(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"one")
    (tmp_path / "b.png").write_bytes(b"two")
    (tmp_path / "c.png").write_bytes(b"one")
    same = [record("same", 1, image_path="a.png"), record("same", 2, image_path="c.png", question=None)]
    other = [
        record("other", 1, image_path="a.png"),
        record("other", 2, image_path="b.png", scenario="Fraud"),
        record("other", 4, image_path="b.png", benign=True),
    ]
    assert oddities(tmp_path, *same, *other) == [
        ("differs over lengths", "other", "another picture at 2 user turns than at 1"),
        ("differs over lengths", "other", "another scenario at 2 user turns than at 1"),
        ("differs over lengths", "other", "another benign at 4 user turns than at 1"),
    ]


def test_ids_in_two_unicode_forms_are_said(tmp_path: Path) -> None:
    found = oddities(tmp_path, record("caf\u00e9", 1), record("cafe\u0301", 2), record("tea", 1))
    assert [(kind, where) for kind, where, _ in found] == [("id in two forms", "cafe\u0301")]
