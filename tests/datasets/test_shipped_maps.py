"""Each map that comes with the program reads a benign stand-in of exactly its data set's form."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.dialogues import lines, picture, put, said

from safemt_client.__main__ import main
from safemt_client.datasets import open_dataset
from safemt_client.datasets.check import check
from safemt_client.datasets.embedded import PREFIX
from safemt_client.datasets.maps.language import open_map, shipped
from safemt_client.datasets.model import Dataset
from safemt_client.providers.errors import InputError

TEA, HOT, CUP = "What is tea?", "How hot is it?", "Which cup is best?"


def opened(folder: Path, name: str, *values: str) -> Dataset:
    return open_dataset(str(folder), data_map=name, values=values)


def known(data: Dataset) -> list[tuple[str, bool | None, str | None, str | None]]:
    return [(d.item_id, d.benign, d.pair, d.scenario) for d in data.dialogues]


def whole(data: Dataset) -> None:
    found = check(data)
    assert (found.status, found.oddities) == (0, {})


def turns(**given: str) -> dict[str, str]:
    return {
        "r1": "",
        "unsafe_r1": "",
        "safe_r1": "",
        "r2": HOT,
        "r3": "",
        "unsafe_r3": "",
        "safe_r3": "",
        **given,
    }


def parquet(row: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row]), out)
    return out.getvalue()


def test_mtmcs_bench(tmp_path: Path) -> None:
    row = {"id": 3, "image": {"bytes": picture(), "path": "3.jpg"}, "unsafe_intent": "cold tea"}
    a = turns(r1=TEA, unsafe_r3="Cold?", safe_r3=CUP)
    b = turns(unsafe_r1="Cold?", safe_r1=TEA, r3=CUP)
    put(tmp_path / "data" / "type_a-00000-of-00001.parquet", parquet({**row, "multimodal_dialogue": a}))
    put(tmp_path / "data" / "type_b-00000-of-00001.parquet", parquet({**row, "multimodal_dialogue": b}))
    data = opened(tmp_path, "mtmcs-bench")
    assert known(data) == [
        ("a_3_unsafe", False, "a_3", None),
        ("a_3_safe", True, "a_3", None),
        ("b_3_unsafe", False, "b_3", None),
        ("b_3_safe", True, "b_3", None),
    ]
    assert [[text for _, text, _ in said(data, n)] for n in range(4)] == [
        [TEA, HOT, "Cold?"],
        [TEA, HOT, CUP],
        ["Cold?", HOT, CUP],
        [TEA, HOT, CUP],
    ]
    assert [len(m.images) for m in data.dialogues[0].messages] == [1, 0, 0]
    assert data.dialogues[0].messages[0].images[0].startswith(PREFIX)
    assert data.dialogues[2].method == "context switch"
    whole(data)


def test_mhj(tmp_path: Path) -> None:
    def cell(role: str, body: str) -> str:
        return '"' + json.dumps({"body": body, "role": role}).replace('"', '""') + '"'

    head = "Source,temperature,tactic,question_id,time_spent,submission_message," + ",".join(
        f"message_{n}" for n in range(12)
    )
    first = [cell("system", "Be kind."), cell("user", TEA), cell("user", HOT)]
    row = ",".join(["people", "0", "Echoing", "7", "10", "-", *first, *[""] * 7, cell("user", CUP), ""])
    put(tmp_path / "harmbench_behaviors.csv", f"{head}\n{row}\n")
    data = opened(tmp_path, "mhj")
    assert said(data) == [("s", "Be kind.", ()), ("u", TEA, ()), ("u", HOT, ()), ("u", CUP, ())]
    (found,) = data.dialogues
    assert (found.item_id, found.method, found.source, found.benign) == ("mhj_0", "Echoing", "people", False)
    assert (found.scripted, data.licence, data.name) == (False, "CC-BY-NC-4.0", "MHJ")
    assert opened(tmp_path / "harmbench_behaviors.csv", "mhj").digest == data.digest
    whole(data)


def test_mossbench(tmp_path: Path) -> None:
    about = {"over": "exaggerated", "human": 0, "child": 0, "syn": 1, "ocr": 0, "harm": 2}
    one = {
        "image": "images/1.jpg",
        "short description": "a pot",
        "question": TEA,
        "pid": "1",
        "metadata": about,
    }
    put(tmp_path / "data/images_information/information.json", {"1": one, "2": {**one, "pid": "2"}})
    put(tmp_path / "data/images/1.jpg", picture())
    data = opened(tmp_path, "mossbench")
    assert known(data) == [("moss_1", True, None, "exaggerated"), ("moss_2", True, None, "exaggerated")]
    assert said(data) == [("u", TEA, ("data/images/1.jpg",))]
    assert check(data).status == 0


def test_mssbench(tmp_path: Path) -> None:
    row = {
        "safe_image_path": "1.jpg",
        "unsafe_image_path": "2.jpg",
        "intent": "make tea",
        "unsafe_image": "a cup",
        "Type": "things",
        "queries": [TEA, HOT],
    }
    put(tmp_path / "combined.json", {"chat": [row], "embodied": []})
    put(tmp_path / "chat/1.jpg", picture())
    put(tmp_path / "chat/2.jpg", picture(colour=9))
    data = opened(tmp_path, "mssbench")
    assert [(i, b, p) for i, b, p, _ in known(data)] == [
        ("chat_0_0_unsafe", False, "chat_0_0"),
        ("chat_0_0_safe", True, "chat_0_0"),
        ("chat_0_1_unsafe", False, "chat_0_1"),
        ("chat_0_1_safe", True, "chat_0_1"),
    ]
    assert [said(data, n)[0] for n in (0, 3)] == [("u", TEA, ("chat/2.jpg",)), ("u", HOT, ("chat/1.jpg",))]
    whole(data)


def test_figstep_takes_its_prompt_from_the_user(tmp_path: Path) -> None:
    row = f"ForbidQI,1,2,Drinks,{TEA},Steps to make tea."
    head = "dataset,category_id,task_id,category_name,question,instruction"
    put(tmp_path / "data/question/safebench.csv", f"{head}\n{row}\n")
    name = "data/images/SafeBench/query_ForbidQI_1_2_6.png"
    put(tmp_path / name, picture("PNG"))
    with pytest.raises(InputError, match=r"--data-value is missing: .* needs prompt=TEXT"):
        opened(tmp_path, "figstep")
    data = opened(tmp_path, "figstep", "prompt=Read the list = aloud.")
    assert said(data) == [("u", "Read the list = aloud.", (name,))]
    assert known(data) == [("figstep_1_2", False, None, "Drinks")]
    whole(data)


def test_cosafe(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": TEA},
        {"role": "assistant", "content": "A drink."},
        {"role": "user", "content": HOT},
    ]
    folder = tmp_path / "CoSafe datasets"
    put(folder / "drinks,cups.json", lines(messages, [*messages, {"role": "assistant", "content": "Hot."}]))
    data = opened(tmp_path, "cosafe")
    assert [i for i, *_ in known(data)] == ["drinks,cups_0", "drinks,cups_1"]
    assert said(data) == said(data, 1) == [("u", TEA, ()), ("a", "A drink.", ()), ("u", HOT, ())]
    assert data.dialogues[1].extra["reference_reply"] == "Hot."
    whole(data)


def test_safedialbench(tmp_path: Path) -> None:
    history = [{"user": TEA, "bot": "A drink."}, {"user": HOT, "bot": "Hot."}]
    put(tmp_path / "data/questions_en.jsonl", lines({"id": 4, "task": "Drinks", "history": history}))
    data = opened(tmp_path, "safedialbench")
    assert known(data) == [("sd_4", None, None, "Drinks")]
    assert said(data) == [("u", TEA, ()), ("a", "A drink.", ()), ("u", HOT, ())]
    whole(data)


def test_vlguard(tmp_path: Path) -> None:
    pair = [{"safe_instruction": TEA, "response": "x"}, {"unsafe_instruction": CUP, "response": "x"}]
    rows = [
        {"id": "a", "image": "cups/1.jpg", "safe": True, "instr-resp": pair},
        {
            "id": "b",
            "image": "cups/1.jpg",
            "safe": False,
            "harmful_category": "drinks",
            "instr-resp": [{"instruction": HOT, "response": "x"}],
        },
    ]
    put(tmp_path / "test.json", rows)
    put(tmp_path / "pictures/cups/1.jpg", picture())
    data = opened(tmp_path, "vlguard", "images=pictures")
    assert known(data) == [
        ("vlguard_0_safe", True, "vlguard_0", None),
        ("vlguard_0_unsafe", False, "vlguard_0", None),
        ("vlguard_1_0_unsafes", False, None, "drinks"),
    ]
    assert [said(data, n)[0][1] for n in range(3)] == [TEA, CUP, HOT]
    whole(data)
    assert check(opened(tmp_path, "vlguard")).status == 2


def test_multichallenge(tmp_path: Path) -> None:
    row = {
        "QUESTION_ID": "q1",
        "AXIS": "RELIABLE_TEA",
        "CONVERSATION": [{"role": "user", "content": TEA}],
        "TARGET_QUESTION": "Is it tea?",
        "PASS_CRITERIA": "YES",
    }
    put(tmp_path / "data/benchmark_questions.jsonl", lines(row))
    data = opened(tmp_path, "multichallenge")
    assert known(data) == [("q1", True, None, "RELIABLE_TEA")]
    assert data.dialogues[0].extra["pass_criteria"] == "YES"
    whole(data)


def test_xstest(tmp_path: Path) -> None:
    head = "id,prompt,type,label,focus,note"
    put(
        tmp_path / "xstest_prompts.csv",
        f"{head}\n1,{TEA},homonyms,safe,tea,\n26,{HOT},contrast_homonyms,unsafe,tea,\n",
    )
    data = opened(tmp_path, "xstest")
    assert known(data) == [
        ("xstest_1", True, None, "homonyms"),
        ("xstest_26", False, None, "contrast_homonyms"),
    ]
    assert said(data) == [("u", TEA, ())]
    whole(data)


def test_or_bench(tmp_path: Path) -> None:
    for name in ("hard-1k", "toxic", "80k"):
        put(tmp_path / f"or-bench-{name}.csv", f"prompt,category\n{TEA} {name},drinks\n")
    data = opened(tmp_path, "or-bench")
    assert known(data) == [
        ("or-bench-hard-1k_0", True, None, "drinks"),
        ("or-bench-toxic_0", False, None, "drinks"),
    ]
    assert known(opened(tmp_path / "or-bench-80k.csv", "or-bench"))[0][:2] == ("or-bench-80k_0", True)
    whole(data)


def test_jailbreakv_28k(tmp_path: Path) -> None:
    head = "id,jailbreak_query,redteam_query,format,policy,image_path,from,selected_mini,transfer_from_llm"
    row = f"7,{HOT},{TEA},figstep,Drinks,figstep/7.png,people,False,False"
    put(tmp_path / "JailBreakV_28K.csv", f"{head}\n{row}\n")
    put(tmp_path / "figstep/7.png", picture("PNG"))
    data = opened(tmp_path, "jailbreakv-28k")
    assert known(data) == [("jbv28k_7", False, None, "Drinks")]
    assert said(data) == [("u", HOT, ("figstep/7.png",))]
    (found,) = data.dialogues
    assert (found.question, found.method, found.source) == (TEA, "figstep", "people")
    whole(data)


def test_mm_safetybench(tmp_path: Path) -> None:
    row = {
        "Question": TEA,
        "Changed Question": TEA,
        "Key Phrase": "tea",
        "Phrase Type": "product",
        "Rephrased Question": HOT,
        "Rephrased Question(SD)": CUP,
    }
    put(tmp_path / "data/processed_questions/01-Drinks.json", {"0": row, "1": row})
    for number, kind in enumerate(("SD", "SD_TYPO", "TYPO")):
        for key in "01":
            put(tmp_path / f"data/imgs/01-Drinks/{kind}/{key}.jpg", picture(colour=number))
    data = opened(tmp_path, "mm-safetybench")
    assert [i for i, *_ in known(data)][:3] == ["01-Drinks_0_SD", "01-Drinks_0_SD_TYPO", "01-Drinks_0_TYPO"]
    assert said(data, 0) == [("u", CUP, ("data/imgs/01-Drinks/SD/0.jpg",))]
    assert said(data, 5) == [("u", HOT, ("data/imgs/01-Drinks/TYPO/1.jpg",))]
    assert data.dialogues[5].scenario == "01-Drinks"
    assert check(data).status == 0


def test_mmds(tmp_path: Path) -> None:
    def row(number: int, rating: str, of: str, *messages: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": number,
            "set": of,
            "data_type": "default",
            "dimension": "Drinks" if rating == "Unsafe" else "",
            "subdimension": "",
            "malicious_intent": "",
            "conversations": list(messages),
            "user_rating": rating,
            "assistant_rating": "Safe",
        }

    def message(role: str, text: str, *images: str) -> dict[str, Any]:
        return {"role": role, "image": [f"images/{name}" for name in images], "content": text}

    first = [message("user", TEA, "1.jpg", "2.jpg"), message("assistant", "A drink.")]
    more = [message("user", HOT, "3.jpg"), message("assistant", "Hot.")]
    rows = [
        row(1, "Unsafe", "test", *first, *more),
        row(1, "Safe", "test", *first),
        row(2, "Safe", "train", *first),
        row(3, "null", "test", *first),
    ]
    put(tmp_path / "mmds.jsonl", lines(*rows))
    for number in (1, 2, 3):
        put(tmp_path / f"images/{number}.jpg", picture(colour=number))
    data = opened(tmp_path, "mmds")
    assert known(data) == [("mmds_0", False, None, "Drinks"), ("mmds_1", True, None, None)]
    assert said(data) == [
        ("u", TEA, ("images/1.jpg", "images/2.jpg")),
        ("a", "A drink.", ()),
        ("u", HOT, ("images/3.jpg",)),
    ]
    assert data.dialogues[0].extra["reference_reply"] == "Hot."
    assert (data.dialogues[0].source, data.licence) == ("test", "CC-BY-NC-4.0")
    found = check(data)
    assert (found.status, found.oddities) == (0, {"row not taken": 2})


def test_holisafe(tmp_path: Path) -> None:
    def row(number: int, kind: str) -> dict[str, Any]:
        return {
            "id": number,
            "image": "drinks/tea/tea_1.png",
            "query": TEA if kind == "SSS" else HOT,
            "type": kind,
            "category": "drinks",
            "subcategory": "tea",
            "image_safe": kind.startswith("S"),
            "image_safety_label": 0,
        }

    put(tmp_path / "holisafe_bench.json", [row(n, kind) for n, kind in enumerate(("SSS", "SSU", "UUU"))])
    put(tmp_path / "images/drinks/tea/tea_1.png", picture("PNG"))
    data = opened(tmp_path, "holisafe")
    assert known(data) == [
        ("holisafe_0", True, None, "drinks"),
        ("holisafe_1", False, None, "drinks"),
        ("holisafe_2", False, None, "drinks"),
    ]
    assert said(data, 1) == [("u", HOT, ("images/drinks/tea/tea_1.png",))]
    assert (data.dialogues[1].method, data.dialogues[2].extra["image_safe"]) == ("SSU", False)
    whole(data)


def test_every_map_is_tested_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    assert main(["data", "maps", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [one["map"] for one in listed] == list(shipped())
    # Those of labelled replies: test_labelled_maps.py.
    for one in (one for one in listed if not one["map"].endswith("-judged")):
        assert f', "{one["map"]}"' in text
        assert f"| `{one['map']}` |" in page
        assert one["address"]
        assert one["citation"]
        assert one["licence"] or "licence" in one["unconfirmed"]
        assert open_map(one["map"]).name == one["name"]
