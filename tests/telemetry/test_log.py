"""The log of a run and its traces: what is in them, and what never is."""

import json
import logging
import stat
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from safemt_client.__main__ import main
from safemt_client.moderator.assessor import GuardReply, reply_as
from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.types import Outcome, Reply, Usage
from safemt_client.results.store.rows import AssessmentRow, BatchRow, LimitRow, TurnRow, VerdictRow
from safemt_client.telemetry.events import Fanout, RunResult
from safemt_client.telemetry.log import RunLog, log_path

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY, SAID, ADDRESS = "sk-planted-42", "planted words", "http://me:planted-pass@host/v1?key=planted-query"
SECRETS = (KEY, SAID, "planted-pass", "planted-query")


def turn(**changes: Any) -> TurnRow:
    given: dict[str, Any] = {
        **{"request_hash": "r1", "attempt": 1, "run_id": "run", "session_id": "s", "target_key": "t"},
        **{
            "outcome": Outcome.ANSWERED,
            "text": SAID,
            "reasoning": SAID,
            "finish_reason": SAID,
            "error": None,
        },
        **{
            "status_code": 200,
            "resolved_model": SAID,
            "response_id": "x",
            "prompt_tokens": 3,
            "completion_tokens": 1,
        },
        **{
            "reasoning_tokens": None,
            "cached_tokens": None,
            "cost_usd": 0.5,
            "started_at": NOW,
            "latency_s": 1.25,
        },
        **{"request": json.dumps([{"role": "user", "content": SAID}]), "raw": f"{SAID} {KEY}"},
        **{"batch_key": None, "refusal_rule": None},
    }
    return TurnRow(**given | changes)


def verdict(**changes: Any) -> VerdictRow:
    given: dict[str, Any] = {
        **{
            "verdict_hash": "v1",
            "judge_key": "j",
            "request_hash": "r1",
            "dialogue_key": "d",
            "run_id": "run",
        },
        **{
            "session_id": "s",
            "label": "unsafe",
            "reason": None,
            "refusal": False,
            "explanation": SAID,
            "raw": SAID,
        },
        **{
            "prompt_tokens": 5,
            "completion_tokens": 2,
            "cost_usd": 0.25,
            "recorded_at": NOW,
            "latency_s": 0.5,
        },
        **{
            "cached_tokens": None,
            "rubric": "paper",
            "refusal_kind": None,
            "category": None,
            "severity": None,
        },
        **{"specificity": None, "confidence": None, "batch_key": None},
    }
    return VerdictRow(**given | changes)


ASSESSMENT = AssessmentRow(
    *("a1", "g", "input", "run", "s", "unsafe", SAID, "[]", "[]", SAID, None, None, SAID, SAID),
    *(4, 1, 0.1, NOW, 0.2),
)
LIMIT = LimitRow("run", "s", NOW, ADDRESS, "overload", 4, 8, 60.0, None, 2.0)
BATCH = BatchRow("b1", "run", "s", "t", "openai/m", NOW, "failed", "remote", 7, SAID)


def made(tmp_path: Path, **options: Any) -> RunLog:
    return RunLog(tmp_path / "run.log", run_id="run", session_id="s", **options)


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "run.log").read_text().splitlines()]


def everything(log: RunLog) -> None:
    failed = {"status_code": 503, "error": f"{KEY} {SAID}", "error_code": "overloaded"}
    log.saved([turn(), turn(outcome=Outcome.ERROR_TRANSIENT, **failed)])
    log.saved([verdict(), ASSESSMENT, LIMIT, BATCH])
    log.asking("t")
    said = f"rate_limit_exceeded {SAID} {KEY} at {ADDRESS}"
    busy = Reply(
        Outcome.ERROR_TRANSIENT, error=said, error_code=ErrorCode.RATE_LIMITED, status_code=429, raw=SAID
    )
    log.retrying("t", busy, 2.0)
    log.retrying("t", reply_as(GuardReply, busy), 3.0)
    log.landed("t", Outcome.ANSWERED, Usage(3, 1), 0.5)
    log.landed("t", "abandoned", Usage(), None)
    log.batch("t", "b1", 1, 7)
    said = f"authentication failed (HTTP 401): check the API key: {KEY} {SAID} {ADDRESS}"
    log.stopped("t", said, ErrorCode.AUTHENTICATION, 401)
    log.ended(RunResult("stopped", 1, "t cannot be asked"))
    log.close()


