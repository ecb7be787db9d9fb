"""Judging without asking a target: stored runs again, and replies that people have labelled."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from safemt_client.asked import Again, Asked
from safemt_client.carrying import go
from safemt_client.engine.anchoring import AnchorRecorder
from safemt_client.engine.calibrating import CalibrationRecorder
from safemt_client.engine.checking import CheckRecorder
from safemt_client.engine.invocation import Invocation
from safemt_client.engine.prepared import Prepared
from safemt_client.models import open_models
from safemt_client.planning.adaptive import resolve_check
from safemt_client.planning.anchor import repeats_of, resolve_anchor, settings_of_anchor
from safemt_client.planning.build import make_plan
from safemt_client.planning.calibration import chosen_of, resolve_calibration
from safemt_client.planning.costs import check_prices
from safemt_client.planning.rejudge import resolve_stored, settings_of_stored
from safemt_client.planning.served import ran_in_process
from safemt_client.providers.errors import InputError
from safemt_client.results.scores.collect import latest_run
from safemt_client.results.store.place import check_place
from safemt_client.results.store.store import Store
from safemt_client.telemetry.anchored import finish_anchor, head_of_anchor
from safemt_client.telemetry.calibrated import finish_calibration, head_of
from safemt_client.telemetry.checked import finish_check, head_of_check
from safemt_client.telemetry.events import RunResult

__all__ = ["calibrate_labelled", "rejudge_stored"]


async def rejudge_stored(asked: Asked, run_id: str | None, again: Again, invocation: Invocation) -> RunResult:
    """Judge a stored run again, a part of it, or more than once, as `again` says.

    Raises:
        InputError: there is no such store or run, or a setting is wrong.
        StoreError: the store cannot be written.
    """
    again.check()
    with Store.open(asked.settings.db, "store", command="judge") as store:
        run_id = latest_run(store, run_id)
        if again.anchor is not None:
            return await _anchor(asked, store, run_id, again.anchor, invocation)
        if again.judge_samples is not None:
            return await _repeat(asked, store, run_id, again.judge_samples, invocation)
        if again.adaptive is not None:
            return await _check(asked, store, run_id, again.adaptive, invocation)
        settings = settings_of_stored(asked.settings, store, run_id)
        async with open_models(settings, asked.given, ran_in_process(store)) as models:
            wanted = await resolve_stored(settings, models, store, run_id)
            found = make_plan(wanted, store)
            check_prices(found, settings, judges_only=True)
            return await go(Prepared(found, wanted.judge, models, store, settings), invocation)


async def _repeat(asked: Asked, store: Store, run_id: str, samples: int, invocation: Invocation) -> RunResult:
    """Ask the run's judge about all of its replies until it has been asked so many times."""
    repeats = repeats_of(store, run_id)
    left = samples - 1 - len(repeats.done)
    if invocation.console is not None and not asked.settings.quiet:
        about = f"{repeats.replies:,} replies: asked again {len(repeats.done)} times, {max(0, left)} to come"
        invocation.console.print(f"{about}; the first labels decide", markup=False, highlight=False)
    result = RunResult("done", 0, "stored", id=repeats.done[-1] if repeats.done else run_id)
    for _ in range(left):
        result = await _anchor(asked, store, run_id, repeats.replies, invocation)
        if result.exit_status or asked.settings.dry_run:
            break
    return result


async def _anchor(asked: Asked, store: Store, run_id: str, replies: int, invocation: Invocation) -> RunResult:
    settings = settings_of_anchor(asked.settings, store, run_id)
    async with open_models(settings, asked.given, ran_in_process(store)) as models:
        anchor = await resolve_anchor(settings, models, store, run_id, replies)
        found = make_plan(anchor.wanted, store)
        check_prices(found, settings, judges_only=True)
        prepared = Prepared(
            *(found, anchor.wanted.judge, models, store, settings),
            partial(AnchorRecorder, anchor),
            finish_anchor,
        )
        return await go(prepared, invocation, head_of_anchor(found, anchor, settings))


async def _check(asked: Asked, store: Store, run_id: str, replies: int, invocation: Invocation) -> RunResult:
    if "judge" not in asked.settings.model_fields_set:
        raise InputError("--adaptive: asks a stronger judge than the run's: name it with --judge")
    settings = settings_of_stored(asked.settings, store, run_id)
    async with open_models(settings, asked.given, ran_in_process(store)) as models:
        check = await resolve_check(settings, models, store, run_id, replies)
        found = make_plan(check.wanted, store)
        check_prices(found, settings, judges_only=True)
        prepared = Prepared(
            *(found, check.wanted.judge, models, store, settings),
            partial(CheckRecorder, check),
            finish_check,
        )
        return await go(prepared, invocation, head_of_check(found, check, settings))


async def calibrate_labelled(asked: Asked, invocation: Invocation) -> RunResult:
    """Put a judge to replies that people have labelled.

    Raises:
        InputError: the set, a record or a setting is wrong.
        StoreError: the store cannot be written.
    """
    settings = asked.settings
    labelled, chosen = chosen_of(settings)
    with ExitStack() as stack:
        check_place(settings.db)
        store = None
        if settings.db.exists():
            store = stack.enter_context(Store.open(settings.db, "store", command="calibrate"))
        async with open_models(settings, asked.given, ran_in_process(store)) as models:
            calibration = await resolve_calibration(settings, labelled, chosen, models, store)
            found = make_plan(calibration.wanted, calibration.known)
            check_prices(found, settings, judges_only=True)
            prepared = Prepared(
                *(found, calibration.wanted.judge, models, store, settings),
                partial(CalibrationRecorder, calibration),
                finish_calibration,
            )
            return await go(prepared, invocation, head_of(found, labelled, settings))
