"""Names of models that this program serves, such as `llama.cpp:FILE.gguf`, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ENGINE_NAMES", "Serving", "engine_of"]

ENGINE_NAMES = ("llama.cpp", "vllm", "transformers")


@dataclass(frozen=True)
class Serving:
    """What the user says of the servers: of all, or of one model's.

    Attributes:
        python: the interpreter that runs them; the program's own if None.
        options: options of the server by their names, without the dashes.
        gpus: the cards that it may use; all if None.
        elsewhere: whether another machine is to serve it, of whose cards and memory nothing is known here.
    """

    python: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[str, ...] | None = None
    elsewhere: bool = False


def engine_of(name: str) -> str | None:
    """The engine that a model's name begins with, None for a model that is not served by this program."""
    engine, colon, source = name.partition(":")
    return engine if colon and source and engine in ENGINE_NAMES else None