def test_ids_outcomes_tokens_and_money_are_logged_and_no_text(tmp_path: Path) -> None:
    everything(made(tmp_path, level="debug"))
    text = (tmp_path / "run.log").read_text()
    assert [secret for secret in SECRETS if secret in text] == []
    found = lines(tmp_path)
    assert all(
        line["run"] == "run" and line["session"] == "s" and line["at"].endswith("+00:00") for line in found
    )
    first = found[0]
    assert (first["event"], first["level"], first["key"], first["request"]) == ("turn", "info", "t", "r1")
    assert (first["outcome"], first["latency_s"], first["cost_usd"]) == ("answered", 1.25, 0.5)
    assert (first["prompt_tokens"], first["completion_tokens"]) == (3, 1)
    by_event = {line["event"]: line for line in found}
    assert "error_code" not in first
    assert (by_event["turn"]["error_code"], by_event["turn"]["status_code"]) == ("overloaded", 503)
    retries = [line for line in found if line["event"] == "retry"]
    assert [(line["error_code"], line["status_code"], line["wait_s"]) for line in retries] == [
        ("rate_limited", 429, 2.0),
        ("rate_limited", 429, 3.0),
    ]
    assert [line.get("of") for line in retries] == [None, "guard"]
    stopped = by_event["target_stopped"]
    assert (stopped["error_code"], stopped["status_code"]) == ("authentication", 401)
    assert not {"error", "reason"} & (retries[0].keys() | stopped.keys() | by_event["turn"].keys())
    assert by_event["limit"]["concurrency"] == 4
    assert by_event["batch"]["state"] == "failed"
    assert by_event["session_ended"]["exit_status"] == 1
    assert set(by_event) == {
        *("turn", "verdict", "assessment", "limit", "batch", "asking", "retry", "abandoned"),
        *("batch_progress", "target_stopped", "session_ended"),
    }


@pytest.mark.parametrize(
    ("level", "events"),
    [
        ("info", 12 - 2 + 1),
        ("warning", 7 - 1),
        ("error", 1),
    ],
)
def test_levels(level: str, events: int, tmp_path: Path) -> None:
    everything(made(tmp_path, level=level))
    order = ["debug", "info", "warning", "error"]
    found = lines(tmp_path)
    assert len(found) == events
    assert {line["level"] for line in found} <= set(order[order.index(level) :])


def test_texts_only_when_asked_for_and_addresses_without_secrets(tmp_path: Path) -> None:
    everything(made(tmp_path, texts=True))
    found = lines(tmp_path)
    assert found[0]["text"] == SAID
    assert found[0]["messages"] == [{"role": "user", "content": SAID}]
    text = (tmp_path / "run.log").read_text()
    assert "planted-pass" not in text
    assert "planted-query" not in text


def test_the_file_is_private_and_bounded(tmp_path: Path) -> None:
    log = made(tmp_path, most_bytes=2_000, kept=2)
    for number in range(200):
        log.event("info", "turn", number=number)
    log.close()
    pieces = sorted(tmp_path.iterdir())
    assert [path.name for path in pieces] == ["run.log", "run.log.1", "run.log.2"]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in pieces)
    assert all(path.stat().st_size <= 2_000 for path in pieces)
    assert lines(tmp_path)[-1]["number"] == 199


def test_a_full_queue_loses_lines_and_says_how_many(tmp_path: Path) -> None:
    log = made(tmp_path, room=2)
    # The writer stands still while the handler is held.
    with log._file.lock:
        for number in range(50):
            log.event("info", "turn", number=number)
        lost = log.lost
    # Two in the queue, and perhaps one in the writer's hand.
    assert lost in (47, 48)
    log.close()
    assert len(lines(tmp_path)) == 50 - lost


