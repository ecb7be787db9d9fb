"""What a run prints before it starts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.text import Text

from safemt_client.planning.costs import held_text, money
from safemt_client.planning.estimate import Estimate, RunEstimate
from safemt_client.planning.plan import Plan
from safemt_client.planning.target import Target
from safemt_client.results.report.power import power_lines
from safemt_client.results.report.sentences import sentence
from safemt_client.results.sanitize import plain, quoted, shown_path, without_secrets
from safemt_client.said import said_of
from safemt_client.settings import RunSettings
from safemt_client.telemetry.display import span
from safemt_client.telemetry.names import address_lines, shown_names
from safemt_client.telemetry.stopped import plan_lines

__all__ = ["show_plan"]

_FIRST_WORDS = 60
_PROGRAM = "python -m safemt_client"
_MOST_ODD, _LONGEST_ODD = 6, 200
"""Kinds of oddities of the data that a plan names, and characters of an example."""


def _range(estimate: Estimate) -> str:
    """Tokens and money of an estimate, from low to high."""
    if not estimate.calls:
        return "nothing to pay"
    low, high = estimate.tokens
    tokens = f"about {low:,}" + (f" to {high:,} tokens" if high != low else " tokens")
    if estimate.usd is None:
        return f"{tokens}, price unknown"
    return f"{tokens}, free" if estimate.usd[1] == 0 else f"{tokens}, {_dollars(estimate.usd)}"


def _calls(estimate: Estimate) -> str:
    """The calls to a target; turns that ask what another conversation asks need none of their own."""
    said = f"{_most(estimate)}{estimate.calls} calls to make"
    return said if estimate.calls == estimate.wanted else f"{said} for {estimate.wanted} turns"


def _verdicts(estimate: Estimate) -> str:
    """The verdicts, and the calls that they take: those of a panel's members, and repairs."""
    said = f"{_most(estimate)}{estimate.wanted} verdicts to ask for"
    return f"{said} in {estimate.least} to {estimate.calls} calls" if estimate.calls else said


def _most(estimate: Estimate) -> str:
    return "at most " if estimate.at_most and estimate.calls else ""


def _in_batches(plan: Plan, target: Target) -> str:
    submitted = plan.under_way[target.key]
    notes = ["in batches at half the price"] if plan.batch else []
    notes += [f"{submitted} of them in batches under way"] if submitted else []
    return f" ({', '.join(notes)})" if notes else ""


def _unusual(target: Target, settings: RunSettings) -> list[str]:
    """What the user has changed of the requests to a target."""
    said, sampling = said_of(settings, target.model_name, "target"), target.sampling
    left = {"temperature": sampling.temperature is None, "max_tokens": said.max_tokens == "none"}
    found = [f"{name}: endpoint's default" for name, is_left in left.items() if is_left]
    found += [f"stop {json.dumps(list(sampling.stop))}"] if sampling.stop else []
    found += [f"{name} {json.dumps(value)}" for name, value in sampling.extra.items()]
    if target.system_prompt is not None:
        found.append(f"system prompt {json.dumps(target.system_prompt[:_FIRST_WORDS])}")
    for what, names in (("headers", said.headers), ("query", said.query)):
        found += [f"{what} {', '.join(names)}"] if names else []
    return found


def _dollars(usd: tuple[float, float]) -> str:
    return " to ".join(dict.fromkeys(map(money, usd)))


def _total(
    found: RunEstimate, estimates: Sequence[Estimate], settings: RunSettings, say: Callable[[str], None]
) -> None:
    known = [estimate.usd for estimate in estimates if estimate.usd is not None and estimate.calls]
    unknown = any(estimate.usd is None and estimate.calls for estimate in estimates)
    total = (sum(usd[0] for usd in known), sum(usd[1] for usd in known))
    sums = [f"spent so far {money(found.spent_usd)}"] if found.spent_usd else []
    if settings.max_cost is not None and found.held_usd:
        sums.append(held_text(found.held_usd, found.run_id, settings))
    if total[1]:
        sums.append(f"to come {_dollars(total)}" + (" plus calls of unknown price" if unknown else ""))
    if settings.max_cost is not None:
        sums.append(f"cap {money(settings.max_cost)}")
    if sums:
        say("  money: " + ", ".join(sums))


