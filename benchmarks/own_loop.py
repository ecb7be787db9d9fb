"""Assessments per second of a guard in this process: 256 conversations at once, batched in three ways.

    python benchmarks/own_loop.py [--arch tiny|qwen|gemma3] [--device cpu|cuda] [--repeats 3]

- one at a time: the library's `generate`, one conversation after the other
- static: `generate` on fixed batches of conversations that are all known beforehand and sorted by length
- ours: `LocalModel`, all asked at once, with and without sharing the common prefix

The weights are random, made in place, so nothing is fetched; `qwen` and `gemma3` have the shape of Qwen3 4B
and of the text part of Gemma 3 4B. No reply ends by itself: each has 5 to 40 tokens, a fixed spread. A
prompt is a shared instruction followed by its own conversation.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import anyio
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from safemt_client.moderator.local.model import LocalModel, Weights
from safemt_client.providers.types import Message, Outcome, Request, Sampling

TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6, "vocab_size": 4096,
             "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 32},
    "qwen": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "vocab_size": 151_936,
             "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128},
    "gemma3": {"hidden_size": 2560, "intermediate_size": 10_240, "num_hidden_layers": 34,
               "vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256},
}  # fmt: skip


def make_model(arch: str, device: str) -> Any:
    torch.manual_seed(0)
    common = {**SHAPES[arch], "max_position_embeddings": 8192, "tie_word_embeddings": True}
    config: Any
    if arch == "gemma3":
        config = transformers.Gemma3TextConfig(**common, sliding_window=1024)
    else:
        config = transformers.Qwen3Config(**common)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.generation_config = transformers.GenerationConfig(pad_token_id=0)
    return model.eval()


def make_tokenizer() -> Any:
    """Bytes as tokens, without a token that ends a reply."""
    vocabulary = {"<pad>": 0}
    for letter in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[letter] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", padding_side="left"
    )
    made.chat_template = TEMPLATE
    return made


def make_work(count: int, instruction: int, longest: int) -> list[tuple[str, int]]:
    """Prompts and the tokens of their replies."""
    source = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz "
    common = "".join(source.choices(letters, k=instruction))
    work = []
    for index in range(count):
        own = "".join(source.choices(letters, k=source.randint(longest // 8, longest)))
        work.append((common + own, 5 + index * 11 % 36))
    return work


def generate(model: Any, tokenizer: Any, work: list[tuple[str, int]], size: int) -> None:
    """Fixed batches, each as long as its longest reply."""
    for begin in range(0, len(work), size):
        batch = work[begin : begin + size]
        inputs = tokenizer([text for text, _ in batch], return_tensors="pt", padding=True)
        with torch.inference_mode():
            model.generate(
                input_ids=inputs["input_ids"].to(model.device),
                attention_mask=inputs["attention_mask"].to(model.device),
                max_new_tokens=max(tokens for _, tokens in batch),
                do_sample=False,
            )


def ours(model: Any, tokenizer: Any, work: list[tuple[str, int]], share_prefix: bool) -> None:
    async def run() -> None:
        async def one(text: str, tokens: int) -> None:
            reply = await guard.ask(Request((Message("user", text),), Sampling(max_tokens=tokens)))
            assert reply.outcome is Outcome.TRUNCATED, reply.error
            assert reply.usage.completion_tokens == tokens

        async with (
            LocalModel(Weights("random", model, tokenizer), share_prefix=share_prefix) as guard,
            anyio.create_task_group() as tasks,
        ):
            for text, tokens in work:
                tasks.start_soon(one, text, tokens)

    anyio.run(run)


def seconds(call: Callable[[], None], device: str) -> float:
    begin = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", choices=SHAPES, default="tiny")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--count", type=int, default=256, help="conversations")
    parser.add_argument("--instruction", type=int, help="tokens that all prompts share")
    parser.add_argument("--longest", type=int, help="tokens of the longest conversation")
    parser.add_argument("--batch", type=int, default=32, help="size of the static batches")
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    small = chosen.arch == "tiny"
    work = make_work(
        chosen.count,
        chosen.instruction or (128 if small else 600),
        chosen.longest or (256 if small else 1500),
    )
    by_length = sorted(work, key=lambda prompt: len(prompt[0]))
    model, tokenizer = make_model(chosen.arch, chosen.device), make_tokenizer()
    ways: dict[str, Callable[[], None]] = {
        "one at a time": lambda: generate(model, tokenizer, work, 1),
        f"static, {chosen.batch} sorted by length": lambda: generate(
            model, tokenizer, by_length, chosen.batch
        ),
        "ours, prefix not shared": lambda: ours(model, tokenizer, work, False),
        "ours": lambda: ours(model, tokenizer, work, True),
    }
    generate(model, tokenizer, work[:8], 4)
    ours(model, tokenizer, work[:8], True)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(chosen.repeats):
        for name, way in ways.items():
            times[name].append(seconds(way, chosen.device))
    rates = {name: chosen.count / statistics.median(taken) for name, taken in times.items()}

    machine = (
        torch.cuda.get_device_name()
        if chosen.device == "cuda"
        else f"CPU, {len(os.sched_getaffinity(0))} cores"
    )
    count = sum(parameter.numel() for parameter in model.parameters())
    prompts = sorted(len(text) for text, _ in work)
    print(f"{machine}; Python {platform.python_version()}, torch {torch.__version__}, ", end="")
    print(f"transformers {transformers.__version__}")
    print(
        f"{chosen.arch}, {count / 1e6:,.0f} M parameters, {model.dtype}; {chosen.count} conversations of ",
        end="",
    )
    print(f"{prompts[0]} to {prompts[-1]} tokens, replies of 5 to 40; medians of {chosen.repeats}\n")
    alone, static = list(rates.values())[:2]
    print("| way | assessments/s | to one at a time | to static | slowest, fastest repeat, s |")
    print("|---|---:|---:|---:|---:|")
    for name, rate in rates.items():
        spread = f"{max(times[name]):.2f}, {min(times[name]):.2f}"
        print(f"| {name} | {rate:.1f} | {rate / alone:.2f} | {rate / static:.2f} | {spread} |")


if __name__ == "__main__":
    main()
