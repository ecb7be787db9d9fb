"""Checks before a long run: is a store sound, and what can an endpoint do?"""

from __future__ import annotations

import argparse
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from safemt_client.cli.flags import DEFAULT_DB, SERVING, refuse_facts, refuse_flags
from safemt_client.loading import load_settings
from safemt_client.models import open_models
from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.negotiation import Learnt
from safemt_client.providers.provider import Provider
from safemt_client.providers.responses.oddities import (
    CUT_WHILE_THINKING,
    REASONING_IN_TEXT,
    REASONING_ONLY,
    UNREAD_TAG,
)
from safemt_client.providers.types import Image, Message, Outcome, Reply, Request, Sampling
from safemt_client.results.sanitize import plain, shown_path
from safemt_client.results.screen import open_console
from safemt_client.results.store.checks import check_store
from safemt_client.results.store.reader import open_reader
from safemt_client.results.store.salvage import salvage
from safemt_client.settings import RunSettings, options

__all__ = ["doctor"]

_TIMEOUT_S = 60.0
_OF_PROVIDERS = ("base_url", "attempt_timeout", "config", *SERVING)
# A white square of 8 x 8 pixels.
_PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFElEQVR4nGP8//8/A27AhEduxEoDAHE8Aw2DU3sAAAAAAElFTkSuQmCC"
)
_SCHEMA = {
    "type": "object",
    "properties": {"word": {"type": "string"}},
    "required": ["word"],
    "additionalProperties": False,
}


_REASONING = (
    (
        REASONING_IN_TEXT,
        "it is in the text, from where its marks take it: --reasoning off would leave it there",
    ),
    (UNREAD_TAG, "a closing tag is left in the text: if the model thinks in its answers, add --reasoning on"),
    (REASONING_ONLY, "there is no answer beside it: the server's reasoning parser may swallow answers"),
    (CUT_WHILE_THINKING, "the model thinks before it answers: leave it room with --max-tokens"),
)


@dataclass(frozen=True, slots=True)
class _Finding:
    what: str
    good: bool | None
    detail: str


async def doctor(arguments: argparse.Namespace) -> int:
    """Check the store and each endpoint, or salvage a damaged store; return the exit status."""
    console = open_console()
    path: Path = arguments.db or DEFAULT_DB
    if arguments.salvage is not None:
        refuse_flags(
            arguments,
            ("provider", *_OF_PROVIDERS),
            "--salvage works on the store only: leave one of them out",
        )
        return _salvage(path, arguments.salvage, console)
    if not arguments.provider:
        refuse_flags(arguments, _OF_PROVIDERS, "applies to endpoints: name one with --provider")
    bad = False
    if arguments.db is not None or not arguments.provider:
        bad = not _store(path, console)
    if arguments.provider:
        timeout_s = _TIMEOUT_S if arguments.attempt_timeout is None else arguments.attempt_timeout
        flags = {"provider": arguments.provider, "base_url": arguments.base_url, "data": "sample"}
        flags |= {name: getattr(arguments, name) for name in SERVING}
        settings = load_settings(
            flags | {"judge": ["none"], "max_wait": 0.0, "attempt_timeout": timeout_s, "db": path},
            arguments.config,
            only=[*(name for name, option in options().items() if option.group == "Target"), *SERVING],
        )
        bad = not await _endpoints(settings, console) or bad
    return 1 if bad else 0


def _store(path: Path, console: Console) -> bool:
    refuse_facts(path, "doctor")
    with open_reader(path) as reader:
        checks = check_store(reader)
    console.print(escape(f"store {shown_path(path)}"), highlight=False)
    for check in checks:
        detail = f"{check.looked_at:,} checked"
        if check.broken:
            detail = f"{check.broken:,} of {check.looked_at:,}, for example {plain(str(check.example))}"
        _say(console, _Finding(check.name, not check.broken, detail))
    return not any(check.broken for check in checks)


def _salvage(path: Path, into: Path, console: Console) -> int:
    lost, saved = False, 0
    for table in salvage(path, into):
        if table.rows == table.saved == 0:
            continue
        saved += table.saved
        whole = table.rows == table.saved
        lost = lost or not whole
        known = "an unknown number" if table.rows is None else f"{table.rows:,}"
        _say(console, _Finding(table.table, whole, f"{table.saved:,} of {known} rows saved"))
    if saved:
        line = f"{saved:,} rows saved in {shown_path(into)}; {shown_path(path)} is unchanged"
    else:
        line = f"no rows could be saved: {shown_path(path)} is unchanged, and {shown_path(into)} was not made"
    console.print(escape(line), soft_wrap=True, highlight=False)
    return 1 if lost or not saved else 0


