"""Items by targets: the worst label of each, and the way to its conversations."""

import re
import threading
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import httpx
import pytest
from support.written import Written

from safemt_client.viewer.filters import Filters
from safemt_client.viewer.matrix import matrix_of
from safemt_client.viewer.queries import Queries
from safemt_client.viewer.serve import open_viewer
from safemt_client.viewer.snapshot import Snapshot

ODD = "odd <b> \x1b]0;id\x07"
LABELS = {
    # item/turns: label under the first target, and under the second
    "a/1": ("safe", "safe"),
    "a/4": ("unsafe", "safe"),
    "b/1": ("safe", "unsafe"),
    "b/4": ("unsafe", "unsafe"),
    f"{ODD}/1": ("unscored", None),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = Written(tmp_path_factory.mktemp("matrix") / "w.duckdb")
    written.run("r", ["one", "two"], {"j": "demo/j"}, dict.fromkeys(LABELS))
    for key, labels in LABELS.items():
        for target, label in zip(("one", "two"), labels, strict=True):
            if label is not None:
                written.reply("r", target, key, f"{target} of {key}", j=label)
    return written.path


@pytest.fixture(scope="module")
def queries(store: Path) -> Iterator[Queries]:
    snapshot = Snapshot(store)
    snapshot.refresh(wait=True)
    yield Queries(snapshot)
    snapshot.close()


@pytest.fixture(scope="module")
def client(store: Path) -> Iterator[httpx.Client]:
    viewer = open_viewer(store, port=0)
    thread = threading.Thread(target=viewer.run)
    thread.start()
    with httpx.Client(base_url=viewer.base, follow_redirects=True, trust_env=False, timeout=60) as client:
        client.get(f"/?token={viewer.token}")
        yield client
    viewer.stop()
    thread.join()


def cells(queries: Queries, **chosen: str) -> dict[str, list[tuple[str, int, int] | None]]:
    found = matrix_of(queries, Filters(run="r", **chosen), 1)
    return {
        row.item_id: [
            (cell.word, cell.count, cell.of) if (cell := row.cells.get(key)) else None
            for key, _ in found.targets
        ]
        for row in found.rows
    }


def test_a_cell_has_the_worst_label_and_how_many_have_it(queries: Queries) -> None:
    assert cells(queries) == {
        "a": [("unsafe", 1, 2), ("safe", 2, 2)],
        "b": [("unsafe", 1, 2), ("unsafe", 2, 2)],
        ODD: [("unscored", 1, 1), ("pending", 1, 1)],
    }
    assert cells(queries, length="4") == {
        "a": [("unsafe", 1, 1), ("safe", 1, 1)],
        "b": [("unsafe", 1, 1)] * 2,
    }
    assert cells(queries, target=key_of(queries, "two"), verdict="unsafe") == {"b": [("unsafe", 2, 2)]}
    assert list(cells(queries, sort="unsafe")) == ["b", "a", ODD]


def key_of(queries: Queries, name: str) -> str:
    return next(key for key, known in queries.choices("r").target if known == name)


def test_pages_have_each_item_once(queries: Queries) -> None:
    pages = [matrix_of(queries, Filters(run="r"), page, size=1) for page in (1, 2, 3, 9)]
    assert [[row.item_id for row in page.rows] for page in pages] == [["a"], ["b"], [ODD], [ODD]]
    assert {(page.total, page.pages) for page in pages} == {(3, 3)}
    nothing = matrix_of(queries, Filters(run="r", length="99"), 1)
    assert (nothing.rows, nothing.total, nothing.page) == ([], 0, 1)


def test_cells_lead_to_their_conversations(client: httpx.Client) -> None:
    page = client.get("/matrix?run=r").text
    links = re.findall(r'<td><a class="badge (\w*)" href="([^"]+)">(\w+)</a>', page)
    assert [(label, word) for label, _, word in links] == [
        *(("unsafe", "unsafe"), ("safe", "safe"), ("unsafe", "unsafe"), ("unsafe", "unsafe")),
        *(("unscored", "unscored"), ("", "pending")),
    ]
    shown = client.get(unescape(links[0][1])).text
    assert "one of a/4" in shown
    # The other conversation of the cell is one click away, and its list too.
    previous = re.search(r'rel="prev" href="([^"]+)"', shown)
    assert previous is not None
    assert "one of a/1" in client.get(unescape(previous[1])).text
    for item, count in (("a", 4), ("odd", 2)):
        listed = re.search(rf'<th scope="row"><a href="([^"]+)">{item}', page)
        assert listed is not None
        assert f"<strong>{count}</strong> conversations" in client.get(unescape(listed[1])).text


def test_the_page_is_a_table_with_headings_and_nothing_of_the_data_is_markup(client: httpx.Client) -> None:
    page = client.get("/matrix?run=r").text
    assert page.count('<th scope="row">') == 3
    assert re.findall(r'<th scope="col">(\w+)</th>', page) == ["Item", "one", "two"]
    assert "<caption>" in page
    assert "<b>" not in page
    assert "\x1b" not in page
    part = client.get("/matrix?run=r&length=4", headers={"hx-target": "list", "hx-trigger": "filters"})
    assert part.text.startswith('<section id="list"')
    assert part.headers["hx-push-url"] == "/matrix?run=r&length=4"
    assert client.get("/matrix?run=nothing").status_code == 404
    assert "No items match" in client.get("/matrix?run=r&length=99").text
