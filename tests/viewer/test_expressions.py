"""A condition in SQL as a filter: what it finds, and that it can do nothing else."""

import re
import threading
from collections.abc import Callable, Iterator
from html import unescape

import duckdb
import httpx
import pytest
from support.written import Written

from safemt_client.viewer import queries as asking
from safemt_client.viewer.expressions import MOST, ExpressionError, checked
from safemt_client.viewer.filters import Filters
from safemt_client.viewer.serve import Viewer, open_viewer

COLUMNS = {"label", "length", "item_id", "benign", "split", "cost_usd", "last_asked"}

ALLOWED = [
    "label = 'unsafe' AND length >= 4 OR NOT benign",
    "item_id LIKE 'a%' AND item_id NOT ILIKE '%!%' ESCAPE '!'",
    "regexp_matches(item_id, '^a') OR item_id SIMILAR TO 'a.*' OR starts_with(lower(item_id), 'a')",
    "length IN (1, 2) OR length NOT BETWEEN 3 AND 4",
    "label IS DISTINCT FROM 'safe' AND coalesce(label, 'none') <> 'none' AND split IS NOT TRUE",
    "last_asked > now() - INTERVAL 3 DAY OR last_asked < TIMESTAMP '2030-01-01' OR year(last_asked) = 2026",
    "CASE WHEN split THEN round(cost_usd, 2) > 1 ELSE -length::DECIMAL(10, 2) < 0 END",
    "benign -- a comment",
    "label = ') OR true --'",
]

HOSTILE = [
    # Out of the brackets that it is put into, or more than one condition.
    *(
        "true) OR (true",
        "true, true",
        "true AS x",
        "DISTINCT true",
        "ALL true",
        "*",
        "COLUMNS('.*')",
        "x: true",
    ),
    *("true FROM runs", "true LIMIT 1", "true ORDER BY 1", "true UNION SELECT true", "true WHERE true"),
    *(
        "true GROUP BY 1",
        "true HAVING true",
        "true QUALIFY true",
        "true USING SAMPLE 1",
        "true WINDOW w AS ()",
    ),
    *("true INTO x", "true;", "true; DROP TABLE turns", "true; SELECT 1", "", "--", "/*", "'", "true\x00"),
    # Other tables, and what is not about one row.
    *("(SELECT true)", "EXISTS (FROM runs)", "length IN (SELECT 1)", "length = ANY (SELECT 1)"),
    *("count(*) > 1", "row_number() OVER () = 1", "sum(length) > 1", "UNNEST([1]) = 1", "runs.run_id = 'x'"),
    *("rowid = 1", "conversation_index.label = 'x'", "main.lower(label) = 'x'", "$1 = 1", "? = 1"),
    # Files, the process, settings, time and memory.
    *("read_text('/etc/passwd') = 'x'", "getenv('HOME') = 'x'", "current_setting('home_directory') = 'x'"),
    *("glob('/etc/*') = 'x'", "nextval('x') = 1", "sleep_ms(60000) IS NULL", "write_log('x') IS NULL"),
    *("repeat('x', 1000000000) = 'y'", "lpad('x', 1000000000, 'x') = 'y'", "label || label = 'x'"),
    *("range(1000000000) IS NULL", "list_transform([1], lambda x: x) = [1]", "[x for x in [1]] = [1]"),
    *("getvariable('x') = 1", "random() < 0.5", "md5(label) = 'x'", "query('SELECT 1') = 1"),
    *("label::BLOB IS NULL", "label::STRUCT(a INT) IS NULL", "label::foo IS NULL", "label::JSON IS NULL"),
    "true OR " * 200 + "true",
]


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:") as connection:
        connection.execute(
            "CREATE TABLE t (label VARCHAR, length INT, item_id VARCHAR, benign BOOLEAN, split BOOLEAN, "
            "cost_usd DOUBLE, last_asked TIMESTAMPTZ)"
        )
        yield connection


