"""An OpenAI-compatible endpoint that does wrong, by hand.

    python tests/faults/server.py --list
    python tests/faults/server.py --port 8100 429-seconds body-cut        one after the other, then all is well
    python tests/faults/server.py 500 --then 401                          then 401 for ever

It prints its address, and a line for each request; Ctrl-C ends it.
"""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults.behaviours import FAULTS
from support.faults import Behaviour, Received, answer, serve


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description="An OpenAI-compatible endpoint that does wrong.")
    made.add_argument("names", nargs="*", metavar="NAME", help="what is done, one after the other")
    made.add_argument("--then", metavar="NAME", help="what is done for ever after; an answer by default")
    made.add_argument("--port", type=int, default=0, help="any free one by default")
    made.add_argument("--list", action="store_true", help="show all names")
    return made


def script(names: list[str], then: str | None) -> tuple[list[Behaviour], Behaviour]:
    """The behaviours for the first requests, and the one for all others."""
    behaviours = [behaviour for name in names for behaviour in FAULTS[name].script]
    if then is None and names and FAULTS[names[-1]].for_ever:
        then = names[-1]
    return behaviours, FAULTS[then].script[-1] if then else answer()


async def main(words: argparse.Namespace, say: Callable[[str], None] = print) -> None:
    behaviours, then = script(words.names, words.then)

    def told(received: Received) -> None:
        say(f"{received.target} {len(received.body)} bytes")

    async with serve(behaviours, then, port=words.port, choose=told) as endpoint:
        say(endpoint.url)
        await asyncio.Event().wait()


if __name__ == "__main__":
    given = parser().parse_args()
    if unknown := [name for name in (*given.names, given.then) if name is not None and name not in FAULTS]:
        sys.exit(f"{unknown[0]}: there is no such fault: see --list")
    if given.list:
        for name, fault in FAULTS.items():
            print(f"{name:24} {fault.says}")
        sys.exit()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(given))
