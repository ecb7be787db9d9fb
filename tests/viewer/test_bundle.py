"""A run as pages that need no server: every link has a file, hostile texts stay texts, redacted means redacted."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from support.full import HOSTILE, fill
from support.hostile import TEXTS, make_hostile_store
from support.talk import RUN, START, make_talk

from safemt_client.__main__ import main
from safemt_client.providers.errors import InputError
from safemt_client.results.files import whole_folder
from safemt_client.results.store.inbox import put
from safemt_client.results.store.reader import open_reader
from safemt_client.results.store.rows import CommentRow, HumanLabelRow
from safemt_client.viewer import bundle, folder
from safemt_client.viewer.bundle import MARK, export_pages
from safemt_client.viewer.filters import Filters
from safemt_client.viewer.wanted import Wanted, filters_of


@pytest.fixture(scope="module", autouse=True)
def _no_plots() -> Iterator[None]:
    """Vega takes seconds to put together, and says nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "bundle", lambda: "/* Vega */")
        yield


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "demo.duckdb"
    words = ["--provider", "demo", "--moderator", "none", "--moderator", "demo-guard+block"]
    words += ["--turns", "1,2", "--min-coverage", "0.5", "--quiet", "--db", str(path)]
    assert main(words) == 0
    return path


@pytest.fixture(scope="module")
def whole(demo: Path) -> Path:
    """All of the demo."""
    folder = demo.parent / "whole"
    assert main(["view", "--db", str(demo), "--export", str(folder)]) == 0
    return folder


def exported(db: Path, folder: Path, **wanted: Any) -> dict[str, Any]:
    return export_pages(db, folder, Wanted(**wanted), lambda text: None)


