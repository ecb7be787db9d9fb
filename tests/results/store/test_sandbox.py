"""What is asked of a store can neither change it nor reach a file, a secret or the network."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import duckdb
import httpx
import pytest

from safemt_client.__main__ import main
from safemt_client.providers.errors import InputError
from safemt_client.results.store.reader import Reader, open_reader
from safemt_client.results.store.rows import HumanLabelRow
from safemt_client.results.store.server import server_file
from safemt_client.results.store.store import Store

SECRET = "planted-in-a-file"
READS = [
    "FROM 'a.csv'",
    "FROM 'a.json'",
    "FROM 'a.parquet'",
    "FROM read_csv('a.csv')",
    "FROM read_csv_auto(['a.csv'])",
    "FROM sniff_csv('a.csv')",
    "FROM read_json('a.json')",
    "FROM read_json_objects('a.json')",
    "FROM read_ndjson('a.json')",
    "FROM read_parquet('a.parquet')",
    "FROM parquet_metadata('a.parquet')",
    "FROM parquet_schema('a.parquet')",
    "FROM read_text('a.csv')",
    "FROM read_blob('/etc/passwd')",
    "FROM read_duckdb('other.duckdb')",
    "FROM glob('*')",
    "SELECT (SELECT content FROM read_text('a.csv'))",
    "FROM read_csv('/dev/stdin')",
    "FROM read_csv('http://127.0.0.1:PORT/a.csv')",
    "FROM 'http://127.0.0.1:PORT/a.parquet'",
    "FROM read_text('https://127.0.0.1:PORT/a')",
    "FROM read_parquet('s3://bucket/a.parquet')",
    "FROM read_json('hf://datasets/a/b.json')",
    "FROM query('FROM read_text(''a.csv'')')",
    "FROM query_table('a.csv')",
    "FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''a.csv'')'))",
    "FROM duckdb_secrets()",
    "FROM which_secret('s3://b/a', 's3')",
    "SELECT getenv('HOME')",
    # Python's variables, as duckdb would look them up.
    "FROM SECRET",
    "FROM rows",
    "FROM python_arrow_scan(1)",
]
WRITES = [
    "COPY (SELECT 1) TO 'made.csv'",
    "COPY human_labels TO 'made.parquet' (FORMAT parquet)",
    "COPY human_labels FROM 'a.csv'",
    "EXPORT DATABASE 'made'",
    "IMPORT DATABASE 'made'",
    "ATTACH 'made.duckdb'",
    "ATTACH 'other.duckdb' AS other",
    "DETACH store",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD 'made.duckdb_extension'",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "SET temp_directory = 'made'",
    "SET threads = 64",
    "RESET threads",
    "SET VARIABLE a = 1",
    "RESET enable_external_access",
    "PRAGMA enable_profiling",
    "PRAGMA database_list",
    "CALL force_checkpoint('store')",
    "CHECKPOINT",
    "VACUUM",
    "CREATE TABLE made (a INT)",
    "CREATE TEMP TABLE made AS FROM human_labels",
    "CREATE VIEW made AS SELECT 1",
    "CREATE OR REPLACE VIEW replies AS SELECT 1",
    "CREATE MACRO made() AS 1",
    "CREATE SECRET made (TYPE http, BEARER_TOKEN 'x')",
    "CREATE SEQUENCE made",
    "INSERT INTO human_labels SELECT * FROM human_labels",
    "UPDATE human_labels SET label = 'unsafe'",
    "DELETE FROM human_labels",
    "TRUNCATE human_labels",
    "MERGE INTO human_labels USING human_labels b ON false WHEN MATCHED THEN DELETE",
    "DROP TABLE human_labels",
    "ALTER TABLE human_labels ADD COLUMN made INT",
    "COMMENT ON TABLE human_labels IS 'made'",
    "BEGIN",
    "COMMIT",
    "PREPARE made AS DELETE FROM human_labels",
    "EXECUTE made",
    "EXPLAIN ANALYZE DELETE FROM human_labels",
    "EXPLAIN DELETE FROM human_labels",
    "SELECT 1; DELETE FROM human_labels",
    "SELECT 1; COMMIT; DELETE FROM human_labels",
    # Of the type SELECT, and yet more than a question.
    "WITH a AS (DELETE FROM human_labels RETURNING *) SELECT * FROM a",
    "WITH a AS (UPDATE human_labels SET label = 'unsafe' RETURNING *) FROM a",
    "WITH a AS (INSERT INTO human_labels FROM human_labels RETURNING *) SELECT count(*) FROM a",
    "SELECT (WITH a AS (DELETE FROM human_labels RETURNING 1) SELECT count(*) FROM a)",
    "EXPLAIN SELECT 1 FROM (WITH a AS (DELETE FROM human_labels RETURNING 1) FROM a)",
    "FROM checkpoint('store')",
    "FROM \"Force_Checkpoint\"/* */('store')",
    "FROM enable_logging('QueryLog', storage_path = 'made')",
    "FROM enable_profiling(save_location = 'made.json')",
    "FROM truncate_duckdb_logs()",
    "SELECT write_log('made')",
    "FROM query('WITH a AS (DELETE FROM human_labels RETURNING *) FROM a')",
]
ALLOWED = [
    "SELECT count(*) FROM human_labels",
    "FROM human_labels",
    "WITH a AS (SELECT label FROM human_labels) SELECT label, count(*) FROM a GROUP BY ALL",
    "WITH RECURSIVE a(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a WHERE n < 3) FROM a",
    "SELECT 1 UNION SELECT 2 ORDER BY 1",
    "EXPLAIN SELECT 1",
    "explain select 1",
    "SHOW TABLES",
    "DESCRIBE human_labels",
    "SUMMARIZE human_labels",
    "VALUES (1)",
    "SELECT 'DELETE FROM a; checkpoint(1)' AS text -- COPY a TO b",
    'SELECT \'"type":"DELETE_QUERY_NODE" "function_name":"glob"\'',
    "FROM asr_by_turn",
    "SELECT rank() OVER (ORDER BY label) FROM human_labels",
    "PIVOT (SELECT label FROM human_labels) ON label IN ('safe') USING count(*)",
]
Ask = Callable[[str], None]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text(f"a,b\n1,{SECRET}\n")
    (tmp_path / "a.json").write_text(json.dumps({"a": SECRET}))
    with duckdb.connect(str(tmp_path / "other.duckdb")) as other:
        other.execute("CREATE TABLE t AS SELECT 1 AS a")
        other.execute("COPY t TO 'a.parquet'")
    return tmp_path


@pytest.fixture
def port() -> Iterator[tuple[int, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.server_address[1], asked
    server.shutdown()
    server.server_close()


def label() -> HumanLabelRow:
    return HumanLabelRow("q", "d", "", "me", "safe", datetime(2026, 1, 1, tzinfo=UTC))


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".server"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def refused(reader: Reader, sql: str) -> None:
    with pytest.raises(InputError) as caught:
        reader.query(sql)
    assert len(str(caught.value).splitlines()) == 1
    assert SECRET not in str(caught.value)


def test_through_the_file(folder: Path, port: tuple[int, list[str]]) -> None:
    rows = [("a variable of this process",)]
    with Store.open(folder / "s.duckdb") as store:
        store.save_now(label())
    before = contents(folder)
    with open_reader(folder / "s.duckdb") as reader:
        for sql in READS + WRITES:
            refused(reader, sql.replace("PORT", str(port[0])))
        for sql in ALLOWED:
            reader.query(sql)
        assert reader.query("SELECT label FROM human_labels").rows == [("safe",)]
    assert contents(folder) == before
    assert port[1] == []
    assert rows


def test_through_a_run_that_holds_the_file(folder: Path, port: tuple[int, list[str]]) -> None:
    with Store.open(folder / "s.duckdb") as store:
        store.save_now(label())
        before = contents(folder)
        found = json.loads(server_file(folder / "s.duckdb").read_text())
        reader = Reader(folder / "s.duckdb", None, found["token"], found["port"])
        for sql in READS + WRITES:
            refused(reader, sql.replace("PORT", str(port[0])))
        for sql in ALLOWED:
            reader.query(sql)
        assert reader.query("SELECT label FROM human_labels").rows == [("safe",)]
        assert {k: v for k, v in contents(folder).items() if not k.startswith("s.")} == {
            k: v for k, v in before.items() if not k.startswith("s.")
        }
        # The run still writes.
        store.save_now(label())
        assert store.query("SELECT count(*) FROM human_labels").rows == [(2,)]
    assert port[1] == []


def test_the_servers_door(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Store.open(folder / "s.duckdb"):
        where = server_file(folder / "s.duckdb")
        assert where.stat().st_mode & 0o777 == 0o600
        found = json.loads(where.read_text())
        url, right = f"http://127.0.0.1:{found['port']}/", {"Authorization": f"Bearer {found['token']}"}
        with httpx.Client(trust_env=False) as client:
            for headers in (
                {},
                {"Authorization": "Bearer x"},
                {"Authorization": "Bearer \u00e9".encode("latin-1")},
            ):
                assert client.post(url, json={"sql": "SELECT 1"}, headers=headers).status_code == 401
            for body in (b"", b"{", b"[]", b"{}", b'{"sql": 1}', b"[" * 100_000, b"\xff"):
                assert client.post(url, content=body, headers=right).status_code == 400
            assert client.post(url, content=b"x" * 1_000_001, headers=right).status_code == 413
            answer = client.post(url, json={"sql": "SELECT 1"}, headers=right).text.splitlines()
            assert [json.loads(line) for line in answer] == [{"columns": ["1"]}, [[1]], {"rows": 1}]
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err


@pytest.mark.parametrize("sql", ["FROM 'a.csv'", "COPY (SELECT 1) TO 'made.csv'", "SELECT 1; SELECT 2"])
def test_through_the_command(sql: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store.open(folder / "s.duckdb"):
        pass
    assert main(["sql", sql, "--db", "s.duckdb"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert not (folder / "made.csv").exists()


def test_a_wrong_server_file_is_one_line(folder: Path) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, format: str, *args: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        with pytest.raises(InputError, match="not a run of safemt_client"):
            Reader(folder / "s.duckdb", None, "t", server.server_address[1]).query("SELECT 1")
    finally:
        server.shutdown()
        server.server_close()


# A request opens the store anew, and all of them pass the reader above: here each sixth stands for its like.
@pytest.mark.parametrize(
    "statements",
    [
        pytest.param((READS + WRITES)[::6], id="some"),
        pytest.param(READS + WRITES, id="all", marks=pytest.mark.slow),
    ],
)
def test_through_the_viewers_box(folder: Path, port: tuple[int, list[str]], statements: list[str]) -> None:
    testclient = pytest.importorskip("starlette.testclient")
    pytest.importorskip("jinja2")
    from safemt_client.viewer.desk import Desk
    from safemt_client.viewer.forms import Forms
    from safemt_client.viewer.queries import Queries
    from safemt_client.viewer.server import Pages
    from safemt_client.viewer.snapshot import Snapshot

    with Store.open(folder / "s.duckdb") as store:
        store.save_now(label())
    snapshot = Snapshot(folder / "s.duckdb")
    snapshot.refresh(wait=True)
    before = contents(folder)
    with testclient.TestClient(Forms(Pages(Queries(snapshot), Desk(snapshot)).application())) as client:
        for sql in statements:
            asked = sql.replace("PORT", str(port[0]))
            page = client.post("/sql", data={"q": asked}, headers={"hx-target": "answer"})
            assert page.status_code == 200
            assert "sql: " in page.text, sql
            assert SECRET not in page.text, sql
            assert client.post("/sql/download", data={"q": asked, "as": "csv"}).status_code == 400, sql
        good = client.post(
            "/sql", data={"q": "SELECT label FROM human_labels"}, headers={"hx-target": "answer"}
        )
        assert "safe" in good.text
    snapshot.close()
    assert contents(folder) == before
    assert port[1] == []
