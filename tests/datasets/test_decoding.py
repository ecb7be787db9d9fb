"""Texts in any encoding that says or shows which it is, compressed or not; others are refused by name."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.dialogues import lines, put, record, user

from safemt_client.datasets import files, open_dataset
from safemt_client.datasets.decoding import opened
from safemt_client.providers.errors import InputError

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
ASCII = st.characters(min_codepoint=1, max_codepoint=127)
TEXTS = st.tuples(st.text(ASCII, min_size=2, max_size=2), st.text(max_size=300)).map("".join)
with_files = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def refusal(path: Path) -> str | None:
    try:
        open_dataset(str(path))
    except InputError as error:
        return str(error)
    return None


@with_files
@given(TEXTS, st.sampled_from(ENCODINGS), st.booleans())
def test_any_text_that_begins_like_data_comes_back(
    tmp_path: Path, text: str, encoding: str, packed: bool
) -> None:
    data = text.encode(encoding)
    path = put(tmp_path / "d", gzip.compress(data) if packed else data)
    with opened(path) as file:
        assert file.read().decode() == text


@with_files
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_give_records_or_one_line(tmp_path: Path, data: bytes, packed: bool) -> None:
    for name in ("d.jsonl", "d.json", "d.csv"):
        path = put(tmp_path / name, gzip.compress(data) if packed else data)
        said = refusal(path)
        assert said is None or (said.startswith(str(path)) and len(said.splitlines()) == 1)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ["d.jsonl", "d.json", "d.csv"])
def test_every_form_in_every_encoding(name: str, encoding: str, tmp_path: Path) -> None:
    made = record(user("Wie kocht man grünen Tee \u2028 und 茶?"), scenario="Satire")
    text = lines(made, made | {"id": "b"}).decode()
    if name == "d.json":
        text = json.dumps([made, made | {"id": "b"}], ensure_ascii=False)
    if name == "d.csv":
        cell = json.dumps(made["dialogue"], ensure_ascii=False).replace('"', '""')
        text = "id,scenario,dialogue\r\n" + "".join(f'{n},Satire,"{cell}"\r\n' for n in "ab")
    data = open_dataset(str(put(tmp_path / name, text.encode(encoding))))
    assert [d.item_id for d in data.dialogues] == ["a", "b"]
    assert data.dialogues[0].messages[0].text == made["dialogue"][0]["content"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n \n", "\n\ufeff"])
def test_every_end_of_line(end: str, tmp_path: Path) -> None:
    text = end.join(json.dumps(record(id=item)) for item in "abc")
    data = open_dataset(str(put(tmp_path / "d.jsonl", text)))
    assert [d.item_id for d in data.dialogues] == ["a", "b", "c"]


def test_separators_within_a_text_end_no_line(tmp_path: Path) -> None:
    path = put(tmp_path / "d.jsonl", lines(record(user("a\u2028b\u0085c\x1cd"))))
    assert open_dataset(str(path)).dialogues[0].messages[0].text == "a\u2028b\u0085c\x1cd"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            lines(record(user("café"))).decode().encode("latin-1"),
            "line 1: not JSON in UTF-8: byte .*save the file",
        ),
        (lines(record(user("茶"))).decode().encode("gbk"), "line 1: not JSON in UTF-8: byte .*save the file"),
        (lines(record()).decode().encode("utf-16")[:-1], "not UTF-16.*: save it as UTF-8"),
        (gzip.compress(lines(record()))[:-9], "the gzip file is damaged"),
        (b"\x1f\x8bnothing", "the gzip file is damaged"),
        (b"PK\x03\x04rest", "a zip archive: name a file in it"),
        (b"\x28\xb5\x2f\xfdrest", "compressed with zstd"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\n <!DOCTYPE HTML><p>", "a web page"),
        (b"// tea\n" + lines(record()), "line 1.*a comment"),
        (lines(record()).rstrip() + lines(record(id="b")), "more than one value: write one record a line"),
        (b'{"id": "a", "dialogue": [],}\n', "remove the comma before the bracket"),
        (b'{"id": "a", "id": "b"}\n', "the key 'id' occurs twice"),
        (b"", "contains no dialogues"),
        (b"\n  \n", "contains no dialogues"),
    ],
)
def test_what_cannot_be_read_is_named(data: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said) as caught:
        open_dataset(str(put(tmp_path / "d.jsonl", data)))
    assert len(str(caught.value).splitlines()) == 1
    assert "d.jsonl" in str(caught.value)


@pytest.mark.parametrize("name", ["d.jsonl.gz", "d.json.gz"])
def test_a_small_file_that_unpacks_to_much(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_FILE", 1000)
    monkeypatch.setattr(files, "_MAX_ARRAY", 1000)
    text = lines(*(record(id=n) for n in range(100)))
    text = text if name == "d.jsonl.gz" else b"[" + b",".join(text.splitlines()) + b"]"
    with pytest.raises(InputError, match="1000 bytes"):
        open_dataset(str(put(tmp_path / name, gzip.compress(text))))


def test_missing_numbers_of_pandas_are_null(tmp_path: Path) -> None:
    text = (
        '{"id": "a", "scenario": NaN, "score": Infinity, "dialogue": [{"role": "user", "content": "tea?"}]}'
    )
    (found,) = open_dataset(str(put(tmp_path / "d.jsonl", text))).dialogues
    assert found.scenario is None
    assert found.extra == {"score": None}
