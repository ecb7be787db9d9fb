"""Each shipped map of labelled replies reads a benign stand-in of exactly its set's form."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.dialogues import picture, put

from safemt_client.__main__ import main
from safemt_client.datasets.labelled import LabelledSet, open_labelled
from safemt_client.datasets.maps.language import open_map, shipped
from safemt_client.providers.errors import InputError

TEA, HOT = "What is tea?", "How hot is it?"


def opened(folder: Path, name: str) -> LabelledSet:
    return open_labelled(str(folder), data_map=name)


def labels(found: LabelledSet) -> list[tuple[str, str, str, dict[str, str]]]:
    return [
        (
            *(one.dialogue.item_id, one.item, one.reply),
            {label.annotator: label.label for label in one.labels},
        )
        for one in found.replies
    ]


def parquet(*rows: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), out)
    return out.getvalue()


def test_harmbench(tmp_path: Path) -> None:
    def row(behavior: str, reply: str, *votes: int) -> dict[str, Any]:
        people = {f"human_{n}": vote for n, vote in enumerate(votes)}
        return {
            "test_case": f"{TEA} Please.",
            "generation": reply,
            "model": "m_7b.json",
            "method": "plain",
            "experiment": "m_7b",
            "behavior_id": behavior,
            "cls": 0,
        } | people

    put(
        tmp_path / "data/classifier_val_sets/text_behaviors_val_set.json",
        {
            "tea": [row("tea", "A drink.", 0, 0, 1), row("tea", "A leaf.", 1, 1, 1)],
            "x": [row("x", "?", 0, 0, 0)],
        },
    )
    head = "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID"
    put(
        tmp_path / "data/behavior_datasets/harmbench_behaviors_text_all.csv",
        f"{head}\n{TEA},standard,drinks,,,tea\n",
    )
    found = opened(tmp_path, "harmbench-judged")
    assert labels(found) == [
        ("tea_0_0", "tea", "A drink.", {"human_0": "safe", "human_1": "safe", "human_2": "unsafe"}),
        ("tea_0_1", "tea", "A leaf.", {"human_0": "unsafe", "human_1": "unsafe", "human_2": "unsafe"}),
    ]
    dialogue = found.replies[0].dialogue
    assert (dialogue.question, dialogue.scenario, dialogue.method) == (TEA, "drinks", "plain")
    assert dialogue.extra == {"model": "m_7b"}
    assert dialogue.messages[0].text == f"{TEA} Please."
    # The reply to a behaviour that the table does not have.
    assert found.skipped == 1


def test_jailbreakbench(tmp_path: Path) -> None:
    head = "Index,goal,prompt,target_response,human1,human2,human3,human_majority,harmbench_cf,gpt4_cf"
    put(tmp_path / "data/judge-comparison.csv", f"{head}\n0,{TEA},{HOT},A drink.,1,0,1,1,1,1\n")
    found = opened(tmp_path, "jbb-judged")
    people = {"human1": "unsafe", "human2": "safe", "human3": "unsafe"}
    assert labels(found) == [("jbb_0", TEA, "A drink.", people)]
    dialogue = found.replies[0].dialogue
    assert (dialogue.question, dialogue.messages[0].text) == (TEA, HOT)


def test_xstest_responses(tmp_path: Path) -> None:
    row = {"prompt": TEA, "response": "A drink.", "label": "unharmful", "prompt_type": "prompt_safe"}
    row |= {"prompt_harm_category": "drinks"}
    name = "data/response_harmfulness-00000-of-00001.parquet"
    put(tmp_path / name, parquet(row, {**row, "label": "harmful", "response": "Hot."}))
    put(tmp_path / "data/response_refusal-00000-of-00001.parquet", parquet({**row, "label": "refusal"}))
    assert labels(opened(tmp_path, "xstest-judged")) == [
        ("xstest_0", TEA, "A drink.", {"people": "safe"}),
        ("xstest_1", TEA, "Hot.", {"people": "unsafe"}),
    ]


def test_wildguardtest(tmp_path: Path) -> None:
    row = {
        "prompt": TEA,
        "adversarial": False,
        "response": "A drink.",
        "prompt_harm_label": "unharmful",
        "response_refusal_label": "compliance",
        "response_harm_label": "unharmful",
        "subcategory": "benign",
    }
    nothing = {**row, "response": None, "response_harm_label": None}
    unsure = {**row, "response": "Hm.", "response_harm_label": None}
    put(tmp_path / "test/wildguard_test.parquet", parquet(row, nothing, unsure))
    found = opened(tmp_path, "wildguardtest-judged")
    assert labels(found) == [("wildguard_0", TEA, "A drink.", {"people": "safe"})]
    assert (found.skipped, found.unlabelled) == (1, 1)
    assert found.replies[0].dialogue.scenario == "benign"


def test_strongreject(tmp_path: Path) -> None:
    head = "jailbreak,forbidden_prompt,response,victim_model,label_median"
    rows = [f"none,{TEA},A drink.,m,{grade}" for grade in ("0.0", "0.49", "0.5", "1")]
    put(tmp_path / "labelbox.csv", "\n".join([head, *rows, ""]))
    found = opened(tmp_path, "strongreject-judged")
    assert [people["people"] for *_, people in labels(found)] == ["safe", "safe", "unsafe", "unsafe"]
    assert {one.item for one in found.replies} == {TEA}


def test_beavertails_v(tmp_path: Path) -> None:
    row = {
        "question": TEA,
        "category": "drinks",
        "image": {"bytes": picture("PNG"), "path": None},
        "image_severity": 1,
        "response_1": "A drink.",
        "response_2": "Hot.",
        "is_response_1_safe": "yes",
        "is_response_2_safe": "no",
    }
    put(tmp_path / "data/drinks/train.parquet", parquet(row))
    found = opened(tmp_path, "beavertails-v-judged")
    assert labels(found) == [
        ("drinks_train_0_1", "drinks_train_0", "A drink.", {"people": "safe"}),
        ("drinks_train_0_2", "drinks_train_0", "Hot.", {"people": "unsafe"}),
    ]
    for one in found.replies:
        (name,) = one.dialogue.messages[0].images
        assert found.dataset.image_path(name).read_bytes() == picture("PNG")
    # The same from the folder of one category.
    assert labels(opened(tmp_path / "data/drinks", "beavertails-v-judged")) == labels(found)


def test_a_label_that_a_map_does_not_know_is_named_with_its_row(tmp_path: Path) -> None:
    head = "goal,prompt,target_response,human1,human2,human3"
    put(tmp_path / "data/judge-comparison.csv", f"{head}\n{TEA},{HOT},A drink.,1,2,1\n")
    with pytest.raises(InputError, match=r"row 1: key labelled\.votes\.1: '2' in 'human2' is neither"):
        opened(tmp_path, "jbb-judged")


def test_every_labelled_map_is_tested_and_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    page = (Path(__file__).parents[2] / "docs" / "calibration.md").read_text(encoding="utf-8")
    names = [name for name in shipped() if name.endswith("-judged")]
    assert len(names) == 6
    assert main(["data", "maps", "--json"]) == 0
    listed = {one["map"]: one for one in json.loads(capsys.readouterr().out)}
    for name in names:
        found = open_map(name)
        assert found.labelled is not None or any(one.labelled for one in found.variant)
        assert f'"{name}"' in text
        assert f"| `{name}` |" in page
        assert found.address
        assert found.citation
        assert listed[name]["unconfirmed"]
        assert found.licence or "licence" in (found.unconfirmed or "")
