"""Data sets of the hub: by its real client from a stand-in on loopback, and from a folder of the same layout."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.dialogues import lines, packed, picture, put, record, reply, said, user
from support.hub import COMMIT, StandIn, served

from safemt_client.__main__ import main
from safemt_client.datasets import open_dataset
from safemt_client.datasets.check import check
from safemt_client.datasets.hub_layout import card_of
from safemt_client.datasets.labelled import open_labelled
from safemt_client.datasets.model import Dataset
from safemt_client.providers.errors import InputError

pytest.importorskip("huggingface_hub")

TEA = "How is tea made?"
CARD = """---
license: cc-by-4.0
configs:
- config_name: hot
  default: true
  data_files:
  - split: train
    path: hot/train-*.jsonl
  - split: test
    path: [hot/test.jsonl]
- config_name: cold
  data_dir: cold
- config_name: plain
  data_files: "*.jsonl"
---
# Cups
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with served(StandIn(tmp_path / "hub")) as stand_in:
        monkeypatch.setenv("HF_ENDPOINT", stand_in.url)
        yield stand_in


def fill(folder: Path, files: Mapping[str, Any]) -> None:
    for name, content in files.items():
        if name.endswith(".parquet"):
            import pyarrow as pa
            import pyarrow.parquet

            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            pyarrow.parquet.write_table(pa.Table.from_pylist(content), folder / name)
        else:
            put(folder / name, content)


def one(item: str) -> bytes:
    return lines(record(user(TEA), id=item))


def ids(data: Dataset) -> list[str]:
    return [dialogue.item_id for dialogue in data.dialogues]


CONFIGS = {
    "README.md": CARD,
    "hot/train-1.jsonl": one("t1"),
    "hot/train-2.jsonl": one("t2"),
    "hot/test.jsonl": one("t3"),
    "cold/validation.csv": b"id,prompt\nc1,Why?\n",
    "cold/test-00000-of-00002.parquet": [{"id": "c2", "prompt": TEA}],
    "cold/test-00001-of-00002.parquet": [{"id": "c3", "prompt": TEA}],
    "more.jsonl": one("p1"),
}
SHARDS = {
    "data/train-00000-of-00001.parquet": [{"id": "a", "prompt": TEA}],
    "data/harm-00000-of-00002.parquet": [{"id": "b", "prompt": TEA}],
    "data/harm-00001-of-00002.parquet": [{"id": "c", "prompt": TEA}],
}
NAMES = {"data/dev.jsonl": one("a"), "data/my_test_set.jsonl": one("b"), "data/rest.json": [record(id="c")]}


@pytest.mark.parametrize("where", ["hub", "folder"])
@pytest.mark.parametrize(
    ("files", "config", "split", "found"),
    [
        (CONFIGS, None, None, ["t1", "t2", "t3"]),
        (CONFIGS, "hot", "all", ["t1", "t2", "t3"]),
        (CONFIGS, None, "test", ["t3"]),
        (CONFIGS, "cold", "test", ["c2", "c3"]),
        (CONFIGS, "plain", None, ["p1"]),
        (SHARDS, None, "harm", ["b", "c"]),
        (SHARDS, "default", "train", ["a"]),
        (SHARDS, None, "all", ["b", "c", "a"]),
        (NAMES, None, "validation", ["a"]),
        (NAMES, None, "test", ["b"]),
        (NAMES, None, "train", ["c"]),
        ({"x/test/a.parquet": [{"id": "a", "prompt": TEA}]}, None, "test", ["a"]),
    ],
)
def test_configurations_and_splits(
    where: str, files: dict[str, Any], config: str | None, split: str | None, found: list[str], hub: StandIn
) -> None:
    fill(hub.folder, files)
    if where == "folder" and config is None and split is None:
        config = "hot"
    data = open_dataset("hf:someone/cups" if where == "hub" else str(hub.folder), config=config, split=split)
    assert ids(data) == found
    if where == "hub":
        wanted = [name for name in files if name != "README.md" and len(found) < len(files) - 1]
        assert len(hub.downloaded) <= len(found) + 1, wanted


