"""Runs that share the limits of their accounts: on workers that are threads here, and on Ray."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cluster.said import rows, turns, write_dialogues
from cluster.strict import Strict, strict
from cluster.threads import on_threads
from support.program import ROOT, at_once
from support.waiting import until

from safemt_client.cluster import actors
from safemt_client.cluster.accounts import Purse
from safemt_client.cluster.link import AwayError
from safemt_client.cluster.messages import MoneySaid, Report, RunSaid, Sharing
from safemt_client.cluster.nodes import started
from safemt_client.cluster.shared import namespace
from safemt_client.settings import RunSettings


def test_shared_accounts_that_are_gone_for_good_are_made_anew_and_nothing_is_asked_twice(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safemt_client.cluster.shared.SILENCE_S", 1.0)
    write_dialogues(here / "d.jsonl", 80)
    with on_threads(2) as nodes, strict(latency_s=0.1) as endpoint:

        def kill() -> None:
            until(lambda: len(endpoint.times) > 10)
            nodes.of("SharedAccounts")[0].kill()

        killer = Thread(target=kill)
        killer.start()
        done = at_once(
            *("--provider", f"m@{endpoint.url}", "--judge", "none", "--data", "d.jsonl", "--history", "live"),
            *("--ray", "auto", "--ray-accounts", "lab", "--max-concurrency", "4", "--db", "a.duckdb"),
        )
        killer.join()
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(nodes.of("SharedAccounts")) == 2
    assert turns(here / "a.duckdb") == (80, 80, 80)
    assert set(endpoint.asked.values()) == {1}


def test_what_is_said_to_shared_accounts_has_no_key_and_no_text(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-42")
    write_dialogues(here / "d.jsonl", 4)
    with on_threads(1) as nodes, strict(rpm=6000) as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
        done = at_once(
            *("--provider", "openai/gpt-4o", "--judge", "none", "--data", "d.jsonl", "--history", "live"),
            *(
                "--ray",
                "auto",
                "--ray-accounts",
                "lab",
                "--rpm",
                "6000",
                "--max-cost",
                "1",
                "--db",
                "a.duckdb",
            ),
        )
    assert done.returncode == 0, done.stdout + done.stderr
    (shared,) = nodes.of("SharedAccounts")
    assert shared.calls[:2] == ["hello", "join"]
    assert shared.calls[-1] == "leave"
    said = b"".join(shared.messages)
    assert f"openai/gpt-4o 127.0.0.1:{endpoint.port} OPENAI_API_KEY".encode() in said
    assert b"planted" not in said
    assert b"river" not in said
    assert b"other things" not in said
    # The money is counted by the run itself.
    assert rows(here / "a.duckdb", "SELECT event FROM cost_leases ORDER BY recorded_at")[-1] == ("closed",)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ray-accounts", "lab"], "--ray-accounts lab: needs --ray"),
        (["--ray-accounts", "lab", "--workers", "2"], "--ray-accounts lab: needs --ray"),
        (["--ray-accounts", "our lab", "--ray", "auto"], "--ray-accounts 'our lab': write a name of letters"),
    ],
)
def test_a_name_without_a_cluster_or_with_blanks_is_refused(here: Path, words: list[str], said: str) -> None:
    done = at_once("--provider", "demo", *words)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]


def test_money_of_lost_workers_is_known_while_the_shared_accounts_are_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(self: Any, name: str, *about: Any, **more: Any) -> Any:
        raise AwayError(name)

    async def says(worker: str, number: int, money: MoneySaid) -> None:
        # Money is given, and written, whether or not the others' Accounts answer.
        with pytest.raises(AwayError):
            await accounts.tick(Report(worker, number, {}, money))

    async def unknown(self: Any, name: str, *about: Any, **more: Any) -> bool:
        return False

    async def lose() -> None:
        await accounts.expect(["one"])
        await says("one", 1, MoneySaid(0, 0, 0, 0.6, 0.6))
        with pytest.raises(AwayError):
            await accounts.lost("one")
        assert await accounts.expect([]) == (None, 0.6)
        monkeypatch.setattr(actors._Shared, "call", unknown)
        with pytest.raises(AwayError):
            await accounts.lost("one")

    async def lend(self: Any) -> None:
        return None

    monkeypatch.setattr(Purse, "_lease", lend)
    with on_threads(1) as nodes:
        nodes.named["writer"] = None  # type: ignore[assignment]
        monkeypatch.setattr(actors._Shared, "call", away)
        sharing = Sharing("lab", "n", RunSaid("run", 1.0, ()))
        accounts = actors.Accounts("writer", 1.0, (2.0, 0.0), "run", "session", sharing)
        asyncio.run(lose())


def test_another_version_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hello(self: Any) -> dict[str, str]:
        return {"safemt_client": "9.9", "python": "3"}

    monkeypatch.setattr("safemt_client.cluster.shared.SharedAccounts.hello", hello)
    with on_threads(1):
        done = at_once("--provider", "demo", "--ray", "auto", "--ray-accounts", "lab")
    assert done.returncode == 2
    assert "--ray-accounts lab: it has safemt_client 9.9" in done.stderr.splitlines()[-1]


def run_of(name: str, nodes: Any, endpoint: Strict, rpm: int) -> subprocess.Popen[str]:
    """One person's run, in a process of its own."""
    words = [
        "--provider",
        f"m@{endpoint.url}",
        "--judge",
        "none",
        "--data",
        f"{name}.jsonl",
        "--history",
        "live",
    ]
    words += ["--header", f"X-Run={name}", "--rpm", str(rpm), "--db", f"{name}.duckdb", "--log", "none"]
    words += ["--ray", nodes.address, "--ray-insecure", "--ray-accounts", "lab", "--workers", "1"]
    return subprocess.Popen(
        [sys.executable, "-m", "safemt_client", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_two_runs_share_a_limit_and_the_lower_one_holds(here: Path, two_nodes: Any) -> None:
    write_dialogues(here / "long.jsonl", 6000)
    write_dialogues(here / "short.jsonl", 60)
    with strict(rpm=600) as endpoint:
        long = run_of("long", two_nodes, endpoint, 600)
        until(lambda: endpoint.times, long)
        # By what it states itself it would be refused nine times of ten.
        short = run_of("short", two_nodes, endpoint, 6000)
        said = short.communicate()[0]
        goes_on = long.poll() is None
        long.send_signal(signal.SIGINT)
        said += long.communicate()[0]
    assert (short.returncode, goes_on) == (0, True), said
    assert endpoint.refused == 0
    asked = [headers["X-Run"] for headers in endpoint.headers]
    first = asked.index("short")
    assert "long" in asked[:first]
    assert "long" in asked[first:]
    assert turns(here / "short.duckdb") == (60, 60, 60)


@pytest.mark.slow
def test_they_outlive_a_run_and_end_once_they_are_idle(here: Path, two_nodes: Any) -> None:
    settings = RunSettings(provider=["demo"], ray=two_nodes.address, ray_insecure=True)
    sharing = Sharing("idle", namespace(), RunSaid("one", 1.0, ()))

    async def join() -> Any:
        from safemt_client.cluster.actors import Peer, shared_accounts

        return await Peer(shared_accounts(sharing, idle_s), lasting=True).insist("join", sharing.run)

    def there() -> bool:
        try:
            nodes.ray.get_actor("accounts-idle", namespace=sharing.namespace)
        except ValueError:
            return False
        return True

    idle_s = 3.0
    with started(settings):
        assert asyncio.run(join()) is None
    with started(settings) as nodes:
        until(lambda: not there())
        idle_s = 600.0
        assert asyncio.run(join()) is None
        assert there()
        nodes.kill(nodes.ray.get_actor("accounts-idle", namespace=sharing.namespace))
