"""The viewer over HTTP, without a browser: who may ask, what passes the filters, SQL, files, images."""

import csv
import hashlib
import io
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from urllib.parse import quote

import duckdb
import httpx
import pyarrow.parquet as pq
import pytest
from support.hostile import RUN, TEXTS, make_hostile_store

from safemt_client.__main__ import main
from safemt_client.results.store import reader as reading
from safemt_client.results.store.reader import open_reader
from safemt_client.results.store.rows import HumanLabelRow
from safemt_client.results.store.store import Store
from safemt_client.viewer import serve, server
from safemt_client.viewer.conversation import load
from safemt_client.viewer.filters import Filters
from safemt_client.viewer.queries import Queries
from safemt_client.viewer.serve import Viewer, open_viewer
from safemt_client.viewer.snapshot import Snapshot


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("viewer") / "demo.duckdb"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["safemt"])
        words = ["--provider", "demo", "--moderator", "none", "--moderator", "demo-guard"]
        words += ["--moderator", "demo-guard+block", "--judge", "demo-judge", "--judge", "demo-judge-hasty"]
        assert main([*words, "--min-coverage", "0.5", "--db", str(path), "--quiet"]) == 0
    with Store.open(path) as store:
        request, dialogue, label, when, said = store.query(
            "SELECT request_hash, dialogue_key, label, recorded_at, reply_hash FROM verdicts "
            "WHERE label = 'safe' LIMIT 1"
        ).rows[0]
        assert label == "safe"
        store.save_now(HumanLabelRow(request, dialogue, "", "ada", "unsafe", when, said))
    return path


@pytest.fixture(scope="module")
def opened() -> Iterator[Callable[[Path], tuple[Viewer, httpx.Client]]]:
    """Serves stores until these tests end; the client has the cookie."""
    ends: list[Callable[[], object]] = []

    def start(path: Path) -> tuple[Viewer, httpx.Client]:
        viewer = open_viewer(path, port=0)
        thread = threading.Thread(target=viewer.run)
        thread.start()
        client = httpx.Client(base_url=viewer.base, follow_redirects=True, trust_env=False, timeout=60)
        ends.extend((client.close, viewer.stop, thread.join))
        assert client.get(f"/?token={viewer.token}").status_code == 200
        return viewer, client

    yield start
    for end in ends:
        end()


@pytest.fixture(scope="module")
def served(demo: Path, opened: Callable) -> tuple[Viewer, httpx.Client]:
    return opened(demo)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, opened: Callable) -> httpx.Client:
    return opened(make_hostile_store(tmp_path_factory.mktemp("hostile") / "h.duckdb"))[1]


@pytest.fixture(scope="module")
def queries(demo: Path) -> Iterator[Queries]:
    snapshot = Snapshot(demo)
    snapshot.refresh(wait=True)
    yield Queries(snapshot)
    snapshot.close()


@cache
def run_id(path: Path) -> str:
    with open_reader(path) as reader:
        return str(reader.query("SELECT run_id FROM runs").rows[0][0])


def test_only_with_the_token(served: tuple[Viewer, httpx.Client]) -> None:
    viewer, client = served
    with httpx.Client(base_url=viewer.base, trust_env=False) as stranger:
        for where in ("/", "/sql", "/static/style.css", "/status?v=0", "/image?run=x&sha=y", "/nowhere"):
            assert stranger.get(where).status_code == 403
        assert stranger.get("/?token=wrong").status_code == 403
        assert stranger.get("/", headers={"Cookie": f"{next(iter(client.cookies))}=wrong"}).status_code == 403
        first = stranger.get(f"/run?run=a%26b&token={viewer.token}")
        assert first.status_code == 303
        assert first.headers["location"] == "/run?run=a%26b"
        cookie = first.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        # A path of two slashes would name another host.
        away = stranger.get(f"{viewer.base}//example.com/?token={viewer.token}")
        assert away.headers["location"].startswith("/example.com")


