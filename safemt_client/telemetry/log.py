"""A run's log: JSON lines of what happened, without texts and without keys.

Lines are written by a thread of their own from a bounded queue: a slow disk loses lines, which are counted,
and never delays a run. Of an error only its code and its HTTP status are written: its words may quote a text.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safemt_client import __version__
from safemt_client.moderator.assessor import GuardReply
from safemt_client.planning.estimate import of_judge, of_target
from safemt_client.providers.errors import InputError
from safemt_client.providers.negotiation import Learnt
from safemt_client.providers.types import Reply, Usage
from safemt_client.results.sanitize import without_secrets
from safemt_client.results.store.rows import AssessmentRow, BatchRow, LimitRow, Row, TurnRow, VerdictRow
from safemt_client.telemetry.events import RuleLine, RunResult
from safemt_client.telemetry.lines import Entry, Lines, LogFile

if TYPE_CHECKING:
    from safemt_client.planning.plan import Plan

__all__ = ["LEVELS", "RunLog", "log_path"]

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_MOST_BYTES, _KEPT, _ROOM = 10_000_000, 5, 10_000


def log_path(log: str | None, db: Path, run_id: str) -> Path | None:
    """Where the log of a run goes: beside the store by default, nowhere for `none`."""
    if log == "none":
        return None
    return db.with_name(f"{db.name}.{run_id}.log") if log is None else Path(log)


class RunLog:
    """The log of one session: a `Listener` that is also told of the rows saved to the store."""

    def __init__(
        self,
        path: Path,
        *,
        run_id: str,
        session_id: str,
        level: str = "info",
        texts: bool = False,
        most_bytes: int = _MOST_BYTES,
        kept: int = _KEPT,
        room: int = _ROOM,
    ) -> None:
        """Open the file at `path`; `kept` older pieces of `most_bytes` stay beside it.

        With `texts` the messages, the replies and the endpoints' own words are logged too.

        Raises:
            InputError: it cannot be written.
        """
        self._texts = texts
        try:
            self._file = LogFile(path, maxBytes=most_bytes, backupCount=kept)
        except OSError as error:
            raise InputError(
                f"{path}: {error.strerror}: name another log with --log FILE, or --log none"
            ) from None
        self._level = LEVELS[level]
        self._lines = Lines(self._file, {"run": run_id, "session": session_id}, room)
        self._lines.start()

    @property
    def lost(self) -> int:
        """Lines that were dropped or could not be written."""
        return self._lines.dropped + self._file.lost

    def event(self, level: str, name: str, **fields: Any) -> None:
        """One line; fields that are None are left out."""
        if entry := self._entry(level, name, **fields):
            self._lines.put(entry)

    def _entry(self, level: str, name: str, **fields: Any) -> list[Entry]:
        """What is written of an event: nothing below the level of the log."""
        return [(time.time(), level, name, fields)] if LEVELS[level] >= self._level else []

    def close(self) -> None:
        """Write what is queued and close the file."""
        self._lines.stop()
        with suppress(OSError):  # a full disk: what is still buffered is lost
            self._file.close()

    def started(self, plan: Plan) -> None:
        """Log the start of a session and what it plans."""
        turns, judge = plan.turns, plan.judge
        self.event(
            "info",
            "session_started",
            program=__version__,
            data=plan.run.dataset_digest,
            dialogues=len(plan.dialogues),
            not_attempted=len(plan.not_attempted),
            targets=[
                {
                    "key": target.key,
                    "name": without_secrets(target.name),
                    "to_ask": turns[target.key],
                    "calls": of_target(plan, target).calls,
                    "stored": plan.cached_turns.get(target.key, 0),
                }
                for target in plan.targets
            ],
            guards=[
                {"key": row.guard_key, "name": row.guard, "on": without_secrets(row.identity)}
                for row in {row.guard_key: row for row in plan.moderators}.values()
            ],
            judge=None
            if judge is None
            else {
                "key": judge.judge_key,
                "name": without_secrets(judge.name),
                "rubric": judge.rubric_hash,
                "to_ask": plan.verdicts,
                "calls": of_judge(plan).calls,
                "stored": plan.cached_verdicts,
            },
        )

    def ended(self, closing: RunResult, error: BaseException | None = None) -> None:
        """The session is over; `error` is what ended it early."""
        if error is not None and closing.status == "failed":
            self.event("error", closing.cause or "failed", error=type(error).__name__)
        self.event(
            "info" if closing.status == "done" else "warning" if closing.status != "failed" else "error",
            "session_ended",
            status=closing.status,
            exit_status=closing.exit_status,
            summary=closing.summary,
            lines_lost=self.lost or None,
        )

    def saved(self, rows: Sequence[Row]) -> None:
        """Rows are in the store."""
        # Together: each time that the thread is woken up costs more than a line.
        if entries := [entry for row in rows for entry in self._of(row)]:
            self._lines.put(entries)

    def _of(self, row: Row) -> list[Entry]:
        if isinstance(row, TurnRow):
            return self._turn(row)
        if isinstance(row, VerdictRow):
            return self._verdict(row)
        if isinstance(row, AssessmentRow):
            return self._assessment(row)
        if isinstance(row, LimitRow):
            return self._entry(
                "info",
                "limit",
                account=without_secrets(row.account),
                reason=row.reason,
                concurrency=row.concurrency,
                in_flight=row.in_flight,
                rpm=row.rpm,
                tpm=row.tpm,
                pause_s=row.pause_s or None,
            )
        if isinstance(row, BatchRow):
            return self._entry(
                "warning" if row.event in ("failed", "lost") else "info",
                "batch",
                key=row.target_key,
                batch=row.batch_key,
                state=row.event,
                requests=row.requests,
            )
        return []

    def asking(self, key: str) -> None:
        """A turn or a verdict was started."""
        if self._level <= logging.DEBUG:
            self.event("debug", "asking", key=key)

    def retrying(self, key: str, reply: Reply, wait_s: float) -> None:
        """An attempt failed and will be repeated."""
        self.event(
            "warning",
            "retry",
            key=key,
            of="guard" if isinstance(reply, GuardReply) else None,
            error_code=reply.error_code,
            status_code=reply.status_code,
            reason=self._shown(reply.error),
            wait_s=round(wait_s, 3),
        )

    def landed(self, key: str, outcome: str, usage: Usage, cost_usd: float | None) -> None:
        """A turn or a verdict is in the store: its row says more. One that was given up has none."""
        if outcome == "abandoned":
            self.event("info", "abandoned", key=key)

    def batch(self, key: str, batch_key: str, done: int, total: int) -> None:
        """How far a batch is."""
        self.event("debug", "batch_progress", key=key, batch=batch_key, done=done, total=total)

    def stopped(self, key: str, reason: str, code: str | None, status: int | None) -> None:
        """A target or the judge can no longer be asked, or may cost no more."""
        self.event(
            "error",
            "target_stopped",
            key=key,
            error_code=code,
            status_code=status,
            reason=self._shown(reason),
        )

    def learnt(self, learnt: Learnt) -> None:
        """An endpoint does not take a parameter as it was sent."""
        remedy = learnt.remedy
        self.event(
            "warning",
            "learnt",
            model=without_secrets(learnt.identity),
            host=learnt.host,
            parameter=remedy.parameter,
            remedy=remedy.action,
            value=remedy.value,
            reason=self._shown(learnt.said),
        )

    def decided(self, line: RuleLine) -> None:
        """A rule that the run stops by is decided."""
        self.event("info", "rule_decided", **asdict(line))

    def notice(self, text: str) -> None:
        """A line about this process."""
        self.event("warning", "notice", said=text)

    def _shown(self, text: str | None) -> str | None:
        return text and without_secrets(text) if self._texts else None

    def _turn(self, row: TurnRow) -> list[Entry]:
        return self._entry(
            "warning" if row.outcome.startswith("error_") else "info",
            "turn",
            key=row.target_key,
            request=row.request_hash,
            attempt=row.attempt,
            outcome=str(row.outcome),
            error_code=row.error_code,
            status_code=row.status_code,
            prompt_tokens=row.prompt_tokens,
            completion_tokens=row.completion_tokens,
            cost_usd=row.cost_usd,
            latency_s=_rounded(row.latency_s),
            batch=row.batch_key,
            intervention=row.intervention,
            oddities=row.oddities,
            error=self._shown(row.error),
            messages=json.loads(row.request) if self._texts else None,
            text=row.text if self._texts else None,
        )

    def _verdict(self, row: VerdictRow) -> list[Entry]:
        return self._entry(
            "warning" if row.reason == "judge_error" else "info",
            "verdict",
            key=row.judge_key,
            request=row.request_hash,
            verdict=row.verdict_hash,
            label=str(row.label),
            reason=row.reason,
            error_code=row.error_code,
            prompt_tokens=row.prompt_tokens,
            completion_tokens=row.completion_tokens,
            cost_usd=row.cost_usd,
            latency_s=_rounded(row.latency_s),
            batch=row.batch_key,
            explanation=self._shown(row.explanation),
        )

    def _assessment(self, row: AssessmentRow) -> list[Entry]:
        return self._entry(
            "warning" if row.verdict in ("error", "unparsed") else "info",
            "assessment",
            key=row.guard_key,
            assessment=row.assessment_hash,
            stage=str(row.stage),
            verdict=str(row.verdict),
            error_code=row.error_code,
            prompt_tokens=row.prompt_tokens,
            completion_tokens=row.completion_tokens,
            cost_usd=row.cost_usd,
            latency_s=_rounded(row.latency_s),
            error=self._shown(row.error),
        )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
