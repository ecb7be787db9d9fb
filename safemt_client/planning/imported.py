"""What is known of imported replies, and whether that is enough for a judge: nothing is guessed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from safemt_client.judges.panel import Judge, Panel
from safemt_client.providers.errors import InputError

if TYPE_CHECKING:
    from safemt_client.results.store.store import Store

__all__ = ["check_imported"]

_FIX = {
    "reply": "import a file with the replies",
    "question": "import them with --data, or use --judge-sees reply",
    "dialogue": "import them with --data, or use --judge-sees question",
    "pictures": "import them with --data, or use --judge-sees dialogue",
}


def check_imported(store: Store, run_id: str, judge: Judge) -> None:
    """Make sure that all is known of a run's imported replies that this judge is to see.

    Raises:
        InputError: something is not known; the line says what, of how many replies, and the fix.
    """
    members = judge.members if isinstance(judge, Panel) else (judge,)
    total = 0
    missing = dict.fromkeys(_FIX, 0)
    for has_text, question, request, messages in store.query(
        """SELECT r.text IS NOT NULL, d.question, t.request, d.messages
           FROM replies r JOIN (SELECT DISTINCT ON (dialogue_key) * FROM dialogues) d USING (dialogue_key)
           JOIN (SELECT request_hash, any_value(request) AS request FROM turns
                 WHERE imported_from IS NOT NULL GROUP BY ALL) t USING (request_hash)
           WHERE r.run_id = ? AND r.outcome IN ('answered', 'truncated')""",
        [run_id],
    ).rows:
        said = json.loads(request)
        total += 1
        missing["reply"] += not has_text
        missing["question"] += not (question or said)
        missing["dialogue"] += not said
        missing["pictures"] += not said or _pictures(said) < _pictures(json.loads(messages))
    for member in members:
        for what in _needed(member.sees):
            if missing[what]:
                raise InputError(
                    f"run {run_id}: {member.identity} is to see the {what}, and of {missing[what]:,} of "
                    f"{total:,} imported replies {'they are' if what == 'pictures' else 'it is'} not known: "
                    f"{_FIX[what]}"
                )


def _needed(sees: str) -> tuple[str, ...]:
    """What a judge is shown, by what its rubric says that it sees."""
    return {
        "reply": ("reply",),
        "question": ("reply", "question"),
        "dialogue": ("reply", "dialogue"),
    }.get(sees, ("reply", "dialogue", "pictures"))


def _pictures(messages: list[dict[str, object]]) -> int:
    return sum(len(found) for m in messages if isinstance(found := m.get("images"), list))