def test_only_by_its_own_name_and_from_its_own_pages(demo: Path, served: tuple[Viewer, httpx.Client]) -> None:
    viewer, client = served
    port = viewer.base.rpartition(":")[2]
    for host in ("example.com", f"example.com:{port}", "127.0.0.1", f"127.0.0.1.example.com:{port}", ""):
        assert client.get("/", headers={"Host": host}).status_code == 403
    assert client.get("/", headers={"Host": f"localhost:{port}"}).status_code == 200
    question = {"q": "SELECT 1"}
    for headers, status in (
        ({}, 200),
        ({"Origin": viewer.base}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, 200),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://example.com"}, 403),
        ({"Origin": f"http://localhost:{int(port) - 1}"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
    ):
        assert client.post("/sql", data=question, headers=headers).status_code == status, headers
    where = f"/download?run={run_id(demo)}&as=csv"
    assert client.get(where, headers={"Sec-Fetch-Site": "same-site"}).status_code == 403
    assert client.get(where, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_headers_forbid_what_pages_do_not_need(served: tuple[Viewer, httpx.Client]) -> None:
    _, client = served
    for where in ("/", "/static/htmx.min.js", "/nowhere"):
        headers = client.get(where).headers
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
    page = client.get("/").text
    assert '"allowEval":false' in page
    assert not re.search(r"<script(?! src=)|\sstyle=|\son\w+=", page)


@pytest.mark.parametrize(
    ("chosen", "condition"),
    [
        ({}, "true"),
        ({"length": "4"}, "length = 4"),
        ({"scenario": "Satire"}, "scenario = 'Satire'"),
        ({"outcome": "refused_by_guard"}, "outcome = 'refused_by_guard'"),
        ({"verdict": "unsafe"}, "label = 'unsafe'"),
        ({"verdict": "unscored"}, "label = 'unscored'"),
        ({"did": "blocked"}, "intervention = 'blocked'"),
        ({"q": "SURE, HERE"}, "text LIKE 'Sure, here%'"),
        ({"q": "no such text %"}, "false"),
    ],
)
def test_filters_agree_with_the_views(
    demo: Path, queries: Queries, chosen: dict[str, str], condition: str
) -> None:
    listing = queries.page(Filters.read({"run": run_id(demo)} | chosen), 1)
    with open_reader(demo) as reader:
        expected = reader.query(
            f"SELECT count(*) FROM conversations WHERE judge LIKE 'majority%' AND {condition}"
        ).rows[0][0]
    assert listing.total == expected
    assert len(listing.rows) == min(50, expected)


def test_what_judges_people_and_guards_changed(demo: Path, queries: Queries) -> None:
    def count(**chosen: str) -> int:
        return queries.page(Filters.read({"run": run_id(demo)} | chosen), 1).total

    with open_reader(demo) as reader:
        split = reader.query(
            "SELECT count(*) FROM (SELECT target_key, dialogue_key FROM conversations "
            "WHERE judge NOT LIKE 'majority%' GROUP BY ALL HAVING count(DISTINCT label) > 1)"
        ).rows[0][0]
        judges = dict(reader.query("SELECT name, judge_key FROM run_judges").rows)
    assert count(disagree="judges") == split > 0
    # By hand, under the judge that does not err: docs/demo.md. Two guards rescue 15 each.
    assert count(change="rescued", judge=judges["demo-judge"]) == 30
    assert count(change="newly_unsafe", judge=judges["demo-judge"]) == 0
    assert count(change="newly_refused") == 30
    # One person said unsafe of a reply that a judge called safe; guards that let it pass share it.
    assert count(disagree="people", judge=judges["demo-judge"]) + count(disagree="people") >= 1


def test_of_attempts_that_all_failed_the_latest_counts_as_in_the_views(demo: Path, tmp_path: Path) -> None:
    path = tmp_path / "failed.duckdb"
    shutil.copy(demo, path)
    with duckdb.connect(str(path)) as store:
        [(request, model, assessment)] = store.execute(
            "SELECT request_hash, model_request_hash, assessment_hash FROM turns JOIN moderations "
            "USING (request_hash) WHERE intervention = 'policy' AND stage = 'input' LIMIT 1"
        ).fetchall()
        attempts = f"FROM turns WHERE request_hash IN ('{request}', '{model}')"
        store.execute(f"CREATE TEMP TABLE t AS SELECT * {attempts}")
        store.execute(
            f"CREATE TEMP TABLE a AS SELECT * FROM assessments WHERE assessment_hash = '{assessment}'"
        )
        store.execute(f"DELETE {attempts}")
        store.execute(f"DELETE FROM assessments WHERE assessment_hash = '{assessment}'")
        for n in (2, 3, 1):
            store.execute(
                f"""INSERT INTO turns SELECT * REPLACE ('error_transient' AS outcome, 'e{n}' AS error,
                    started_at + INTERVAL {n} SECOND AS started_at, {n} AS latency_s, {n} AS cost_usd) FROM t"""
            )
            store.execute(
                f"""INSERT INTO assessments SELECT * REPLACE ('error' AS verdict, 'e{n}' AS error,
                    recorded_at + INTERVAL {n} SECOND AS recorded_at) FROM a"""
            )
    snapshot = Snapshot(path)
    snapshot.refresh(wait=True)
    queries = Queries(snapshot)
    with open_reader(path) as reader:
        assert reader.query("SELECT error FROM replies WHERE request_hash = ?", [request]).rows == [("e3",)]
        found = reader.query("SELECT DISTINCT error FROM assessed WHERE request_hash = ?", [request]).rows
        assert found == [("e3",)]
    rows = queries.local("SELECT * FROM conversation_index WHERE request_hash = ? AND decides", [request])
    assert [(row["latency_s"], row["cost_usd"]) for row in rows] == [(3, 3)]
    shown = load(queries, *(rows[0][key] for key in ("run_id", "target_key", "dialogue_key")))
    snapshot.close()
    assert (shown.last.reply["error"], shown.last.model["error"]) == ("e3", "e3")
    assert {row["error"] for row in shown.last.assessments} == {"e3"}


def test_pages_do_not_overlap(demo: Path, queries: Queries) -> None:
    for sort in ("item", "recent", "slow", "costly"):
        filters = Filters.read({"run": run_id(demo), "sort": sort})
        seen = [
            (row["target_key"], row["dialogue_key"])
            for page in range(1, 6)
            for row in queries.page(filters, page).rows
        ]
        assert len(seen) == len(set(seen)) == 225
    assert queries.page(filters, 99).page == 5
    around = queries.beside(filters, 0)
    assert around["before"] is None
    assert (around["after"]["target_key"], around["after"]["dialogue_key"]) == seen[1]


def test_a_conversation_shows_all_that_is_known(
    demo: Path, queries: Queries, served: tuple[Viewer, httpx.Client]
) -> None:
    _, client = served
    row = queries.page(Filters.read({"run": run_id(demo), "did": "policy"}), 1).rows[0]
    address = f"/conversation?run={run_id(demo)}&t={row['target_key']}&d={quote(row['dialogue_key'])}"
    page = client.get(address).text
    for text in (
        *("moderator's policy", "I would rather not go into that today.", "demo-judge-hasty"),
        *("it does not begin with Sure", "intent: to be told by and by", "what the model was asked"),
        *("raw request to the model", "raw response from the model", "Latency", "$0"),
    ):
        assert text in page, text
    sha = re.search(r"/image\?run=\w+&amp;sha=(\w+)", page)[1]
    image = client.get(f"/image?run={run_id(demo)}&sha={sha}")
    assert image.headers["content-type"].startswith("image/")
    assert hashlib.sha256(image.content).hexdigest() == sha
    assert client.get(f"/image?run={run_id(demo)}&sha={'0' * 64}").status_code == 404
    assert client.get(address.replace("&t=", "&t=x")).status_code == 404


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/etc/*')",
        "COPY (SELECT 1) TO 'stolen.csv'",
        "ATTACH 'other.duckdb'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "PRAGMA database_list",
        "SELECT 1; SELECT 2",
        "CREATE TABLE x (a INT)",
        "CREATE TEMP TABLE x (a INT)",
        "DELETE FROM turns",
        "WITH x AS (SELECT 1) INSERT INTO runs SELECT * FROM x",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO 'stolen.csv'",
        "EXPORT DATABASE 'stolen'",
        "",
        "SELECT <script>",
    ],
)
def test_sql_only_reads_the_store(
    served: tuple[Viewer, httpx.Client], statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, client = served
    page = client.post("/sql", data={"q": statement}, headers={"HX-Target": "answer"}).text
    assert 'role="alert"' in page
    assert "<table" not in page
    assert "root:" not in page
    assert "<script>" not in page
    assert len(re.search(r'role="alert">(.*?)</p>', page, re.S)[1].splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_sql_has_limits(served: tuple[Viewer, httpx.Client], monkeypatch: pytest.MonkeyPatch) -> None:
    _, client = served
    page = client.post("/sql", data={"q": "SELECT * FROM range(100000000000)"}).text
    assert "1,000 rows; more rows are not shown" in page
    assert page.count("<tr>") == 1_001
    monkeypatch.setattr(server, "SQL_SECONDS", 0.2)
    endless = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"
    assert "stopped after 0.2 s" in client.post("/sql", data={"q": endless}).text
    assert client.post("/sql", data={"q": "SELECT 'x'" + " " * 300_000}).status_code == 413


def test_files_of_a_question(served: tuple[Viewer, httpx.Client]) -> None:
    _, client = served
    question = "SELECT target, count(*) AS n, TIMESTAMP '2026-01-01' AS t, [1, 2] AS many FROM replies GROUP BY ALL ORDER BY ALL"
    found = client.post("/sql/download", data={"q": question, "as": "csv"})
    assert found.headers["content-disposition"] == 'attachment; filename="query.csv"'
    rows = list(csv.DictReader(io.StringIO(found.text)))
    assert [row["n"] for row in rows] == ["75", "75", "75"]
    table = pq.read_table(
        io.BytesIO(client.post("/sql/download", data={"q": question, "as": "parquet"}).content)
    )
    assert table.column("n").to_pylist() == [75, 75, 75]
    mixed = client.post("/sql/download", data={"q": "SELECT 1 AS a, 'x' AS a, 1.5::DECIMAL", "as": "parquet"})
    assert pq.read_table(io.BytesIO(mixed.content)).num_rows == 1
    assert client.post("/sql/download", data={"q": "SELECT 1", "as": "exe"}).status_code == 400
    assert client.post("/sql/download", data={"q": "DROP TABLE turns", "as": "csv"}).status_code == 400


def test_files_of_the_list(demo: Path, served: tuple[Viewer, httpx.Client]) -> None:
    _, client = served
    where = f"/download?run={run_id(demo)}&verdict=unsafe&as="
    rows = list(csv.DictReader(io.StringIO(client.get(where + "csv").text)))
    table = pq.read_table(io.BytesIO(client.get(where + "parquet").content)).to_pylist()
    assert len(rows) == len(table) > 0
    assert {row["label"] for row in rows} == {"unsafe"}
    assert all(row["reply"].startswith("Sure") or row["explanation"] for row in table)


def test_hostile_text_is_text(hostile: httpx.Client) -> None:
    pages = [hostile.get("/").text, hostile.get(f"/run?run={RUN}").text]
    pages += [hostile.get(f"/conversation?run={RUN}&t=t&d=d:1:{name}").text for name in TEXTS]
    pages.append(hostile.post("/sql", data={"q": "SELECT * FROM turns"}).text)
    for page in pages:
        assert "<script>" not in page
        assert not re.search(r"<(img|div)[^>]*\s(onerror|hx-trigger='load')", page)
        assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]", page)
    assert "\\x1b]0;owned\\x07" in pages[2 + list(TEXTS).index("terminal")]
    assert "before\\x00after" in pages[2 + list(TEXTS).index("nul")]
    long = pages[2 + list(TEXTS).index("long")]
    assert len(long) < 200_000
    assert "the first 20,000 of 1,000,000 characters" in long
    assert len(hostile.get(f"/conversation?run={RUN}&t=t&d=d:1:long&full=1").text) > 1_000_000
    for found in (
        hostile.get(f"/download?run={RUN}&as=csv").text,
        hostile.post("/sql/download", data={"q": "SELECT text FROM turns", "as": "csv"}).text,
    ):
        csv.field_size_limit(2_000_000)
        cells = [cell for row in csv.reader(io.StringIO(found)) for cell in row]
        assert any(cell.startswith("'=HYPERLINK") for cell in cells)
        assert not any(cell.startswith(("=", "@")) for cell in cells)
        assert not re.search("[\x00-\x08\x1b\u202e]", found)
    exact = hostile.post("/sql/download", data={"q": "SELECT text FROM turns", "as": "parquet"}).content
    texts = pq.read_table(io.BytesIO(exact)).column("text").to_pylist()
    assert TEXTS["nul"] in texts
    assert TEXTS["formula"] in texts


def test_no_other_file_is_served(hostile: httpx.Client) -> None:
    for where in (
        f"/image?run={RUN}&sha=../../../../etc/passwd",
        f"/image?run={RUN}&sha=/etc/passwd",
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/..%2f..%2fsettings.py",
        "//etc/passwd",
    ):
        assert hostile.get(where).status_code == 404, where
    back = hostile.post("/settings", data={"show": "1", "back": "//example.com/"}, follow_redirects=False)
    assert back.headers["location"] == "/"


WRITER = """
import sys
from datetime import datetime
from pathlib import Path
from safemt_client.results.store.rows import VerdictRow
from safemt_client.results.store.store import Store

with Store.open(Path(sys.argv[1])) as store:
    found = store.query("SELECT * FROM verdicts LIMIT 1")
    row = dict(zip(found.columns, found.rows[0])) | {"label": "safe", "recorded_at": datetime(2030, 1, 1)}
    store.save_now(VerdictRow(**row))
    print("written", flush=True)
    sys.stdin.readline()
"""


def test_it_follows_a_store_that_is_written(tmp_path: Path) -> None:
    path = make_hostile_store(tmp_path / "s.duckdb")
    snapshot = Snapshot(path)
    snapshot.refresh(wait=True)
    queries = Queries(snapshot)
    filters = Filters(run=RUN, verdict="safe")
    assert queries.page(filters, 1).total == 0
    # The viewer holds nothing, or this could not open the store; then the viewer asks its holder.
    words = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "written\n"
        snapshot.refresh(wait=True)
        assert snapshot.live
        listing = queries.page(filters, 1)
        assert listing.total == 1
        assert listing.rows[0]["preview"]
        version = snapshot.version
        snapshot.refresh(wait=True)
        assert snapshot.version == version
        writer.communicate("\n", timeout=60)
    snapshot.refresh(wait=True)
    assert not snapshot.live
    assert queries.page(filters, 1).total == 1
    # Another store of this name is read anew.
    path.unlink()
    with Store.open(path):
        pass
    snapshot.refresh(wait=True)
    assert queries.runs() == []
    snapshot.close()


def test_words_for_bad_input(
    tmp_path: Path, demo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["view", "--db", str(tmp_path / "no.duckdb"), "--no-browser"]) == 2
    assert "no such store" in capsys.readouterr().err
    assert main(["view", "--db", str(demo), "--host", "0.0.0.0", "--no-browser"]) == 2
    assert "--allow-remote" in capsys.readouterr().err
    viewer = serve.open_viewer(demo, port=0)
    port = viewer.base.rpartition(":")[2]
    assert main(["view", "--db", str(demo), "--port", port, "--no-browser"]) == 2
    assert f"--port {port}" in capsys.readouterr().err
    viewer._socket.close()
    viewer.queries.close()
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    for name in [name for name in sys.modules if name.startswith("safemt_client.viewer.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("safemt_client.viewer.serve", raising=False)
    monkeypatch.delattr("safemt_client.viewer.server", raising=False)
    assert main(["view", "--db", str(demo), "--no-browser"]) == 2
    assert "pip install 'safemt-client[view]'" in capsys.readouterr().err


@pytest.mark.parametrize("released", [True, False])
def test_a_store_that_changes_hands_is_asked_again(
    demo: Path, tmp_path: Path, opened: Callable, monkeypatch: pytest.MonkeyPatch, released: bool
) -> None:
    """As a run ends, it holds the file for a moment and answers nothing any more."""
    path = tmp_path / "held.duckdb"
    shutil.copy(demo, path)
    _, client = opened(path)
    with open_reader(path) as reader:
        run = reader.query("SELECT run_id FROM runs").rows[0][0]
    hold = (
        "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

        def pause(seconds: float) -> None:
            if released:
                holder.communicate()

        monkeypatch.setattr(reading, "_wait", pause)
        answer = client.get(f"/run?run={run}")
        if not released:
            assert holder.poll() is None
            holder.communicate()
    if released:
        assert answer.status_code == 200
    else:
        assert answer.status_code == 400
        assert f"held by process {holder.pid}" in answer.text
