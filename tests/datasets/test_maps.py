"""The language of maps: what each key does, and errors that name the key."""

from pathlib import Path
from typing import Any

import pytest
from support.dialogues import kinds, lines, picture, put, said

from safemt_client.__main__ import main
from safemt_client.datasets import open_dataset
from safemt_client.datasets.maps.language import open_map
from safemt_client.datasets.model import Dataset
from safemt_client.providers.errors import InputError

BASE = 'name = "cups"\nsource.files = "*.jsonl"\nfields.id = "{id}"\n'
TEA, HOT = "What is tea?", "How hot is it?"


def opened(folder: Path, form: str, *rows: Any, **options: Any) -> Dataset:
    put(folder / "data" / "d.jsonl", lines(*rows))
    return open_dataset(str(folder / "data"), data_map=str(put(folder / "m.toml", BASE + form)), **options)


@pytest.mark.parametrize(
    ("form", "row"),
    [
        ('turns.users = "asked"', {"asked": [TEA, HOT]}),
        ('turns.users = "a.b"', {"a": {"b": f'["{TEA}", "{HOT}"]'}}),
        ('turns.users = ["{one}", "How {two} is it?"]', {"one": TEA, "two": "hot"}),
        ('turns.wide = "q#_text"', {"q10_text": HOT, "q2_text": TEA, "q3_text": None, "q_text": "no"}),
        ('turns = {pairs = "h", user = "q", assistant = "a"}', {"h": [{"q": TEA}, {"q": HOT, "a": ""}]}),
        (
            'turns = {messages = "m", role = "by", text = "t", roles = {guest = "user"}}',
            {"m": [{"by": "guest", "t": TEA}, {"by": "user", "t": HOT}]},
        ),
    ],
)
def test_turns(form: str, row: dict[str, Any], tmp_path: Path) -> None:
    data = opened(tmp_path, form, {"id": 1, **row})
    assert said(data) == [("u", TEA, ()), ("u", HOT, ())]
    assert data.dialogues[0].item_id == "1"
    assert not data.warnings


def test_system_labels_extra_and_benign(tmp_path: Path) -> None:
    form = """
    system = "Be {tone}."
    extra.why = "about.why"
    fields.benign = {field = "kind", is = ["ok", "fine"]}
    turns = {users = "asked", labels = "marks"}
    """
    row = {"id": "a", "tone": "kind", "about": {"why": 3}, "asked": [TEA, HOT], "marks": ["safe", "odd"]}
    data = opened(
        tmp_path, form, {**row, "kind": "fine"}, {**row, "id": "b", "kind": "bad"}, {**row, "id": "c"}
    )
    assert [d.benign for d in data.dialogues] == [True, False, None]
    assert data.dialogues[0].system == "Be kind."
    assert data.dialogues[0].extra["turn_labels"] == ["safe", "odd"]
    assert data.dialogues[0].extra["why"] == 3


def test_labels_of_messages_and_braces(tmp_path: Path) -> None:
    form = 'fields.method = "{{{id}}}"\nturns = {messages = "m", label = "mark"}'
    data = opened(tmp_path, form, {"id": "a", "m": [{"role": "user", "content": TEA, "mark": "safe"}]})
    assert data.dialogues[0].method == "{a}"
    assert data.dialogues[0].extra["turn_labels"] == ["safe"]


def test_pictures_of_each_turn(tmp_path: Path) -> None:
    form = """
    turns.users = "asked"
    images = [{path = "p/{id}.jpg"}, {path = "p/b.jpg", turn = 2}, {path = "{more}", turn = 2, optional = true}]
    """
    put(tmp_path / "data/p/a.jpg", picture())
    put(tmp_path / "data/p/b.jpg", picture())
    data = opened(tmp_path, form, {"id": "a", "asked": [f"<image> {TEA}", HOT]})
    # Exactly as the data have it: the mark is not the program's to remove.
    assert said(data) == [("u", f"<image> {TEA}", ("p/a.jpg",)), ("u", HOT, ("p/b.jpg",))]
    with pytest.raises(InputError, match=r"line 1: key images.1.turn: the dialogue has only 1 user turns"):
        opened(tmp_path, form, {"id": "a", "asked": [TEA]})


def test_a_row_that_no_variant_takes_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    form = """
    variant = [
      {where = {kind = ["tea", 7]}, turns.one = "{q}"},
      {where = {ok = true}, fields.id = "{id}_more", turns.one = "{more}"},
    ]
    """
    rows = [
        {"id": "a", "kind": "tea", "ok": "True", "q": TEA, "more": HOT},
        {"id": "b", "kind": "7", "ok": False, "q": TEA, "more": HOT},
        {"id": "c", "kind": "tea"},
        {"id": "d", "kind": "cup", "q": TEA},
    ]
    data = opened(tmp_path, form, *rows)
    assert [d.item_id for d in data.dialogues] == ["a", "a_more", "b"]
    assert [(o.kind, o.where.rsplit(": ", 1)[1]) for o in data.warnings] == [
        ("row not taken", "line 3"),
        ("row not taken", "line 4"),
    ]
    command = ["data", "check", str(tmp_path / "data"), "--map", str(tmp_path / "m.toml")]
    assert main(command) == 0
    assert "row not taken: 2" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(InputError, match="no variant of the map cups takes any of its 1 rows"):
        opened(tmp_path, form, rows[3])


