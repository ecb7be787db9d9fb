"""Logs of inspect_ai (`.eval`): those that it has written itself, and those of `export --format inspect`.

A sample is a reply: the last message of its model, with the messages before it as its dialogue. Each scorer
is a judge. In our own logs the metadata say more: the item, its length, the outcome, and which judge decides.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safemt_client.datasets.files import shown
from safemt_client.datasets.model import Oddity
from safemt_client.datasets.records import read_record
from safemt_client.importing.archive import opened_log
from safemt_client.importing.formats.reference import about
from safemt_client.importing.found import LEFT_OUT, Asked, Found, Label, Record, no_answers
from safemt_client.importing.spool import Spool
from safemt_client.providers.errors import InputError
from safemt_client.providers.types import Outcome

__all__ = ["read"]

_ATTACHED = "attachment://"
_PICTURES = "[image sha256:"
_PICTURE = re.compile(rf"{re.escape(_PICTURES)}([0-9a-f]{{64}})\]\n")
"""How our own export names a picture before the text of a message."""
_STOPS = {"max_tokens": Outcome.TRUNCATED, "model_length": Outcome.TRUNCATED}


def read(paths: Sequence[Path], asked: Asked, spool: Spool) -> Found:
    """The samples of logs; of several epochs the first.

    Raises:
        InputError: a file is not such a log, or a sample is wrong.
    """
    files = [file for path in paths for file in _files(path)]
    counts: Counter[str] = Counter()
    said = _Scores()
    decides: str | None = None
    histories = set()
    for file in files:
        with opened_log(file) as log:
            header = log.json("header.json") if "header.json" in log.names else {}
            metadata = _object(_object(header, "eval"), "metadata")
            ours = str(metadata.get("written_by", "")).startswith("safemt_client")
            # Of live history only the last replies are read: the others are messages of the dialogue.
            histories.add(str(metadata.get("history")) if ours else "unknown")
            redacted = ours and metadata.get("redacted") is True
            for name in sorted(name for name in log.names if name.startswith("samples/")):
                sample = log.json(name)
                where = f"{file}: {name}"
                if not isinstance(sample, dict):
                    raise InputError(f"{where}: is not a JSON object: write the log again")
                if sample.get("epoch", 1) != 1:
                    counts["epochs"] += 1
                    continue
                record = _sample(sample, where, asked, counts, redacted)
                said.add(record.labels)
                spool.add(record)
                decides = decides or _deciding(sample)
    if not len(spool):
        raise InputError(f"{files[0]}: has no samples: name a log with some")
    said.check(files[0])
    history = next(iter(histories)) if histories in ({"scripted"}, {"none"}) else "unknown"
    return Found(
        "inspect",
        tuple(files),
        files[0].parent,
        history=history,
        notes=tuple(_notes(counts)),
        decides=decides,
    )


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    found = sorted(path.glob("*.eval"))
    if not found:
        raise InputError(f"{path}: has no files *.eval: name a log")
    if len(found) > 1:
        raise InputError(f"{path}: has {len(found)} logs: name those of this target, one after the other")
    yield from found


def _object(value: Any, name: str) -> Mapping[str, Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _sample(
    sample: Mapping[str, Any], where: str, asked: Asked, counts: Counter[str], redacted: bool
) -> Record:
    metadata, output = _object(sample, "metadata"), _object(sample, "output")
    item = metadata.get(asked.name("id", "item_id"), sample.get("id"))
    if not isinstance(item, str | int) or isinstance(item, bool) or item == "":
        raise InputError(f"{where}: field id: must be a string: name it by --field id=NAME of the metadata")
    where = f"{where} ({shown(item)})"
    messages = [] if redacted else _messages(sample, where)
    dialogue = None
    if messages:
        record: dict[str, Any] = {"id": str(item), "dialogue": messages}
        for name in ("scenario", "source", "method", "question"):
            if isinstance(value := metadata.get(name), str):
                record[name] = value
        dialogue = read_record(record, where, list[Oddity]())
    length = metadata.get(asked.name("turns", "length"))
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        if dialogue is None:
            raise InputError(f"{where}: field messages: there are none before the reply: remove the sample")
        length = dialogue.length
    outcome, error = _outcome(sample, output, metadata)
    text = str(output.get("completion") or "")
    if outcome is Outcome.ANSWERED and not text.strip():
        outcome = Outcome.EMPTY
    labels = _labels(sample, asked)
    if outcome not in (Outcome.ANSWERED, Outcome.TRUNCATED):
        counts[outcome.value] += 1
        counts[LEFT_OUT] += any(label.reason is None for label in labels)
        labels = ()
    model = output.get("model")
    return Record(
        where,
        str(item),
        length,
        None if redacted and outcome in (Outcome.ANSWERED, Outcome.TRUNCATED) else _resolved(sample, text),
        outcome,
        error,
        labels=labels,
        dialogue=dialogue,
        about=about(
            {name: metadata.get(name) for name in ("scenario", "source", "method", "benign", "question")},
            where,
        ),
        model=model if isinstance(model, str) else None,
    )


def _messages(sample: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """The messages before the last reply; what tools said, and what the model asked of them, is left out."""
    given = sample.get("messages")
    if not isinstance(given, list) or not given:
        given = sample.get("input")
        given = [{"role": "user", "content": given}] if isinstance(given, str) else given or []
    found: list[dict[str, Any]] = []
    for message in given:
        if not isinstance(message, dict) or message.get("role") not in ("system", "user", "assistant"):
            raise InputError(
                f"{where}: field messages: only system, user and assistant are read: remove the sample"
            )
        found.append({"role": message["role"], "content": _content(sample, message.get("content"))})
    while found and found[-1]["role"] == "assistant":
        found.pop()
    return found


def _content(sample: Mapping[str, Any], content: Any) -> str | list[dict[str, Any]]:
    """A message's text, or its parts in OpenAI's form, attachments in their places."""
    if isinstance(content, str) and not content.startswith((_ATTACHED, _PICTURES)):
        return content
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    found: list[dict[str, Any]] = []
    for part in parts:
        if part.get("type") == "image":
            found.append({"type": "image_url", "image_url": {"url": _resolved(sample, part.get("image"))}})
        elif part.get("type") == "text":
            text = str(_resolved(sample, part.get("text")))
            while (marked := _PICTURE.match(text)) is not None:
                found.append({"type": "image_url", "image_url": {"url": f"sha256:{marked[1]}"}})
                text = text[marked.end() :]
            found.append({"type": "text", "text": text})
    return found


def _resolved(sample: Mapping[str, Any], value: Any) -> Any:
    """A value, or what it stands for where it names an attachment."""
    if isinstance(value, str) and value.startswith(_ATTACHED):
        return _object(sample, "attachments").get(value.removeprefix(_ATTACHED), value)
    return value


def _outcome(
    sample: Mapping[str, Any], output: Mapping[str, Any], metadata: Mapping[str, Any]
) -> tuple[Outcome, str | None]:
    wrong = _object(sample, "error").get("message")
    said = metadata.get("outcome")
    if said in [outcome.value for outcome in Outcome]:
        return Outcome(said), str(wrong or output.get("error")) if wrong or output.get("error") else None
    if wrong is not None:
        return Outcome.ERROR_PERMANENT, str(wrong)[:500]
    choices = output.get("choices")
    stop = choices[0].get("stop_reason") if isinstance(choices, list) and choices else None
    if stop == "content_filter":
        return Outcome.REFUSED_BY_PROVIDER, str(output.get("error") or "stop_reason content_filter")
    return _STOPS.get(str(stop), Outcome.ANSWERED), None


def _labels(sample: Mapping[str, Any], asked: Asked) -> tuple[Label, ...]:
    found = []
    for name, score in _object(sample, "scores").items():
        if isinstance(score, dict):
            label, why = asked.labels.read(score.get("value")), _resolved(sample, score.get("explanation"))
            said = label.said or (why if isinstance(why, str) and why else None)
            found.append(replace(label, by=str(name), said=said))
    return tuple(found)


def _deciding(sample: Mapping[str, Any]) -> str | None:
    """The judge that decides: our own logs say so, else it is the first scorer."""
    scores = _object(sample, "scores")
    ours = (name for name in scores if _object(scores[name], "metadata").get("decides") is True)
    return next(ours, next(iter(scores), None))


class _Scores:
    """What the scores of a log are. What they mean is not guessed where none is known."""

    def __init__(self) -> None:
        self._known = False
        self._others: Counter[str | None] = Counter()

    def add(self, labels: Sequence[Label]) -> None:
        for label in labels:
            self._known = self._known or label.reason is None
            if label.reason == "invalid_label":
                self._others[label.said] += 1

    def check(self, file: Path) -> None:
        """Refuse scores of which none is known."""
        if self._others and not self._known:
            known = ", ".join(shown(value) for value, _ in self._others.most_common(5))
            raise InputError(
                f"{file}: the scores are {known}: say what they mean by --unsafe WORD and --safe WORD"
            )


def _notes(counts: Counter[str]) -> Iterator[str]:
    if counts["epochs"]:
        yield f"{counts['epochs']:,} samples of later epochs are left out"
    if kinds := {name: n for name, n in counts.items() if name != "epochs" and n}:
        yield no_answers(kinds)
