"""A run that is planned in pieces: its shards, as they are made, and what comes of them on workers."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from cluster.said import rows, scores, turns, write_dialogues
from cluster.strict import strict
from cluster.threads import on_threads
from support.program import ROOT, at_once
from support.waiting import until

from safemt_client.cluster import supply as supply_module
from safemt_client.cluster.shards import Shard
from safemt_client.cluster.supply import Supply
from safemt_client.datasets.model import Dataset, Dialogue, ScriptedMessage
from safemt_client.planning import outline, pieces
from safemt_client.planning.outline import outline_of
from safemt_client.planning.resolved import NothingKnown, Resolved, of_dataset
from safemt_client.planning.target import Target
from safemt_client.providers.types import Sampling
from safemt_client.results.store.queries import Result


class Memory(NothingKnown):
    """A store that has the replies that it was given, and remembers what was saved."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}
        self.saved: list[Any] = []
        self.asked_in: set[threading.Thread] = set()

    def observed(self, hashes: Sequence[str]) -> Mapping[str, str]:
        return {key: "answered" for key in hashes if key in self.said}

    def texts(self, hashes: Sequence[str]) -> Mapping[str, str]:
        return {key: self.said[key] for key in hashes if key in self.said}

    def known_keys(self, table: str, column: str) -> set[str]:
        return set()

    def query(self, sql: str, parameters: Sequence[Any] | None = None, limit: int | None = None) -> Result:
        self.asked_in.add(threading.current_thread())
        return Result([], [])

    async def save(self, *rows: Any) -> None:
        self.saved += rows


def greeted(item: int) -> Dialogue:
    said = ["Good morning", f"tea {item}"]
    messages = [ScriptedMessage("user", said[0]), ScriptedMessage("assistant", "yes")]
    return Dialogue(f"item_{item}", (*messages, ScriptedMessage("user", said[1])))


def test_what_is_under_way_is_not_asked_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 4)
    monkeypatch.setattr(pieces, "_ALIKE", 1)
    anyio.run(_see_that_it_waits)


def supply_of(dialogues: Sequence[Dialogue], store: Memory) -> tuple[Supply, dict[str, int]]:
    """Shards of two conversations, and how many turns fewer are to come, by target.

    The run is planned by what the store has by now.
    """
    data = Dataset("d", Path(), tuple(dialogues))
    wanted = of_dataset(data, data.dialogues, [Target("m", "local/m", "live", "off", Sampling())])
    fewer = dict[str, int]()
    supply = Supply(
        *(outline_of(wanted, store), wanted, store, "s", 2),  # type: ignore[arg-type]
        lambda key, count: fewer.update({key: fewer.get(key, 0) + count}),
    )
    return supply, fewer


async def _see_that_it_waits() -> None:
    """All begin with the same request: after the first piece it is in the store."""
    store = Memory()
    supply, fewer = supply_of([greeted(n) for n in range(8)], store)
    under_way: list[Shard] = []

    async def more() -> list[Shard] | None:
        return await supply.more(lambda: under_way)

    first = await more()
    assert first is not None
    assert [len(shard.plan.pending) for shard in first] == [4]
    under_way += first
    # The second piece is planned, and waits.
    assert [await more(), await more()] == [[], []]
    assert store.saved == []
    (request,) = first[0].requests
    store.said[request] = "Good morning to you"
    under_way.clear()
    second = await more()
    assert second is not None
    # They go on with requests of their own: cut anew, for as many workers as there are.
    assert [[c.turn for c in shard.plan.pending] for shard in second] == [[2, 2], [2, 2]]
    assert {c.dialogue.item_id for shard in second for c in shard.plan.pending} == {
        f"item_{n}" for n in range(4, 8)
    }
    # The steps that are known are saved, and the display no longer waits for their turns.
    assert len(store.saved) == 4
    # The store may be long in answering, and the driver has to hear its workers meanwhile.
    assert store.asked_in
    assert threading.current_thread() not in store.asked_in
    assert sum(fewer.values()) == 4
    numbers = [shard.number for shard in (*first, *second)]
    assert len(numbers) == len(set(numbers))
    assert await more() is None


def alike(item: int) -> Dialogue:
    """The first two requests of all are the same, the third ones are not."""
    messages = [ScriptedMessage("user", "Good morning"), ScriptedMessage("assistant", "yes")]
    messages += [ScriptedMessage("user", "tea"), ScriptedMessage("assistant", "yes")]
    return Dialogue(f"item_{item}", (*messages, ScriptedMessage("user", f"with {item}")))


