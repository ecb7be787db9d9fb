"""A Hugging Face model in this process as a `Provider`: small guards on a GPU, or on the CPU.

Requests of many conversations share the batches of one model (see `batching`). torch and transformers come
with the `gpu` extra and are imported when a model is loaded.
"""

from __future__ import annotations

import hashlib
import importlib
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import anyio.to_thread

from safemt_client.moderator.local.batching import Batcher, BatchFailedError, ClosedError, DoesNotFitError
from safemt_client.moderator.local.decoding import Decoder, Prompt, Row
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import InputError
from safemt_client.providers.limits.limiter import AccountLimiter
from safemt_client.providers.limits.permits import Limiter
from safemt_client.providers.pauses import stopwatch
from safemt_client.providers.provider import Observer
from safemt_client.providers.types import Message, Outcome, Reply, Request, Usage

__all__ = ["LocalModel", "Weights"]

_NEW_TOKENS = 256
_EXTRAS = {"chat_template_kwargs", "logprobs", "top_logprobs"}
_CACHED_LAYERS = {"full_attention", "sliding_attention"}


class _UnfitRequestError(ValueError):
    """This model cannot take this request. The message is one line."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A model with its tokenizer and its `processor`, which prepares images.

    `processor` is None for a text model. `revision` is that of the hub, or the names and sizes of a local
    folder's files.
    """

    name: str
    model: Any
    tokenizer: Any
    processor: Any = None
    revision: str = ""


