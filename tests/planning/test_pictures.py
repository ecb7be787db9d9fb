"""The pictures of a plan are looked at in threads."""

import json
import os
import threading
from pathlib import Path

import anyio
import pytest
from PIL import Image as Pillow

from safemt_client.datasets import images, open_dataset
from safemt_client.planning.pictures import pictures_of
from safemt_client.settings import RunSettings

COUNT = 40


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lines = []
    for number in range(COUNT):
        Pillow.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.bmp")
        said = [{"role": "user", "content": "What is it?"}]
        lines.append(json.dumps({"id": str(number), "dialogue": said, "image_path": f"{number}.bmp"}))
    (tmp_path / "1.bmp").write_bytes(b"no picture")
    (tmp_path / "d.jsonl").write_text("\n".join(lines))
    return tmp_path / "d.jsonl"


def test_each_is_looked_at_and_one_that_is_broken_stops_no_other(data: Path) -> None:
    dataset = open_dataset(str(data))
    settings = RunSettings(provider=["m@http://127.0.0.1:9/v1"], data="d")
    found = anyio.run(pictures_of, dataset, dataset.dialogues, settings, None)
    assert set(found.now) == {f"{number}.bmp" for number in range(COUNT)}
    assert [path for path, image in found.now.items() if isinstance(image, str)] == ["1.bmp"]
    assert "item '1'" in str(found.now["1.bmp"])
    assert set(found.files) == set(found.now) - {"1.bmp"}


def test_a_plan_that_is_interrupted_looks_at_no_more(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(str(data))
    settings = RunSettings(provider=["m@http://127.0.0.1:9/v1"], data="d")
    looked: list[Path] = []
    begun, goes_on = threading.Event(), threading.Event()
    look = images.look

    def slowly(path: Path, *, item: str, how: images.Preparation) -> object:
        looked.append(path)
        begun.set()
        goes_on.wait(60)
        return look(path, item=item, how=how)

    monkeypatch.setattr(images, "look", slowly)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)

    async def interrupted() -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(pictures_of, dataset, dataset.dialogues, settings, None)
                await anyio.to_thread.run_sync(begun.wait)
                scope.cancel()
                goes_on.set()

    anyio.run(interrupted)
    # One in each thread at most: those that had begun.
    assert len(looked) in (1, 2)
