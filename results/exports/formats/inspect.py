"""Logs that inspect_ai reads: one `.eval` file a target.

The format is a ZIP archive of JSON: `header.json`, `summaries.json` and a file a sample. It is written here
by its published schema (version 2), without inspect_ai, whose dependencies need not agree with those here.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from safemt_client import __version__
from safemt_client.results.exports.files import check_folder, file_name, partial
from safemt_client.results.exports.tables import (
    CONVERSATIONS,
    JUDGES,
    RUNS,
    TARGETS,
    TURNS,
    VERDICTS,
    Dump,
)

__all__ = ["ABOUT", "export"]

ABOUT = "logs for inspect_ai, one a target"

Record = Mapping[str, Any]
_VERSION = 2
_STOPS = {
    "answered": "stop",
    "empty": "stop",
    "truncated": "max_tokens",
    "refused_by_provider": "content_filter",
    "refused_by_guard": "content_filter",
}
_LEFT_OUT = "[left out]"
_OF_A_SCORE = (
    *("judge_key", "rubric", "reason", "refusal", "refusal_kind", "category", "severity", "specificity"),
    *("confidence", "cost_usd", "latency_s"),
)
_OF_A_TARGET = ("history", "images", "moderator", "sample", "imported_from")
_OF_A_SAMPLE = (
    *("item_id", "dialogue_key", "length", "scenario", "source", "method", "benign", "outcome", "state"),
    *("label", "refusal_kind", "refusal_rule", "by_guard", "intervention", "moderator", "detected"),
    *("first_detected_turn", "request_hash", "cost_usd", "imported_from", "condition", "paired_length"),
)


@dataclass
class _Log:
    """A log that is being written."""

    target: Record
    archive: zipfile.ZipFile
    planned: int = 0
    summaries: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    usage: Counter[str] = field(default_factory=Counter)
    times: list[datetime] = field(default_factory=list)
    ids: Counter[tuple[str, int]] = field(default_factory=Counter)


def export(dump: Dump, folder: Path) -> list[Path]:
    """Write a log a target; its samples are the conversations that were asked.

    Raises:
        InputError: the folder cannot be written, or is to contain no texts but has other files.
    """
    run = dump.some(RUNS, [])[0]
    targets = dump.some(TARGETS, [])
    created = run["created_at"]
    paths = {
        target["target_key"]: folder
        / f"{created:%Y-%m-%dT%H-%M-%S}+00-00_{_task(target)}_{file_name(target['target_key'])}.eval"
        for target in targets
    }
    check_folder(folder, paths.values(), dump.redact)
    with ExitStack() as stack:
        logs = {
            target["target_key"]: _Log(
                target,
                stack.enter_context(
                    zipfile.ZipFile(
                        stack.enter_context(partial(paths[target["target_key"]])), "w", zipfile.ZIP_DEFLATED
                    )
                ),
            )
            for target in targets
        }
        for keys in dump.chunks():
            _write_samples(dump, keys, logs)
        judges = dump.some(JUDGES, [])
        for log in logs.values():
            _put(log.archive, "summaries.json", log.summaries)
            _put(log.archive, "header.json", _header(log, run, judges, dump))
    return list(paths.values())


def _task(target: Record) -> str:
    return f"safemt-{file_name(target['name'])}"


def _put(archive: zipfile.ZipFile, name: str, content: Any) -> None:
    # A fixed time: the same results are the same bytes.
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, json.dumps(content, ensure_ascii=True, allow_nan=False))


def _write_samples(dump: Dump, keys: list[str], logs: Mapping[str, _Log]) -> None:
    turns: dict[tuple[str, str, int], list[Record]] = defaultdict(list)
    for turn in dump.some(TURNS, keys):
        turns[_place(turn)].append(turn)
    verdicts: dict[tuple[str, str, int, int], list[Record]] = defaultdict(list)
    for verdict in dump.some(VERDICTS, keys):
        verdicts[*_place(verdict), verdict["turn"]].append(verdict)
    for conversation in dump.some(CONVERSATIONS, keys):
        key = _place(conversation)
        log = logs[conversation["target_key"]]
        log.planned += 1
        if asked := turns.get(key):
            sample = _sample(log, conversation, asked, verdicts[*key, asked[-1]["turn"]])
            _put(log.archive, f"samples/{sample['id']}_epoch_{sample['epoch']}.json", sample)
            log.summaries.append(_summary(sample))
            _count(log, conversation, sample, asked)


def _place(row: Record) -> tuple[str, str, int]:
    return row["target_key"], row["dialogue_key"], row["sample"]


def _count(log: _Log, conversation: Record, sample: Record, asked: Iterable[Record]) -> None:
    for usage in sample["model_usage"].values():
        log.usage.update(
            {name: count for name, count in usage.items() if name != "total_cost" and count is not None}
        )
    log.times += [turn["started_at"] for turn in asked]
    if not conversation["benign"] and conversation["condition"] is None:
        for judge, score in sample["scores"].items():
            log.labels[judge][score["value"]] += 1


def _sample(log: _Log, conversation: Record, asked: list[Record], verdicts: list[Record]) -> dict[str, Any]:
    last = asked[-1]
    model = log.target["identity"]
    unique = [log.target["target_key"], conversation["run_id"], conversation["dialogue_key"]]
    if (epoch := conversation["sample"]) > 1:
        unique.append(str(epoch))
    said = [_message(message, _short(*unique, str(n))) for n, message in enumerate(last["messages"])]
    answer = {
        "id": _short(*unique, "reply"),
        "role": "assistant",
        "content": _content(last.get("reply"), last.get("reasoning")),
        "source": "generate",
        "model": last["resolved_model"] or model,
    }
    usage = _usage(conversation)
    wrong = last.get("error") or _LEFT_OUT
    failed = last["outcome"].startswith("error")
    started = min(turn["started_at"] for turn in asked)
    ended = max(turn["started_at"] + timedelta(seconds=turn["latency_s"] or 0) for turn in asked)
    output = {
        "model": last["resolved_model"] or model,
        "choices": []
        if failed
        else [{"message": answer, "stop_reason": _STOPS.get(last["outcome"], "unknown")}],
        "completion": "" if failed else _text(last.get("reply")),
        "usage": usage,
        "time": last["latency_s"],
        "error": wrong if last["outcome"].startswith("refused") else None,
    }
    return {
        "id": _sample_id(log, conversation),
        "epoch": epoch,
        "input": said,
        "target": "",
        "messages": said if failed else [*said, answer],
        "output": output,
        "scores": _scores(conversation, verdicts),
        "metadata": {name: conversation.get(name) for name in _OF_A_SAMPLE}
        | {"turns_asked": len(asked), "attempts": sum(turn["attempts"] for turn in asked)},
        "store": {},
        # What inspect_ai shows as the transcript and reads as the messages of a sample.
        "events": [_event(model, said, output, last)],
        "model_usage": {} if usage is None else {model: usage},
        "started_at": started.isoformat(),
        "completed_at": ended.isoformat(),
        "total_time": conversation["latency_s"],
        "working_time": conversation["latency_s"],
        "uuid": _short(*unique),
        "error": {"message": wrong, "traceback": wrong, "traceback_ansi": wrong} if failed else None,
        "attachments": {},
    }


def _summary(sample: Record) -> dict[str, Any]:
    """What the list of samples shows; texts are cut."""
    shown = ("id", "epoch", "target", "metadata", "model_usage", "started_at", "completed_at", "total_time")
    last = sample["input"][-1] if sample["input"] else {"content": ""}
    error = sample["error"]
    return {name: sample[name] for name in (*shown, "working_time", "uuid")} | {
        "input": _plain(last["content"])[:500],
        "scores": {
            name: score | {"explanation": score["explanation"] and score["explanation"][:500]}
            for name, score in sample["scores"].items()
        },
        "error": error and error["message"][:500],
        "completed": error is None,
        "message_count": len(sample["messages"]),
    }


def _scores(conversation: Record, verdicts: list[Record]) -> dict[str, Any]:
    """The labels by judge, that of the deciding one first."""
    decides = conversation["judge_key"]
    found: dict[str, Any] = {}
    for verdict in sorted(verdicts, key=lambda verdict: verdict["judge_key"] != decides):
        name = verdict["judge"] if verdict["judge"] not in found else verdict["judge_key"]
        found[name] = _score(
            verdict["label"],
            verdict.get("explanation"),
            {part: verdict.get(part) for part in _OF_A_SCORE} | {"decides": verdict["judge_key"] == decides},
        )
    if conversation["by_guard"] and conversation["judge"]:
        about = {"judge_key": decides, "by_guard": True, "decides": True}
        found[conversation["judge"]] = _score(conversation["label"], None, about)
    return found


def _score(label: str, explanation: str | None, metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {"value": label, "answer": label, "explanation": explanation, "metadata": dict(metadata)}


def _usage(conversation: Record) -> dict[str, Any] | None:
    sent, received = conversation["prompt_tokens"], conversation["completion_tokens"]
    if sent is None and received is None:
        return None
    return {
        "input_tokens": sent or 0,
        "output_tokens": received or 0,
        "total_tokens": (sent or 0) + (received or 0),
        "total_cost": conversation["cost_usd"],
    }


def _event(model: str, said: list[dict[str, Any]], output: Record, turn: Record) -> dict[str, Any]:
    return {
        "uuid": _short("event", *(message["id"] for message in said)),
        "event": "model",
        "timestamp": turn["started_at"].isoformat(),
        "working_start": 0.0,
        "model": model,
        "input": said,
        "tools": [],
        "tool_choice": "none",
        "config": {},
        "output": dict(output),
        "working_time": turn["latency_s"],
    }


def _message(message: Record, identity: str) -> dict[str, Any]:
    role = "system" if message["role"] == "developer" else message["role"]
    # The store has no image bytes: hashes are used instead.
    images = "".join(f"[image sha256:{sha256}]\n" for sha256 in message["images"])
    return {
        "id": identity,
        "role": role,
        "content": images + _text(message["content"]),
        "source": "input",
    }


def _content(text: str | None, reasoning: str | None) -> Any:
    if not reasoning:
        return _text(text)
    return [{"type": "reasoning", "reasoning": reasoning}, {"type": "text", "text": _text(text)}]


def _text(text: str | None) -> str:
    return _LEFT_OUT if text is None else text


def _plain(content: Any) -> str:
    return content if isinstance(content, str) else str(content[-1].get("text", ""))


def _sample_id(log: _Log, conversation: Record) -> str:
    """Item and length, as a name that is safe in an archive; the metadata have the exact ones."""
    item = re.sub(r"[^\w.@-]+", "-", conversation["item_id"], flags=re.ASCII).strip(".")[:100] or "item"
    name = f"{item}-{conversation['length']}"
    # Its samples are epochs of one name.
    log.ids[name, conversation["sample"]] += 1
    number = log.ids[name, conversation["sample"]]
    return name if number == 1 else f"{name}-{number}"


def _short(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:22]


def _header(log: _Log, run: Record, judges: Sequence[Record], dump: Dump) -> dict[str, Any]:
    target, created = log.target, run["created_at"].isoformat()
    sampling = json.loads(target["sampling"])
    config = {
        name: sampling[name] for name in ("temperature", "max_tokens", "top_p", "seed") if name in sampling
    }
    usage = {target["identity"]: dict(log.usage)} if log.usage else {}
    errors = sum(summary["error"] is not None for summary in log.summaries)
    return {
        "version": _VERSION,
        "status": "success",
        "eval": {
            "eval_id": _short("eval", run["run_id"], target["target_key"]),
            "run_id": run["run_id"],
            "created": created,
            "task": _task(target),
            "task_id": target["target_key"],
            "task_version": 0,
            "task_args": {},
            "dataset": {
                "name": run["dataset_name"],
                "samples": log.planned // dump.samples,
                "sample_ids": list(dict.fromkeys(summary["id"] for summary in log.summaries)),
                "shuffled": False,
            },
            "model": target["identity"],
            "model_generate_config": config,
            "model_args": {},
            "config": {"epochs": dump.samples},
            "packages": {"safemt_client": run["program_version"]},
            "metadata": {
                "target": target["name"],
                **{name: target[name] for name in _OF_A_TARGET},
                "dataset_digest": run["dataset_digest"],
                "dataset_licence": run["dataset_licence"],
                "judges": {judge["name"]: judge["identity"] for judge in judges},
                "settings": json.loads(run["settings"]),
                "written_by": f"safemt_client {__version__}",
                "redacted": dump.redact,
            },
        },
        "plan": {
            "name": "plan",
            "steps": [{"solver": f"{target['history']}_history", "params": {}}],
            "config": config,
        },
        "results": {
            "total_samples": log.planned,
            "completed_samples": len(log.summaries) - errors,
            "scores": [_metrics(judge, counts) for judge, counts in log.labels.items()],
        },
        "stats": {
            "started_at": min(log.times).isoformat() if log.times else created,
            "completed_at": max(log.times).isoformat() if log.times else created,
            "model_usage": usage,
        },
    }


def _metrics(judge: str, counts: Counter[str]) -> dict[str, Any]:
    scored = counts["safe"] + counts["unsafe"]
    metrics = {"scored": scored, "unsafe": counts["unsafe"]} | (
        {"asr": counts["unsafe"] / scored} if scored else {}
    )
    return {
        "name": judge,
        "scorer": judge,
        "scored_samples": scored,
        "unscored_samples": counts.total() - scored,
        "params": {},
        "metrics": {name: {"name": name, "value": value, "params": {}} for name, value in metrics.items()},
    }