def test_records_by_key_explosion_and_join(tmp_path: Path) -> None:
    form = (
        'name = "cups"\n[fields]\nid = "{_file}_{_key}_{_n}"\nscenario = "{other.kind}"\n[turns]\n'
        'one = "{_item.q}"\n[source]\nfiles = "d.json"\nrecords = "a.rows"\nexplode = "asked"\n[source.join]\n'
        'files = "more/*.csv"\nkey = "number"\non = "{ref}"\nas = "other"\n'
    )
    rows = {"x": {"ref": 1, "asked": [{"q": TEA}, {"q": HOT}]}, "y": {"ref": 9, "asked": [{"q": TEA}]}}
    put(tmp_path / "d.json", {"a": {"rows": rows}})
    more = put(tmp_path / "more" / "m.csv", "number,kind\n1,drinks\n2,cups\n")
    mapped = str(put(tmp_path / "m.toml", form))
    data = open_dataset(str(tmp_path), data_map=mapped)
    assert [(d.item_id, d.scenario) for d in data.dialogues] == [
        ("d_x_0", "drinks"),
        ("d_x_1", "drinks"),
        ("d_y_0", None),
    ]
    put(more, "number,kind\n1,drinks\n1,cups\n")
    with pytest.raises(InputError, match=r"row 2: key source.join.key: '1' occurs twice"):
        open_dataset(str(tmp_path), data_map=mapped)