def test_what_follows_a_request_under_way_waits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first reply is in the store before the second piece is planned, the second one in flight."""
    monkeypatch.setattr(pieces, "PIECE", 4)
    monkeypatch.setattr(pieces, "_ALIKE", 1)

    async def see() -> None:
        store = Memory()
        supply, _ = supply_of([alike(n) for n in range(8)], store)
        under_way = await supply.more(lambda: [])
        assert under_way is not None
        (request,) = under_way[0].requests
        store.said[request] = "Good morning to you"
        assert await supply.more(lambda: under_way) == []
        again = await supply.replan(under_way[0])
        (request,) = again.requests
        store.said[request] = "Yes"
        assert await supply.more(lambda: under_way) == []
        second = await supply.more(lambda: [])
        assert second is not None
        assert [[c.turn for c in shard.plan.pending] for shard in second] == [[3, 3], [3, 3]]

    anyio.run(see)


def test_what_is_known_of_pieces_that_are_not_reached_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 4)
    dialogues = [Dialogue(f"item_{n}", (ScriptedMessage("user", f"tea {n}"),)) for n in range(16)]
    planned: list[int] = []
    make_plan = supply_module.make_plan

    def counted(piece: Resolved, known: Any) -> Any:
        planned.append(len(piece.sendable))
        return make_plan(piece, known)

    async def see() -> None:
        store = Memory()
        asked, _ = supply_of(dialogues, store)
        shards = [shard for _ in range(4) for shard in await asked.more(lambda: []) or ()]
        # Of the third piece, as another run has asked it.
        known = [c.next()[1] for shard in shards for c in shard.plan.pending][8:11]
        store.said = dict.fromkeys(known, "with milk")
        supply, _ = supply_of(dialogues, store)
        assert await supply.more(lambda: []) is not None
        assert store.saved == []
        planned.clear()
        told: list[None] = []
        await supply.save_rest(lambda: told.append(None))
        assert [row.request_hash for row in store.saved] == known
        assert len(told) == 1
        # Only this one was planned: of the others there is nothing to save.
        assert planned == [4]
        await supply.save_rest(lambda: told.append(None))
        assert (len(store.saved), len(told)) == (3, 1)

    monkeypatch.setattr(supply_module, "make_plan", counted)
    anyio.run(see)


def run(*words: str, workers: int = 2) -> str:
    with on_threads(workers):
        done = at_once("--provider", "demo", "--workers", str(workers), *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_scores_and_estimate_of_pieces_are_those_of_the_whole(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--turns", "1,2,6", "--history", "live"]
    whole = run(*words, "--db", "one.duckdb")
    monkeypatch.setattr(pieces, "PIECE", 10)
    planned: list[int] = []
    monkeypatch.setattr(outline, "pieces_of", lambda wanted: planned.append(1) or pieces.pieces_of(wanted))
    parts = run(*words, "--db", "parts.duckdb")
    assert planned == [1]
    assert scores(here / "parts.duckdb") == scores(here / "one.duckdb")
    assert turns(here / "parts.duckdb") == turns(here / "one.duckdb")
    calls = r"\d+ (?:calls to make|verdicts to ask for in \d+ to \d+ calls)"
    plans = [re.findall(calls, said) for said in (whole, parts)]
    assert len(plans[0]) == 2
    assert plans[0] == plans[1]


def in_pieces_on_threads(*words: str) -> subprocess.CompletedProcess[str]:
    """A run on a worker in pieces of 20 conversations."""
    with pytest.MonkeyPatch.context() as patch, on_threads(1):
        patch.setattr(pieces, "PIECE", 20)
        return at_once(*words, "--workers", "1")


@pytest.mark.parametrize("ended", ["capped", "interrupted"])
def test_the_report_of_a_run_that_ends_early_has_what_others_have_asked(here: Path, ended: str) -> None:
    data = write_dialogues(here / "d.jsonl", 60)
    (here / "late").mkdir()
    (here / "late/late.jsonl").write_text("".join(data.read_text().splitlines(keepends=True)[-15:]))
    with strict(latency_s=0.05) as endpoint:
        words = ["--provider", f"m@{endpoint.url}", "--judge", f"judge@{endpoint.url}", "--history", "live"]
        words += ["--max-concurrency", "2", "--max-tokens", "100", "--db", "a.duckdb"]
        before = at_once(*words, "--data", "late/late.jsonl")
        assert before.returncode == 0, before.stdout + before.stderr
        # Turns and verdicts of the last 15 dialogues.
        assert len(endpoint.times) == 30
        words += ["--data", "d.jsonl"]
        if ended == "capped":
            # A call costs 100 x 10 + 100 x 10 millionths of a dollar.
            prices = (f"m@{endpoint.url}=10/10", f"judge@{endpoint.url}=0/0")
            words += ["--price", prices[0], "--price", prices[1], "--max-cost", "0.02"]
        else:
            threading.Thread(target=lambda: _interrupt_once(lambda: len(endpoint.times) > 34)).start()
        done = in_pieces_on_threads(*words)
    assert done.returncode == 1, done.stdout + done.stderr
    answered = "SELECT count(*) FROM conversations JOIN runs USING (run_id) WHERE dataset_name = 'd' AND {}"
    ((count,),) = rows(here / "a.duckdb", answered.format("outcome = 'answered'"))
    # Those of others are in the third piece, and what the run has asked itself in the first one.
    assert 15 < count <= 15 + 20


def _interrupt_once(state: Callable[[], object]) -> None:
    until(state)
    os.kill(os.getpid(), signal.SIGINT)


def test_a_run_that_is_killed_in_its_second_piece_resumes(here: Path) -> None:
    write_dialogues(here / "d.jsonl", 60)
    code = "import sys; from cluster.test_supply import *; in_pieces_on_threads(*sys.argv[1:])"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}
    with strict(latency_s=0.05) as endpoint:
        words = ["--provider", f"m@{endpoint.url}", "--judge", f"judge@{endpoint.url}", "--data", "d.jsonl"]
        words += ["--history", "live", "--max-concurrency", "4", "--db", "a.duckdb"]
        run = subprocess.Popen([sys.executable, "-c", code, *words], env=env)
        try:
            # Turns and verdicts: those of 20 conversations are 40.
            until(lambda: len(endpoint.asked) > 60, run)
        finally:
            run.kill()
            run.wait()
        begun = turns(here / "a.duckdb")[2]
        done = in_pieces_on_threads(*words)
    assert 20 < begun < 60
    assert done.returncode == 0, done.stdout + done.stderr
    assert turns(here / "a.duckdb")[1:] == (60, 60)
    assert rows(here / "a.duckdb", "SELECT count(DISTINCT verdict_hash) FROM verdicts") == [(60,)]
    assert len(endpoint.asked) == 120
    # Of each conversation of the piece in hand at most what was not committed yet is asked twice.
    assert endpoint.asked.total() <= 120 + 20
