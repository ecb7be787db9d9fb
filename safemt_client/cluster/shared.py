"""Limits that several runs share: who is there, what they state, and what becomes of a run that is silent.

Money is each run's own, and stays with its own Accounts: here are names of accounts and figures, no more.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from safemt_client.cluster.counts import Counts
from safemt_client.cluster.messages import SILENCE_S, Answer, Report, RunSaid
from safemt_client.cluster.versions import versions
from safemt_client.providers.errors import InputError
from safemt_client.providers.limits.permits import Change
from safemt_client.providers.registry import ProviderSpec

__all__ = ["SharedAccounts", "check_name", "check_versions", "named_for_all", "namespace", "under"]

SILENT_S = 60.0
"""A run that was not heard for so long is dropped."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
Tick = Callable[[Report], Awaitable[Answer]]


@dataclass
class _Run:
    said: RunSaid
    heard: float
    workers: set[str] = field(default_factory=set)
    """All that were ever heard."""
    changes: list[Change] = field(default_factory=list)


class SharedAccounts:
    """Counts for the workers of several runs. Its methods are called from one event loop.

    Those that take the place of others (`anew`) give nothing until all runs can have said what they hold.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, anew: bool = False) -> None:
        self._clock = clock
        self._runs: dict[str, _Run] = {}
        self._known: set[str] = set()
        self._heard = clock()
        self._quiet_until = clock() + SILENCE_S if anew else float("-inf")
        self._counts = Counts(self._changed, clock)

    @property
    def idle_s(self) -> float:
        """For how many seconds no run has been heard."""
        return self._clock() - self._heard

    async def hello(self) -> dict[str, str]:
        """What must be the same for all that talk to it."""
        return versions()

    async def join(self, said: RunSaid) -> str | None:
        """A run begins; why it may not, None if it may."""
        self._sweep()
        for name, run in self._runs.items():
            odd = None if name == said.run else _together(said, run.said) or _together(run.said, said)
            if odd is not None:
                vendor = odd.partition("/")[0]
                return (
                    f"one run counts {vendor} as one account ([accounts.{vendor}]), another "
                    f"{odd} by itself: say the same in both"
                )
        self._known.add(said.run)
        self._hear(said)
        return None

    async def expect(self, said: RunSaid) -> list[Change]:
        """A run goes on; how the limits of its accounts have changed since the last time."""
        self._sweep()
        self._notice(said.run)
        run = self._hear(said)
        changes, run.changes = run.changes, []
        return changes

    async def tick(self, run: str, report: Report) -> Answer | None:
        """Take what a worker of a run says, and give it what there is; None while the run is not known."""
        self._sweep()
        about = self._runs.get(run)
        if about is None:
            self._notice(run)
            return None
        about.heard = self._heard = self._clock()
        about.workers.add(report.worker)
        if (known := self._counts.hear(report, run)) is not None:
            return known
        giving = self._clock() >= self._quiet_until
        giving = giving and self._counts.may_give(report.worker, about.said.workers)
        answer = Answer(self._counts.give(report, giving=giving))
        self._counts.answered(report, answer)
        return answer

    async def lost(self, run: str, worker: str) -> bool:
        """A worker is dead or silent: its calls count as in flight for the time of an attempt.

        False while the run is not known: it is to be said again.
        """
        if (about := self._runs.get(run)) is None:
            self._notice(run)
            return False
        left = tuple(name for name in about.said.workers if name != worker)
        about.said = replace(about.said, workers=left)
        self._counts.lost(worker, about.said.attempt_s)
        return True

    async def leave(self, run: str) -> None:
        """A run is over: what it has stated holds no longer; what it has in flight counts a while."""
        if (about := self._runs.pop(run, None)) is None:
            return
        for worker in about.workers:
            self._counts.forget(worker, about.said.attempt_s)
        self._counts.release(run)

    def in_flight(self) -> Mapping[str, int]:
        """Permits that are out, by account."""
        return self._counts.in_flight()

    def _hear(self, said: RunSaid) -> _Run:
        now = self._heard = self._clock()
        run = self._runs.setdefault(said.run, _Run(said, now))
        run.said, run.heard = said, now
        return run

    def _notice(self, run: str) -> None:
        """A run that is under way and was never heard of: these Accounts are newer than it.

        There may be more like it. After this time they have said what they hold, or start nothing.
        """
        if run not in self._known:
            self._known.add(run)
            self._quiet_until = self._clock() + SILENCE_S

    def _sweep(self) -> None:
        self._counts.bury()
        now = self._clock()
        for name in [name for name, run in self._runs.items() if now - run.heard > SILENT_S]:
            about = self._runs.pop(name)
            for worker in about.workers:
                self._counts.forget(worker, about.said.attempt_s)
            self._counts.release(name)

    def _changed(self, account: str, change: Change) -> None:
        for name, terms in self._counts.terms(account).items():
            if (run := self._runs.get(name)) is not None:
                run.changes.append(replace(change, account=terms.account))


def _together(one: RunSaid, other: RunSaid) -> str | None:
    """An account that one run has by itself, and the other as a part of its vendor's."""
    for name in one.accounts:
        vendor = name.partition("/")[0]
        if vendor != name and vendor in other.accounts and name not in other.stated:
            return name
    return None


