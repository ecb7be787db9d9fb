"""A tiny model with random weights in the process: each gets its own answer, whatever runs beside it."""

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from PIL import Image as Picture

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from safemt_client.moderator.local.model import LocalModel, Weights
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Image, Message, Outcome, Reply, Request, Sampling

PLAIN = (
    "{% for m in messages %}<s>{{ m.role }}:{{ m.content }}{% endfor %}{{ suffix or '' }}"
    "{% if add_generation_prompt %}<s>assistant:{% endif %}"
)
PARTS = (
    "{% for m in messages %}<s>{{ m.role }}:{% for p in m.content %}{% if p['type'] == 'text' %}{{ p.text }}"
    "{% endif %}{% endfor %}{% endfor %}<s>assistant:"
)
TASK = "You are given a conversation. Say whether it is safe. " * 2


def make_tokenizer(template: str | None = PLAIN) -> Any:
    """Bytes as tokens, after the special ones."""
    vocabulary = {"<pad>": 0, "</s>": 1, "<s>": 2}
    for letter in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[letter] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>", "</s>", "<s>"])
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", bos_token="<s>"
    )
    made.chat_template = template
    return made


SIZES = {
    "vocab_size": 259,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "initializer_range": 0.5,
}


def make_model(arch: str = "llama") -> Any:
    torch.manual_seed(7)
    if arch == "llama":
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES))
    if arch == "qwen3":
        return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**SIZES))
    layers = ["sliding_attention", "full_attention"]
    return transformers.Gemma3ForCausalLM(
        transformers.Gemma3TextConfig(
            **SIZES, sliding_window=48, layer_types=layers, tie_word_embeddings=False
        )
    )


def local(model: Any = None, **more: Any) -> LocalModel:
    if model is None:
        model = make_model()
    tokenizer = more.pop("tokenizer", None) or make_tokenizer()
    return LocalModel(Weights("tiny", model, tokenizer, more.pop("processor", None)), **more)


def asked(text: str, tokens: int = 12, *, images: tuple[Image, ...] = (), **more: Any) -> Request:
    return Request((Message("user", text, images),), Sampling(max_tokens=tokens, **more))


def many(count: int) -> list[Request]:
    """Requests that begin alike, of all sorts of lengths."""
    return [
        asked(TASK + "word " * (index * 7 % 23) + str(index), tokens=1 + index * 5 % 19)
        for index in range(count)
    ]


async def at_once(model: LocalModel, requests: list[Request]) -> list[Reply]:
    replies: list[Reply] = [Reply(Outcome.EMPTY)] * len(requests)

    async def one(index: int) -> None:
        replies[index] = await model.ask(requests[index])

    async with anyio.create_task_group() as tasks:
        for index in range(len(requests)):
            tasks.start_soon(one, index)
    return replies


def answer(requests: list[Request], model: LocalModel) -> list[Reply]:
    async def scenario() -> list[Reply]:
        async with model:
            return await at_once(model, requests)

    return anyio.run(scenario)


def expected(model: Any, tokenizer: Any, request: Request) -> str:
    """What the library's own generation makes of it, alone."""
    (message,) = request.messages
    ids = tokenizer(f"<s>user:{message.text}<s>assistant:", add_special_tokens=False, return_tensors="pt")
    with torch.inference_mode():
        out = model.generate(**ids, max_new_tokens=request.sampling.max_tokens, do_sample=False)
    return str(tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))


def counting(model: Any) -> list[tuple[int, int]]:
    """Shapes of what is given to the model from now on."""
    shapes: list[tuple[int, int]] = []
    model.register_forward_pre_hook(
        lambda _module, _args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    return shapes


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("local-model/")]


@pytest.mark.parametrize("arch", ["llama", "qwen3", "gemma3"])
@pytest.mark.parametrize("share", [True, False])
def test_64_at_once_are_byte_for_byte_what_each_is_alone(arch: str, share: bool) -> None:
    model, tokenizer, requests = make_model(arch), make_tokenizer(), many(64)
    alone = [expected(model, tokenizer, request) for request in requests]
    shapes = counting(model)
    replies = answer(requests, local(model, share_prefix=share))
    assert [reply.text for reply in replies] == alone
    assert len(set(alone)) > 30
    assert max(rows for rows, _ in shapes) > 8


