"""Which options of a server decide its answers: all but those known to be about speed, memory, or its log.

An option that is not known here may decide: with another value of it everything is asked again, which takes
time. Taken for one that does not, it would have old answers pass for those of another model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from safemt_client.providers.errors import InputError

__all__ = ["deciding", "is_file"]

_FILES = ("chat-template", "mmproj")
"""Options whose values can only be files."""
_DIVIDED = """
    *-parallel* parallel tp pp dp dcp pcp threads gpu-layers *-backend *-implementation device* numa-*
    node-* nnodes master-* distributed-* api-server-count headless enable-expert-parallel *-eplb*
    expert-placement-* *dbo* attention-config kernel-config disable-custom-all-reduce *-timeout*
"""
"""How the work is divided, and on what."""
_KEPT = """
    context max-* gpu-memory-* kv-cache-memory-* block-size swap-space *-offload* offload-*
    *prefix-cach* cache-ram *-cache-gb *-cache-type num-gpu-blocks-* limit-mm-* dtype
    continuous-batching *chunked-* *prefill-* schedul* async-* stream-interval speculative-* spec-*
"""
"""What is kept, and how many are answered at once. The number format is told by the name in each reply."""
_LOADED = """
    download-dir safetensors-* ignore-patterns trust-remote-code hf-token use-tqdm-* enforce-eager cuda*
    compile compilation-config optimization-level performance-mode skip-mm-profiling cb-*
"""
"""How the model is loaded and compiled."""
_TOLD = """
    log-* *-log *-log-* logging-* *-metrics* *-traces* otlp-* uvicorn-* profiler-* ssl-* allow*
    root-path shutdown-* *-docs fingerprint-* jit-monitor-* enable-auto-tool-choice tool-* enable-lora
    *-request-id-* *-server-load-*
"""
"""What the server tells, and to whom."""
_OTHERS = tuple(" ".join((_DIVIDED, _KEPT, _LOADED, _TOLD)).split())
"""What is not about the answers, of any engine: patterns of names, without dashes and `no-` before them."""


def deciding(name: str, options: Mapping[str, str]) -> dict[str, str]:
    """The options of the server of `name` that decide its answers; of a file its content counts.

    Raises:
        InputError: a file is not there.
    """
    return {
        option: _content(name, value) if option in _FILES or is_file(value) else value
        for option, value in options.items()
        if not _is_other(option)
    }


def is_file(value: str) -> bool:
    """Whether an option's value is a file of this machine."""
    try:
        return Path(value).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):  # such as JSON, which is longer than any name
        return False


def _is_other(option: str) -> bool:
    # vLLM takes parts of a JSON value as options of their own, with a dot.
    bare = option.partition(".")[0].removeprefix("no-")
    return any(fnmatchcase(bare, pattern) for pattern in _OTHERS)


def _content(name: str, path: str) -> str:
    try:
        return hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{name}: --serve-option: {path}: {error.strerror}: name an existing file") from None