@pytest.mark.parametrize(
    ("form", "row", "reason"),
    [
        ('turns.one = "{q.r}"', {"q": {}}, "key turns.one: the row has no text or number in 'q.r'"),
        ('turns.users = "q"', {"q": TEA}, "key turns.users: the row has no list in 'q'"),
        ('turns.users = "q"', {"q": [3]}, "key turns.users: must be texts, not 3"),
        ('turns.messages = "q"', {"q": [{"role": "user"}]}, "turns.messages: a message has no 'content'"),
        ('turns.pairs = "q"', {"q": [{"bot": TEA}]}, "key turns.pairs: entry 0 has no 'user'"),
        ('turns.wide = "q#"', {"r1": TEA}, "key turns.wide: the row has no filled column 'q#'"),
        ('turns = {users = "q", labels = "l"}', {"q": [TEA], "l": [1, 2]}, "2 labels for 1 user turns"),
        (
            'turns.one = "t"\nimages = [{field = "p"}]',
            {},
            "key images.0.field: the row has no picture in 'p'",
        ),
        (
            'turns.one = "t"\nimages = [{path = "{p}"}]',
            {},
            "images.0.path: the row has no text or number in 'p'",
        ),
        ('turns.messages = "q"', {"q": [{"role": "tool", "content": "x"}]}, "field role: must be user or"),
    ],
)
def test_a_row_that_does_not_fit_names_record_and_key(
    form: str, row: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        opened(tmp_path, form, {"id": "a", **row})
    assert reason in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'data' / 'd.jsonl'}: line 1")
    # Others are kept where all findings are wanted, and the bad one is counted.
    good = {"id": "b", "q": TEA if "one" in form else row.get("q")}
    assert opened(tmp_path, form, {"id": "a", **row}, good, lenient=True).refused_count >= 1


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ("", "key turns: is missing, and not every variant has its own"),
        ('turns.one = "{q"', "key turns.one: '{q': a brace without a partner"),
        ('turns.one = "q}"', "key turns.one: 'q}': a brace without a partner"),
        ('turns.users = "{q}"', "key turns.users: names a field, so without braces"),
        ('turns = {one = "a", users = "b"}', "key turns: must have exactly one of"),
        ('turns = {one = "a", role = "b"}', "key turns: role does not go with one"),
        ('turns.one = "{$prompt}"', "{$prompt}: neither values nor ask has this name"),
        ('turns.one = "a"\nfields.colour = "x"', "key fields.colour: there is no such key"),
        ('turns.one = "a"\nfields.benign = {field = "x"}', "key fields.benign.is: is missing"),
        ('turns.one = "a"\nfields.benign = "yes"', "key fields.benign: "),
        ('turns.one = "a"\nimages = [{turn = 1}]', "key images.0: must have either path"),
        ('turns.one = "a"\nimages = [{path = "x", turn = 0}]', "key images.0.turn: "),
        ('turns.one = "a"\nsource.records = "{x}"', "key source.records: names a field"),
        ('turns.one = "a"\nsource.format = "xml"', "key source.format: "),
        ('turns.one = "a"\nvariant = [{wher = {a = 1}}]', "key variant.0.wher: there is no such key"),
        ('turns.one = "a"\nvalues.x = "1"\nask.x = "y"', "key ask.x: has a value in values"),
        ('turns.one = "a"\nvariant = [{files = ""}]', "key variant.0.files: '' is no pattern"),
        ('turns.one = "a', "not TOML: "),
    ],
)
def test_a_map_that_is_wrong_names_the_key(form: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        opened(tmp_path, form, {"id": "a"})
    assert str(caught.value).startswith(f"{tmp_path / 'm.toml'}: {reason}")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("pattern", ["/etc/*", "../*.json", "a/../../b", "~/a", "a//b", "", "a**.json"])
def test_files_stay_in_the_folder(pattern: str, tmp_path: Path) -> None:
    text = f'name = "x"\nsource.files = "{pattern}"\nfields.id = "a"\nturns.one = "b"\n'
    with pytest.raises(InputError, match=r"key source\.files\.0: .*(within the folder|no pattern)"):
        open_dataset(str(tmp_path), data_map=str(put(tmp_path / "m.toml", text)))


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--data-map 'nothing': no such file or map: .*mhj"):
        open_dataset(str(tmp_path), data_map="nothing")
    with pytest.raises(InputError, match=r"has no harmbench_behaviors.csv \(key source.files of the map\)"):
        open_dataset(str(tmp_path), data_map="mhj")
    with pytest.raises(InputError, match="no such file or folder"):
        open_dataset(str(tmp_path / "none"), data_map="mhj")
    with pytest.raises(InputError, match="--data-value: is for a map: add --data-map"):
        open_dataset("sample", values=["a=b"])
    with pytest.raises(InputError, match="--data-value 'b': the map has no such value: it has none"):
        opened(tmp_path, 'turns.one = "a"', {"id": "a"}, values=["b=c"])
    with pytest.raises(InputError, match="--data-value 'b': write NAME=TEXT"):
        opened(tmp_path, 'turns.one = "a"', {"id": "a"}, values=["b"])


def test_a_run_by_a_map(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(here / "d.jsonl", lines({"id": "a", "q": TEA, "k": 1}, {"id": "b", "q": TEA}))
    put(here / "m.toml", BASE + 'ask.more = "x"\nturns.one = "{q} {$more}"\nvariant = [{where = {k = 1}}]')
    words = ["--provider", "demo", "--data", "d.jsonl", "--data-map", "m.toml", "--judge", "none"]
    assert main(words) == 2
    assert main([*words, "--data-value", "more=Please."]) == 0
    see = "data check d.jsonl --map m.toml --data-value more=Please."
    assert f"1 oddities in the data; see: python -m safemt_client {see}" in capsys.readouterr().out
    assert main(see.replace("data check", "data check --json").split()) == 0
    assert '"row not taken": 1' in capsys.readouterr().out


def test_the_examples_of_the_page_are_maps(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    blocks = [part.split("\n\n")[0] for part in page.split("\n\n    name = ")[1:]]
    assert len(blocks) == 3
    for block in blocks:
        text = "name = " + block.replace("\n    ", "\n")
        assert open_map(str(put(tmp_path / "m.toml", text))).name.startswith("My ")


def test_the_example_with_a_join_reads_its_form(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    text = "name = " + page.split("\n\n    name = ")[2].split("\n\n")[0].replace("\n    ", "\n")
    history = [{"by": "guest", "said": TEA}, {"by": "host", "said": "A drink."}]
    items = [{"persona_id": 7, "history": history}]
    put(tmp_path / "dialogues" / "a.json", {"data": {"items": items}})
    put(tmp_path / "personas.jsonl", lines({"id": "7", "text": "Be kind."}))
    data = open_dataset(str(tmp_path), data_map=str(put(tmp_path / "m.toml", text)))
    assert said(data) == [("s", "Be kind.", ()), ("u", TEA, ())]
    assert data.dialogues[0].extra["reference_reply"] == "A drink."


def test_a_variant_of_some_files(tmp_path: Path) -> None:
    form = 'turns.one = "{q}"\nvariant = [{files = "a*", fields.method = "one"}, {files = "b.*"}]'
    put(tmp_path / "data" / "a1.jsonl", lines({"id": "x", "q": TEA}))
    put(tmp_path / "data" / "b.jsonl", lines({"id": "y", "q": TEA}))
    data = opened(tmp_path, form, {"id": "z", "q": TEA})
    assert [(d.item_id, d.method) for d in data.dialogues] == [("x", "one"), ("y", None)]
    assert kinds(data) == {"row not taken"}