def _checking(settings: RunSettings) -> str:
    """What `data check` takes to read the data as the run does."""
    words = [quoted(settings.dataset), *(["--follow-links"] if settings.follow_links else [])]
    if settings.data_map is not None:
        words += ["--map", quoted(settings.data_map)]
        words += [f"--data-value {quoted(one)}" for one in settings.data_value or ()]
    for flag, value in (("--data-config", settings.data_config), ("--data-split", settings.data_split)):
        words += [flag, quoted(value)] if value is not None else []
    return " ".join(words)


def _odd(plan: Plan, settings: RunSettings, say: Callable[[str], None]) -> None:
    """What is odd about the data: each kind with an example, and what lists all of them."""
    if not plan.odd:
        return
    words = _checking(settings)
    count = sum(one.count for one in plan.odd)
    say(f"  {count:,} oddities in the data; see: {_PROGRAM} data check {words}")
    for one in plan.odd[:_MOST_ODD]:
        example = plain(one.example)
        cut = example if len(example) <= _LONGEST_ODD else f"{example[:_LONGEST_ODD]}..."
        say(f"    {one.count:,} {one.kind}, such as {cut}")
    if len(plan.odd) > _MOST_ODD:
        say(f"    and {len(plan.odd) - _MOST_ODD} kinds more")


def _drawn(settings: RunSettings) -> Iterator[str]:
    """How the items were chosen from the data, and how often each is asked."""
    if settings.sample is not None:
        by = ", each scenario in its share" if settings.sample_by == "scenario" else ""
        yield f"items drawn at random{by} (seed {settings.sample_seed}); a larger --sample contains them"
    elif settings.limit is not None:
        yield "the first items in the order of the data, which are no random sample: --sample N draws one"
    if settings.samples > 1:
        yield (
            f"{settings.samples} samples of each: independent replies, in live history whole conversations; "
            "what these items can show is said for one"
        )


def _sayer(console: Console) -> Callable[[str], None]:
    """What prints a line; a command in it is not broken, so that it can be copied."""

    def say(text: str) -> None:
        if _PROGRAM in text:
            console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            sentence(Text(text), console)

    return say


def show_plan(found: RunEstimate, settings: RunSettings, console: Console, head: str | None = None) -> None:
    """Print what will be asked, what is already in the store, and the expected cost and time.

    `head` is the first line of what is no run.
    """
    plan = found.plan
    licence = f", licence {plan.run.dataset_licence}" if plan.run.dataset_licence else ""

    say = _sayer(console)
    say(
        head
        or f"run {plan.run.run_id}: {len(plan.dialogues)} dialogues of {plain(plan.run.dataset_name)} "
        f"(digest {plan.run.dataset_digest[:12]}{plain(licence)}), store {shown_path(settings.db)}"
    )
    for about in (*_drawn(settings), *plan_lines(plan)):
        say(f"  {about}")
    targets = {target.key: target for target in plan.targets}
    names = shown_names(plan)
    for where in address_lines(plan):
        say(f"  {where}")
    guards = {row.guard_key: row for row in plan.moderators}
    for line in found.lines:
        estimate = line.estimate
        if line.role == "target":
            batched = _in_batches(plan, targets[line.key])
            say(
                f"  {names[line.key]}: {_calls(estimate)}{batched}, "
                f"{line.cached} in the store; {_range(estimate)}"
            )
            if changed := _unusual(targets[line.key], settings):
                say(f"    {plain('; '.join(changed))}")
        elif line.role == "guard":
            row = guards[line.key]
            say(
                f"  guard {plain(row.guard)} on {plain(row.identity)} (licence: {plain(row.licence)}): "
                f"{estimate.calls} assessments at most; {_range(estimate)}"
            )
        elif plan.judge is not None:
            say(
                f"  judge {names[line.key]} ({plan.judge.rubric}): {_verdicts(estimate)}"
                f"{' (in batches at half the price)' if plan.judge_batch else ''}, "
                f"{line.cached} in the store; {_range(estimate)}"
            )
    _total(found, [line.estimate for line in found.lines], settings, say)
    if found.seconds is not None:
        low, high = (span(value) for value in found.seconds)
        say(f"  at these limits: at least {low}" + (f", up to {high}" if high != low else ""))
    if found.power is not None:
        say(f"  {found.power.items:,} items can show, with 95 % intervals (docs/power.md):")
        for shown in power_lines(found.power):
            say(f"    {shown}")
    for note in found.notes:
        say(f"  {plain(without_secrets(note))}")
    if plan.not_attempted:
        first = next(iter(plan.not_attempted.values()))
        say(f"  {len(plan.not_attempted)} dialogues not attempted, for example: {plain(first)}")
    _odd(plan, settings, say)
