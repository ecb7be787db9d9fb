"""Replies to pictures as an earlier version prepared them: they still count, and that is said."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.drawn import LARGE, SMALL, exif, quarters, saved, written_on_nothing

import safemt_client as safemt
from safemt_client.datasets import images, remembered
from safemt_client.planning.estimate import RunEstimate
from safemt_client.providers.types import Image
from safemt_client.telemetry.events import RunResult
from safemt_client.viewer.pictures import Pictures
from safemt_client.viewer.queries import Queries
from safemt_client.viewer.snapshot import Snapshot

FILES = {
    "plain.png": saved(quarters(), "PNG"),
    "clear.png": saved(written_on_nothing(LARGE, "RGBA"), "PNG"),
    "camera.jpg": saved(quarters(SMALL), "JPEG", exif=exif(1, camera="planted")),
}
NOTE = "demo: 2 of 3 replies were given to pictures prepared as before; --fresh asks again"


@pytest.fixture
def data(here: Path) -> str:
    lines = []
    for name, content in FILES.items():
        (here / name).write_bytes(content)
        said = {"role": "user", "content": "What is this?", "images": [name]}
        lines.append(json.dumps({"id": name, "question": "What?", "dialogue": [said]}))
    (here / "data.jsonl").write_text("\n".join(lines))
    return "data.jsonl"


@contextmanager
def an_earlier_version() -> Iterator[None]:
    def look(path: Path, *, item: str, how: images.Preparation) -> tuple[Image, str]:
        file = hashlib.sha256(path.read_bytes()).hexdigest()
        return images.prepare_as_before(path, item=item, how=how), file

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "look", look)
        # What one version remembers of pictures is nothing to another.
        patch.setattr(remembered, "VERSION", images.VERSION - 1)
        yield


def run(data: str, **options: object) -> RunResult:
    return safemt.run(provider="demo", data=data, db="d.duckdb", **options)  # type: ignore[arg-type]


def planned(data: str, **options: object) -> RunEstimate:
    return safemt.plan(provider="demo", data=data, db="d.duckdb", **options)  # type: ignore[arg-type]


def rows(sql: str) -> list[tuple[object, ...]]:
    with safemt.open("d.duckdb") as store:
        return list(store.sql(sql))


def calls(found: RunEstimate) -> int:
    return sum(found.plan.turns.values())


def test_they_count_and_are_asked_again_only_if_wanted(data: str) -> None:
    with an_earlier_version():
        first = run(data)
    found = planned(data)
    assert calls(found) == 0
    assert NOTE in found.notes
    assert run(data).id == first.id
    assert rows("SELECT count(*) FROM turns") == [(3,)]
    assert rows("SELECT DISTINCT preparation FROM images") == [(None,)]

    again = planned(data, fresh=True)
    assert calls(again) == 3
    assert not any("prepared as before" in note for note in again.notes)
    run(data, fresh=True)
    assert rows("SELECT count(*) FROM turns") == [(6,)]
    # What is sent as before keeps its row.
    kept = "SELECT path, count(*), max(preparation) FROM images GROUP BY ALL ORDER BY ALL"
    assert rows(kept) == [("camera.jpg", 2, 2), ("clear.png", 2, 2), ("plain.png", 1, None)]


@pytest.mark.parametrize("options", [{"image_format": "png"}, {"image_metadata": "keep"}])
def test_another_preparation_that_is_wanted_is_another_run(data: str, options: dict[str, str]) -> None:
    with an_earlier_version():
        first = run(data)
    found = planned(data, **options)
    assert not any("prepared as before" in note for note in found.notes)
    assert run(data, **options).id != first.id
    assert rows("SELECT count(*) FROM replies") == [(6,)]


def test_blank_pictures_are_the_same(data: str) -> None:
    with an_earlier_version():
        run(data, images="blank")
    found = planned(data, images="blank")
    assert calls(found) == 0
    assert not any("prepared as before" in note for note in found.notes)


def test_a_store_without_them_prepares_nothing_twice(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run(data)
    assert rows("SELECT DISTINCT preparation FROM images") == [(2,)]
    monkeypatch.delattr(images, "prepare_as_before")
    assert calls(planned(data)) == 0


def test_judges_and_people_see_the_picture_that_was_sent(data: str, here: Path) -> None:
    with an_earlier_version():
        first = run(data)
        was = {name: images.prepare(here / name, item="a").load() for name in FILES}
    judged = safemt.rejudge(judge="demo-judge", rubric="graded", db="d.duckdb")
    assert judged.coverage == 1.0
    snapshot = Snapshot(here / "d.duckdb")
    try:
        snapshot.refresh(wait=True)
        pictures = Pictures(Queries(snapshot))
        for name, sha in rows("SELECT path, sha256 FROM images"):
            found = pictures.find(first.id, str(sha))
            assert found is not None
            assert found[0] == was[str(name)]
    finally:
        snapshot.close()


SHOWN = """SELECT dialogue_key, turn, count(DISTINCT target_key), count(DISTINCT json_extract(request, '$[*].images'))
           FROM steps JOIN (SELECT DISTINCT request_hash, request FROM turns) USING (request_hash)
           GROUP BY ALL ORDER BY ALL"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("history", "guard"),
    [
        ("scripted", "demo-guard+observe"),
        ("live", "demo-guard+policy"),
        pytest.param("live", "demo-guard+observe", marks=pytest.mark.slow),
        pytest.param("scripted", "demo-guard+policy", marks=pytest.mark.slow),
    ],
)
def test_a_moderator_that_comes_later_is_about_the_same_pictures(
    history: str, guard: str, here: Path
) -> None:
    (here / "clear.png").write_bytes(FILES["clear.png"])
    # The picture comes with the second message: the first request is the same under either preparation.
    said = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello, how can I help?"}]
    said.append({"role": "user", "content": "What is this?", "images": ["clear.png"]})
    (here / "data.jsonl").write_text(json.dumps({"id": "a", "question": "What?", "dialogue": said}))
    with an_earlier_version():
        run("data.jsonl", history=history)
    both = {"history": history, "moderator": ["none", guard]}
    found = planned("data.jsonl", **both)
    assert [(c.target.moderator is None, c.earlier) for c in found.plan.pending] == [(False, True)]
    # What the model said is not asked again, unless a policy is put before it.
    assert any(fresh.asked for fresh in found.plan.fresh) == ("policy" in guard)
    run("data.jsonl", **both)
    shown = rows(SHOWN)
    assert [row[2:] for row in shown] == [(2, 1)] * (2 if history == "live" else 1)
    assert rows("SELECT DISTINCT preparation FROM images") == [(None,)]
    # Asked anew, both are about the picture as it is prepared now.
    run("data.jsonl", fresh=True, **both)
    assert rows("SELECT count(*), count(DISTINCT sha256) FROM images WHERE preparation = 2") == [(1, 1)]


