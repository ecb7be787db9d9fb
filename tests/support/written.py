"""A store whose rows a test writes itself: runs, conversations, replies and what judges said of them."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from safemt_client.providers.types import reply_hash
from safemt_client.results.store.rows import (
    DialogueRow,
    EventRow,
    JudgeRow,
    Row,
    RunDialogueRow,
    RunRow,
    StepRow,
    TargetRow,
    TurnRow,
    VerdictRow,
)
from safemt_client.results.store.store import Store

NOON = datetime(2026, 1, 1, 12)


class Written:
    """Writes rows to the store at `path`, each later by a minute than the one before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._minute = 0

    def save(self, *rows: Row) -> None:
        with Store.open(self.path) as store:
            store.save_now(*rows)

    def now(self) -> datetime:
        self._minute += 1
        return NOON + timedelta(minutes=self._minute)

    def run(
        self, run: str, targets: Sequence[str], judges: Mapping[str, str], dialogues: Mapping[str, str | None]
    ) -> None:
        """A run: `judges` maps a name to an identity, the deciding one first; `dialogues` `item/length` to why not."""
        keys = {name: (name.split("/")[0], int(name.split("/")[1])) for name in dialogues}
        self.save(
            RunRow(run, run, self.now(), "0", "written", "d" * 64, "/nowhere", None, "{}"),
            *(TargetRow(run, name, name, name, "scripted", "on", "{}", None, 0, None) for name in targets),
            *(
                JudgeRow(run, name, name, who, "paper", "r", "{}", None, "member" if n else "decides", n)
                for n, (name, who) in enumerate(judges.items())
            ),
            *(RunDialogueRow(run, name, why) for name, why in dialogues.items()),
            *(
                DialogueRow(
                    *(name, "d" * 64, item, length, "Satire", None, None, item.startswith("benign") or None),
                    *(None, "[]", "{}"),
                )
                for name, (item, length) in keys.items()
            ),
            EventRow(run, f"s-{run}", self.now(), "started", "{}"),
            EventRow(run, f"s-{run}", self.now(), "finished", "{}"),
        )

    def reply(
        self, run: str, target: str, dialogue: str, text: str = "", *, outcome: str = "answered", rule: str = "answer",
        request: str | None = None, **labels: str,
    ) -> None:  # fmt: skip
        """The reply to a dialogue's last turn, and each judge's label of it."""
        key = request or hashlib.sha256(f"{run} {target} {dialogue}".encode()).hexdigest()
        said = None if outcome.startswith("error") else reply_hash(text)
        turn = int(dialogue.split("/")[1])
        declines = rule in ("full_refusal", "safe_redirection")
        self.save(
            TurnRow(
                *(
                    key,
                    1,
                    run,
                    f"s-{run}",
                    target,
                    outcome,
                    text,
                    None,
                    "stop",
                    None,
                    200,
                    target,
                    "id",
                    4,
                    2,
                    None,
                ),
                *(None, 0.0, self.now(), 1.0, "[]", None, None, rule if text else None),
                reply_hash=said,
            ),
            StepRow(run, target, dialogue, turn, key),
            *(
                VerdictRow(
                    *(
                        f"{judge} {key} {text}",
                        judge,
                        key,
                        dialogue,
                        run,
                        f"s-{run}",
                        label,
                        None,
                        declines,
                        "why",
                    ),
                    *("raw", 5, 3, 0.0, self.now(), 1.0, None, "paper 1", rule, None, None, None, None, None),
                    reply_hash=said,
                )
                for judge, label in labels.items()
            ),
        )