def check_versions(name: str, said: Mapping[str, str]) -> None:
    """Refuse shared Accounts of other versions than this process has.

    Raises:
        InputError: they are.
    """
    for what, version in versions().items():
        if said.get(what) != version:
            raise InputError(
                f"--ray-accounts {name}: it has {what} {said.get(what)}, and this run {version}: "
                "install the same, or give another name"
            )


def check_name(name: str) -> None:
    """Refuse what is no name of shared Accounts.

    Raises:
        InputError: it is none.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"--ray-accounts {name!r}: write a name of letters, digits, dots, - and _")


def namespace() -> str:
    """Where the shared Accounts of this user are, apart from those of others on the same cluster."""
    try:
        import pwd

        user = pwd.getpwuid(os.getuid()).pw_name
    except ImportError:
        import getpass

        user = getpass.getuser()
    except KeyError:
        user = str(os.getuid())
    return f"safemt-{user}"


def named_for_all(
    specs: Iterable[ProviderSpec], account_of: Callable[[str], str], session: str
) -> dict[str, str]:
    """What the accounts of a run are called among several runs, by the names that it has for them itself.

    The limit of an endpoint of one's own is that of its machine, whoever asks. A vendor's is that of the key,
    which is named by its variable: on a cluster that has one value. A server that a run starts is its own.

    Raises:
        InputError: a run counts as one account what is asked with two keys or at two addresses.
    """
    found: dict[str, str] = {}
    for spec in specs:
        name = account_of(spec.account)
        place = urlsplit(spec.base_url or "").netloc if spec.own or spec.moved_by else ""
        place = session if spec.vendor.managed else place
        parts = (name, "" if place == name else place, "" if spec.own else spec.key_variable or "")
        called = " ".join(part for part in parts if part)
        if (other := found.setdefault(name, called)) != called:
            raise InputError(
                f"--ray-accounts: {name} is one account, and is asked with two keys or at two addresses "
                f"({other}; {called}): make two runs of it"
            )
    return found


def under(names: Mapping[str, str], tick: Tick) -> Tick:
    """What a worker says, with accounts under the names that they have among several runs."""

    async def said(report: Report) -> Answer:
        mine = {names.get(name, name): name for name in report.accounts}
        accounts = {called: report.accounts[name] for called, name in mine.items()}
        answer = await tick(replace(report, accounts=accounts))
        given = {mine[called]: one for called, one in answer.accounts.items() if called in mine}
        return replace(answer, accounts=given)

    return said