@pytest.mark.parametrize("layout", ["images in Data", "images above", "images beside"])
def test_pictures_are_found_again_in_either_folder_of_the_data(layout: str, here: Path) -> None:
    records = here / "set" / ("Data" if layout != "images beside" else "records")
    records.mkdir(parents=True)
    inner, above = records / "images", here / "set" / "images"
    for folder in (inner, above) if layout == "images in Data" else (above,):
        folder.mkdir()
    # Of two pictures one is in the folder of the records, the other in the one above.
    (inner if inner.is_dir() else records).joinpath("one.png").write_bytes(FILES["plain.png"])
    above.joinpath("two.png").write_bytes(FILES["clear.png"])
    names = ["images/one.png" if inner.is_dir() else "one.png", "images/two.png"]
    said = [{"role": "user", "content": "What are these?", "images": names}]
    (records / "1_turn.json").write_text(json.dumps([{"id": "a", "question": "What?", "dialogue": said}]))
    first = run("set")
    judged = safemt.rejudge(judge="demo-judge", rubric="graded", judge_sees="image", db="d.duckdb")
    assert judged.coverage == 1.0
    snapshot = Snapshot(here / "d.duckdb")
    try:
        snapshot.refresh(wait=True)
        pictures = Pictures(Queries(snapshot))
        found = [pictures.find(first.id, str(sha)) for (sha,) in rows("SELECT sha256 FROM images")]
        assert len(found) == 2
        assert None not in found
    finally:
        snapshot.close()


def test_pictures_of_a_stored_run_are_prepared_in_threads(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run(data)
    looked: list[bool] = []

    def find(*args: object, **options: object) -> object:
        looked.append(threading.current_thread() is threading.main_thread())
        return found(*args, **options)  # type: ignore[arg-type]

    found = images.find
    monkeypatch.setattr(images, "find", find)
    safemt.rejudge(judge="demo-judge", rubric="graded", judge_sees="image", db="d.duckdb")
    assert looked == [False] * 3


def test_the_plan_says_what_is_changed(data: str) -> None:
    [said] = [note for note in planned(data).notes if "are changed or odd" in note]
    assert said.startswith("2 of 3 images")
    for part in ("1 transparent parts on white", "1 scaled down", "1 metadata left out"):
        assert part in said
    assert not any("are changed or odd" in note for note in planned(data, images="blank").notes)
