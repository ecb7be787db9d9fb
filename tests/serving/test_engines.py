"""What a name of a served model stands for: its command, identity, memory; and what is refused before a start."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from safemt_client.models import open_models
from safemt_client.providers.errors import InputError
from safemt_client.providers.options import NO_OPTIONS, EndpointOptions
from safemt_client.providers.registry import resolve
from safemt_client.serving import engines, fitting
from safemt_client.serving.deciding import deciding
from safemt_client.serving.local import LocalServers
from safemt_client.serving.names import Serving, engine_of
from safemt_client.serving.weights import gguf_weights, model_weights
from safemt_client.settings import RunSettings


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each engine is there in version 1, on a machine without a GPU."""
    monkeypatch.setattr(engines, "_version", lambda engine, python: "1")
    monkeypatch.setattr(engines, "cards", tuple)
    monkeypatch.setattr(engines, "has_accelerator", lambda: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(path: Path, weights: bytes = b"w" * 4096) -> Path:
    """A file with the head of a model of 2 layers with 4 heads of 8 numbers, of which pairs share a key."""
    numbers = {"embedding_length": 32, "block_count": 2, "attention.head_count": 4}
    numbers |= {"attention.head_count_kv": 2}
    head = [text("general.architecture") + struct.pack("<I", 8) + text("llama")]
    head.append(text("general.tags") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"))
    head += [text(f"llama.{name}") + struct.pack("<II", 4, value) for name, value in numbers.items()]
    head.append(text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 10**6))
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, len(head)) + b"".join(head) + weights)
    return path


def folder(path: Path, config: str = '{"dtype": "bfloat16"}', weights: bytes = b"w" * 10) -> Path:
    path.mkdir()
    (path / "config.json").write_text(config)
    (path / "model.safetensors").write_bytes(weights)
    return path


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("llama.cpp:a.gguf", "llama.cpp"),
        ("vllm:A/b", "vllm"),
        ("vllm:", None),
        ("gpt-4o", None),
        ("x:y", None),
    ],
)
def test_an_engine_is_what_the_name_begins_with(name: str, engine: str | None) -> None:
    assert engine_of(name) == engine


def test_the_identity_is_that_of_the_content(tmp_path: Path) -> None:
    servers = LocalServers()
    one = servers.spec(f"llama.cpp:{gguf(tmp_path / 'm.Q4_0.gguf')}", Serving())
    (tmp_path / "moved").mkdir()
    moved = servers.spec(
        f"llama.cpp:{gguf(tmp_path / 'moved' / 'm.Q4_0.gguf')}", Serving(options={"context": "9"})
    )
    other = servers.spec(f"llama.cpp:{gguf(tmp_path / 'moved' / 'm.Q4_0.gguf', b'v' * 4096)}", Serving())
    assert one is not None
    assert moved is not None
    assert other is not None
    assert one.identity == moved.identity != other.identity
    assert one.identity.startswith("llama.cpp/m.Q4_0@")
    assert (one.name, moved.name) == ("llama.cpp:m.Q4_0", f"llama.cpp:{tmp_path}/moved/m.Q4_0.gguf")
    assert one.model == "m.Q4_0 (xllamacpp 1, Q4_0)"
    assert one.free


def test_what_is_named_twice_is_one_server(tmp_path: Path) -> None:
    servers, name = LocalServers(), f"llama.cpp:{gguf(tmp_path / 'm.gguf')}"
    plain, aliased = servers.spec(name, Serving()), servers.spec(f"mine={name}", Serving())
    apart = servers.spec(name, Serving(options={"threads": "7"}))
    assert plain is not None
    assert aliased is not None
    assert apart is not None
    assert (aliased.name, aliased.base_url) == ("mine", plain.base_url)
    assert aliased.identity == f"{plain.identity}#mine"
    assert apart.base_url != plain.base_url
    assert len(servers.notes) == 2


def test_the_id_of_a_conversation_goes_where_an_engine_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "has_accelerator", lambda: True)
    servers = LocalServers()

    def header(name: str, said: EndpointOptions = NO_OPTIONS) -> str | None:
        spec = servers.spec(name, Serving())
        return servers.options(spec or resolve(name, None, {}), said).session_header

    vllm = f"vllm:{folder(tmp_path / 'm')}"
    assert header(vllm) == "X-Session-ID"
    assert header(vllm, EndpointOptions(session_header="X-Mine")) == "X-Mine"
    assert header(f"llama.cpp:{gguf(tmp_path / 'm.gguf')}") is None
    assert header("m@http://127.0.0.1:9/v1") is None