@pytest.mark.parametrize(
    ("files", "config", "split", "what"),
    [
        (
            CONFIGS,
            "warm",
            None,
            "--data-config 'warm': {} has no such configuration: it has hot, cold, plain",
        ),
        (SHARDS, "warm", None, "--data-config 'warm': {} has no such configuration: its card names none"),
        (CONFIGS, None, "tests", "--data-split 'tests': {} has no such split: it has train, test"),
        (SHARDS, None, "test", "--data-split 'test': {} has no such split: it has harm, train"),
        ({"a.md": b"x"}, None, "test", "--data-split 'test': {} has no such split: it has no files of data"),
        (
            CONFIGS | {"README.md": CARD.replace("default: true", "")},
            None,
            "test",
            "{}: has several configurations: name one: --data-config hot or cold or plain",
        ),
        (
            CONFIGS | {"README.md": CARD.replace("hot/t", "none/t")},
            "hot",
            None,
            "{}: has none of the files that its card names",
        ),
        ({"README.md": b"---\nconfigs: [\n---\n"}, "hot", None, "README.md: its head is not YAML"),
        ({"README.md": b"---\nconfigs: [a]\n---\n"}, "hot", None, "an entry has no config_name"),
    ],
)
@pytest.mark.parametrize("where", ["hub", "folder"])
def test_what_there_is_instead(
    where: str, files: dict[str, Any], config: str | None, split: str | None, what: str, hub: StandIn
) -> None:
    fill(hub.folder, files)
    spec = "hf:someone/cups" if where == "hub" else str(hub.folder)
    with pytest.raises(InputError) as caught:
        open_dataset(spec, config=config, split=split)
    assert what.format(spec) in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "found", "downloaded"),
    [
        ("someone/cups/more.jsonl", ["p1"], ["more.jsonl"]),
        (
            "someone/cups/cold",
            ["c2", "c3"],
            ["cold/test-00000-of-00002.parquet", "cold/test-00001-of-00002.parquet"],
        ),
        (f"someone/cups@{COMMIT}/more.jsonl", ["p1"], ["more.jsonl"]),
        ("someone/cups@v1.0/hot/test.jsonl", ["t3"], ["hot/test.jsonl"]),
        ("someone/cups@refs/convert/parquet/more.jsonl", ["p1"], ["more.jsonl"]),
        ("someone/cups@refs%2Fpr%2F1/more.jsonl", ["p1"], ["more.jsonl"]),
    ],
)
def test_a_revision_and_a_part(spec: str, found: list[str], downloaded: list[str], hub: StandIn) -> None:
    hub.revisions = ("main", COMMIT, "v1.0", "refs/convert/parquet", "refs/pr/1")
    fill(hub.folder, CONFIGS)
    data = open_dataset(f"hf:{spec}")
    assert (ids(data), data.licence) == (found, "cc-by-4.0")
    assert hub.downloaded == ["README.md", *downloaded]


