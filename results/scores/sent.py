"""What was really sent to each target beside the messages, against what was asked for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from safemt_client.results.scores.views import named_rows, samples_of
from safemt_client.results.store.queries import Queryable

__all__ = ["apart", "sent_parameters", "sent_warnings"]

_DEFAULT = "the endpoint's default"
_LIMIT, _ITS_NAMES = "max_tokens", ("max_completion_tokens",)
"""The limit of a reply has several names: they differ between endpoints, not between answers."""
_ONLY_FORM = ("stream", "stream_options")
"""How the answer is delivered, whatever it says."""

_Values = dict[str, Counter[str]]
"""For each parameter, how many replies came to each value that was sent."""


def sent_parameters(reader: Queryable, run_id: str) -> list[dict[str, Any]]:
    """What was sent to each target of a run, one row for each form of it."""
    return named_rows(
        reader,
        "SELECT target, target_key, host, parameters, turns FROM sent_parameters "
        "WHERE run_id = ? ORDER BY target, first_sent, host, parameters",
        [run_id],
    )


def sent_warnings(
    targets: Sequence[Mapping[str, Any]], sent: Sequence[Mapping[str, Any]], samples: int = 1
) -> list[str]:
    """Targets of a run to which something else was sent than was asked for, or not always the same.

    `targets` are rows of `run_targets`, `sent` those of `sent_parameters`; the run has so many samples.
    """
    found = []
    for target in sorted(targets, key=itemgetter("name", "target_key")):
        name, wanted = target["name"], _decisive(json.loads(target["sampling"]))
        rows = [row for row in sent if row["target_key"] == target["target_key"]]
        for parameter, values in _values(rows, wanted, samples).items():
            if len(values) > 1:
                each = ", ".join(f"{value} ({count})" for value, count in values.items())
                found.append(f"{name}: what was sent changed within the run: {parameter}: {each}")
            elif parameter in wanted and list(values) == [_DEFAULT]:
                found.append(f"{name}: {parameter}: {_DEFAULT}, not {_shown(wanted[parameter])} as asked for")
    return found


def apart(reader: Queryable, *conditions: tuple[str, str, str]) -> list[str]:
    """In what two targets were sent something else although they were asked for alike, or the reverse.

    Each is the id of a run, the key of a target and its sampling as JSON.
    """
    both = []
    for run_id, key, sampling in conditions:
        rows = [row for row in sent_parameters(reader, run_id) if row["target_key"] == key]
        if not rows:
            return []  # of an earlier version, or of models in this process: not known
        wanted = _decisive(json.loads(sampling))
        both.append((wanted, _values(rows, wanted, samples_of(reader, run_id) if "seed" in wanted else 1)))
    (one, sent), (two, also) = both
    found = []
    for parameter in dict.fromkeys((*sent, *also)):
        values = [list(each.get(parameter, {_DEFAULT: 1})) for each in (sent, also)]
        asked_alike, sent_alike = one.get(parameter) == two.get(parameter), set(values[0]) == set(values[1])
        if asked_alike and not sent_alike:
            found.append(
                f"not asked alike: {parameter}: {' or '.join(values[0])}, and {' or '.join(values[1])}"
            )
        elif sent_alike and not asked_alike:
            found.append(f"asked alike in spite of their settings: {parameter}: {' or '.join(values[0])}")
    return found


def _values(rows: Sequence[Mapping[str, Any]], wanted: Mapping[str, Any], samples: int) -> _Values:
    forms = [(_one_seed(_named(row["parameters"], wanted), wanted, samples), row["turns"]) for row in rows]
    names = dict.fromkeys((*(wanted if forms else ()), *(name for form, _ in forms for name in form)))
    values: _Values = {name: Counter() for name in names}
    for form, turns in forms:
        for name in names:
            values[name][_shown(form[name]) if name in form else _DEFAULT] += turns
    return values


def _named(text: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as they were sent, under one name each.

    The user may have named the field of the limit: what was not asked for and has its value is the limit.
    """
    sent = _decisive(json.loads(text))
    limit = wanted.get(_LIMIT)
    own = [n for n, value in sent.items() if n not in wanted and type(value) is int and value == limit]
    for name in (*_ITS_NAMES, *own):
        if name in sent and _LIMIT not in sent:
            sent[_LIMIT] = sent.pop(name)
    return sent


def _one_seed(form: dict[str, Any], wanted: Mapping[str, Any], samples: int) -> dict[str, Any]:
    """The form with the seed of the first sample: each has its own, counted from that."""
    first, sent = wanted.get("seed"), form.get("seed")
    if type(first) is int and type(sent) is int and first <= sent < first + samples:
        return form | {"seed": first}
    return form


def _decisive(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if name not in _ONLY_FORM}


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
