"""OpenTelemetry traces of a session: spans for the session, its turns, attempts, verdicts and assessments.

The attributes follow the GenAI semantic conventions where they have a name; no attribute contains a text.
Where spans go is set by the standard `OTEL_...` variables.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from safemt_client import __version__
from safemt_client.providers.errors import InputError
from safemt_client.providers.keys import Redactor
from safemt_client.providers.proxies import secrets_of_proxies
from safemt_client.results.sanitize import without_secrets
from safemt_client.results.store.rows import AssessmentRow, Row, TurnRow, VerdictRow
from safemt_client.telemetry.events import RunResult

if TYPE_CHECKING:
    from safemt_client.planning.plan import Plan

__all__ = ["Traces"]

_NANO = 1_000_000_000


class Traces:
    """The spans of one session, made from the rows that it has put into the store."""

    def __init__(self, plan: Plan, session_id: str, exporter: Any = None) -> None:
        """`exporter` is where spans go, by default one for OTLP over HTTP.

        Raises:
            InputError: OpenTelemetry is not installed.
        """
        try:
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            if exporter is None:
                from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

                exporter = OTLPSpanExporter()
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("opentelemetry"):
                raise
            raise InputError(f"--otel: {error.name} is missing: pip install 'safemt-client[otel]'") from None
        _keep_secrets_out_of_its_log()
        named = {
            "service.name": os.environ.get("OTEL_SERVICE_NAME", "safemt"),
            "service.version": __version__,
        }
        self._provider = TracerProvider(resource=Resource.create(named))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("safemt_client", __version__)
        self._models = {target.key: _model(target.identity) for target in plan.targets}
        judges = [row for row in (plan.judge, *plan.members) if row is not None]
        self._models |= {row.judge_key: _model(row.identity) for row in judges}
        self._models |= {row.guard_key: _model(row.identity) for row in plan.moderators}
        self._failed: dict[str, list[TurnRow]] = defaultdict(list)
        self._session = self._tracer.start_span(
            "session",
            attributes={"safemt.run.id": plan.run.run_id, "safemt.session.id": session_id},
        )

    def saved(self, rows: Sequence[Row]) -> None:
        """Rows are in the store: each call among them is a span."""
        for row in rows:
            if isinstance(row, TurnRow):
                self._turn(row)
            elif isinstance(row, VerdictRow):
                if row.reason != "nothing_to_judge":
                    self._call(
                        "judge",
                        row.judge_key,
                        row,
                        _ended(row.recorded_at, row.latency_s),
                        {"safemt.label": str(row.label), "safemt.reason": row.reason},
                    )
            elif isinstance(row, AssessmentRow):
                self._call(
                    "guard",
                    row.guard_key,
                    row,
                    _ended(row.recorded_at, row.latency_s),
                    {"safemt.verdict": str(row.verdict), "safemt.stage": str(row.stage)},
                )

    def ended(self, closing: RunResult, error: BaseException | None = None) -> None:
        """The session is over."""
        from opentelemetry.trace import StatusCode

        for request_hash in list(self._failed):
            self._end_turn(self._failed.pop(request_hash))
        self._session.set_attribute("safemt.status", closing.status)
        if closing.status == "failed":
            self._session.set_attribute("error.type", closing.cause or "failed")
            self._session.set_status(StatusCode.ERROR)
        self._session.end()

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()

    def _turn(self, row: TurnRow) -> None:
        """An attempt; the turn's span is made once the outcome is not to be repeated."""
        attempts = self._failed[row.request_hash]
        attempts.append(row)
        if row.outcome != "error_transient":
            self._end_turn(self._failed.pop(row.request_hash))

    def _end_turn(self, rows: Sequence[TurnRow]) -> None:
        from opentelemetry.trace import set_span_in_context

        last, times = rows[-1], [_begun(row.started_at, row.latency_s) for row in rows]
        turn = self._tracer.start_span(
            "turn",
            context=set_span_in_context(self._session),
            start_time=min(start for start, _ in times),
            attributes=_given(
                {
                    "safemt.request": last.request_hash,
                    "safemt.outcome": str(last.outcome),
                    "safemt.attempts": len(rows),
                    "safemt.intervention": last.intervention,
                    "gen_ai.request.model": self._models.get(last.target_key, ("", ""))[1],
                }
            ),
        )
        for row, span in zip(rows, times, strict=True):
            extra = {
                "safemt.request": row.request_hash,
                "safemt.outcome": str(row.outcome),
                "http.response.status_code": row.status_code,
            }
            self._call("attempt", row.target_key, row, span, extra, turn)
        turn.end(max(end for _, end in times))

    def _call(
        self,
        name: str,
        key: str,
        row: TurnRow | VerdictRow | AssessmentRow,
        span: tuple[int, int],
        extra: Mapping[str, Any],
        parent: Any = None,
    ) -> None:
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

        provider, model = self._models.get(key, ("", ""))
        call = self._tracer.start_span(
            f"{name} {model}".strip(),
            context=set_span_in_context(self._session if parent is None else parent),
            kind=SpanKind.CLIENT,
            start_time=span[0],
            attributes=_given(
                {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": provider,
                    "gen_ai.request.model": model,
                    "gen_ai.usage.input_tokens": row.prompt_tokens,
                    "gen_ai.usage.output_tokens": row.completion_tokens,
                    "safemt.cost_usd": row.cost_usd,
                    **extra,
                }
            ),
        )
        failed = extra.get("safemt.outcome") or extra.get("safemt.reason") or extra.get("safemt.verdict")
        if failed in ("error_transient", "error_permanent", "judge_error", "error"):
            call.set_attribute("error.type", row.error_code or failed)
            call.set_status(StatusCode.ERROR)
        call.end(span[1])


def _keep_secrets_out_of_its_log() -> None:
    """The exporter logs what a collector answers, in which the keys of its own headers may stand."""
    for name in tuple(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "opentelemetry":
            logging.getLogger(name).addFilter(_without_keys)


def _without_keys(record: logging.LogRecord) -> bool:
    stated = [text for name, text in os.environ.items() if name.startswith("OTEL_") and "HEADERS" in name]
    values = [pair.partition("=")[2].strip() for text in stated for pair in text.split(",")]
    secrets = [word for value in values for word in (value, *unquote(value).split())]
    text = Redactor(*secrets, *map(unquote, values), *secrets_of_proxies()).text(record.getMessage())
    record.msg, record.args, record.exc_info = without_secrets(text), (), None
    return True


def _model(identity: str) -> tuple[str, str]:
    # Without the alias that the user gave it.
    provider, _, model = identity.partition("#")[0].partition("/")
    return (provider, model) if model else ("", identity)


def _given(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value not in (None, "")}


def _nanoseconds(at: datetime) -> int:
    return int((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() * _NANO)


def _begun(start: datetime, latency_s: float | None) -> tuple[int, int]:
    begin = _nanoseconds(start)
    return begin, begin + int((latency_s or 0.0) * _NANO)


def _ended(end: datetime, latency_s: float | None) -> tuple[int, int]:
    over = _nanoseconds(end)
    return over - int((latency_s or 0.0) * _NANO), over
