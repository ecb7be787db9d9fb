"""The decoding of a batch: one forward pass a step for all its requests, which join and leave at any step."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Decoder", "Prompt", "Row"]

_MIN_PREFIX = 32
"""Shorter shared prefixes are not worth a separate pass."""


@dataclass(frozen=True, eq=False, slots=True)
class Prompt:
    """A request as the model takes it. `features` are all inputs of one with images, tokens included."""

    ids: list[int]
    new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    logprobs: bool = False
    features: Mapping[str, Any] | None = None

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return len(self.ids)


@dataclass(eq=False, slots=True)
class Row:
    """A prompt in the batch: what it has generated, and how many of its tokens are in the cache.

    `shift` is how far its next position is from their number (images may take fewer positions than tokens).
    """

    prompt: Prompt
    length: int
    shift: int = 0
    random: Any = None
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stopped: bool = False


class Decoder:
    """The engine: one forward pass a step for the whole batch. Used on one thread.

    The cache of a row ends at the right edge, padding is on its left: rows join and leave by plain slices.
    """

    def __init__(self, model: Any, stops: set[int], *, share_prefix: bool) -> None:
        self._torch: Any = importlib.import_module("torch")
        self._new_cache: Any = importlib.import_module("transformers").DynamicCache
        self._model, self._stops, self._share = model, stops, share_prefix
        config = model.config.get_text_config(decoder=True)
        sliding = "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"])
        self._window: int | None = getattr(config, "sliding_window", None) if sliding else None
        takes = inspect.signature(model.forward).parameters
        # Named `past_key_values` before transformers 5.2x.
        self._cache_name = "cache" if "cache" in takes else "past_key_values"
        self._last = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        self._prefix: tuple[list[int], Any] = ([], None)
        self._rows: list[Row] = []
        self._cache: Any = None
        self._logits: Any = None

    def join(self, works: Sequence[Prompt]) -> None:
        """Read the prompts: texts together, each with images by itself."""
        with self._torch.inference_mode():
            texts = [prompt for prompt in works if prompt.features is None]
            if texts:
                self._merge(*self._read(texts))
            for prompt in works:
                if prompt.features is not None:
                    self._merge(*self._read_images(prompt, prompt.features))

    def step(self) -> list[tuple[Prompt, Row]]:
        """Generate a token for each row; those that are done leave."""
        with self._torch.inference_mode():
            for row, token in zip(self._rows, self._pick(), strict=True):
                row.ids.append(token)
                row.stopped = token in self._stops
            done = [row for row in self._rows if row.stopped or len(row.ids) == row.prompt.new_tokens]
            self._keep([row for row in self._rows if row not in done])
            if self._rows:
                width = max(row.length for row in self._rows) + 1
                for row in self._rows:
                    row.length += 1
                self._logits = self._forward(
                    self._cache,
                    input_ids=self._tensor([[row.ids[-1]] for row in self._rows]),
                    attention_mask=self._mask([row.length for row in self._rows], width),
                    position_ids=self._tensor([[row.length - 1 + row.shift] for row in self._rows]),
                )
        return [(row.prompt, row) for row in done]

    def leave(self, works: Sequence[Prompt]) -> None:
        """Drop rows."""
        with self._torch.inference_mode():
            self._keep([row for row in self._rows if row.prompt not in works])

    def clear(self) -> None:
        """Drop all rows and the prefix, and give the memory back."""
        self._empty()
        self._prefix = ([], None)
        if self._model.device.type == "cuda":
            # After a fault of the device this fails too; the next batch then says so.
            with suppress(RuntimeError):
                self._torch.cuda.empty_cache()

    def out_of_memory(self, error: Exception) -> bool:
        """CUDA's own error, or the plain RuntimeError of other allocators."""
        if isinstance(error, (self._torch.OutOfMemoryError, MemoryError)):
            return True
        text = str(error).lower()
        return isinstance(error, RuntimeError) and ("out of memory" in text or "allocate memory" in text)

    def _empty(self) -> None:
        self._rows, self._cache, self._logits = [], None, None

    def _forward(self, cache: Any, **inputs: Any) -> Any:
        """The scores of each row's next token; `cache` takes the keys and values."""
        output = self._model(**{self._cache_name: cache}, **inputs, **self._last, use_cache=True)
        return output.logits[:, -1]

    def _tensor(self, values: Any) -> Any:
        return self._torch.tensor(values, device=self._model.device)

    def _mask(self, lengths: Sequence[int], width: int) -> Any:
        columns = self._torch.arange(width, device=self._model.device)
        return (columns >= width - self._tensor(lengths)[:, None]).long()

    def _read(self, prompts: Sequence[Prompt]) -> tuple[list[Row], Any, Any]:
        torch = self._torch
        shared = self._shared_prefix(prompts)
        tails = [prompt.ids[shared:] for prompt in prompts]
        width = max(map(len, tails))
        mask = self._mask([len(tail) for tail in tails], width)
        cache = self._new_cache()
        if shared:
            for index, layer in enumerate(self._prefix[1].layers):
                keys, values = (part[:, :, :shared] for part in (layer.keys, layer.values))
                size = (len(prompts), -1, -1, -1)
                cache.update(keys.expand(size), values.expand(size), index)
        logits = self._forward(
            cache,
            input_ids=self._tensor([[0] * (width - len(tail)) + tail for tail in tails]),
            attention_mask=torch.cat([mask.new_ones(len(prompts), shared), mask], dim=1),
            position_ids=(mask.cumsum(1) - 1).clamp(min=0) + shared,
        )
        if shared:
            self._padding_first(cache, shared, mask)
        return [self._row(prompt) for prompt in prompts], cache, logits

    def _shared_prefix(self, prompts: Sequence[Prompt]) -> int:
        """The length in tokens of the prompts' common prefix; its keys and values are then in `_prefix`.

        One token at least of each prompt is left to be read. While the prefix is in front of the padding,
        distances within a row are longer by the padding: a sliding window must be wide enough for all.
        """
        first = prompts[0].ids
        # A prompt that comes alone may begin like those before it.
        others = [prompt.ids for prompt in prompts[1:]] or [self._prefix[0]]
        shared = min(*(_common(first, other) for other in others), *(len(p.ids) - 1 for p in prompts))
        longest = max(len(prompt.ids) for prompt in prompts)
        wide = self._window is None or longest <= self._window
        if not (self._share and wide and shared >= _MIN_PREFIX):
            return 0
        if _common(self._prefix[0], first) < shared:
            cache = self._new_cache()
            self._forward(cache, input_ids=self._tensor([first[:shared]]))
            self._prefix = (first[:shared], cache)
        return shared

    def _padding_first(self, cache: Any, shared: int, mask: Any) -> None:
        """Turn prefix, padding, rest into padding, prefix, rest."""
        padding = (mask == 0).sum(1, keepdim=True)
        columns = self._torch.arange(shared + mask.shape[1], device=mask.device)[None]
        source = self._torch.where(
            columns < padding,
            columns + shared,
            self._torch.where(columns < padding + shared, columns - padding, columns),
        )
        for layer in cache.layers:
            for name in ("keys", "values"):
                part = getattr(layer, name)
                setattr(layer, name, part.gather(2, source[:, None, :, None].expand(part.shape)))

    def _read_images(self, prompt: Prompt, features: Mapping[str, Any]) -> tuple[list[Row], Any, Any]:
        cache = self._new_cache()
        # Models whose images take positions of their own leave the difference here.
        inner = getattr(self._model, "model", self._model)
        if hasattr(inner, "rope_deltas"):
            inner.rope_deltas = None
        inputs = {
            name: value.to(self._model.device, self._model.dtype if value.is_floating_point() else None)
            for name, value in features.items()
        }
        logits = self._forward(cache, **inputs)
        shift = getattr(inner, "rope_deltas", None)
        row = self._row(prompt, 0 if shift is None else int(shift.max()))
        return [row], cache, logits

    def _row(self, prompt: Prompt, shift: int = 0) -> Row:
        random = self._torch.Generator()
        if prompt.seed is None:
            random.seed()
        else:
            random.manual_seed(prompt.seed)
        return Row(prompt, len(prompt.ids), shift, random)

    def _merge(self, rows: list[Row], cache: Any, logits: Any) -> None:
        if not self._rows:
            self._rows, self._cache, self._logits = rows, cache, logits
            return
        torch = self._torch
        for layer, new in zip(self._cache.layers, cache.layers, strict=True):
            for name in ("keys", "values"):
                parts = [getattr(layer, name), getattr(new, name)]
                width = max(part.shape[2] for part in parts)
                padded = [torch.nn.functional.pad(part, (0, 0, width - part.shape[2], 0)) for part in parts]
                setattr(layer, name, torch.cat(padded))
        self._logits = torch.cat([self._logits, logits])
        self._rows += rows

    def _keep(self, rows: list[Row]) -> None:
        if len(rows) == len(self._rows):
            return
        if not rows:
            self._empty()
            return
        kept = set(map(id, rows))
        index = self._tensor([i for i, row in enumerate(self._rows) if id(row) in kept])
        width = max(row.length for row in rows)
        for layer in self._cache.layers:
            layer.keys = layer.keys[:, :, -width:].index_select(0, index)
            layer.values = layer.values[:, :, -width:].index_select(0, index)
        self._logits = self._logits.index_select(0, index)
        self._rows = rows

    def _pick(self) -> list[int]:
        """The next token of each row, greedily or drawn from the row's own generator."""
        scores, best = self._logits.max(-1)
        if bool(scores.isnan().any()):
            # Low precision and padding can cause this; a request alone has no padding.
            raise ArithmeticError("the scores of the next token are not valid numbers")
        tokens: list[int] = best.tolist()
        for index, row in enumerate(self._rows):
            if row.prompt.temperature > 0:
                tokens[index] = self._draw(self._logits[index], row)
        wanted = [i for i, row in enumerate(self._rows) if row.prompt.logprobs]
        if wanted:
            scores = self._logits[wanted].float().log_softmax(-1)
            picked = scores.gather(1, self._tensor([[tokens[i]] for i in wanted]))[:, 0].tolist()
            for i, score in zip(wanted, picked, strict=True):
                self._rows[i].logprobs.append(score)
        return tokens

    def _draw(self, logits: Any, row: Row) -> int:
        shares = (logits.float().cpu() / row.prompt.temperature).softmax(-1)
        shares, tokens = shares.sort(descending=True)
        # The most likely tokens whose shares before them come to less than top_p; always the first.
        shares[shares.cumsum(0) - shares >= row.prompt.top_p] = 0
        return int(tokens[self._torch.multinomial(shares, 1, generator=row.random)])


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """The length of their common prefix."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
