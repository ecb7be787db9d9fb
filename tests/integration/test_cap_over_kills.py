"""A cost cap in the plan, and over kill -9: what was in flight counts as spent until it is released."""

import asyncio
import json
import signal
import threading
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from support.faults import Behaviour, Received, response, serve
from support.forked import forked

import safemt_client as safemt
from safemt_client.__main__ import main
from safemt_client.planning.costs import held_of, spent_of
from safemt_client.results.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
CAP, A_REPLY, TOKENS = 40.0, 0.5, 50
ANSWERED, IN_FLIGHT = 20, 30
REPLY = response(
    200,
    {
        "id": "r",
        "choices": [{"message": {"content": "By the wind."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 30, "completion_tokens": TOKENS},
    },
)


class Vendor:
    """Charges for each request as it comes. After the first ones nobody is answered until `go_on` is set."""

    def __init__(self) -> None:
        self.charged = 0.0
        self.requests = 0
        self.all_in_flight = threading.Event()
        self.go_on = False

    def choose(self, received: Received) -> Behaviour | None:
        self.requests += 1
        self.charged += A_REPLY
        if self.requests == ANSWERED + IN_FLIGHT:
            self.all_in_flight.set()
        return None if self.go_on or self.requests <= ANSWERED else self._keep_waiting

    async def _keep_waiting(self, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()


def accounted(path: Path, run_id: str) -> tuple[float, float]:
    with Store.open(path) as store:
        return spent_of(store, run_id), held_of(store, run_id)


def test_what_was_in_flight_at_a_kill_counts_against_the_cap(tmp_path: Path) -> None:
    vendor, db = Vendor(), tmp_path / "d.duckdb"
    with (tmp_path / "data.jsonl").open("w") as data:
        for item in range(120):
            dialogue = [{"role": "user", "content": f"How do kites of kind {item} fly?"}]
            data.write(json.dumps({"id": f"t_{item}", "scenario": "Satire", "dialogue": dialogue}) + "\n")
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve([], REPLY, choose=vendor.choose)) as endpoint,
    ):
        words = ["--provider", f"m=m@{endpoint.url}", "--data", "data.jsonl", "--db", db.name]
        words += ["--judge", "none", "--max-concurrency", str(IN_FLIGHT), "--max-tokens", str(TOKENS)]
        words += ["--price", f"m=0/{A_REPLY / TOKENS * 1e6:.0f}", "--max-cost", f"{CAP:g}"]
        first = forked(*words, cwd=tmp_path)
        assert vendor.all_in_flight.wait(60), first.communicate()
        first.send_signal(signal.SIGKILL)
        first.communicate()
        with safemt.open(db) as store:
            run_id = store.runs()[0].run
        spent, held = accounted(db, run_id)
        assert spent <= ANSWERED * A_REPLY
        assert held >= IN_FLIGHT * A_REPLY
        assert spent + held >= vendor.charged

        # The resume tells of it and keeps to what is left.
        vendor.go_on = True
        again = forked(*words, cwd=tmp_path)
        said = "".join(again.communicate(timeout=120))
        assert again.returncode == 1, said
        assert f"${held:.2f} held for calls of unknown cost" in said
        assert f"runs --release {run_id} --db {db.name}" in said
        assert "--max-cost $40.00 is reached" in said
        assert CAP - held - A_REPLY < vendor.charged <= CAP
        spent, still = accounted(db, run_id)
        assert still == held
        assert CAP - A_REPLY < spent + held <= CAP

        # Followed to the letter, the advice frees what was held; a clean session leaves nothing behind.
        released = forked("runs", "--release", run_id, "--db", db.name, cwd=tmp_path)
        assert f"${held:.2f} released" in "".join(released.communicate())
        assert accounted(db, run_id) == (spent, 0.0)
        last = forked(*words, cwd=tmp_path)
        assert "held" not in "".join(last.communicate(timeout=120))
        assert accounted(db, run_id) == (CAP, 0.0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--max-tokens none", "cannot be promised: how long a reply of m can be is not known: limit it"),
        ("--max-tokens 2000", "one call to m may cost $2."),
        ("--max-tokens 200", "so that at most 5 are in flight"),
        ("--max-tokens 10", None),
        (
            "--max-tokens 10 --moderator llm=g@http://127.0.0.1:9/v1 --price g@http://127.0.0.1:9/v1=0/9000",
            "one reply of the guard llm may cost $6.30, and $1.00 is left",
        ),
    ],
)
@pytest.mark.usefixtures("here")
def test_the_plan_says_where_a_cap_is_not_promised_or_leaves_little_room(
    words: str, said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = "--provider m=m@http://127.0.0.1:9/v1 --data sample --turns 1 --judge none --price m=0/1000"
    assert main([*asked.split(), *words.split(), "--max-cost", "1", "--dry-run"]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if "--max-cost $1.00" in line]
    assert said in notes[0] if said else notes == [], notes
