"""The one way to everything that asks models or reads a store, for programs and for the command line.

    import safemt_client as safemt

    run = safemt.run(provider="demo", turns=[1, 2], db="x.duckdb")
    with safemt.open("x.duckdb") as store:
        store.scores(run.id).asr_by_turn.df()

Keywords are the fields of `RunSettings`: docs/options.md lists them. Nothing is printed unless a `console` is
given. Failures raise `InputError` or `StoreError`; nothing exits the process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import anyio

from safemt_client.asked import Again, Asked, asked_of, judging, no_dry_run, rejudging
from safemt_client.carrying import estimate, go, stored
from safemt_client.engine.invocation import Invocation
from safemt_client.engine.loop import in_main_thread, loop_is_running, run_in_loop
from safemt_client.engine.notify import notify, with_notification
from safemt_client.engine.prepared import Prepared
from safemt_client.engine.results import result_of
from safemt_client.keywords import JudgeKeywords, RunKeywords
from safemt_client.models import open_models
from safemt_client.planning.build import make_plan
from safemt_client.planning.costs import check_prices
from safemt_client.planning.estimate import RunEstimate
from safemt_client.planning.outline import outline_of
from safemt_client.planning.power import power_of_plan
from safemt_client.planning.resolve import resolve_run
from safemt_client.planning.resolved import NothingKnown
from safemt_client.planning.served import ran_in_process
from safemt_client.providers.errors import InputError
from safemt_client.results.store.place import check_place
from safemt_client.telemetry.events import ProgressSnapshot, RunResult

# The engine, DuckDB and the report are loaded where they are used: a plan needs none of them.
if TYPE_CHECKING:
    from rich.console import Console

    from safemt_client.planning.plan import Plan
    from safemt_client.planning.resolved import Resolved
    from safemt_client.results.access import OpenStore
    from safemt_client.results.store.store import Store
    from safemt_client.settings import RunSettings

__all__ = ["arejudge", "arun", "calibrate", "open", "plan", "rejudge", "release", "run"]

OnProgress = Callable[[ProgressSnapshot], object]


def run(
    settings: RunSettings | None = None,
    *,
    on_progress: OnProgress | None = None,
    console: Console | None = None,
    **options: Unpack[RunKeywords],
) -> RunResult:
    """Ask targets, judge and score; the same call resumes: what is in the store is not asked again.

    `settings`, or the keywords that make them. `provider` and `judge` take names, objects of your own
    (docs/plugins.md), or a list of both. `on_progress` is called after each turn and verdict in the store.
    If an event loop is already running, as in a notebook, a thread with its own loop does the work. Ctrl-C
    waits for calls in flight; a second one stops at once.

    Raises:
        InputError: a setting is wrong, or the data, a key or a price is missing.
        StoreError: the store cannot be written; what was acknowledged before is in it.
    """
    asked = asked_of(settings, options)
    no_dry_run(asked.settings)
    invocation = Invocation(console, on_progress)
    return _invoke(asked.settings, invocation, partial(_run, asked, invocation))


async def arun(
    settings: RunSettings | None = None,
    *,
    on_progress: OnProgress | None = None,
    console: Console | None = None,
    **options: Unpack[RunKeywords],
) -> RunResult:
    """Like `run`, in the loop that is already running. Cancelling it abandons calls in flight.

    Raises:
        InputError: a setting is wrong, or the data, a key or a price is missing.
        StoreError: the store cannot be written; what was acknowledged before is in it.
    """
    asked = asked_of(settings, options)
    no_dry_run(asked.settings)
    invocation = Invocation(console, on_progress)
    return await _ainvoke(asked.settings, invocation, partial(_run, asked, invocation))


def plan(settings: RunSettings | None = None, **options: Unpack[RunKeywords]) -> RunEstimate:
    """What `run` would ask and what it may cost: the dry run as a value. Nothing is asked, no store is made.

    No key is needed; `notes` say which are missing.

    Raises:
        InputError: a setting is wrong, or the data or a price is missing.
    """
    asked = asked_of(settings, options)
    return run_in_loop(partial(_plan, asked))


def rejudge(
    db: str | Path = "safemt.duckdb",
    *,
    run: str | None = None,
    anchor: int | None = None,
    judge_samples: int | None = None,
    adaptive: int | None = None,
    dry_run: bool = False,
    on_progress: OnProgress | None = None,
    console: Console | None = None,
    **options: Unpack[JudgeKeywords],
) -> RunResult:
    """Judge the replies of a stored run again (`run`: its id, by default the latest). No target is asked.

    The verdicts make a run of their own over the same turns. The keywords are those of the judge, of limits
    and of operation. With `anchor` the run's own judge is asked again about so many of its replies, always
    the same ones, to see whether it has changed: the result's `id` is the anchor's, and the view
    `judge_anchors` has what was found. With `judge_samples` it is asked about all of them until it has been
    asked so often, the run's own labels included. With `adaptive` the judge labels a sample of about so many,
    most where the run's judge may be wrong, and the report gives the run's rates as this judge would have
    given them: the result's `id` is the draw's in `drawn_labels`. With `dry_run` the plan is printed on the
    console, no more.

    Raises:
        InputError: there is no such store or run, or a setting is wrong.
        StoreError: the store cannot be written.
    """
    from safemt_client.rejudging import rejudge_stored

    asked, invocation = rejudging(Path(db), options, dry_run), Invocation(console, on_progress)
    again = Again(anchor, judge_samples, adaptive)
    return _invoke(asked.settings, invocation, partial(rejudge_stored, asked, run, again, invocation))


def calibrate(
    labelled: str | Path,
    db: str | Path = "safemt.duckdb",
    *,
    data_map: str | None = None,
    data_value: str | Sequence[str] | None = None,
    data_config: str | None = None,
    data_split: str | None = None,
    follow_links: bool = False,
    limit: int | None = None,
    sample: int | None = None,
    sample_seed: int = 0,
    dry_run: bool = False,
    on_progress: OnProgress | None = None,
    console: Console | None = None,
    **options: Unpack[JudgeKeywords],
) -> RunResult:
    """Put a judge to replies that people have labelled, and store how far it agrees with them.

    `labelled` is a file or folder, `hf:NAME`, or `sample`; `data_map`, the name or file of a map, says how
    it is read. `limit` takes the first items, `sample` so many at random. The result's `id` is the
    calibration's; the view `calibrations` has its figures. With `dry_run` the plan is printed on the console,
    no more.

    Raises:
        InputError: the set, a record or a setting is wrong.
        StoreError: the store cannot be written.
    """
    from safemt_client.rejudging import calibrate_labelled

    given: dict[str, Any] = {"data_map": data_map, "data_value": data_value, "limit": limit, "sample": sample}
    given |= {"data": str(labelled), "data_config": data_config, "data_split": data_split, "db": db}
    given |= {"follow_links": follow_links, "sample_seed": sample_seed}
    asked = judging({**options, **given, "dry_run": dry_run})
    invocation = Invocation(console, on_progress)
    return _invoke(asked.settings, invocation, partial(calibrate_labelled, asked, invocation))


async def arejudge(
    db: str | Path = "safemt.duckdb",
    *,
    run: str | None = None,
    anchor: int | None = None,
    judge_samples: int | None = None,
    adaptive: int | None = None,
    dry_run: bool = False,
    on_progress: OnProgress | None = None,
    console: Console | None = None,
    **options: Unpack[JudgeKeywords],
) -> RunResult:
    """Like `rejudge`, in the loop that is already running.

    Raises:
        InputError: there is no such store or run, or a setting is wrong.
        StoreError: the store cannot be written.
    """
    from safemt_client.rejudging import rejudge_stored

    asked, invocation = rejudging(Path(db), options, dry_run), Invocation(console, on_progress)
    main = partial(rejudge_stored, asked, run, Again(anchor, judge_samples, adaptive), invocation)
    return await _ainvoke(asked.settings, invocation, main)


def open(db: str | Path = "safemt.duckdb") -> OpenStore:
    """A store to read from, even during a run. Use as a context manager.

    Raises:
        InputError: no such file, or not a store.
        StoreHeldError: a process holds it and does not answer.
    """
    from safemt_client.results.access import OpenStore
    from safemt_client.results.store.reader import open_reader

    return OpenStore(open_reader(Path(db)))


def release(db: str | Path = "safemt.duckdb", *, run: str | None = None) -> float:
    """Count what is held of a run (`run`: its id, by default the latest) as not spent; return the US dollars.

    That is what calls may have cost that were in flight when a session with a cost cap was killed.

    Raises:
        InputError: there is no such store or run, or a run holds the store.
    """
    from safemt_client.planning.costs import release as release_costs
    from safemt_client.results.scores.collect import latest_run

    if not Path(db).exists():
        raise InputError(f"{db}: no such store: name one with --db")
    with stored(Path(db)) as store:
        others = store.known_keys("calibration_runs", "calibration_id")
        others |= store.known_keys("anchor_runs", "anchor_id") | store.known_keys("label_draws", "draw_id")
        return release_costs(store, run if run in others else latest_run(store, run))


async def _run(asked: Asked, invocation: Invocation) -> RunResult:
    settings = asked.settings
    with ExitStack() as stack:
        check_place(settings.db)
        # A new store is made once everything else is known to be right: nobody wants an empty one.
        store = stack.enter_context(stored(settings.db)) if settings.db.exists() else None
        async with open_models(settings, asked.given, ran_in_process(store)) as models:
            wanted = await resolve_run(settings, models, store)
            found = _planned(wanted, store, settings)
            check_prices(found, settings, list(models.guard_specs))
            prepared = Prepared(found, wanted.judge, models, store, settings, wanted=wanted)
            return await go(prepared, invocation)


async def _plan(asked: Asked) -> RunEstimate:
    settings = asked.settings.model_copy(update={"dry_run": True})
    with ExitStack() as stack:
        check_place(settings.db)
        store = stack.enter_context(stored(settings.db)) if settings.db.exists() else None
        async with open_models(settings, asked.given, ran_in_process(store)) as models:
            wanted = await resolve_run(settings, models, store)
            found = _planned(wanted, store, settings)
            check_prices(found, settings, list(models.guard_specs))
            estimated = estimate(found, models, wanted.judge, store, settings)
            return replace(estimated, power=power_of_plan(found, store))


def _planned(wanted: Resolved, store: Store | None, settings: RunSettings) -> Plan:
    """The plan of a run; of a large one its outline where its conversations are not needed at once."""
    # Batches are sent by one process, which needs all of it.
    on_workers = (settings.workers is not None or settings.ray is not None) and not settings.batch
    if settings.dry_run or on_workers:
        return outline_of(wanted, store)
    return make_plan(wanted, store or NothingKnown())


def _invoke(
    settings: RunSettings, invocation: Invocation, main: Callable[[], Awaitable[RunResult]]
) -> RunResult:
    invocation.signals = in_main_thread() and not loop_is_running()
    return with_notification(
        settings.on_finish, settings.db, invocation, lambda: run_in_loop(main, invocation.interrupt)
    )


async def _ainvoke(
    settings: RunSettings, invocation: Invocation, main: Callable[[], Awaitable[RunResult]]
) -> RunResult:
    async def tell(result: RunResult) -> None:
        run_id = invocation.run_id
        await anyio.to_thread.run_sync(notify, settings.on_finish, settings.db, run_id, result)

    try:
        result = await main()
    except BaseException as error:
        with anyio.CancelScope(shield=True):
            await tell(result_of(error, invocation.result))
        raise
    await tell(result)
    return result