def test_what_prompts_begin_with_is_read_once() -> None:
    model = make_model()
    shapes = counting(model)

    async def scenario() -> None:
        async with local(model) as shared:
            await at_once(shared, [asked(TASK + letter * 9) for letter in "abcdefgh"])
            shapes.clear()
            await at_once(shared, [asked(TASK + letter * 9) for letter in "ijklmnop"])
            await shared.ask(asked(TASK + "q" * 9))

    anyio.run(scenario)
    assert max(width for _, width in shapes) == len("q" * 9) + 1 + len("assistant:")


def test_a_sliding_window_has_no_prefix_in_front_of_padding() -> None:
    model = make_model("gemma3")
    shapes = counting(model)
    answer(many(16), local(model))
    assert all(width == 1 or width > len(TASK) for _, width in shapes)


def test_a_reply_says_how_it_ended_and_what_it_took() -> None:
    (reply,) = answer([asked("hello", 5, extra={"logprobs": True})], local())
    assert reply.outcome is Outcome.TRUNCATED
    assert reply.finish_reason == "length"
    assert reply.error == "the reply was cut off at 5 tokens"
    assert reply.usage.completion_tokens == 5
    assert reply.usage.prompt_tokens == len("user:hello") + len("assistant:") + 2
    assert len(reply.logprobs) == 5
    assert all(score <= 0 for _, score in reply.logprobs)
    assert reply.started_at is not None


@pytest.mark.parametrize(("place", "outcome"), [(0, Outcome.EMPTY), (3, Outcome.ANSWERED)])
def test_an_end_token_ends_the_reply_and_is_not_in_it(place: int, outcome: Outcome) -> None:
    model, tokenizer, request = make_model(), make_tokenizer(), asked("hello", 8)
    ids = tokenizer("<s>user:hello<s>assistant:", add_special_tokens=False, return_tensors="pt")
    with torch.inference_mode():
        out = model.generate(**ids, max_new_tokens=8, do_sample=False)[
            0, ids["input_ids"].shape[1] :
        ].tolist()
    assert out[place] not in out[:place]
    model.generation_config.eos_token_id = out[place]
    (reply,) = answer([request], local(model))
    assert (reply.outcome, reply.finish_reason) == (outcome, "stop")
    assert reply.text == tokenizer.decode(out[:place], skip_special_tokens=True)
    assert reply.usage.completion_tokens == place + 1


def test_a_seed_decides_a_drawn_reply_whatever_runs_beside_it() -> None:
    drawn = [asked(TASK, 10, temperature=1.5, seed=seed, top_p=0.95) for seed in range(8)]
    alone = [answer([request], local())[0].text for request in drawn]
    together = [reply.text for reply in answer([*drawn, *many(9)], local())[:8]]
    assert together == alone
    assert len(set(alone)) > 1


def test_the_chat_template_is_told_what_the_request_says() -> None:
    requests = [asked("x"), asked("x", extra={"chat_template_kwargs": {"suffix": "more"}})]
    short, longer = answer(requests, local())
    assert (longer.usage.prompt_tokens or 0) - (short.usage.prompt_tokens or 0) == len("more")


def test_a_template_that_wants_parts_gets_parts() -> None:
    plain, parts = (
        answer([asked("hello")], local(tokenizer=make_tokenizer(kind)))[0] for kind in (PLAIN, PARTS)
    )
    assert (parts.text, parts.usage) == (plain.text, plain.usage)


