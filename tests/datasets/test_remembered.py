"""What is known of pictures' files from one plan to the next, and when it does not count."""

import json
import os
from pathlib import Path

import anyio
import pytest
from PIL import Image as Pillow

from safemt_client.datasets import images, open_dataset, remembered
from safemt_client.datasets.images import ImageError
from safemt_client.planning.content import content_digest
from safemt_client.planning.pictures import Pictures, pictures_of
from safemt_client.providers.types import Image
from safemt_client.settings import RunSettings


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remembered, "_SETTLED_NS", -(10**12))
    picture(tmp_path / "a.bmp", "red")
    record = {"id": "1", "dialogue": [{"role": "user", "content": "What is it?"}], "image_path": "a.bmp"}
    (tmp_path / "d.jsonl").write_text(json.dumps(record))
    return tmp_path / "d.jsonl"


def picture(path: Path, colour: str) -> None:
    Pillow.new("RGB", (40, 30), colour).save(path)


def planned(data: Path, **settings: object) -> tuple[Pictures, str | None]:
    dataset = open_dataset(str(data))
    run = RunSettings.model_validate({"provider": ["m@http://127.0.0.1:9/v1"], "data": "d"} | settings)
    found = anyio.run(pictures_of, dataset, dataset.dialogues, run, None)
    return found, content_digest(dataset, found)


def image(found: Pictures) -> Image:
    one = found.now["a.bmp"]
    assert isinstance(one, Image)
    return one


def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(path: Path, **_: object) -> None:
        raise ImageError(f"{path}: was looked at")

    monkeypatch.setattr(images, "look", look)


def test_a_file_that_is_as_before_is_not_opened(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, digest = planned(data)
    blind(monkeypatch)
    second, again = planned(data)
    assert (image(second), again) == (image(first), digest)
    assert image(second).load() == image(first).load()


def test_a_file_with_the_same_size_and_time_is_another_one(data: Path) -> None:
    file = data.with_name("a.bmp")
    first, digest = planned(data)
    status = file.stat()
    picture(file, "tan")
    assert file.stat().st_size == status.st_size
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    second, again = planned(data)
    assert image(second).sha256 != image(first).sha256
    assert again != digest


def test_other_ways_to_prepare_it_are_other_pictures(data: Path) -> None:
    kept = image(planned(data)[0])
    assert image(planned(data, image_format="jpeg")[0]).media_type == "image/jpeg"
    assert image(planned(data, images="blank")[0]).sha256 != kept.sha256
    assert image(planned(data)[0]) == kept


def test_a_file_that_was_just_written_is_not_remembered(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "_SETTLED_NS", 10**15)
    planned(data)
    assert not list((data.parent / "cache").rglob("looked-at/*"))


def test_what_is_remembered_wrongly_is_never_sent(data: Path) -> None:
    planned(data)
    (kept,) = (data.parent / "cache").rglob("looked-at/*")
    known = json.loads(kept.read_text())
    right, known["a.bmp"][5] = known["a.bmp"][5], "0" * 64
    kept.write_text(json.dumps(known))
    with pytest.raises(ImageError, match=r"item '1': .*a\.bmp: the image has changed"):
        image(planned(data)[0]).load()
    assert image(planned(data)[0]).sha256 == right


@pytest.mark.parametrize("content", ["", "[1]", '{"a.bmp": 5}', '{"a.bmp": [[], "x"]}'])
def test_a_cache_that_cannot_be_read_is_no_harm(data: Path, content: str) -> None:
    first = image(planned(data)[0])
    (kept,) = (data.parent / "cache").rglob("looked-at/*")
    kept.write_text(content)
    assert image(planned(data)[0]) == first