def test_options_that_decide_are_in_the_identity(tmp_path: Path) -> None:
    model, template = folder(tmp_path / "m"), tmp_path / "t.jinja"
    template.write_text("{{ messages }}")

    def identity(**options: str) -> str:
        said = Serving(options={name.replace("_", "-"): value for name, value in options.items()})
        return engines.served_of(f"transformers:{model}", said).identity

    plain, templated = identity(), identity(chat_template=str(template))
    assert identity(dtype="float16", device="cpu") == plain
    assert len({plain, templated, identity(quantization="bnb-4bit")}) == 3
    template.write_text("{{ messages[-1] }}")
    assert identity(chat_template=str(template)) != templated


@pytest.mark.parametrize(
    "option",
    [
        "default-chat-template-kwargs",
        "override-generation-config.top_p",
        "generation-config",
        "kv-cache-dtype",
        "logprobs-mode",
        "mm-processor-kwargs",
        "reasoning-parser",
        "an-option-of-tomorrow",
    ],
)
def test_an_option_that_is_not_known_to_be_about_speed_decides(option: str) -> None:
    assert deciding("vllm:m", {option: "a"}) == {option: "a"}


@pytest.mark.parametrize(
    "option",
    [
        "tensor-parallel-size",
        "tp",
        "gpu-memory-utilization",
        "max-model-len",
        "max-num-seqs",
        "enforce-eager",
        "no-enforce-eager",
        "speculative-config.method",
        "disable-log-stats",
        "context",
        "parallel",
        "gpu-layers",
        "attn-implementation",
    ],
)
def test_an_option_about_speed_does_not(option: str) -> None:
    assert deciding("vllm:m", {option: "1"}) == {}


def test_of_a_file_the_content_decides(tmp_path: Path) -> None:
    file = tmp_path / "options.yaml"
    file.write_text("seed: 1")
    before = deciding("vllm:m", {"config": str(file)})
    moved = file.rename(tmp_path / "moved.yaml")
    assert deciding("vllm:m", {"config": str(moved)}) == before
    moved.write_text("seed: 2")
    assert deciding("vllm:m", {"config": str(moved)}) != before
    long = {"hf-overrides": "{" + "a" * 5000}
    assert deciding("vllm:m", long) == long


def test_the_command_holds_no_key_and_no_fixed_port(tmp_path: Path) -> None:
    spec = engines.served_of(
        f"llama.cpp:{gguf(tmp_path / 'm.gguf')}", Serving(options={"context": "64"})
    ).spec
    assert spec.key_variable == "SAFEMT_SERVE_KEY"
    assert spec.command[spec.command.index("--port") + 1] == "{port}"
    assert spec.command[spec.command.index("--context") + 1] == "64"


def test_vllm_is_started_by_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "has_accelerator", lambda: True)
    said = Serving("/env/bin/python", {"max-model-len": "4096", "enforce-eager": "true"}, ("4",))
    served = engines.served_of(f"vllm:{folder(tmp_path / 'm')}", said)
    command = " ".join(served.spec.command)
    assert command.startswith("/env/bin/python -m vllm.entrypoints.openai.api_server --model ")
    assert command.endswith("--max-model-len 4096 --enforce-eager")
    assert (served.spec.gpus, served.spec.key_variable) == (("4",), "VLLM_API_KEY")
    assert {"VLLM_PORT", "PYTHONPATH"} <= served.spec.unset
    assert served.constrains is not None
    assert served.constrains("root") == {"structured_outputs": {"grammar": "root"}}


def test_servers_on_one_card_share_its_memory_by_their_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "has_accelerator", lambda: True)
    servers, sizes = LocalServers(), {"guard": 10, "target": 20, "apart": 20}
    for name, size in sizes.items():
        said = Serving(gpus=("1",) if name == "apart" else ("0",))
        servers.spec(f"vllm:{folder(tmp_path / name, weights=b'w' * size)}", said)
    shares = [servers._shared(served).command for served in servers.served.values()]
    assert [command[-1] for command in shares[:2]] == ["0.30", "0.60"]
    assert "--gpu-memory-utilization" not in shares[2]