def png(shade: int) -> Image:
    data = io.BytesIO()
    Picture.new("RGB", (40, 30), (shade, 100, 255 - shade)).save(data, "PNG")
    return Image(f"{shade:064x}", "image/png", len(data.getvalue()), 40, 30, data.getvalue)


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (asked("hello", images=(png(0),)), "does not accept images"),
        (asked("a" * 600), "617 tokens and the reply may have 12: the model takes 512"),
        (asked("hello", extra={"best_of": 4}), "does not support the parameter best_of"),
        (
            asked("hello", extra={"chat_template_kwargs": {"messages": 3}}),
            "chat template rejected the conversation",
        ),
    ],
)
def test_what_the_model_cannot_take_is_said_and_the_rest_goes_on(request_: Request, why: str) -> None:
    bad, good = answer([request_, asked("hello")], local())
    assert bad.outcome is Outcome.ERROR_PERMANENT
    assert why in (bad.error or "")
    assert good.outcome.observed


def make_seeing() -> tuple[Any, Any, Any]:
    """Gemma 3 with images of four tokens: model, tokenizer, processor."""
    tokenizer = make_tokenizer(
        "{% for m in messages %}<s>{{ m.role }}:{% if m.content is string %}{{ m.content }}{% else %}"
        "{% for p in m.content %}{{ p.text if p['type'] == 'text' else '<boi>' }}{% endfor %}{% endif %}"
        "{% endfor %}<s>assistant:"
    )
    names = {"boi": "<boi>", "eoi": "<eoi>", "image": "<img>"}
    tokenizer.add_special_tokens({"additional_special_tokens": list(names.values())})
    for name, token in names.items():
        setattr(tokenizer, f"{name}_token", token)
        setattr(tokenizer, f"{name}_token_id", tokenizer.convert_tokens_to_ids(token))
    prepare = transformers.Gemma3ImageProcessor(size={"height": 28, "width": 28}, do_pan_and_scan=False)
    processor = transformers.Gemma3Processor(
        prepare, tokenizer, chat_template=tokenizer.chat_template, image_seq_length=4
    )
    layers = ["sliding_attention", "full_attention"]
    torch.manual_seed(3)
    config = transformers.Gemma3Config(
        text_config={**SIZES, "vocab_size": 262, "sliding_window": 48, "layer_types": layers},
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 7,
            "vision_use_head": False,
        },
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
        initializer_range=0.5,
        tie_word_embeddings=False,
    )
    return transformers.Gemma3ForConditionalGeneration(config).eval(), tokenizer, processor


def test_conversations_with_and_without_images_share_a_batch() -> None:
    model, tokenizer, processor = make_seeing()

    def alone(request: Request) -> str:
        (message,) = request.messages
        pictures = [Picture.open(io.BytesIO(image.load())) for image in message.images]
        parts: list[Any] = [{"type": "image", "image": picture} for picture in pictures]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": [*parts, {"type": "text", "text": message.text}]}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            out = model.generate(**inputs, max_new_tokens=request.sampling.max_tokens, do_sample=False)
        return str(tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))

    requests = [
        asked(TASK + "w " * k + str(k), 3 + k % 9, images=tuple(png(40 * k + i) for i in range(k % 3)))
        for k in range(6)
    ]
    replies = answer(requests, local(model, tokenizer=tokenizer, processor=processor))
    assert [reply.text for reply in replies] == [alone(request) for request in requests]


def failing(model: Any, error: Callable[[Any], Exception | None]) -> None:
    """Let a forward pass raise what `error` makes of its input tokens, if anything."""

    def hook(_module: Any, _args: Any, kwargs: Any) -> None:
        if (raised := error(kwargs["input_ids"])) is not None:
            raise raised

    model.register_forward_pre_hook(hook, with_kwargs=True)


