"""New stores are copied from an empty one that is kept, and are what they would be without it."""

import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest
from support.stores import make_stores_anew

from safemt_client.results.store import migrations, views
from safemt_client.results.store.store import Store

CATALOGUE = (
    "SELECT table_name, comment, sql, column_count FROM duckdb_tables()",
    # The names after EXCLUDE have no order.
    "SELECT view_name, comment, length(sql), column_count FROM duckdb_views()",
    "SELECT table_name, column_name, column_index, data_type, is_nullable, comment FROM duckdb_columns()",
    "SELECT table_name, constraint_text FROM duckdb_constraints()",
)


def contents(path: Path) -> list[Any]:
    """All that a new store holds, as it is read from its file."""
    Store.open(path).close()
    with Store.open(path) as store:
        found: list[Any] = [
            store.query(f"{query} WHERE database_name = 'store' ORDER BY ALL").rows for query in CATALOGUE
        ]
        found.append(store.query("SELECT version, name, program_version FROM schema_migrations").rows)
        assert store.query("FROM asr_by_turn").rows == []
    return found


@pytest.fixture(scope="module")
def anew(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], Path]:
    """What a store that is made anew holds, and the empty one that was kept of it."""
    folder = tmp_path_factory.mktemp("anew")
    with pytest.MonkeyPatch.context() as patch:
        make_stores_anew(patch)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        found = contents(folder / "a.duckdb")
    [kept] = (folder / "cache" / "safemt" / "store").iterdir()
    return found, kept


@pytest.fixture
def kept(anew: tuple[list[Any], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, where the program looks for it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "safemt" / "store"
    folder.mkdir(parents=True)
    return Path(shutil.copy(anew[1], folder))


def test_a_copy_is_what_is_made_anew(
    anew: tuple[list[Any], Path], kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((migrations, "_make_tables"), (views, "_comment_views")):
        monkeypatch.setattr(module, name, lambda connection: pytest.fail("was made anew"))
    for name in ("b.duckdb", "c.duckdb"):
        assert contents(tmp_path / name) == anew[0]
    assert kept.read_bytes() == anew[1].read_bytes()
    assert anew[1].stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("damage", ["cut", "another"])
def test_another_takes_the_place_of_a_damaged_one(
    damage: str, anew: tuple[list[Any], Path], kept: Path, tmp_path: Path
) -> None:
    if damage == "cut":
        kept.write_bytes(kept.read_bytes()[:5000])
    else:
        kept.unlink()
        with duckdb.connect(str(kept)) as other:
            other.execute("CREATE TABLE notes (id INTEGER); INSERT INTO notes VALUES (1)")
    kept.with_name("empty-of-another-version.duckdb").write_bytes(b"")
    assert contents(tmp_path / "b.duckdb") == anew[0]
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
    assert kept.stat().st_size == anew[1].stat().st_size


@pytest.mark.parametrize("place", ["a file", "no home", "another user's"])
def test_nowhere_to_keep_it(
    place: str, anew: tuple[list[Any], Path], kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "a file":
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    elif place == "another user's":
        kept.write_bytes(b"not to be looked at")
        monkeypatch.setattr("os.geteuid", lambda: kept.stat().st_uid + 1)
    else:
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", _no_home)
    assert contents(tmp_path / "b.duckdb") == anew[0]
    if place == "another user's":
        assert kept.read_bytes() == b"not to be looked at"


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")
