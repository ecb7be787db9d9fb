"""Labels over HTTP: blind, of `label`'s sample, refused from elsewhere, and never lost."""

import json
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from support.forked import Forked, forked
from support.hostile import RUN, TEXTS, make_hostile_store

from safemt_client.__main__ import main
from safemt_client.results.scores.for_people import candidates_of, draw_for_people
from safemt_client.results.scores.human import draw, labelled
from safemt_client.results.store.inbox import inbox_file
from safemt_client.results.store.reader import open_reader
from safemt_client.results.store.store import Store
from safemt_client.viewer.serve import Viewer, open_viewer

LIVE = ["--provider", "demo", "--history", "live", "--turns", "1,4", "--limit", "4", "--quiet"]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo in live history, under the hasty judge."""
    path = tmp_path_factory.mktemp("labels") / "d.duckdb"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["safemt"])
        assert main([*LIVE, "--judge", "demo-judge-hasty", "--db", str(path)]) == 0
    return path


@pytest.fixture
def db(live: Path, tmp_path: Path) -> Path:
    path = tmp_path / "d.duckdb"
    path.write_bytes(live.read_bytes())
    return path


class Person:
    """Someone at a browser without scripts."""

    def __init__(self, base: str, token: str, name: str, **more: str) -> None:
        self.client = httpx.Client(base_url=base, follow_redirects=True, trust_env=False, timeout=60)
        assert self.client.get(f"/?token={token}").status_code == 200
        self.page = self.post("/label/start", **{"name": name, "n": "8"} | more)

    def post(self, path: str, **fields: str) -> str:
        answer = self.client.post(path, data=fields)
        assert answer.status_code == 200, answer.text
        return answer.text

    def hidden(self) -> dict[str, str]:
        form = self.page.partition('<form id="answer"')[2]
        return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form))

    def label(self, label: str, **more: str) -> str:
        self.page = self.post("/label/next", **self.hidden(), label=label, **more)
        return self.page

    def get(self, path: str) -> str:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text


@contextmanager
def serving(db: Path) -> Iterator[Viewer]:
    viewer = open_viewer(db, port=0)
    thread = threading.Thread(target=viewer.run)
    thread.start()
    yield viewer
    viewer.stop()
    thread.join()


@pytest.fixture
def viewer(db: Path) -> Iterator[Viewer]:
    with serving(db) as viewer:
        yield viewer


@pytest.fixture(scope="module")
def refusing(live: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Viewer]]:
    """A store that no test writes to, and its viewer: all that is asked of it is refused."""
    db = tmp_path_factory.mktemp("refusing") / "d.duckdb"
    db.write_bytes(live.read_bytes())
    with serving(db) as viewer:
        yield db, viewer


def rows(db: Path, sql: str) -> list[tuple[object, ...]]:
    with open_reader(db) as reader:
        return reader.query(sql).rows


def heading(page: str) -> str:
    found = re.search(r"<h1[^>]*>(.*?)</h1>", page, re.DOTALL)
    assert found, page
    return " ".join(re.sub("<[^>]*>", " ", found[1]).split())


def test_the_sample_is_that_of_the_terminal_with_its_weights(db: Path, viewer: Viewer) -> None:
    with open_reader(db) as reader:
        run = reader.query("SELECT run_id, judge_key FROM run_judges").rows[0]
        drawn = draw(reader, *run, 8, "ben")
    ben = Person(viewer.base, viewer.token, "ben")
    for candidate in drawn:
        assert ben.hidden()["request"] == candidate.request_hash
        ben.label("unsafe" if candidate.reply.startswith("Sure") else "safe")
    assert heading(ben.page) == "All of the sample is labelled"
    viewer.stop()
    with open_reader(db) as reader:
        assert draw(reader, *run, 8, "ben") == []
        sample = labelled(reader, *run)
        whole = reader.query("SELECT count(*) FROM conversations").rows[0][0]
    assert len(sample) == len(drawn)
    assert sum(row.weight for row in sample) == pytest.approx(whole)


def test_a_sample_by_chance_is_that_of_the_terminal_and_kept_before_it_is_seen(
    db: Path, viewer: Viewer
) -> None:
    ben = Person(viewer.base, viewer.token, "ben", n="5", by="chance")
    assert rows(db, "SELECT count(*) FROM drawn_replies") == rows(db, "SELECT count(*) FROM conversations")
    drawn = [row[0] for row in rows(db, "SELECT request_hash FROM drawn_labels ORDER BY place")]
    assert len(drawn) > 1
    cleo = Person(viewer.base, viewer.token, "cleo", n="5", by="chance")
    assert cleo.hidden()["request"] == ben.hidden()["request"] == drawn[0]
    ben.label("unsafe")
    second = ben.hidden()
    assert second["request"] == drawn[1]
    ben.page = ben.post("/label/undo", **{name: second[name] for name in ("run", "n", "by", "at")})
    for request in drawn:
        assert ben.hidden()["request"] == request
        ben.label("safe")
    assert heading(ben.page) == "All of the sample is labelled"
    viewer.stop()
    with open_reader(db) as reader:
        run = reader.query("SELECT run_id, judge_key FROM run_judges").rows[0]
        again = draw_for_people(reader, *run, 5)
        assert again.replies == ()
        assert candidates_of(reader, again.row.draw_id, "ben") == []
        assert len(candidates_of(reader, again.row.draw_id, "cleo")) == len(drawn)
        assert [row.by_chance for row in labelled(reader, *run)] == [True] * len(drawn)


def test_people_do_not_see_each_other_and_may_differ(db: Path, viewer: Viewer) -> None:
    ben, cleo = (Person(viewer.base, viewer.token, name) for name in ("ben", "cleo"))
    first = ben.hidden()
    ben.label("unsafe", note="seen by ben", refusal_kind="answer")
    assert cleo.hidden() == first, "the same sample in the same order"
    # What another person has labelled is neither done nor said.
    opened = cleo.get(f"/label/next?run={first['run']}&n=8")
    assert heading(opened) == "Reply 1 of 8"
    assert "<strong>0 of 8</strong>" in opened
    for page in (cleo.page, cleo.label("safe"), cleo.label("unsure"), ben.label("unsure")):
        assert "seen by ben" not in page
        assert "hasty" not in page
    listed = cleo.get("/adjudicate")
    assert "2 to adjudicate, 0 done" in listed
    page = cleo.get("/adjudicate/next")
    assert "seen by ben" in page or "seen by ben" in cleo.get(f"/adjudicate/next?run={first['run']}&at=2")
    place = {name: first[name] for name in ("run", "request", "dialogue", "reply")}
    cleo.post("/adjudicate/next", **place, label="unsafe", note="as ben says")
    assert "1 to adjudicate, 1 done" in cleo.get("/adjudicate")
    decided = "SELECT safe, unsafe, label, adjudicated_by FROM human_decisions WHERE adjudicated IS NOT NULL"
    assert rows(db, decided) == [(1, 1, "unsafe", "cleo")]
    kept = "SELECT annotator, label FROM current_human_labels WHERE NOT adjudicated AND request_hash = "
    assert sorted(rows(db, f"{kept}'{first['request']}'")) == [("ben", "unsafe"), ("cleo", "safe")]
    # What no one is split on is not decided over.
    other = cleo.client.post("/adjudicate/next", data=place | {"request": "f" * 64, "label": "safe"})
    assert (other.status_code, "not split" in other.text) == (400, True)


def test_undo_and_a_change_of_mind(db: Path, viewer: Viewer) -> None:
    ben = Person(viewer.base, viewer.token, "ben")
    first = ben.hidden()
    ben.label("unsafe")
    second = ben.hidden()
    ben.label("safe")
    place = {name: second[name] for name in ("run", "judge", "n", "at")}
    page = ben.page = ben.post("/label/undo", **place)
    assert ben.hidden() == second
    assert "you said" not in heading(page)
    assert "1 of 8" in page
    page = ben.get(f"/label/next?run={first['run']}&n=8&at=1")
    assert heading(page).endswith("you said: unsafe")
    ben.page = page
    ben.label("safe")
    assert rows(db, "SELECT request_hash, label FROM current_human_labels") == [(first["request"], "safe")]
    # All that was said is kept.
    assert rows(db, "SELECT count(*) FROM human_labels") == [(4,)]


def test_earlier_turns_of_live_history_have_labels_of_their_own(db: Path, viewer: Viewer) -> None:
    ben = Person(viewer.base, viewer.token, "ben")
    while 'name="turn" value="1"' not in ben.page:
        ben.label("safe")
    mine = ben.hidden()
    for turn in ("1", "2", "3"):
        page = ben.label("unsafe", turn=turn, note=f"turn {turn}")
        assert ben.hidden() == mine, "the reply stays until its last turn is labelled"
    assert re.search(r'name="turn" value="0" form="answer" checked', page)
    ben.label("safe", turn="0")
    assert ben.hidden() != mine
    found = rows(
        db,
        "SELECT r.turn, h.label, h.note FROM current_human_labels h JOIN replies r "
        "USING (request_hash, dialogue_key, reply_hash) "
        f"WHERE dialogue_key = '{mine['dialogue']}' ORDER BY r.turn",
    )
    assert found == [(n, "unsafe", f"turn {n}") for n in (1, 2, 3)] + [(4, "safe", None)]
    # A label of an earlier turn is not one of the sample.
    with open_reader(db) as reader:
        run = reader.query("SELECT run_id, judge_key FROM run_judges").rows[0]
        assert all(row.human == "safe" for row in labelled(reader, *run))


@pytest.mark.parametrize(
    "path", ["/label/start", "/label/next", "/label/undo", "/adjudicate/next", "/comment"]
)
def test_another_site_changes_nothing(path: str, refusing: tuple[Path, Viewer]) -> None:
    db, viewer = refusing
    ben = Person(viewer.base, viewer.token, "ben")
    fields = ben.hidden() | {"label": "safe", "name": "mallory", "text": "x", "t": "t", "d": "d"}
    for headers in (
        {"Origin": "http://example.com"},
        {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert ben.client.post(path, data=fields, headers=headers).status_code == 403
    # Nor does who lacks the token.
    assert httpx.post(viewer.base + path, data=fields, trust_env=False).status_code == 403
    assert httpx.post(viewer.base + path, params={"token": viewer.token}, data=fields).status_code == 403
    assert not inbox_file(db).exists()
    assert rows(db, "SELECT count(*) FROM human_labels") == [(0,)]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"label": "maybe"}, "label &#39;maybe&#39;"),
        ({"label": "withdrawn"}, "label &#39;withdrawn&#39;"),
        ({"label": "safe", "refusal_kind": "x"}, "kind of refusal"),
        ({"label": "safe", "note": "x" * 4001}, "too long"),
        ({"label": "safe", "request": "0" * 64}, "not in the sample"),
        ({"label": "safe", "run": "none"}, "not in this store"),
    ],
)
def test_what_is_wrong_is_said_and_not_kept(
    more: dict[str, str], said: str, refusing: tuple[Path, Viewer]
) -> None:
    db, viewer = refusing
    ben = Person(viewer.base, viewer.token, "ben")
    answer = ben.client.post("/label/next", data=ben.hidden() | more)
    assert answer.status_code == 400
    assert said in answer.text
    assert rows(db, "SELECT count(*) FROM human_labels") == [(0,)]


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "a\x1bb", "a\u202eb"])
def test_a_name_is_asked_for(name: str, refusing: tuple[Path, Viewer]) -> None:
    _, viewer = refusing
    client = httpx.Client(base_url=viewer.base, follow_redirects=True, trust_env=False)
    client.get(f"/?token={viewer.token}")
    assert client.post("/label/start", data={"name": name}).status_code == 400
    assert "Label a sample" in client.get("/label/next").text
    assert "Label a sample" in client.get("/adjudicate/next").text


def test_hostile_texts_do_nothing(tmp_path: Path) -> None:
    db = make_hostile_store(tmp_path / "hostile.duckdb")
    viewer = open_viewer(db, port=0)
    thread = threading.Thread(target=viewer.run)
    thread.start()
    try:
        ben = Person(viewer.base, viewer.token, "<script>alert(1)</script>")
        assert "alert(1)" in ben.page
        for number in range(1, len(TEXTS) + 1):
            page = ben.get(f"/label/next?run={RUN}&n=1000&at={number}")
            assert not re.search(r"<script>|<img src=x", page)
            assert not set(page) & set("\x1b\x00\u202e\u2066")
        ben.page = ben.get(f"/label/next?run={RUN}&n=1000")
        ben.label("safe", note="</textarea><script>alert(2)</script>")
        cleo = Person(viewer.base, viewer.token, "cleo")
        cleo.page = cleo.get(f"/label/next?run={RUN}&n=1000")
        cleo.label("unsafe")
        page = cleo.get(f"/adjudicate/next?run={RUN}&at=1")
        assert "&lt;/textarea&gt;&lt;script&gt;alert(2)" in page
        assert not re.search("<script>", page)
        where = rows(db, "SELECT run_id, target_key, dialogue_key FROM conversations LIMIT 1")[0]
        run, target, dialogue = map(str, where)
        page = ben.post("/comment", run=run, t=target, d=dialogue, text="<script>alert(3)</script>")
        assert "&lt;script&gt;alert(3)" in page
        assert not re.search("<script>", page)
    finally:
        viewer.stop()
        thread.join()


def test_only_its_author_removes_a_comment(db: Path, viewer: Viewer) -> None:
    ben, cleo = (Person(viewer.base, viewer.token, name) for name in ("ben", "cleo"))
    run, target, dialogue = map(
        str, rows(db, "SELECT run_id, target_key, dialogue_key FROM conversations ORDER BY ALL LIMIT 1")[0]
    )
    place = {"run": run, "t": target, "d": dialogue}
    assert "odd wording" in ben.post("/comment", **place, text="odd wording")
    found = re.search(r'name="id" value="(\w+)"', ben.get(f"/conversation?run={run}&t={target}&d={dialogue}"))
    assert found
    answer = cleo.client.post("/comment", data=place | {"id": found[1], "text": "mine"})
    assert answer.status_code == 400
    out = db.parent / "out"
    assert main(["export", "--db", str(db), "--format", "jsonl", "--out", str(out)]) == 0
    (line,) = (out / "comments.jsonl").read_text().splitlines()
    assert (json.loads(line)["text"], json.loads(line)["author"]) == ("odd wording", "ben")
    assert "odd wording" not in ben.post("/comment", **place, id=found[1], text="")
    assert rows(db, "SELECT count(*) FROM current_comments") == [(0,)]


def start(db: Path) -> tuple[Forked, str, str]:
    process = forked("view", "--db", str(db), "--no-browser", "--port", "0")
    address = httpx.URL(process.stdout.readline().split()[-1])
    return process, f"http://127.0.0.1:{address.port}", address.params["token"]


def test_a_viewer_that_is_killed_loses_no_label(db: Path) -> None:
    process, base, token = start(db)
    with process:
        ben = Person(base, token, "ben")
        for label in ("safe", "unsafe", "unsure"):
            ben.label(label)
        process.send_signal(signal.SIGKILL)
    assert [row[0] for row in rows(db, "SELECT label FROM human_labels ORDER BY recorded_at")] == [
        *("safe", "unsafe", "unsure")
    ]
    assert not inbox_file(db).exists()


def test_while_a_run_holds_the_store_its_labels_reach_it(db: Path) -> None:
    with Store.open(db) as store:
        process, base, token = start(db)
        with process:
            ben = Person(base, token, "ben")
            ben.label("safe")
            ben.label("unsafe")
            # A draw has to be in the store before a reply of it is seen, and waits for nobody.
            other = ben.client.post("/label/start", data={"name": "ben", "n": "5", "by": "chance"})
            assert other.status_code == 400
            assert "wait for it" in other.text
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        assert store.query("SELECT count(*) FROM human_labels").rows == [(2,)]
    assert not inbox_file(db).exists()