async def _endpoints(settings: RunSettings, console: Console) -> bool:
    good, told = True, 0
    async with open_models(settings) as models:
        for name in settings.provider:
            spec = models.spec(name)
            console.print(escape(f"endpoint {plain(name)} ({plain(spec.identity)})"), highlight=False)
            for note in models.routes.notes[told:]:
                _say(console, _Finding("address", None, note))
            told = len(models.routes.notes)
            await models.start([spec], lambda line: console.print(escape(plain(line)), highlight=False))
            learnt: list[Learnt] = []
            models.negotiations.observe(learnt.append)
            async for finding in _probe(models.provider(spec), models.said(name).sampling(longest=16)):
                _say(console, finding)
                good = good and finding.good is not False
            for one in learnt:
                # What a judge wishes for has a finding of its own.
                if one.remedy.parameter not in ("response_format", "logprobs"):
                    _say(console, _Finding(f"takes {one.remedy.parameter}", None, one.told))
    return good


async def _probe(provider: Provider, sampling: Sampling) -> AsyncIterator[_Finding]:
    """Four short calls: text, a picture, a schema, probabilities; only one if that fails."""
    base = Request((Message("user", "Answer with the word yes."),), sampling)
    reply = await _ask(provider, base)
    works = reply.outcome in (Outcome.ANSWERED, Outcome.TRUNCATED, Outcome.EMPTY)
    if not works:
        yield _Finding("answers", False, _why(reply))
        return
    model = f" as {reply.resolved_model}" if reply.resolved_model else ""
    yield _Finding("answers", True, f"in {reply.latency_s:.1f} s{model}")
    for what, detail in _REASONING:
        if what in reply.oddities:
            yield _Finding("keeps reasoning apart", None, detail)
    usage = reply.usage
    counted = usage.prompt_tokens is not None and usage.completion_tokens is not None
    yield _Finding("reports token counts", counted or None, "" if counted else "costs will be unknown")
    picture = Image(sha256(_PICTURE).hexdigest(), "image/png", len(_PICTURE), 8, 8, lambda: _PICTURE)
    shown = replace(base, messages=(Message("user", "Answer with the word yes.", (picture,)),))
    seen = await _ask(provider, shown)
    yield _Finding(
        "accepts pictures",
        seen.outcome.observed,
        "" if seen.outcome.observed else f"--images off: {_why(seen)}",
    )
    asked = Message("user", 'Answer with the JSON object {"word": "yes"} and nothing else.')
    schema = await _ask(provider, replace(base, messages=(asked,), response_schema=_SCHEMA))
    form = (schema.parameters or {}).get(
        "response_format", "json_schema" if schema.parameters is None else None
    )
    taken = schema.outcome.observed and form == "json_schema"
    plainer = "only JSON without one" if form == "json_object" else "a judge works without it"
    yield _Finding("accepts a JSON schema", taken or None, "" if taken else plainer)
    chances = replace(base, sampling=replace(sampling, extra=dict(sampling.extra) | {"logprobs": True}))
    told = await _ask(provider, chances)
    has = told.outcome.observed and bool(told.logprobs)
    yield _Finding("returns probabilities", has or None, "" if has else "as a judge it gives no confidence")
    stated = [limit for limit in reply.rate_limits if limit is not None]
    text = ", ".join(str(limit) for limit in stated) if stated else "learnt from 429s; or set --rpm and --tpm"
    yield _Finding("reports its limits", bool(stated) or None, text)


async def _ask(provider: Provider, request: Request) -> Reply:
    try:
        return await provider.ask(request)
    except TargetStoppedError as error:
        return Reply(Outcome.ERROR_PERMANENT, error=str(error), error_code=error.code)


def _why(reply: Reply) -> str:
    return reply.error or reply.outcome.value


def _say(console: Console, finding: _Finding) -> None:
    mark = {True: "[green]ok[/]", False: "[red]no[/]", None: "[yellow]--[/]"}[finding.good]
    detail = f": {plain(finding.detail)}" if finding.detail else ""
    console.print(f"  {mark} {escape(plain(finding.what) + detail)}", soft_wrap=True, highlight=False)
