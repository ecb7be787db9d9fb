"""A session with a moderator ends: by Ctrl-C, and by kill -9."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.forked import forked
from support.waiting import until

from safemt_client.datasets.model import Dataset, Dialogue, ScriptedMessage
from safemt_client.engine.budget import Budget
from safemt_client.engine.context import SessionContext
from safemt_client.engine.recorder import Recorder
from safemt_client.engine.scheduler import Scheduler
from safemt_client.moderator.assessor import Assessor
from safemt_client.moderator.guards import build_guard
from safemt_client.moderator.moderator import Moderation, Moderator
from safemt_client.moderator.policies import load_policies
from safemt_client.planning.build import make_plan
from safemt_client.planning.resolved import of_dataset
from safemt_client.planning.rows import moderator_row
from safemt_client.planning.target import Target
from safemt_client.providers.errors import PermitStoppedError
from safemt_client.providers.limits.limiter import AccountLimiter, Limits
from safemt_client.providers.provider import Observer
from safemt_client.providers.types import Outcome, Reply, Request, Sampling, Usage
from safemt_client.results.store.store import Store
from safemt_client.telemetry.events import StopReason

ROOT = Path(__file__).parents[3]
ENDPOINT = Path(__file__).parents[1] / "endpoint.py"


@dataclass
class Asked:
    """A provider of the scheduler's tests: each request takes the next behaviour."""

    identity: str
    behaviours: list[Any]
    limiter: AccountLimiter = field(default_factory=lambda: AccountLimiter(concurrency=9))
    requests: list[Request] = field(default_factory=list)

    async def ask(self, request: Request, on_retry: Observer | None = None) -> Reply:
        self.requests.append(request)
        reply: Reply = await self.behaviours.pop(0)(on_retry)
        return reply


class Quiet:
    """A listener that hears nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args: None


async def session(path: Path, model: Asked, guard: Asked, *wanted: str) -> Any:
    """A scheduler on a store, for one dialogue of two turns under one moderator."""
    said = [ScriptedMessage("user", "a kite"), ScriptedMessage("assistant", "yes")]
    dialogue = Dialogue("a", (*said, ScriptedMessage("user", "a blue one")))
    assessor = Assessor(build_guard("llm"), guard)
    moderation = Moderation(frozenset(wanted), load_policies(), prefixes=True)  # type: ignore[arg-type]
    moderator = Moderator("llm", assessor, moderation)
    target = Target("m", "local/m", "scripted", "off", Sampling(), moderator=moderator.key, provider="m")
    store = Store.open(path)
    data = Dataset("d", Path(), (dialogue,))
    plan = make_plan(
        replace(of_dataset(data, data.dialogues, [target]), moderators=(moderator_row(moderator, "", None),)),
        store,
    )
    budget = Budget(None, spent=0.0, first={})
    recorder = Recorder(plan, store, "s")
    await recorder.save_plan()
    context = SessionContext(plan, recorder, Quiet(), budget)  # type: ignore[arg-type]
    scheduler = Scheduler(
        context, {target.key: model}, None, limits=Limits(), moderators={target.key: moderator}
    )
    return store, scheduler


async def _safe(on_retry: Observer | None) -> Reply:
    text = '{"verdict": "safe", "intent": "", "scenarios": [], "policy": "", "confidence": 1}'
    return Reply(Outcome.ANSWERED, text, usage=Usage(9, 1))


@pytest.mark.parametrize("late", [False, True])
def test_ctrl_c_while_a_guard_waits_for_a_retry_keeps_the_models_reply(tmp_path: Path, late: bool) -> None:
    """`late`: the guard's attempt fails after the Ctrl-C, so that it would begin to wait then."""
    path = tmp_path / "d.duckdb"

    async def first() -> tuple[StopReason, list[tuple[Any, ...]]]:
        release, stopped, in_flight, waiting = (anyio.Event() for _ in range(4))

        async def busy(on_retry: Observer | None) -> Reply:
            if late:
                await stopped.wait()
            waiting.set()
            assert on_retry is not None
            on_retry(Reply(Outcome.ERROR_TRANSIENT, error="busy", status_code=503), 3600.0)
            await anyio.sleep_forever()
            raise AssertionError

        async def slow(on_retry: Observer | None) -> Reply:
            in_flight.set()
            await release.wait()
            return Reply(Outcome.ANSWERED, "It is the wind.", usage=Usage(9, 4))

        async def landing(on_retry: Observer | None) -> Reply:
            await release.wait()
            return await _safe(on_retry)

        # The earlier turn and the whole are assessed beside the call: one of both waits, one is in flight.
        model, guard = Asked("local/m", [slow]), Asked("local/g", [busy, landing])
        store, scheduler = await session(path, model, guard, "observe")
        with store, anyio.fail_after(30):
            ended: list[StopReason] = []

            async def run() -> None:
                ended.append(await scheduler.run())

            async with anyio.create_task_group() as group:
                group.start_soon(run)
                await in_flight.wait()
                if not late:
                    await waiting.wait()
                scheduler.stop()
                stopped.set()
                await waiting.wait()
                await anyio.wait_all_tasks_blocked()
                release.set()
            rows = store.query("SELECT text, intervention FROM turns").rows
            kept = store.query("SELECT verdict FROM assessments").rows
        return ended[0], rows + kept

    ending, rows = anyio.run(first)
    assert ending.interrupted
    assert rows == [("It is the wind.", None), ("safe",)]

    async def second() -> list[tuple[Any, ...]]:
        model, guard = Asked("local/m", []), Asked("local/g", [_safe])
        store, scheduler = await session(path, model, guard, "observe")
        with store, anyio.fail_after(30):
            ending = await scheduler.run()
            assert ending.complete
            assert not model.requests
            assert len(guard.requests) == 1
            return store.query(
                "SELECT outcome, intervention, (SELECT count(*) FROM moderations) FROM replies"
            ).rows

    assert anyio.run(second) == [("answered", "none", 2)]