class LocalModel:
    """A `Provider` that runs a causal language model or an image-text-to-text model in this process.

    Concurrent calls of `ask` form the batches; each gets only its own answer. `identity` is
    `local-model/NAME@HASH`: the hash is over configuration, chat template, number format and the revision
    (of a local folder: the names and sizes of its files). The tokenizer needs a chat template.
    `max_batch_tokens` bounds a batch, padding and new tokens included; None takes half of the free memory of
    a GPU, and 16,384 tokens on the CPU. `max_queue` is the number of requests that are kept prepared.
    `share_prefix`: the common prefix of a group's prompts is read once.

    Raises:
        InputError: the model has no chat template, or keeps a state other than keys and values.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        max_batch_tokens: int | None = None,
        max_queue: int = 256,
        limiter: Limiter | None = None,
        share_prefix: bool = True,
    ) -> None:
        model, tokenizer, name = weights.model, weights.tokenizer, weights.name
        config = model.config.get_text_config(decoder=True)
        layers = set(getattr(config, "layer_types", None) or _CACHED_LAYERS)
        if not layers <= _CACHED_LAYERS or getattr(model, "_is_stateful", False):
            raise InputError(f"the model {name} keeps state other than keys and values: run it on a server")
        if not getattr(tokenizer, "chat_template", None):
            raise InputError(f"the model {name} has no chat template, so it cannot be given a conversation")
        self._tokenizer, self._processor = tokenizer, weights.processor
        self._context: int | None = getattr(config, "max_position_embeddings", None)
        self._defaults = model.generation_config
        parts = (model.config.to_json_string(), tokenizer.chat_template, model.dtype, weights.revision)
        digest = hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()
        self._identity = f"local-model/{name}@{digest[:8]}"
        self._limiter = limiter or AccountLimiter(concurrency=4 * max_queue, account=self._identity)
        eos = self._defaults.eos_token_id
        stops = {*(eos if isinstance(eos, list) else [eos]), tokenizer.eos_token_id} - {None}
        model.eval().requires_grad_(False)
        self._batcher: Batcher[Prompt, Row] = Batcher(
            Decoder(model, stops, share_prefix=share_prefix),
            max_batch_tokens=max_batch_tokens or _room(model, config),
            max_queue=max_queue,
            name=self._identity,
        )
        self._listed = _wants_list(tokenizer)

    @classmethod
    async def load(
        cls,
        path_or_name: str | Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        max_batch_tokens: int | None = None,
        max_queue: int = 256,
        limiter: Limiter | None = None,
        share_prefix: bool = True,
    ) -> LocalModel:
        """Load a model from a folder or the Hugging Face hub, off the event loop.

        `device` auto is the GPU if there is one; `dtype` auto is bfloat16 on a GPU and float32 on the CPU.

        Raises:
            InputError: the `gpu` extra is missing, or the model cannot be loaded or used.
        """

        def load() -> LocalModel:
            return cls(
                _load(str(path_or_name), device, dtype),
                max_batch_tokens=max_batch_tokens,
                max_queue=max_queue,
                limiter=limiter,
                share_prefix=share_prefix,
            )

        return await anyio.to_thread.run_sync(load)

    @property
    def identity(self) -> str:
        """Name, and a hash of what decides the answers."""
        return self._identity

    @property
    def limiter(self) -> Limiter:
        """The limiter of this model."""
        return self._limiter

    @property
    def max_batch_tokens(self) -> int:
        """The current bound of a batch in tokens: lowered when the memory was too small."""
        return self._batcher.max_batch_tokens

    async def __aenter__(self) -> LocalModel:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the thread. Requests that are not done get `error_transient`."""
        await self._batcher.aclose()

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        """Ask once, without retries. Cancelling leaves the batch. See `Provider.ask`.

        `sampling.extra` may contain `logprobs` and `chat_template_kwargs`; any other parameter is an error. A
        `response_schema` is not enforced. Without `max_tokens` 256 tokens are generated at most.
        """
        async with self._limiter.permit() as permit:
            started_at, taken_s = datetime.now(UTC), stopwatch()
            try:
                row = await self._batcher.submit(lambda: self._prepare(request))
            except (_UnfitRequestError, DoesNotFitError, BatchFailedError, ClosedError) as error:
                return Reply(
                    Outcome.ERROR_TRANSIENT if isinstance(error, ClosedError) else Outcome.ERROR_PERMANENT,
                    error=_explain(error),
                    error_code=_code(error),
                    started_at=started_at,
                    latency_s=taken_s(),
                )
            reply = self._reply(row, started_at, taken_s())
            self._limiter.settle(permit, reply, len(row.prompt.ids) + len(row.ids))
        return reply

    def _reply(self, row: Row, started_at: datetime, latency_s: float) -> Reply:
        text = self._tokenizer.decode(row.ids[:-1] if row.stopped else row.ids, skip_special_tokens=True)
        if not row.stopped:
            outcome, code = Outcome.TRUNCATED, ErrorCode.TRUNCATED
            error = f"the reply was cut off at {len(row.ids)} tokens"
        elif not text.strip():
            outcome, code, error = Outcome.EMPTY, ErrorCode.EMPTY, "the reply is empty"
        else:
            outcome, code, error = Outcome.ANSWERED, None, None
        tokens = self._tokenizer.batch_decode([[i] for i in row.ids]) if row.logprobs else []
        return Reply(
            outcome,
            text=text,
            finish_reason="stop" if row.stopped else "length",
            error=error,
            error_code=code,
            usage=Usage(row.prompt.prompt_tokens, len(row.ids)),
            resolved_model=self._identity,
            started_at=started_at,
            latency_s=latency_s,
            logprobs=tuple(zip(tokens, row.logprobs, strict=True)),
        )

    def _prepare(self, request: Request) -> Prompt:
        """Turn a request into tokens. Runs on a thread."""
        sampling = request.sampling
        if unknown := sampling.extra.keys() - _EXTRAS:
            raise _UnfitRequestError(
                f"a local model does not support the parameter {', '.join(sorted(unknown))}"
            )
        ids, features = self._tokens(request.messages, dict(sampling.extra.get("chat_template_kwargs") or {}))
        new = sampling.max_tokens or _NEW_TOKENS
        if self._context is not None and len(ids) + new > self._context:
            raise _UnfitRequestError(
                f"the conversation has {len(ids)} tokens and the reply may have {new}: the model takes "
                f"{self._context} in total"
            )
        own = self._defaults
        drawn = bool(own.do_sample)
        temperature = sampling.temperature
        if temperature is None:
            temperature = (1.0 if own.temperature is None else own.temperature) if drawn else 0.0
        top_p = sampling.top_p if sampling.top_p is not None else (own.top_p if drawn else None)
        return Prompt(
            ids,
            new,
            temperature,
            1.0 if top_p is None else top_p,
            sampling.seed,
            bool(sampling.extra.get("logprobs")),
            features,
        )

    def _tokens(
        self, messages: Sequence[Message], extra: dict[str, Any]
    ) -> tuple[list[int], Mapping[str, Any] | None]:
        pictures = any(message.images for message in messages)
        if pictures and self._processor is None:
            raise _UnfitRequestError("the model does not accept images")
        listed = pictures or self._listed
        chat = [{"role": message.role, "content": _content(message, listed)} for message in messages]
        try:
            if pictures:
                features = self._processor.apply_chat_template(
                    chat,
                    add_generation_prompt=True,
                    tokenize=True,
                    return_dict=True,
                    return_tensors="pt",
                    **extra,
                )
                return features["input_ids"][0].tolist(), features
            text = self._tokenizer.apply_chat_template(
                chat, add_generation_prompt=True, tokenize=False, **extra
            )
            return list(self._tokenizer(text, add_special_tokens=False)["input_ids"]), None
        except Exception as error:  # templates may raise anything
            raise _UnfitRequestError(
                f"the chat template rejected the conversation: {_line(error)}"
            ) from error


