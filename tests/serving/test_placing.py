"""A guard `local-model:FOLDER` is served by vLLM on a GPU where that is installed, else run in this process."""

from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from safemt_client import placing
from safemt_client.models import open_models
from safemt_client.planning.served import run_in_process
from safemt_client.providers.errors import InputError
from safemt_client.results.store.rows import ModeratorRow
from safemt_client.results.store.store import Store
from safemt_client.serving import engines, memory
from safemt_client.settings import RunSettings


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"w")
    return folder


def machine(monkeypatch: pytest.MonkeyPatch, *, gpu: bool, vllm: str | None) -> None:
    """A machine with or without a GPU and a version of vLLM."""

    def version(engine: str, python: str | None) -> str:
        if vllm is None:
            raise InputError("vllm: vllm is not installed")
        return vllm

    for module in (memory, engines):
        monkeypatch.setattr(module, "has_accelerator", lambda: gpu)
    monkeypatch.setattr(engines, "_version", version)


def settings(*guards: str, judge: str = "none") -> RunSettings:
    return RunSettings(provider=["demo"], moderator=list(guards), judge=[judge])


def test_on_a_gpu_with_vllm_the_guard_is_served(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, gpu=True, vllm="0.32.0")
    name = f"local-model:{model}"

    async def scenario() -> tuple[Sequence[str], str]:
        asked = settings(f"qwen3guard+block={name}", judge=f"guard:qwen3guard={name}")
        async with open_models(asked) as models:
            (moderator,) = await models.moderators_of_settings()
            assert moderator is not None
            judge = await models.judge()
            assert judge is not None
            assert judge.identity == moderator.assessor.provider.identity
            assert len(models.local.served) == 1
            return models.local.notes, judge.identity

    notes, identity = anyio.run(scenario)
    assert identity.startswith("vllm/m@")
    assert notes[0] == f"{name}: vLLM serves it, since there is a GPU and vLLM is installed, as vllm:{model}"
    assert notes[1].startswith(f"vllm:{model} is served by this program, with vllm 0.32.0")


@pytest.mark.parametrize(
    ("gpu", "vllm", "why"),
    [
        (False, "0.32.0", "there is no GPU"),
        (True, None, "vLLM, which is quicker on a GPU, is not installed"),
        (True, "0.32.0+cpu", "vLLM is installed without support for the GPU"),
    ],
)
def test_otherwise_it_runs_in_this_process(
    gpu: bool, vllm: str | None, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, gpu=gpu, vllm=vllm)
    asked = settings("none", "qwen3guard=local-model:Q/g")
    found, (note,) = placing.placed(asked, frozenset)
    assert found == asked
    assert note.startswith(f"local-model:Q/g runs in this process: {why}")


def test_a_guard_whose_assessments_are_stored_stays_where_it_was(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, gpu=True, vllm="0.32.0")
    asked = settings(f"qwen3guard=local-model:{model}", "llama-guard-3=local-model:Q/m")
    with Store.open(tmp_path / "s.duckdb") as store:
        row = ModeratorRow("r", "own", "guard", "qwen3guard", "k", "local-model/m@0a1b2c3d", "l", "{}", None)
        store.save_now(row)
        found, notes = placing.placed(asked, run_in_process(store))
    assert found.moderator == [f"qwen3guard=local-model:{model}", "llama-guard-3=vllm:Q/m"]
    assert "the store has its assessments from there" in notes[0]
    assert notes[1].startswith("local-model:Q/m: vLLM serves it")


def test_an_interpreter_without_vllm_keeps_it_in_this_process(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, gpu=True, vllm="0.32.0")
    with_vllm = engines._version

    def version(engine: str, python: str | None) -> str:
        if python == "/without/vllm":
            raise InputError("not there")
        return with_vllm(engine, python)

    monkeypatch.setattr(engines, "_version", version)
    name, table = f"local-model:{model}", {"serve_python": "/without/vllm", "gpus": [4]}
    asked = RunSettings.model_validate(
        {"provider": ["demo"], "moderator": [f"qwen3guard={name}"], "providers": {name: table}}
    )
    found, (note,) = placing.placed(asked, frozenset)
    assert found.moderator == asked.moderator
    assert note.startswith(f"{name} runs in this process: vLLM, ")

    async def scenario() -> list[str]:
        async with open_models(asked) as models:
            return models.unused_tables()

    # The same file may be used where there is no GPU.
    assert anyio.run(scenario) == []


def test_what_is_said_of_the_guard_goes_with_it(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, gpu=True, vllm="0.32.0")
    name, table = f"local-model:{model}", {"gpus": [4], "serve_option": ["max-model-len=4096"]}
    asked = RunSettings.model_validate(
        {"provider": ["demo"], "moderator": [f"qwen3guard={name}"], "providers": {name: table}}
    )

    async def scenario() -> None:
        async with open_models(asked) as models:
            await models.moderators_of_settings()
            (served,) = models.local.served.values()
            assert served.spec.gpus == ("4",)
            assert served.spec.command[-2:] == ("--max-model-len", "4096")

    anyio.run(scenario)