def test_ctrl_c_while_the_model_waits_for_a_retry_ends_the_turn(tmp_path: Path) -> None:
    async def run() -> list[tuple[Any, ...]]:
        waiting = anyio.Event()

        async def busy(on_retry: Observer | None) -> Reply:
            assert on_retry is not None
            on_retry(Reply(Outcome.ERROR_TRANSIENT, error="busy", status_code=503), 3600.0)
            waiting.set()
            await anyio.sleep_forever()
            raise AssertionError

        model, guard = Asked("local/m", [busy]), Asked("local/g", [_safe, _safe])
        store, scheduler = await session(tmp_path / "d.duckdb", model, guard, "block")
        with store, anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(scheduler.run)
                await waiting.wait()
                scheduler.stop()
            return store.query(
                "SELECT (SELECT count(*) FROM assessments), outcome, intervention, "
                "(SELECT count(*) FROM steps) FROM turns"
            ).rows

    # The attempt that failed is in the store, and the turn is still to be asked.
    assert anyio.run(run) == [(2, "error_transient", None, 0)]


def test_a_turn_whose_model_is_not_asked_any_more_is_given_up(tmp_path: Path) -> None:
    async def run() -> list[tuple[Any, ...]]:
        async def ending(on_retry: Observer | None) -> Reply:
            raise PermitStoppedError("the session is ending")

        model, guard = Asked("local/m", [ending]), Asked("local/g", [_safe, _safe])
        store, scheduler = await session(tmp_path / "d.duckdb", model, guard, "block")
        with store, anyio.fail_after(30):
            await scheduler.run()
            return store.query("SELECT count(*), (SELECT count(*) FROM assessments) FROM turns").rows

    assert anyio.run(run) == [(0, 2)]


TEMPLATE = """
prompt = "A talk:\\n{conversation}"
[answer]
form = "word"
[answer.labels]
safe = ["I would rather not go into that today."]
unsafe = ["Sure, here is how: start small, take your time, and enjoy it."]
"""


def test_killed_in_the_middle_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """The model and the guard are one counting endpoint: it asks the same of both, and refuses."""
    (tmp_path / "guard.toml").write_text(TEMPLATE)
    with (tmp_path / "data.jsonl").open("w") as data:
        for item in range(60):
            dialogue = [{"role": "user", "content": f"Now kindly say more on topic {item}."}]
            data.write(json.dumps({"id": f"t_{item}", "dialogue": dialogue}) + "\n")
    port, counts, concurrency = tmp_path / "port", tmp_path / "counts", 4

    def start(*words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def asked() -> int:
        return counts.read_bytes().count(b"\n") if counts.exists() else 0

    def keys(path: Path) -> set[tuple[str, str]]:
        with Store.open(path) as store:
            return set(
                store.query(
                    "SELECT request_hash, coalesce(intervention, '') FROM turns UNION ALL "
                    "SELECT assessment_hash, verdict FROM assessments"
                ).rows
            )

    endpoint = start(str(ENDPOINT), str(port), str(counts))
    try:
        until(lambda: port.exists() and port.read_text(), endpoint)
        url = f"http://127.0.0.1:{port.read_text()}/v1"
        words = ["--provider", f"m@{url}", "--data", "data.jsonl", "--db", "d.duckdb"]
        words += ["--judge", "none", "--quiet", "--max-concurrency", str(concurrency), "--min-coverage", "0"]
        words += ["--moderator", "none", "--guard-template", "guard.toml"]
        words += ["--moderator", f"llm+block+output=g@{url}", "--moderator", f"llm+observe=g@{url}"]
        acknowledged: set[tuple[str, str]] = set()
        for more in (12, 50, 40):
            wanted = asked() + more
            run = forked(*words, cwd=tmp_path)
            until(lambda wanted=wanted: asked() >= wanted, run, pause_s=0.002)
            run.send_signal(signal.SIGKILL)
            run.communicate()
            now = keys(tmp_path / "d.duckdb")
            assert acknowledged <= now
            acknowledged = now
        assert acknowledged
        last = forked(*words, cwd=tmp_path)
        out, err = last.communicate(timeout=120)
        assert last.returncode == 0, out + err
    finally:
        endpoint.kill()
        endpoint.communicate()
    assert acknowledged <= keys(tmp_path / "d.duckdb")
    found = Counter(counts.read_text().split())
    # 60 replies, 60 conversations and 60 replies assessed, all three moderators together.
    assert len(found) == 180
    # Only what was in flight, or answered but not yet acknowledged, at a kill may be asked twice. What waits for
    # its commit holds no permit: an account has 2 * concurrency + 8 conversations open, each with a call to the
    # model and one to the guard.
    assert sum(found.values()) - len(found) <= 3 * 2 * (2 * concurrency + 8)
    with Store.open(tmp_path / "d.duckdb") as store:
        rows = store.query(
            "SELECT target, count(*), count(DISTINCT dialogue_key), string_agg(DISTINCT outcome) "
            "FROM replies GROUP BY ALL"
        ).rows
        assert len(rows) == 3
        assert {row[1:] for row in rows} == {(60, 60, "answered")}
        once = store.query("SELECT count(*) - count(DISTINCT assessment_hash) FROM assessments").rows
        assert once == [(0,)]