def test_targets_and_a_guard_have_cards_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "has_accelerator", lambda: True)
    monkeypatch.setattr(engines, "cards", lambda: tuple((str(n), 80 * 10**9, 79 * 10**9) for n in range(5)))
    target, guard = folder(tmp_path / "target"), folder(tmp_path / "guard")
    tables = {
        "big": {"gpus": [0, 1, 2, 3], "serve_option": ["tensor-parallel-size=4"]},
        "small": {"gpus": [4]},
    }
    asked = RunSettings.model_validate(
        {
            "provider": [f"big=vllm:{target}"],
            "moderator": [f"qwen3guard+block=small=vllm:{guard}"],
            "judge": ["none"],
            "providers": tables,
        }
    )

    async def scenario() -> list[str]:
        async with open_models(asked) as models:
            models.spec(f"big=vllm:{target}")
            await models.moderators_of_settings()
            assert [served.spec.gpus for served in models.local.served.values()] == [tuple("0123"), ("4",)]
            assert not any(
                "--gpu-memory-utilization" in models.local._shared(served).command
                for served in models.local.served.values()
            )
            return models.local.notes

    first, second = anyio.run(scenario)
    assert first.startswith(f"vllm:{target} is served by this program")
    assert first.endswith("of the 316.0 GB that are free on GPUs 0, 1, 2, 3")
    assert second.startswith(f"vllm:{guard} is served by this program")
    assert second.endswith("of the 79.0 GB that are free on GPU 4")


def test_what_no_card_can_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "has_accelerator", lambda: True)
    monkeypatch.setattr(engines, "cards", lambda: (("0", 10, 10), ("1", 100, 100)))
    name = f"vllm:{folder(tmp_path / 'm', weights=b'w' * 50)}"
    assert engines.served_of(name, Serving(gpus=("0", "1"))).needs == 60
    assert engines.served_of(name, Serving(options={"quantization": "fp8"}, gpus=("0",))).needs == 60
    with pytest.raises(InputError, match=r"needs about .* of memory and GPU 0 has .*: give it more GPUs"):
        engines.served_of(name, Serving(gpus=("0",)))
    with pytest.raises(InputError, match=r"--gpus 4: there is no such GPU: this machine has 0, 1"):
        engines.served_of(name, Serving(gpus=("4",)))


def test_a_gpu_where_there_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"llama.cpp:{gguf(tmp_path / 'm.gguf')}"
    with pytest.raises(InputError, match=r"--gpus 0,1: this machine has no GPU: leave it out"):
        engines.served_of(name, Serving(gpus=("0", "1")))
    # None of them can be asked for by name, and cards of which nobody knows the numbers by any.
    assert engines.served_of(name, Serving(gpus=())).spec.gpus == ()
    monkeypatch.setattr(engines, "has_accelerator", lambda: True)
    assert engines.served_of(name, Serving(gpus=("7",))).spec.gpus == ("7",)


@pytest.mark.parametrize(("options", "at_once"), [({}, 1), ({"continuous-batching": "true"}, 64)])
def test_a_server_that_answers_one_at_a_time_is_given_one(
    options: dict[str, str], at_once: int, tmp_path: Path
) -> None:
    name = f"transformers:{folder(tmp_path / 'm')}"
    assert engines.served_of(name, Serving(options=options)).at_once == at_once


def test_memory_is_weights_and_conversations(tmp_path: Path) -> None:
    path = gguf(tmp_path / "m.gguf")
    # 2 layers, keys and values of 2 heads of 8 numbers of 2 bytes.
    assert gguf_weights(path).cache == 2 * 2 * 2 * 8 * 2
    said = Serving(options={"context": "1000", "parallel": "3"})
    small, large = (
        engines.served_of(f"llama.cpp:{path}", Serving()),
        engines.served_of(f"llama.cpp:{path}", said),
    )
    assert small.needs is not None
    assert (small.at_once, large.at_once) == (8, 6)
    assert large.needs == small.needs - 128 * (4 * 4096 - 3000)
    cached = engines.served_of(f"llama.cpp:{path}", Serving(options={"cache-ram": "100"}))
    assert cached.needs == small.needs - (512 - 100) * 2**20