@pytest.mark.parametrize("text", ALLOWED)
def test_expressions_are_conditions(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    connection.execute(f"SELECT count(*) FROM t WHERE true AND {checked(connection, text, COLUMNS)}")


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_else_is_refused_in_one_line(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    with pytest.raises(ExpressionError, match=r"\ASQL condition: .+\Z"):
        checked(connection, text, COLUMNS)


def test_no_function_is_let_in_that_is_not_one_of_a_row(connection: duckdb.DuckDBPyConnection) -> None:
    rows = connection.execute("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall()
    let_in = set()
    for (name,) in rows:
        for arguments in ("", "label", "label, 1", "label, label, label"):
            try:
                checked(connection, f'"{name}"({arguments}) IS NULL', COLUMNS)
            except ExpressionError:
                continue
            let_in.add(name)
    kinds = connection.execute(
        "SELECT DISTINCT function_type FROM duckdb_functions() WHERE list_contains(?, function_name)",
        [sorted(let_in)],
    ).fetchall()
    assert {kind for (kind,) in kinds} <= {"scalar", "macro"}
    assert 20 < len(let_in) < 80


def test_a_misspelt_column_is_named_and_so_is_the_fix(connection: duckdb.DuckDBPyConnection) -> None:
    for text, why in (
        ("lable = 'x'", "no column lable: did you mean label?"),
        ('label = "unsafe"', "no column unsafe: texts stand in single quotes"),
        ("length = 1 " * 200, f"longer than {MOST:,} characters"),
    ):
        with pytest.raises(ExpressionError, match=re.escape(why)):
            checked(connection, text, COLUMNS)


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    written = Written(tmp_path_factory.mktemp("expressions") / "w.duckdb")
    labels = {"a/1": "safe", "a/4": "unsafe", "b/1": "safe", "b/4": "unsafe", "c/8": "unsafe"}
    for run in ("r", "other"):
        written.run(run, ["one"], {"j": "demo/j"}, dict.fromkeys(labels))
    for key, label in labels.items():
        written.reply("r", "one", key, f"reply {key}", j=label)
    viewer = open_viewer(written.path, port=0)
    thread = threading.Thread(target=viewer.run)
    thread.start()
    yield viewer
    viewer.stop()
    thread.join()


@pytest.fixture(scope="module")
def client(viewer: Viewer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=viewer.base, follow_redirects=True, trust_env=False, timeout=60) as client:
        client.get(f"/?token={viewer.token}")
        yield client


@pytest.fixture
def count(client: httpx.Client) -> Callable[..., int]:
    def of(path: str = "/run", **given: str) -> int:
        page = client.get(path, params={"run": "r"} | given)
        assert page.status_code == 200, page.text
        found = re.search(r'role="status"><strong>(\d+)</strong>', page.text)
        assert found is not None
        return int(found[1])

    return of


def test_it_narrows_list_items_download_and_the_way_through_them(
    client: httpx.Client, count: Callable[..., int]
) -> None:
    condition = "label = 'unsafe' AND length >= 4 OR item_id = 'a'"
    # By hand: a/1, a/4, b/4, c/8; the other run has none of them, although OR binds less than AND.
    assert count(expr=condition) == 4
    assert count("/matrix", expr=condition) == 3
    assert count(expr=condition, length="4") == 2
    assert count(expr=condition, q="reply b") == 1
    file = client.get("/download", params={"run": "r", "expr": condition, "as": "csv"}).text
    assert len(file.splitlines()) == 5
    page = client.get("/run", params={"run": "r", "expr": condition}).text
    first = re.search(r'<td><a href="(/conversation[^"]+)"', page)
    assert first is not None
    conversation = client.get(unescape(first[1])).text
    following = re.search(r'rel="next" href="([^"]+)"', conversation)
    assert following is not None
    assert "expr=" in following[1]


def test_every_column_that_is_named_can_be_asked(client: httpx.Client, count: Callable[..., int]) -> None:
    page = client.get("/run?run=r").text
    names = re.findall(r"<dt><code>(\w+)</code></dt><dd>(.+?)</dd>", page)
    assert {"label", "length", "item_id", "cost_usd", "human", "split"} <= {name for name, _ in names}
    assert all(told.partition(" (")[0] not in ("", name) for name, told in names), names
    assert count(expr=" AND ".join(f"({name} IS NULL OR {name} IS NOT NULL)" for name, _ in names[:20])) == 5


@pytest.mark.parametrize("path", ["/run", "/matrix"])
def test_a_wrong_one_is_one_line_and_stays_in_its_field(client: httpx.Client, path: str) -> None:
    wrong = "lable = '<script>'"
    page = client.get(path, params={"run": "r", "expr": wrong})
    assert page.status_code == 400
    assert re.search(
        r'role="alert">SQL condition: there is no column lable: did you mean label\?</p>', page.text
    )
    assert 'value="lable = &#39;&lt;script&gt;&#39;"' in page.text
    assert "<script>" not in page.text.replace("<script src", "")
    # The part alone is shown by the script of the page only if it is no error.
    part = client.get(path, params={"run": "r", "expr": wrong}, headers={"hx-target": "list"})
    assert part.status_code == 200
    assert 'role="alert"' in part.text
    # What only shows when it is asked: a text that is no number.
    late = client.get(path, params={"run": "r", "expr": "item_id::INTEGER > 1"})
    assert late.status_code == 400
    assert "SQL condition: " in late.text
    assert client.get("/download", params={"run": "r", "expr": wrong, "as": "csv"}).status_code == 400


def test_it_cannot_take_for_ever(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_SECONDS", 0.2)
    endless = (
        "(SELECT count(*) FROM range(1000000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3) > 0"
    )
    # No expression that is let in takes so long: the check is left out.
    monkeypatch.setattr(asking, "checked", lambda connection, text, columns: endless)
    page = client.get("/run", params={"run": "r", "expr": "length = 3"})
    assert page.status_code == 400
    assert "stopped after 0.2 s" in page.text


def test_it_cannot_write_even_past_the_check(viewer: Viewer) -> None:
    filters = Filters(run="r", expr="true")
    for statement in ("DROP TABLE turns", "CREATE TABLE x (a INT)", "DELETE FROM conversation_index"):
        with (
            pytest.raises(ExpressionError, match="read-only"),
            viewer.queries.narrowed(filters) as (cursor, _, _, _),
        ):
            cursor.execute(statement)
    assert viewer.queries.page(filters, 1).total == 5
