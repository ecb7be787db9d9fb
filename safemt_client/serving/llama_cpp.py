"""llama.cpp's HTTP server in this process: `python llama_cpp.py --port N --model FILE --alias NAME ...`.

A program of its own with nothing of this package in it: any interpreter that has `xllamacpp` can run it.
The key that it demands is read from the environment, and taken out of it.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import threading
from typing import Any

KEY_VARIABLE = "SAFEMT_SERVE_KEY"


def main(words: list[str] | None = None) -> int:
    """Serve until the process is ended; 1 if the model cannot be loaded, 3 without xllamacpp."""
    arguments = _parser().parse_args(words)
    key = os.environ.pop(KEY_VARIABLE, "")
    try:
        xllamacpp: Any = importlib.import_module("xllamacpp")
    except ImportError as error:
        print(f"xllamacpp cannot be imported: {error}", file=sys.stderr)
        return 3
    parameters = xllamacpp.CommonParams()
    parameters.model.path = arguments.model
    parameters.model_alias = {arguments.alias}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = arguments.port
    parameters.api_keys = [key] if key else []
    parameters.n_parallel = arguments.parallel
    parameters.n_ctx = arguments.context * arguments.parallel
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = arguments.threads
    parameters.cache_ram_mib = arguments.cache_ram
    parameters.endpoint_metrics = True
    # A guard's template asks about the last message: an assistant's is not the beginning of the answer.
    parameters.prefill_assistant = False
    if arguments.gpu_layers is not None:
        parameters.n_gpu_layers = arguments.gpu_layers
    if arguments.mmproj:
        parameters.mmproj.path = arguments.mmproj
    if arguments.chat_template:
        with open(arguments.chat_template, encoding="utf-8") as file:
            parameters.chat_template = file.read()
    try:
        server = xllamacpp.Server(parameters)
    except RuntimeError as error:
        print(f"the model cannot be served: {error}", file=sys.stderr)
        return 1
    print(f"serving at {server.listening_address}", file=sys.stderr, flush=True)
    # Until a signal ends the process: the server has threads of its own.
    threading.Event().wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cache-ram", type=int, default=512)
    parser.add_argument("--gpu-layers", type=int)
    parser.add_argument("--mmproj")
    parser.add_argument("--chat-template")
    return parser


if __name__ == "__main__":
    sys.exit(main())