def test_only_the_pictures_that_are_sent(
    hub: StandIn, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = lines(*(record(user(TEA), id=f"a{n}", image=f"images/{n}.jpg") for n in range(4)))
    pictures = {f"images/{n}.jpg": picture(colour=40 * n) for n in range(5)}
    fill(hub.folder, {"data.jsonl": rows, "other.zip": b"x", **pictures})
    words = ["--provider", "demo", "--data", "hf:someone/cups", "--judge", "none"]
    assert main([*words, "--limit", "2"]) == 0
    assert hub.downloaded == ["data.jsonl", "images/0.jpg", "images/1.jpg"]
    assert main([*words, "--limit", "2", "--dry-run"]) == 0
    assert "0 calls to make, 2 in the store" in capsys.readouterr().out
    assert check(open_dataset("hf:someone/cups")).usable == 4
    assert hub.downloaded == ["data.jsonl", *(f"images/{n}.jpg" for n in range(4))]


def test_a_picture_in_an_archive_on_the_hub(hub: StandIn) -> None:
    names = ("images/x.jpg", "part.zip/y.jpg", "z.jpg")
    fill(hub.folder, {"data.jsonl": lines(*(record(id=name, image=name) for name in names))})
    packed(hub.folder / "images", {"x.jpg": picture()})
    packed(hub.folder / "part", {"y.jpg": picture(colour=1)})
    data = open_dataset("hf:someone/cups")
    assert data.image_path("images/x.jpg").read_bytes() == picture()
    assert hub.downloaded == ["data.jsonl", "images.zip"]
    assert check(data).missing_images == ["image missing: z.jpg (z.jpg)"]
    assert hub.downloaded == ["data.jsonl", "images.zip", "part.zip"]


def test_a_list_in_an_archive_on_the_hub(hub: StandIn) -> None:
    packed(hub.folder / "set", {"set/list.jsonl": one("a")})
    assert ids(open_dataset("hf:someone/cups")) == ["a"]


@pytest.mark.parametrize("form", ["json", "python", "list"])
def test_rows_of_the_hub_behind_the_links_of_its_cache(form: str, hub: StandIn) -> None:
    messages = [user("it's a"), reply("b"), user("c")]
    dialogue = {"json": json.dumps(messages), "python": repr(messages), "list": messages}[form]
    row = {"id": "mm_satire_1", "scenario": "Satire", "image_rel_path": "images/a.png", "dialogue": dialogue}
    fill(hub.folder, {"data.parquet": [row], "images/a.png": picture("PNG")})
    data = open_dataset("hf:someone/cups")
    assert [(d.item_id, d.length, d.source) for d in data.dialogues] == [("mm_satire_1", 2, "mm")]
    assert data.image_path("images/a.png").is_symlink()
    assert data.image_path("images/a.png").read_bytes() == picture("PNG")
    assert data.licence == "CC-BY-NC-4.0"


def test_safemt_on_the_hub(hub: StandIn) -> None:
    row = record(user(TEA), id="mm_satire_1", image_path="/images/b.png")
    more = {f"images/{name}.png": picture("PNG") for name in "abc"}
    fill(hub.folder, {"Data/1_turn.json": [row], "README.md": CARD, **more})
    data = open_dataset("hf:someone/cups")
    assert (data.name, data.licence, check(data).usable) == ("SafeMT", "CC-BY-NC-4.0", 1)
    assert "images/c.png" not in hub.downloaded


MAP = 'name = "Cups"\nlicence = "MIT"\nfields.id = "{id}"\nturns.one = "{q}"\nimages = [{path = "pictures/{id}.jpg"}]\n'


@pytest.mark.parametrize(
    ("source", "config", "split", "found", "downloaded"),
    [
        ('files = "a/*.csv"', None, None, ["1", "2"], ["a/test.csv", "a/train.csv"]),
        ('files = "a/*.csv"', "a", "test", ["1"], ["a/test.csv"]),
        ('config = "a"\nsplit = "train"', None, None, ["2"], ["a/train.csv"]),
        ('config = "a"\nsplit = "train"', None, "test", ["1"], ["a/test.csv"]),
    ],
)
@pytest.mark.parametrize("where", ["hub", "folder"])
def test_a_map_of_a_data_set_on_the_hub(
    where: str,
    source: str,
    config: str | None,
    split: str | None,
    found: list[str],
    downloaded: list[str],
    hub: StandIn,
    tmp_path: Path,
) -> None:
    card = "---\nlicense: [mit, apache-2.0]\nconfigs:\n- config_name: a\n  data_dir: a\n---\n"
    rows = {"a/test.csv": b"id,q\n1,Why?\n", "a/train.csv": b"id,q\n2,How?\n"}
    fill(
        hub.folder,
        {
            "README.md": card,
            **rows,
            "b.csv": b"x",
            "pictures/1.jpg": picture(),
            "pictures/2.jpg": picture(colour=9),
        },
    )
    mapped = str(put(tmp_path / "m.toml", f"{MAP}[source]\n{source}\n"))
    spec = "hf:someone/cups" if where == "hub" else str(hub.folder)
    data = open_dataset(spec, data_map=mapped, config=config, split=split)
    assert (ids(data), check(data).usable) == (found, len(found))
    if where == "hub":
        assert hub.downloaded == sorted(["README.md", *downloaded, *(f"pictures/{n}.jpg" for n in found)])
        assert data.licence == "mit, apache-2.0"


def test_a_map_with_a_join_and_an_archive_on_the_hub(hub: StandIn, tmp_path: Path) -> None:
    source = (
        '[source]\nfiles = "set/rows.jsonl"\njoin = {files = "more.csv", key = "k", on = "{k}", as = "m"}\n'
    )
    text = 'name = "Cups"\nfields.id = "{k}"\nturns.one = "{m.q}"\n' + source
    packed(hub.folder / "set", {"rows.jsonl": lines({"k": 1})})
    fill(hub.folder, {"more.csv": b"k,q\n1,Why?\n", "large.csv": b"x"})
    data = open_dataset("hf:someone/cups", data_map=str(put(tmp_path / "m.toml", text)))
    assert said(data) == [("u", "Why?", ())]
    assert hub.downloaded == ["more.csv", "set.zip"]


def test_labelled_replies_of_the_hub(hub: StandIn) -> None:
    head = "goal,prompt,target_response,human1,human2,human3"
    rows = f"{head}\n{TEA},{TEA},A drink.,0,1,0\n"
    fill(hub.folder, {"data/judge-comparison.csv": rows.encode(), "data/other.csv": b"x"})
    found = open_labelled("hf:someone/cups", data_map="jbb-judged")
    assert [(one.reply, len(one.labels)) for one in found.replies] == [("A drink.", 3)]
    assert hub.downloaded == ["data/judge-comparison.csv"]
    with pytest.raises(InputError, match="add --data-map"):
        open_labelled("hf:someone/cups")


@pytest.mark.parametrize("text", ["x = 1", 'files = "a"\nsplit = "b"', 'config = "a"\nfiles = ["b"]'])
def test_a_map_names_files_or_a_split(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"key source"):
        open_dataset("sample", data_map=str(put(tmp_path / "m.toml", f"{MAP}[source]\n{text}\n")))


TOKEN = "hf_" + "benignbenignbenign1234"


def test_the_token_goes_to_the_hub_alone(
    hub: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    fill(hub.folder, {"data.jsonl": one("a")})
    with served(StandIn(hub.folder)) as store:
        hub.elsewhere = store.url.replace("127.0.0.1", "localhost")
        assert main(["data", "check", "hf:someone/cups"]) == 0
        assert [path for _, path, _ in store.asked][-1] == "/elsewhere/data.jsonl"
        assert {sent for _, _, sent in store.asked} == {None}
    assert {sent for _, _, sent in hub.asked} == {f"Bearer {TOKEN}"}
    hub.refuse = (403, "")
    assert main(["data", "check", "hf:someone/cups"]) == 2
    shown = capsys.readouterr()
    assert TOKEN not in shown.out + shown.err


def test_a_token_in_a_file(hub: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = put(tmp_path / "token", TOKEN)
    file.chmod(0o600)
    monkeypatch.setenv("HF_TOKEN_FILE", str(file))
    fill(hub.folder, {"data.jsonl": one("a")})
    open_dataset("hf:someone/cups")
    assert {sent for _, _, sent in hub.asked} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    ("refuse", "what"),
    [
        (
            (403, "GatedRepo"),
            "its conditions have to be accepted: open https://huggingface.co/datasets/someone/cups",
        ),
        (
            (401, "RepoNotFound"),
            "the hub has no such data set: check the name, or set HF_TOKEN if it is not public",
        ),
        ((404, "RepoNotFound"), "the hub has no such data set"),
        ((404, "RevisionNotFound"), "has no revision v9: write a branch, tag or commit"),
        ((401, ""), "set HF_TOKEN"),
    ],
)
def test_what_the_hub_refuses(
    refuse: tuple[int, str], what: str, hub: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.refuse = refuse
    assert main(["data", "check", "hf:someone/cups@v9"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("safemt: --data hf:someone/cups@v9: ")
    assert what in line


@pytest.mark.parametrize("spec", ["cups", "a/b@", "@a/b", "a//b", "a/b c", "-/x"])
def test_a_name_that_is_none(spec: str, hub: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", f"hf:{spec}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"safemt: --data hf:{spec}: ")


def test_a_part_that_is_not_there(hub: StandIn) -> None:
    fill(hub.folder, {"data.jsonl": one("a")})
    with pytest.raises(InputError, match="someone/cups has no file or folder none"):
        open_dataset("hf:someone/cups/none")


def test_out_of_reach(hub: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(hub.folder, CONFIGS)
    with served(StandIn(hub.folder)) as gone:
        pass
    monkeypatch.setenv("HF_ENDPOINT", gone.url)
    with pytest.raises(InputError, match="cannot be reached, and nothing of it was downloaded before"):
        open_dataset("hf:someone/cups")
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    online = open_dataset("hf:someone/cups", split="train")
    monkeypatch.setenv("HF_ENDPOINT", gone.url)
    offline = open_dataset("hf:someone/cups", split="train")
    assert (offline.digest, offline.path) == (online.digest, online.path)
    with pytest.raises(InputError, match="has no such split: it has train"):
        open_dataset("hf:someone/cups", split="dev")


def test_out_of_reach_with_a_part_that_another_program_downloaded(
    hub: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    fill(hub.folder, CONFIGS)
    huggingface_hub.snapshot_download(
        hub.name, repo_type="dataset", endpoint=hub.url, allow_patterns=["README.md", "hot/test.jsonl"]
    )
    with served(StandIn(hub.folder)) as gone:
        pass
    monkeypatch.setenv("HF_ENDPOINT", gone.url)
    assert ids(open_dataset("hf:someone/cups", split="test")) == ["t3"]


@pytest.mark.parametrize(
    ("head", "licence"),
    [
        ("license: mit", "mit"),
        ("license: [mit, cc-by-4.0]", "mit, cc-by-4.0"),
        ("license: other\nlicense_name: my-own", "my-own"),
        ("license: other", "other"),
        ("license: unknown", None),
        ("tags: [a]", None),
        ('license: "a\\eb"', None),
        ("- a", None),
    ],
)
def test_the_licence_of_a_card(head: str, licence: str | None, tmp_path: Path) -> None:
    assert card_of(f"---\n{head}\n---\ntext").licence == licence
    put(tmp_path / "README.md", f"---\r\n{head}\r\n---\r\n")
    put(tmp_path / "d.jsonl", one("a"))
    assert open_dataset(str(tmp_path)).licence == licence


@pytest.mark.parametrize(
    "text", ["", "# Cups", "---\nno end", "---\nlicense: [\n---\n", "---\nlicense: " + "[" * 400 + "\n---\n"]
)
def test_a_readme_without_a_card(text: str, tmp_path: Path) -> None:
    put(tmp_path / "README.md", text)
    put(tmp_path / "d.jsonl", one("a"))
    assert open_dataset(str(tmp_path)).licence is None


def test_a_local_copy_is_read_as_on_the_hub(tmp_path: Path) -> None:
    fill(tmp_path, CONFIGS)
    assert ids(open_dataset(str(tmp_path))) == ids(open_dataset(str(tmp_path), config="hot")) != ["p1"]
    card = CARD.replace("  default: true\n", "")
    (tmp_path / "README.md").write_text(card)
    with pytest.raises(InputError, match="--data-config hot or cold or plain"):
        open_dataset(str(tmp_path))
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    assert ids(open_dataset(str(tmp_path))) == ["p1"]


def test_a_split_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder: a config and a split are of a folder"):
        open_dataset(str(put(tmp_path / "d.jsonl", one("a"))), split="test")


def test_the_plan_says_how_to_check(hub: StandIn, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(hub.folder, NAMES | {"data/dev.jsonl": lines(record(user("[image]")))})
    words = [
        "--provider",
        "demo",
        "--data",
        "hf:someone/cups",
        "--data-split",
        "validation",
        "--judge",
        "none",
    ]
    assert main([*words, "--dry-run"]) == 0
    see = "data check hf:someone/cups --data-split validation"
    assert f"see: python -m safemt_client {see}" in capsys.readouterr().out
    assert main([*see.split(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["oddities"] == {"image placeholder": 1}