def test_a_hash_is_computed_once(tmp_path: Path) -> None:
    path = gguf(tmp_path / "m.gguf", b"w" * 2**21)
    first = gguf_weights(path).revision
    (memory,) = (tmp_path / "cache").rglob("weights.json")
    memory.write_text(json.dumps(dict.fromkeys(json.loads(memory.read_text()), "remembered")))
    remembered = gguf_weights(path).revision
    assert remembered != first
    gguf(path, b"v" * 2**21)
    assert gguf_weights(path).revision not in (first, remembered)
    memory.write_text("{broken")
    assert gguf_weights(path).revision


def test_a_model_of_the_hub_is_known_by_its_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert model_weights("A/b", "vllm").revision == ""
    assert model_weights("A/b@v1", "vllm").revision == "v1"
    refs = tmp_path / "models--A--b" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("abc\n")
    assert model_weights("A/b", "vllm").revision == "abc"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("llama.cpp:none.gguf", "llama.cpp:none.gguf: No such file or directory: name a GGUF file"),
        ("llama.cpp:text.txt", "llama.cpp:text.txt: is not a GGUF file"),
        ("llama.cpp:m-00001-of-00002.gguf", "1 of its 2 pieces are there: get the others"),
        ("vllm:whole", "vLLM finds no GPU on this machine: use llama.cpp:FILE.gguf"),
        ("transformers:./none", "no such folder: name one, or a model of the hub, ORG/NAME"),
        ("transformers:text.txt", "is a file: name the folder of the model"),
        ("transformers:empty", "has no config.json"),
        ("transformers:bare", "has no weights (*.safetensors)"),
        ("transformers:wrong", "config.json cannot be read"),
    ],
)
def test_what_cannot_be_served_is_refused(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("GGUP")
    gguf(Path("m-00001-of-00002.gguf"))
    folder(Path("whole"))
    folder(Path("wrong"), config="[")
    Path("empty").mkdir()
    (folder(Path("bare")) / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"^[^\n]+$") as caught:
        engines.served_of(name, Serving())
    assert said in str(caught.value)


def test_too_little_memory_is_said_with_both_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "free_memory", lambda: 10**8)
    with pytest.raises(InputError, match=r"needs about 0\.9 GB of memory and 0\.1 GB are free"):
        engines.served_of(f"llama.cpp:{gguf(tmp_path / 'm.gguf')}", Serving())


def test_servers_that_fit_one_by_one_are_refused_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (f"llama.cpp:{gguf(tmp_path / f'{name}.gguf')}" for name in "abc")
    servers = LocalServers()
    servers.spec(first, Serving())
    needs = next(iter(servers.served.values())).needs or 0
    monkeypatch.setattr(fitting, "free_memory", lambda: 5 * needs // 2)
    servers.spec(second, Serving())
    servers.spec(first, Serving())
    with pytest.raises(
        InputError, match=rf"^{first} and {second} and {third}: together they need about .*free"
    ):
        servers.spec(third, Serving())


def test_servers_that_no_card_can_hold_together_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "has_accelerator", lambda: True)
    monkeypatch.setattr(engines, "cards", lambda: (("0", 100, 100), ("1", 100, 100)))
    first, second, third = (f"vllm:{folder(tmp_path / name, weights=b'w' * 50)}" for name in "abc")
    servers = LocalServers()
    servers.spec(first, Serving(gpus=("0",)))
    servers.spec(second, Serving(gpus=("1",)))
    with pytest.raises(
        InputError, match=rf"^{second} and {third}: together they need .* and their GPUs have"
    ):
        servers.spec(third, Serving(gpus=("1",)))


@pytest.mark.parametrize("option", ["port", "api-key", "model"])
def test_what_the_program_sets_is_no_option(option: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"--serve-option {option}: the program sets it"):
        engines.served_of(f"llama.cpp:{gguf(tmp_path / 'm.gguf')}", Serving(options={option: "1"}))


def test_an_address_of_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leave base-url out"):
        LocalServers().spec(f"llama.cpp:{gguf(tmp_path / 'm.gguf')}", Serving(), "http://127.0.0.1:1/v1")


def test_equal_servers_have_equal_specs(tmp_path: Path) -> None:
    one, other = (engines.served_of(f"llama.cpp:{gguf(tmp_path / 'm.gguf')}", Serving()) for _ in range(2))
    assert one.spec == other.spec
    assert replace(one.spec, gpus=("1",)) != one.spec