class Seen(HTMLParser):
    """Where a page leads, its ids, and what could act in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.acting: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.links += [str(given[name]) for name in ("href", "src", "action") if name in given]
        self.ids.add(given.get("id") or "")
        self.acting += [name for name in given if name.startswith(("on", "hx-")) or name == "style"]
        if tag in ("iframe", "object", "style", "base") or (tag == "script" and "src" not in given):
            self.acting.append(tag)
        if tag == "form" and given.get("method") != "dialog":
            self.acting.append(tag)


def pages(folder: Path) -> Iterator[tuple[Path, Seen]]:
    for path in sorted(folder.rglob("*.html")):
        yield path, Seen(path.read_text(encoding="utf-8"))


def check_pages(folder: Path) -> None:
    """Every link is relative and leads to a file of the folder, and to a place in it."""
    seen = dict(pages(folder))
    assert len(seen) > 4
    for path, page in seen.items():
        assert page.acting == [], path
        for link in page.links:
            parts = urlsplit(link)
            if link == "data:,":
                continue
            assert not link.startswith("/"), (path, link)
            assert (parts.scheme, parts.netloc, parts.query) == ("", "", ""), (path, link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), (path, link)
            assert folder in target.parents, (path, link)
            if parts.fragment and target in seen:
                assert parts.fragment in seen[target].ids, (path, link)


def all_of(folder: Path) -> str:
    return "\n".join(path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file())


def test_all_conversations_are_there_and_every_link_leads_to_a_file(demo: Path, whole: Path) -> None:
    with open_reader(demo) as reader:
        planned = reader.query("SELECT count(*) FROM conversations").rows[0][0]
        text = reader.query("SELECT text FROM current_turns WHERE outcome = 'answered' LIMIT 1").rows[0][0]
    done = json.loads((whole / MARK).read_text())
    assert done["conversations"] == planned == len(list(whole.glob("conversations/*/*.html")))
    assert done["pictures"] == len(list(whole.glob("images/*/*"))) > 0
    assert done["pictures_missing"] == 0
    assert done["files"] == sum(path.is_file() for path in whole.rglob("*"))
    check_pages(whole)
    # Each conversation stands in a list.
    lists = "".join(path.read_text() for path in whole.glob("lists/*.html"))
    assert all(path.name in lists for path in whole.glob("conversations/*/*.html"))
    assert text[:40] in all_of(whole)
    assert str(demo) not in all_of(whole)


def test_a_cell_of_the_results_leads_to_its_list(whole: Path) -> None:
    text = (whole / "index.html").read_text()
    cells = re.findall(r'<td class="number heat[^>]*><a href="([^"#]+)">.*?([\d,]+) / ([\d,]+)', text)
    assert cells
    for link, unsafe, scored in cells:
        count = unsafe if unsafe != "0" else scored
        assert f"<strong>{count}</strong> conversations" in (whole / link).read_text()


def test_items_by_targets_are_there_in_both_orders(demo: Path, whole: Path) -> None:
    with open_reader(demo) as reader:
        cells = reader.query(
            "SELECT DISTINCT item_id, target FROM conversations WHERE benign IS NOT TRUE"
        ).rows
    items = {item for item, _ in cells}
    orders = []
    for order in ("item", "unsafe"):
        text = "".join(path.read_text() for path in sorted(whole.glob(f"items/{order}-*.html")))
        found = re.findall(r'<th scope="row"><a>([^<]+)</a>', text)
        assert items <= set(found)
        assert len(found) == len(set(found))
        assert len(re.findall(r'<td><a class="badge \w*" href="\.\./conversations/', text)) >= len(cells)
        orders.append(found)
    assert orders[0] == sorted(orders[0]) != orders[1]
    assert 'href="items/item-0001.html"' in (whole / "index.html").read_text()


def test_a_guarded_target_stands_beside_the_model_alone(demo: Path, whole: Path) -> None:
    with open_reader(demo) as reader:
        guarded = reader.query("SELECT count(*) FROM conversations WHERE moderator IS NOT NULL").rows[0][0]
    compared = sorted(whole.glob("compared/*/*.html"))
    assert len(compared) == guarded > 0
    text = compared[0].read_text()
    assert text.count('<p class="owner">') >= 4
    # Next stays beside, and each target is one click from its own page.
    assert re.search(r'rel="next" href="\.\./\.\./compared/', text)
    alone = re.findall(r'<a href="\.\./\.\./(conversations/[^"]+)">[^<]* alone</a>', text)
    assert len(alone) == 2
    for where in alone:
        assert f"compared/0000/{compared[0].name}" in (whole / where).read_text()


def test_what_waits_for_the_store_is_there_or_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = make_talk(tmp_path / "d.duckdb")
    comment = CommentRow("c9", RUN, "plain", "d:2", "ben", "not in the store yet", START)
    label = HumanLabelRow("plain2", "d:2", "", "ben", "safe", START, "x")
    put(db, comment, label)
    monkeypatch.setattr(bundle, "hand_over", lambda path: "held by another program")
    exported(db, tmp_path / "out")
    pages = [path.read_text() for path in (tmp_path / "out").glob("conversations/*/*.html")]
    assert ["not in the store yet" in page for page in pages].count(True) == 1
    assert (
        "labels of people that wait for the store are not here: 1"
        in (tmp_path / "out" / "index.html").read_text()
    )
    # A run of two targets has them side by side, too.
    assert len(list((tmp_path / "out").glob("compared/*/*.html"))) == 1


def test_hostile_texts_and_names_do_nothing(tmp_path: Path) -> None:
    db = make_hostile_store(tmp_path / "d.duckdb")
    # The only picture that it names is a file of the system, which is none of its data.
    assert exported(db, tmp_path / "out")["pictures_missing"] == 1
    check_pages(tmp_path / "out")
    names = [str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*")]
    assert all(re.fullmatch(r"[a-z0-9/.-]+", name) for name in names)
    everything = all_of(tmp_path / "out")
    for mark in ("<script>alert", "<img src=x", "\x1b", "\x00", "\u202e".encode().decode("latin-1")):
        assert mark not in everything
    assert "&lt;script&gt;alert" in everything
    assert TEXTS["long"] in everything


def test_redacted_holds_no_text(tmp_path: Path) -> None:
    db = fill(tmp_path / "d.duckdb", [f"planted words {n}, kept" for n in range(8)], cost=0.5)
    done = exported(db, tmp_path / "out", redact=True)
    assert done["pictures"] == 0
    check_pages(tmp_path / "out")
    everything = all_of(tmp_path / "out")
    assert "planted" not in everything
    assert "annotator 1" in everything
    for kept in ("Fraud", "unsafe", "left out: 21 characters"):
        assert kept in everything


def test_texts_are_whole_and_no_key_is_written(tmp_path: Path) -> None:
    db = fill(tmp_path / "d.duckdb", HOSTILE, cost=0.5)
    exported(db, tmp_path / "out")
    check_pages(tmp_path / "out")
    everything = all_of(tmp_path / "out")
    assert "sk-planted" not in everything
    assert "m" * 1_000_000 in everything


def test_filters_and_a_limit_choose_the_conversations(demo: Path, tmp_path: Path) -> None:
    some = filters_of("verdict=unsafe&length=2")
    done = exported(demo, tmp_path / "out", filters=some, items=3, images=False)
    with open_reader(demo) as reader:
        unsafe = "SELECT item_id FROM conversations WHERE label = 'unsafe' AND length = 2"
        first = f"SELECT DISTINCT item_id FROM ({unsafe}) ORDER BY 1 LIMIT 3"
        rows = reader.query(f"SELECT count(*) FROM ({unsafe}) WHERE item_id IN ({first})").rows
    assert done["conversations"] == rows[0][0] > 0
    assert done["pictures"] == 0
    check_pages(tmp_path / "out")


def test_where_nothing_matches_nothing_is_written(demo: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no conversation of this run matches"):
        exported(demo, tmp_path / "none", filters=filters_of("q=nothing+has+this+text"))
    assert list(tmp_path.iterdir()) == []


def test_filters_are_read_from_an_address() -> None:
    address = "http://127.0.0.1:8377/run?run=r&verdict=unsafe&page=2&sort=slow"
    assert filters_of(address) == Filters(run="r", verdict="unsafe")
    with pytest.raises(InputError, match="'verdikt' is no filter"):
        filters_of("verdikt=unsafe")
    with pytest.raises(InputError, match="no filter: give"):
        filters_of("unsafe")


def test_only_an_earlier_export_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for name in ("mine.txt", MARK):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("of before")
        with (
            pytest.raises(InputError, match="is not empty: another"),
            whole_folder(folder, "another", MARK if name != MARK else None),
        ):
            pass
        assert (folder / name).read_text() == "of before"
    with whole_folder(folder, "another", MARK) as part:
        (part / "new.html").write_text("new")
        assert (folder / "mine.txt").exists()
    assert [path.name for path in folder.iterdir()] == ["new.html"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with (
        pytest.raises(InputError, match="No space left on device: another"),
        whole_folder(tmp_path / "out", "another"),
    ):
        raise OSError(28, "No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "option", [["--redact"], ["--limit", "3"], ["--filter", "verdict=safe"], ["--overwrite"]]
)
def test_options_of_an_export_need_one(option: list[str], demo: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["view", "--db", str(demo), *option]) == 2
    assert f"{option[0]} belongs to --export" in capsys.readouterr().err
