"""vLLM's own offline batches, for `moderator.py`: run by the interpreter that has vLLM, the work on stdin.

Prints a line `RATE x` (conversations a second) for each round after the first, which warms up.
"""

import json
import sys
import time


def main() -> None:
    from vllm import LLM, SamplingParams

    asked = json.load(sys.stdin)
    model = LLM(asked["model"], **asked["options"])
    sampling = SamplingParams(temperature=0, max_tokens=asked["tokens"])
    for number, texts in enumerate(asked["rounds"]):
        begin = time.perf_counter()
        model.chat([[{"role": "user", "content": text}] for text in texts], sampling, use_tqdm=False)
        if number:
            print(f"RATE {len(texts) / (time.perf_counter() - begin)}", flush=True)


if __name__ == "__main__":
    main()