@pytest.mark.parametrize(
    "kind",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_too_little_memory_halves_the_batch(kind: Exception) -> None:
    model, requests = make_model(), many(40)
    alone = [expected(model, make_tokenizer(), request) for request in requests]
    failing(model, lambda ids: kind if len(ids) > 5 else None)
    small = local(model)
    before = small.max_batch_tokens
    assert [reply.text for reply in answer(requests, small)] == alone
    assert small.max_batch_tokens < before


def test_what_does_not_fit_alone_is_permanent_and_the_rest_goes_on() -> None:
    model = make_model()
    failing(model, lambda ids: torch.OutOfMemoryError("no room") if ids.shape[1] > 300 else None)
    *rest, big = answer([*many(8), asked("b" * 400)], local(model))
    assert big.outcome is Outcome.ERROR_PERMANENT
    assert "does not fit into the memory" in (big.error or "")
    assert all(reply.outcome.observed for reply in rest)


def test_another_failure_is_the_culprits_only() -> None:
    model = make_model()
    code = make_tokenizer()("~", add_special_tokens=False)["input_ids"][0]
    failing(model, lambda ids: IndexError("bad index\nsecond line") if (ids == code).sum() >= 9 else None)
    requests = many(8)
    alone = [expected(model, make_tokenizer(), request) for request in requests]
    *rest, bad = answer([*requests, asked("~" * 9)], local(model))
    assert bad.error == "the model failed on this request: IndexError: bad index"
    assert bad.outcome is Outcome.ERROR_PERMANENT
    assert [reply.text for reply in rest] == alone


def test_scores_that_are_no_numbers_are_no_answer() -> None:
    model, requests = make_model(), many(6)
    alone = [expected(model, make_tokenizer(), request) for request in requests]

    def spoil(rows: int) -> Callable[..., None]:
        def hook(_module: Any, _args: Any, output: Any) -> None:
            if len(output.logits) >= rows:
                output.logits.fill_(float("nan"))

        return hook

    model.register_forward_hook(spoil(2))
    assert [reply.text for reply in answer(requests, local(model))] == alone
    model.register_forward_hook(spoil(1))
    (reply,) = answer([asked("hello")], local(model))
    assert (reply.outcome, "not valid numbers" in (reply.error or "")) == (Outcome.ERROR_PERMANENT, True)


def test_a_cancelled_request_leaves_and_the_others_get_theirs() -> None:
    async def scenario() -> None:
        model, tokenizer = make_model(), make_tokenizer()
        requests = many(12)
        alone = [expected(model, tokenizer, request) for request in requests]
        go, arrived = threading.Event(), threading.Event()

        def hold(_ids: Any) -> None:
            arrived.set()
            go.wait()

        failing(model, hold)
        async with local(model) as shared, anyio.create_task_group() as tasks:
            replies: list[Reply] = []

            async def stay() -> None:
                replies.extend(await at_once(shared, requests))

            tasks.start_soon(stay)
            async with anyio.create_task_group() as others:
                for request in many(20):
                    others.start_soon(shared.ask, request)
                with anyio.fail_after(20):
                    while not arrived.is_set():
                        await anyio.lowlevel.checkpoint()
                others.cancel_scope.cancel()
            go.set()
        assert [reply.text for reply in replies] == alone

    anyio.run(scenario)


def test_after_closing_a_request_is_transient() -> None:
    async def scenario() -> Reply:
        model = local()
        await model.ask(asked("hello"))
        await model.aclose()
        return await model.ask(asked("hello"))

    reply = anyio.run(scenario)
    assert (reply.outcome, reply.error) == (Outcome.ERROR_TRANSIENT, "the model is closed")


def save(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def test_a_model_is_loaded_from_a_folder(tmp_path: Path) -> None:
    async def scenario() -> tuple[str, Reply]:
        async with await LocalModel.load(save(make_model(), tmp_path / "tiny"), device="cpu") as model:
            return model.identity, await model.ask(asked("hello"))

    identity, reply = anyio.run(scenario)
    assert identity.startswith("local-model/tiny@")
    assert reply.text == answer([asked("hello")], local())[0].text
    (tmp_path / "tiny" / "adapter.safetensors").write_bytes(b"more")
    assert anyio.run(scenario)[0] != identity


def test_what_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be loaded on cpu") as caught:
        anyio.run(lambda: LocalModel.load(tmp_path, device="cpu"))
    assert "\n" not in str(caught.value)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install 'safemt-client\[gpu\]'"):
        anyio.run(LocalModel.load, tmp_path)


def test_a_model_without_a_chat_template_is_refused() -> None:
    tokenizer = make_tokenizer(None)
    with pytest.raises(InputError, match="no chat template"):
        LocalModel(Weights("base", make_model(), tokenizer))
