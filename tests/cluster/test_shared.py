"""Limits that several runs share, told by hand and in virtual time; and what a run says of itself to others."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from safemt_client.cluster import shared
from safemt_client.cluster.messages import Answer, AnswerOfAccount, Ended, Report, ReportOfAccount, RunSaid
from safemt_client.cluster.shared import SharedAccounts, check_versions, named_for_all, namespace, under
from safemt_client.providers.errors import InputError
from safemt_client.providers.limits.permits import Change, Terms
from safemt_client.providers.registry import ProviderSpec, resolve
from safemt_client.providers.vendors import SERVED


class Told:
    """Shared Accounts with a clock that is set by hand, and two runs with a worker each."""

    def __init__(self) -> None:
        self.now = 100.0
        self.numbers: dict[str, int] = {}
        self.restart()
        for run in ("a", "b"):
            assert self.joins(run) is None
            self.expects(run)

    def restart(self, *, anew: bool = False) -> None:
        self.accounts = SharedAccounts(clock=lambda: self.now, anew=anew)

    def joins(self, run: str, *accounts: str, stated: tuple[str, ...] = ()) -> str | None:
        return call(self.accounts.join(RunSaid(run, 30.0, accounts or ("mine",), stated)))

    def expects(self, run: str) -> list[Change]:
        return call(self.accounts.expect(RunSaid(run, 30.0, ("mine",), workers=(f"{run}1",))))

    def says(
        self,
        run: str,
        held: int = 0,
        wants: int = 0,
        *,
        rpm: float | None = None,
        most: int = 10,
        **more: Any,
    ) -> Answer | None:
        self.numbers[run] = self.numbers.get(run, 0) + 1
        terms = Terms(f"mine of {run}", rpm, None, most, most)
        report = ReportOfAccount(terms, held, (1.0,) * wants, **more)
        return call(self.accounts.tick(run, Report(f"{run}1", self.numbers[run], {"shared": report})))

    def given(self, run: str, held: int = 0, wants: int = 0, **more: Any) -> int:
        answer = self.says(run, held, wants, **more)
        assert answer is not None
        return len(answer.accounts["shared"].delays_s)


def call(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def test_the_lowest_limit_that_a_run_states_holds_for_all() -> None:
    told = Told()
    assert told.given("a", 0, 20, most=10) == 10
    assert told.given("b", 0, 20, most=4) == 0
    assert told.given("a", 0, 20, most=10) + told.given("b", 0, 20, most=4) == 4
    assert told.accounts.in_flight() == {"shared": 4}


def test_a_rate_is_that_of_the_lowest_and_of_the_others_once_it_has_left() -> None:
    told = Told()
    told.given("b", rpm=60 / 0.99)
    assert told.given("a", 0, 5, rpm=600 / 0.99) == 1
    told.now += 0.8
    assert told.given("a", 1, 5, rpm=600 / 0.99) == 0
    call(told.accounts.leave("b"))
    told.now += 0.2
    assert told.given("a", 1, 5, rpm=600 / 0.99) == 2
    (change,) = [one for one in told.expects("a") if one.rpm == 600 / 0.99]
    # As the run itself calls the account.
    assert (change.account, change.reason) == ("mine of a", "stated")


def test_of_a_run_that_is_silent_limits_go_at_once_and_calls_after_an_attempt() -> None:
    told = Told()
    assert told.given("a", 0, 20, most=6) == 6
    for _ in range(6):
        told.now += 10
        assert told.given("b", 0, 20) == 0
    told.now += 1
    # It is dropped: there are 10 places again, of which its calls have 6.
    assert told.given("b", 0, 20) == 4
    told.now += 31
    told.given("b", 0, 0)
    assert told.accounts.in_flight() == {"shared": 0}


def test_a_run_that_was_dropped_may_come_back_with_what_it_holds() -> None:
    told = Told()
    assert told.given("a", 0, 4) == 4
    told.now += 61
    told.expects("b")
    assert told.says("a", 4, 5) is None
    told.expects("a")
    # Those it had count twice for a while, rather than not at all.
    assert told.given("a", 4, 5) == 2
    assert told.accounts.in_flight() == {"shared": 10}


def test_accounts_that_are_newer_than_a_run_give_nothing_until_all_can_have_spoken() -> None:
    told = Told()
    assert told.given("a", 0, 8) == 8
    told.restart()
    assert told.joins("c") is None
    told.expects("c")
    assert told.says("a", 8) is None
    assert told.given("c", 0, 8) == 0
    told.expects("a")
    told.given("a", 8)
    told.now += 9.9
    assert told.given("c", 0, 8) == 0
    told.now += 0.2
    assert told.given("c", 0, 8) == 2


def test_accounts_in_place_of_others_give_nothing_until_older_runs_can_have_spoken() -> None:
    told = Told()
    told.restart(anew=True)
    assert told.joins("c") is None
    told.expects("c")
    assert told.given("c", 0, 8) == 0
    told.now += 9.9
    assert told.given("c", 0, 8) == 0
    told.now += 0.2
    assert told.given("c", 0, 8) == 8


def test_a_lost_worker_is_fenced_and_holds_nobody_up() -> None:
    told = Told()
    assert told.given("a", 0, 10) == 10
    call(told.accounts.lost("a", "a1"))
    answer = told.says("a", 10)
    assert answer is not None
    assert answer.fenced
    assert told.given("b", 0, 4) == 0
    told.now += 31
    assert told.given("b", 0, 4) == 4


def test_a_worker_that_is_lost_before_its_run_is_known_is_to_be_said_again() -> None:
    told = Told()
    told.restart()
    assert not call(told.accounts.lost("a", "a1"))
    told.expects("a")
    assert call(told.accounts.lost("a", "a1"))
    answer = told.says("a", 10)
    assert answer is not None
    assert answer.fenced


def test_what_an_endpoint_has_said_counts_once_nobody_states_more() -> None:
    from safemt_client.providers.limits.rates import RateLimit

    told = Told()
    told.given("b", rpm=60 / 0.99)
    ended = Ended(0.1, 1.0, None, "answered", 200, rate_limits=(RateLimit(600 / 0.99), None))
    told.given("a", 0, 0, ended=(ended,))
    call(told.accounts.leave("b"))
    told.now += 10
    assert told.given("a", 0, 5) == 2


def test_one_vendor_is_one_account_in_all_runs_or_in_none() -> None:
    told = Told()
    assert told.joins("c", "openai/gpt-4o", "anthropic") is None
    assert told.joins("d", "openai/gpt-4o-mini", "anthropic") is None
    why = told.joins("e", "openai")
    assert why is not None
    assert "[accounts.openai]" in why
    both = ("openai", "openai/gpt-4o")
    assert told.joins("e", "openai", stated=both) is not None
    assert told.joins("f", "127.0.0.1:8000") is None
    call(told.accounts.leave("d"))
    assert told.joins("e", "openai", stated=both) is None
    assert told.joins("e", "openai", stated=both) is None
    # A model that has limits of its own in the one run is by itself in both.
    assert told.joins("g", "openai/gpt-4o") is None
    assert told.joins("h", "openai/gpt-4o-mini") is not None


def test_they_are_idle_once_no_run_is_heard() -> None:
    told = Told()
    told.now += 50
    told.given("a")
    told.now += 20
    assert told.accounts.idle_s == 20


def test_other_versions_are_refused() -> None:
    said = call(SharedAccounts().hello())
    check_versions("lab", said)
    with pytest.raises(InputError, match=r"--ray-accounts lab: it has safemt_client 9\.9"):
        check_versions("lab", said | {"safemt_client": "9.9"})


def test_a_namespace_has_the_name_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    assert namespace() == f"safemt-{pwd.getpwuid(shared.os.getuid()).pw_name}"
    monkeypatch.setattr(shared.os, "getuid", lambda: 3_999_999_999)
    assert namespace() == "safemt-3999999999"


def spec(name: str, variable: str | None = None, **env: str) -> ProviderSpec:
    return resolve(name, None, env, variable)


def test_an_account_is_a_vendors_key_by_its_variable_or_a_machine() -> None:
    keys = {"OPENAI_API_KEY": "sk-planted-1", "TEAM": "sk-planted-2", "SAFEMT_API_KEY": "sk-planted-3"}
    own = "m@http://10.0.0.5:8000/v1"
    found = named_for_all([spec("gpt-4o", **keys), spec(own, **keys)], str, "s1")
    assert found == {
        "openai/gpt-4o": "openai/gpt-4o OPENAI_API_KEY",
        "10.0.0.5:8000": "10.0.0.5:8000",
    }
    assert named_for_all([spec("gpt-4o", "TEAM", **keys)], str, "s1")["openai/gpt-4o"] == "openai/gpt-4o TEAM"
    moved = spec("gpt-4o", **keys, OPENAI_BASE_URL="https://gateway.example/v1")
    assert "gateway.example" in named_for_all([moved], str, "s1")["openai/gpt-4o"]
    with pytest.raises(InputError, match="asked with two keys"):
        named_for_all([spec("gpt-4o", **keys), spec("gpt-4o", "TEAM", **keys)], str, "s1")
    served = replace(spec(own, **keys), vendor=SERVED, account="vllm:/m")
    names = [named_for_all([served], str, session)["vllm:/m"] for session in ("s1", "s2")]
    assert names == ["vllm:/m s1", "vllm:/m s2"]


def test_a_worker_speaks_of_accounts_as_all_do_and_hears_of_them_as_it_does() -> None:
    heard = []

    async def tick(report: Report) -> Answer:
        heard.append(report)
        gift = AnswerOfAccount((0.0,), 1, True)
        return Answer(dict.fromkeys((*report.accounts, "of another one"), gift))

    said = ReportOfAccount(Terms("openai/x", None, None, 1, 1), 0)
    report = Report("w", 1, {"openai/x": said, "here:1": replace(said, held=1)})
    answer = call(under({"openai/x": "openai/x KEY"}, tick)(report))
    assert set(heard[0].accounts) == {"openai/x KEY", "here:1"}
    assert set(answer.accounts) == {"openai/x", "here:1"}
