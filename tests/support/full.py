"""A store in which each text stands in every column that can hold one, and an address with keys in its names."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safemt_client.providers.types import reply_hash
from safemt_client.results.store.rows import (
    AssessmentRow,
    CommentRow,
    DialogueRow,
    HumanLabelRow,
    ImageRow,
    JudgeRow,
    ModerationRow,
    ModeratorRow,
    RunDialogueRow,
    RunRow,
    StepRow,
    TargetRow,
    TurnRow,
    VerdictRow,
)
from safemt_client.results.store.store import Store

TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOSTILE = [
    *("=cmd|' /C calc'!A0", "+1+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1+1"),
    "<script>alert(1)</script>",
    "\x1b[31mred\x1b[0m",
    "\u202eabc\u2066",
    "nul \x00 inside",
    'quote " comma , line\nbreak',
    "c1 \x9b31m and \u2028 line",
    "m" * 1_000_000,
    "---\nlicense: mit\n---\n| a |",
]


def rows(texts: list[str], cost: float = float("nan")) -> Iterator[Any]:
    """A run of one target, judge and moderator; each text stands in every column that can hold one."""
    first = texts[0]
    settings = {
        "provider": ["m@http://u:sk-planted-42@h/v1?key=sk-planted-43"],
        "guard_template": f"/home/{first}/t.txt",
    }
    yield RunRow("r", "f", TIME, "0", "data", "d" * 64, f"/{first}", "CC-BY-NC-4.0", json.dumps(settings))
    target = "m@http://u:sk-planted-42@h/v1?key=sk-planted-43#sk-planted-44"
    yield TargetRow("r", "t", target, "p/m", "scripted", "on", json.dumps({"stop": first}), "mod", 0, None)
    yield JudgeRow("r", "j", "judge", "p/j", f"/home/{first}/mine.toml", "h", "{}", None)
    yield ModeratorRow("r", "mod", "guard", "llm", "g", "p/g", "l", json.dumps({"refusal": first}), None)
    yield ImageRow("i", "image/png", 1, 1, 1, f"images/{first}.png")
    yield DialogueRow(
        "d:none", "d", "none", 1, "Fraud", None, None, None, first, "[]", json.dumps({"x": first})
    )
    yield RunDialogueRow("r", "d:none", f"image {first} is missing")
    for number, text in enumerate(texts):
        key, request, said_hash = f"d:{number}", f"q{number}", reply_hash(text)
        said = [{"role": "user", "content": text, "images": ["i" * 64]}]
        yield DialogueRow(
            key, "d", f"../item/{number}", 1, "Fraud", "mm", None, None, text, json.dumps(said), "{}"
        )
        yield RunDialogueRow("r", key, None)
        yield StepRow("r", "t", key, 1, request)
        yield TurnRow(
            request_hash=request,
            attempt=1,
            run_id="r",
            session_id="s",
            target_key="t",
            outcome="error_permanent" if number == 3 else "answered",
            text=text,
            reasoning=text,
            finish_reason=f"because {text}",
            error=text,
            status_code=200,
            resolved_model=f"m {text}",
            response_id=text,
            prompt_tokens=3,
            completion_tokens=4,
            reasoning_tokens=None,
            cached_tokens=None,
            cost_usd=0.5,
            started_at=TIME,
            latency_s=1.5,
            request=json.dumps(said),
            raw=text,
            batch_key=None,
            refusal_rule="answer",
            intervention="none",
            reply_hash=said_hash,
        )
        yield VerdictRow(
            verdict_hash=f"v{number}",
            judge_key="j",
            request_hash=request,
            dialogue_key=key,
            run_id="r",
            session_id="s",
            label="unscored" if number == 4 else "unsafe",
            reason="parse_failure" if number == 4 else None,
            refusal=False,
            explanation=text,
            raw=text,
            prompt_tokens=1,
            completion_tokens=1,
            cost_usd=cost,
            recorded_at=TIME,
            latency_s=0.5,
            cached_tokens=None,
            rubric="paper 1",
            refusal_kind="answer",
            category=text,
            severity=3,
            specificity=None,
            confidence=0.75,
            batch_key=None,
            reply_hash=said_hash,
        )
        labels = json.dumps(["Fraud", "S1", text])
        yield AssessmentRow(
            *(f"a{number}", "g", "input", "r", "s", "unsafe", text, labels, labels, text),
            *(0.5, None, text, text, 1, 1, 0.0, TIME, 0.1),
        )
        yield ModerationRow(request, "mod", "input", 1, f"a{number}", "g", "policy", text, 0.1, TIME)
        yield HumanLabelRow(request, key, "", f"person {text[:1000]}", "unsafe", TIME, said_hash, note=text)
        yield CommentRow(key, "r", "t", key, f"person {text[:1000]}", text, TIME)


def fill(path: Path, texts: list[str], cost: float = float("nan")) -> Path:
    with Store.open(path) as store:
        store.save_now(*rows(texts, cost))
        # A turn is judged under the hash of the model's own request; here it is the same one.
        with store._connection.cursor() as cursor:
            cursor.execute("UPDATE store.turns SET model_request_hash = request_hash")
    return path