def test_nothing_of_other_packages_comes_in(tmp_path: Path) -> None:
    log = made(tmp_path, level="debug")
    logging.getLogger("httpx").error(SAID)
    logging.getLogger("safemt_client.run").error(SAID)
    log.close()
    assert lines(tmp_path) == []


def test_where_it_goes() -> None:
    db = Path("results/night.duckdb")
    assert log_path(None, db, "572e") == Path("results/night.duckdb.572e.log")
    assert log_path("none", db, "572e") is None
    assert log_path("x.log", db, "572e") == Path("x.log")


def test_both_listeners_hear_everything() -> None:
    heard: list[tuple[str, str, tuple[Any, ...]]] = []

    class Ear:
        def __init__(self, name: str) -> None:
            self.name = name

        def __getattr__(self, called: str) -> Any:
            return lambda *given: heard.append((self.name, called, given))

    both = Fanout(Ear("display"), Ear("log"))
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("asking", ("t",)),
        ("retrying", ("t", Reply(Outcome.EMPTY), 1.0)),
        ("landed", ("t", "answered", Usage(), None)),
        ("batch", ("t", "b", 1, 2)),
        ("stopped", ("t", "why", None, None)),
    ]
    for called, given in calls:
        getattr(both, called)(*given)
    assert heard == [(ear, called, given) for called, given in calls for ear in ("display", "log")]


class Plan:
    """As much of a plan as traces need."""

    class _Row:
        def __init__(self, **values: Any) -> None:
            self.__dict__.update(values)

    run = _Row(run_id="run")
    targets = (_Row(key="t", identity="openai/gpt-4o"),)
    judge = _Row(judge_key="j", identity="openai/mini")
    members = ()
    moderators = (_Row(guard_key="g", identity="local/guard"),)


def test_traces(tmp_path: Path) -> None:
    exporters = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    from safemt_client.telemetry.traces import Traces

    exporter = exporters.InMemorySpanExporter()
    plan: Any = Plan()
    traces = Traces(plan, "s", exporter)
    traces.saved([turn(outcome=Outcome.ERROR_TRANSIENT, status_code=429, error=SAID)])
    traces.saved([turn(attempt=2), verdict(), ASSESSMENT, verdict(reason="nothing_to_judge")])
    traces.saved([turn(request_hash="r2", outcome=Outcome.ERROR_TRANSIENT, error=SAID)])
    traces.ended(RunResult("done", 0, "done"))
    traces.close()
    spans = exporter.get_finished_spans()
    assert [secret for span in spans for secret in SECRETS if secret in span.to_json()] == []
    names = sorted(span.name for span in spans)
    assert names == sorted(["session", "turn", "turn", *["attempt gpt-4o"] * 3, "judge mini", "guard guard"])
    session = next(span for span in spans if span.name == "session")
    assert dict(session.attributes)["safemt.status"] == "done"
    first = next(span for span in spans if span.name == "turn")
    assert first.parent.span_id == session.context.span_id
    assert first.attributes["safemt.attempts"] == 2
    attempt = [span for span in spans if span.name == "attempt gpt-4o"]
    assert attempt[1].parent.span_id == first.context.span_id
    assert attempt[1].attributes["gen_ai.provider.name"] == "openai"
    assert attempt[1].attributes["gen_ai.request.model"] == "gpt-4o"
    assert attempt[1].attributes["gen_ai.usage.input_tokens"] == 3
    assert attempt[1].end_time - attempt[1].start_time == 1_250_000_000
    assert attempt[0].attributes["error.type"] == "error_transient"
    assert not attempt[0].status.is_ok


@pytest.mark.usefixtures("here_again")
def test_traces_without_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in list(sys.modules):
        if name.startswith("opentelemetry"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert main(["--provider", "demo", "--limit", "1", "--otel"]) == 2
    err = capsys.readouterr().err
    assert "pip install 'safemt-client[otel]'" in err
    assert len(err.splitlines()) == 1


@pytest.fixture
def here_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
