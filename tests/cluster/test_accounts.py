"""The count of limits and money, told by hand and in virtual time."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from safemt_client.cluster.accounts import Accounts, Purse
from safemt_client.cluster.messages import Answer, AnswerOfAccount, MoneySaid, Report, ReportOfAccount
from safemt_client.providers.limits.permits import Terms


class Told:
    """Accounts with a clock that is set by hand, and what workers say to them."""

    def __init__(
        self, *workers: str, rpm: float | None = None, most: int = 10, cap: float | None = None
    ) -> None:
        self.now = 100.0
        self.terms = Terms("a", rpm, None, most, most)
        self.leases: list[float] = []
        self.cap = cap
        self.numbers = dict.fromkeys(workers, 0)
        self.restart()
        self.accounts.expect(workers)

    def restart(self) -> None:
        async def lend(up_to: float) -> None:
            self.leases.append(up_to)

        purse = None if self.cap is None else Purse(self.cap, 1.0, lend)
        self.accounts = Accounts(60.0, purse, clock=lambda: self.now)

    def ticks(self, worker: str, held: int) -> Answer:
        self.numbers[worker] += 1
        said = ReportOfAccount(self.terms, held)
        answer: Answer = run(self.accounts.tick(Report(worker, self.numbers[worker], {"a": said})))
        return answer

    def says(
        self, worker: str, held: int, wants: int = 0, money: MoneySaid | None = None, **more: Any
    ) -> Any:
        self.numbers[worker] += 1
        said = ReportOfAccount(self.terms, held, (1.0,) * wants, **more)
        answer = run(self.accounts.tick(Report(worker, self.numbers[worker], {"a": said}, money)))
        return answer if money is not None or answer.fenced else answer.accounts["a"]


def run(call: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(call)


def given(answer: AnswerOfAccount) -> int:
    return len(answer.delays_s)


def test_nothing_is_given_until_all_that_are_alive_have_said_what_they_hold() -> None:
    told = Told("one", "two")
    assert given(told.says("one", 0, 8)) == 0
    told.says("two", 0)
    assert given(told.says("one", 0, 8)) == 8
    told.restart()
    assert given(told.says("two", 0, 5)) == 0
    told.accounts.expect(["one", "two"])
    assert given(told.says("two", 0, 5)) == 0
    told.says("one", 8)
    assert given(told.says("two", 0, 5)) == 2
    assert told.accounts.in_flight() == {"a": 10}


def test_after_a_restart_only_those_that_are_alive_have_heard_the_accounts() -> None:
    told = Told("one", "two")
    answer = told.ticks("one", 0)
    assert answer.expected
    told.accounts.lost("one")
    told.restart()
    assert not told.ticks("one", 4).expected
    told.accounts.expect(["two"])
    assert not told.ticks("one", 4).expected
    assert told.ticks("two", 0).expected


def test_a_worker_that_was_never_heard_may_have_heard_the_accounts_of_before() -> None:
    told = Told("one", "two")
    told.restart()
    told.now += 2
    assert told.accounts.lost("one") == (8.0, 0.0)
    told.now += 20
    assert told.accounts.lost("two") == (0.0, 0.0)


def test_what_a_worker_holds_is_what_it_says() -> None:
    told = Told("one")
    assert given(told.says("one", 0, 4)) == 4
    # The answer was lost: it has none of them.
    assert given(told.says("one", 0, 4)) == 4
    assert told.accounts.in_flight() == {"a": 4}
    told.says("one", 3)
    assert told.accounts.in_flight() == {"a": 3}


def test_a_rate_is_kept_over_all_workers_and_what_is_not_used_is_given_again() -> None:
    told = Told("one", "two", rpm=60 / 0.99)
    told.says("two", 0)
    assert given(told.says("one", 0, 3)) == 1
    assert given(told.says("two", 0, 3)) == 0
    told.now += 0.95
    assert told.says("two", 0, 3).delays_s == (0.05,) or given(told.says("two", 0, 0)) == 0
    told.says("one", 1)
    told.says("two", 0, unused=(1.0,))
    assert given(told.says("one", 1, 1)) == 1


def test_calls_of_a_lost_worker_are_in_flight_for_the_time_of_an_attempt() -> None:
    told = Told("one", "two")
    told.says("two", 0)
    assert given(told.says("one", 0, 10)) == 10
    told.now += 3
    # Also when it is said again, since no answer came.
    assert [told.accounts.lost("one"), told.accounts.lost("one")] == [(7.0, 0.0)] * 2
    assert given(told.says("two", 0, 4)) == 0
    assert told.says("one", 10).fenced
    told.now += 61
    assert given(told.says("two", 0, 4)) == 4


def test_those_who_wait_share_what_there_is() -> None:
    told = Told("one", "two")
    told.says("two", 0)
    assert given(told.says("one", 0, 20)) == 10
    assert given(told.says("two", 0, 20)) == 0
    answer = told.says("one", 10, 20)
    assert (given(answer), answer.share) == (0, 5)
    # It gives back what is more than its share, which the other one takes.
    assert given(told.says("one", 5, 20)) == 0
    assert given(told.says("two", 0, 20)) == 5


def test_a_cap_is_divided_leased_and_refused_only_when_nothing_can_come_back() -> None:
    told = Told("one", "two", cap=2.0)
    told.says("two", 0, money=MoneySaid(0, 0, 0))
    one = told.says("one", 0, money=MoneySaid(0, 0, 0, 0.6, 0.6))
    assert (one.may_usd, one.refused) == (0.6, False)
    assert told.leases[-1] >= 0.6
    two = told.says("two", 0, money=MoneySaid(0, 0, 0, 0.5, 0.5))
    assert (two.may_usd, two.refused, two.scarce) == (0.0, False, True)
    # The first one keeps what it has committed, and gives the rest back.
    assert told.says("one", 0, money=MoneySaid(0.3, 0.1, 0.2)).scarce
    assert told.says("two", 0, money=MoneySaid(0, 0, 0, 0.5, 0.5)).may_usd == 0.5
    assert not told.says("two", 0, money=MoneySaid(0.5, 0.5, 0, 0.5, 0.5)).refused
    told.says("one", 0, money=MoneySaid(0.3, 0.3, 0))
    assert told.says("two", 0, money=MoneySaid(0.5, 0.5, 0, 0.5, 0.5)).refused
    assert max(told.leases) <= 1.0 + 1e-9


def test_all_that_a_lost_worker_was_given_counts_as_spent_also_after_a_restart() -> None:
    told = Told("one", "two", cap=2.0)
    told.says("two", 0, money=MoneySaid(0, 0, 0))
    told.says("one", 0, money=MoneySaid(0, 0, 0, 0.6, 0.6))
    _, gone = told.accounts.lost("one")
    assert gone == 0.6
    assert told.accounts.expect(["two"]) == ([], gone)
    told.restart()
    told.accounts.expect(["two"], gone)
    assert told.says("two", 0, money=MoneySaid(0, 0, 0, 0.5, 0.5)).refused
    assert told.says("two", 0, money=MoneySaid(0, 0, 0, 0.4, 0.4)).may_usd == 0.4
    assert told.accounts.session_usd() == pytest.approx(0.6)