def _content(message: Message, listed: bool) -> Any:
    if not listed:
        return message.text
    from PIL import Image as Picture

    pictures = [Picture.open(io.BytesIO(image.load())).convert("RGB") for image in message.images]
    parts: list[dict[str, Any]] = [{"type": "image", "image": picture} for picture in pictures]
    return [*parts, {"type": "text", "text": message.text}]


def _wants_list(tokenizer: Any) -> bool:
    """Whether the chat template ignores plain strings and wants lists of parts (Llama Guard's does)."""
    probe = "a few plain words"
    with suppress(Exception):
        chat = [{"role": "user", "content": probe}]
        return probe not in tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    return True


def _room(model: Any, config: Any) -> int:
    """The tokens whose keys and values fit into half of the free memory."""
    if model.device.type != "cuda":
        return 16_384
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token_bytes = 2 * config.num_hidden_layers * heads * size * model.dtype.itemsize
    free, _ = importlib.import_module("torch").cuda.mem_get_info(model.device)
    return int(max(4096, free // 2 // token_bytes))


def _code(error: Exception) -> ErrorCode:
    if isinstance(error, _UnfitRequestError):
        return ErrorCode.BAD_REQUEST
    return ErrorCode.REQUEST_TOO_LARGE if isinstance(error, DoesNotFitError) else ErrorCode.LOCAL_MODEL


def _explain(error: Exception) -> str:
    if isinstance(error, DoesNotFitError):
        return f"the request does not fit into the memory of the device, even on its own: {error}"
    return f"the model failed on this request: {error}" if isinstance(error, BatchFailedError) else str(error)


def _line(error: BaseException) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return first or type(error).__name__


def _load(source: str, device: str, dtype: str) -> Weights:
    """The model on its device, its tokenizer, its processor if it takes images, and its revision."""
    try:
        torch: Any = importlib.import_module("torch")
        transformers: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise InputError(
            f"a model in this process needs: pip install 'safemt-client[gpu]' ({_line(error)})"
        ) from error
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype == "auto":
        dtype = "bfloat16" if device.startswith("cuda") else "float32"
    try:
        config = transformers.AutoConfig.from_pretrained(source)
        images = type(config) in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        kind = transformers.AutoModelForImageTextToText if images else transformers.AutoModelForCausalLM
        processor = transformers.AutoProcessor.from_pretrained(source) if images else None
        tokenizer = getattr(processor, "tokenizer", None) or transformers.AutoTokenizer.from_pretrained(
            source
        )
        placed = {} if device == "cpu" else {"device_map": {"": device}}
        model = kind.from_pretrained(source, dtype=getattr(torch, dtype), **placed)
    except Exception as error:  # the files or the hub may lack anything
        raise InputError(
            f"the model {source} cannot be loaded on {device} as {dtype}: {_line(error)}"
        ) from error
    name = Path(source).name if Path(source).is_dir() else source
    return Weights(name, model, tokenizer, processor, getattr(config, "_commit_hash", None) or _files(source))


def _files(folder: str) -> str:
    """Names and sizes of the files of a local model."""
    if not Path(folder).is_dir():
        return ""
    return "\n".join(
        f"{path.name} {path.stat().st_size}" for path in sorted(Path(folder).iterdir()) if path.is_file()
    )
