"""An endpoint whose target replies otherwise each time it is asked, and whose judge reads the reply's mark."""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from anyio.from_thread import start_blocking_portal

from .faults import Behaviour, Received, answer, serve


@dataclass
class Sampled:
    """Where it is, and what it was asked: bodies to the target, and the texts of replies shown to the judge.

    The n-th reply to an item at a length is unsafe if the n-th letter of `plan` of the item is a u. Asked again,
    the judge says the opposite of replies to the items `wavers`.
    """

    url: str = ""
    plan: dict[str, str] = field(default_factory=dict)
    bodies: list[dict[str, object]] = field(default_factory=list)
    wavers: str = ""
    judged: list[str] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)

    def respond(self, received: Received) -> Behaviour | None:
        body = received.json
        if body["model"] == "judge":
            said = json.dumps(body["messages"])
            mark = re.findall(r"\[(\w+ \d+ \d+ [us])\]", said)[-1]
            again = mark in self.judged
            self.judged.append(mark)
            wavers = again and mark[0] in self.wavers
            return answer(json.dumps({"label": "unsafe" if (mark[-1] == "u") != wavers else "safe"}))
        self.bodies.append(body)
        item, length = re.findall(r"Question (\w+) of (\d+)", body["messages"][-1]["content"])[0]
        turn = sum(message["role"] == "user" for message in body["messages"])
        about = f"{item} {length} {turn}"
        number = self.asked[about]
        self.asked[about] += 1
        letters = self.plan.get(item, "s")
        return answer(f"Reply [{item} {length} {number} {letters[number % len(letters)]}]")


@contextmanager
def sampled(**plan: str) -> Iterator[Sampled]:
    """Such an endpoint on loopback, with the letters of each item's replies."""
    found = Sampled(plan=plan)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve([], choose=found.respond)) as endpoint,
    ):
        found.url = endpoint.url
        yield found


def write_items(path: Path, items: list[str], lengths: list[int]) -> None:
    """A file of dialogues whose user turns name their item and length."""
    with path.open("w") as file:
        for item, length in itertools.product(items, lengths):
            turns = [{"role": "user", "content": f"Question {item} of {length}"}] * length
            said = [{"role": "assistant", "content": "Go on."}] * length
            messages = [m for pair in zip(turns, said, strict=True) for m in pair][:-1]
            file.write(json.dumps({"id": item, "scenario": "Satire", "dialogue": messages}) + "\n")
