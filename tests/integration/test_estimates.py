"""What a plan says it will ask, against what the run then asks: requests that are alike count once."""

import re
from typing import Any

import pytest

import safemt_client as safemt
from safemt_client.__main__ import main

ITEMS = 3
SOME: dict[str, Any] = {
    "provider": "demo",
    "turns": [1, 2, 4],
    "limit": ITEMS,
    "db": "d.duckdb",
    "min_coverage": 0,
}
GUARDS = ["none", "demo-guard", "demo-guard+block", "demo-guard+observe+output"]


def spent(run_id: str, whose: str) -> int:
    with safemt.open("d.duckdb") as store:
        [(calls,)] = store.sql(
            f"SELECT coalesce(sum(calls), 0) FROM spend WHERE run_id = '{run_id}' AND who LIKE '{whose} %'"
        )
        return int(calls)


def planned(role: str, **options: Any) -> tuple[int, int]:
    """Calls at least and at most, of all lines of this role."""
    lines = [line.estimate for line in safemt.plan(**SOME, **options).lines if line.role == role]
    return sum(one.least for one in lines), sum(one.calls for one in lines)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("options", "calls", "verdicts"),
    [
        ({}, 9, 9),
        # The first turns of two and of four are one request.
        ({"history": "live"}, 3 * 6, 3 * 6),
        ({"history": "live", "judge": ["demo-judge", "demo-judge-hasty"]}, 3 * 6, 2 * 3 * 6),
        ({"judge": ["demo-judge", "demo-judge-hasty"], "panel": "chain"}, 9, None),
        ({"moderator": ["none", "demo-guard+observe", "demo-guard+output"]}, 9, 9),
        ({"moderator": ["none", "demo-guard+block"], "history": "live"}, 3 * 6, None),
    ],
)
def test_a_plan_counts_requests(options: dict[str, Any], calls: int, verdicts: int | None) -> None:
    target, judge = planned("target", **options), planned("judge", **options)
    assert target == (calls, calls)
    run = safemt.run(**SOME, **options)
    assert spent(run.id, "target") == calls
    asked = spent(run.id, "judge")
    if verdicts is not None:
        assert (judge, asked) == ((verdicts, 2 * verdicts), verdicts)
    assert judge[0] <= asked <= judge[1] or options.get("moderator")
    assert asked <= judge[1]
    again = safemt.plan(**SOME, **options)
    assert (again.run_id, again.calls, again.usd) == (run.id, 0, (0.0, 0.0))


@pytest.mark.usefixtures("here")
def test_twins_ask_their_model_once_and_a_guard_each_state_once(capsys: pytest.CaptureFixture[str]) -> None:
    twins = {"moderator": GUARDS, "moderator_turns": "every"}
    words = ["--provider", "demo", "--turns", "1,2,4", "--limit", "3", "--db", "d.duckdb", "--dry-run"]
    for guard in GUARDS:
        words += ["--moderator", guard]
    assert main([*words, "--moderator-turns", "every"]) == 0
    said = capsys.readouterr().out
    # Only a policy makes the model be asked otherwise.
    assert "demo: 9 calls to make, 0 in the store" in said
    assert "demo + demo-guard: at most 9 calls to make, 0 in the store" in said
    assert "demo + demo-guard+block: 0 calls to make for 9 turns, 0 in the store" in said
    assert "demo + demo-guard+observe+output: 0 calls to make for 9 turns, 0 in the store" in said
    # Six states of each item, of which its lengths have one in common, and each reply.
    assert re.search(r"guard .*: 27 assessments at most", said)
    assert "at most 18 verdicts to ask for in 18 to 36 calls" in said
    run = safemt.run(**SOME, **twins)
    assert spent(run.id, "guard") == 27
    assert 9 <= spent(run.id, "target") <= 18
    assert 9 <= spent(run.id, "judge") <= 18


@pytest.mark.usefixtures("here")
def test_what_the_store_has_of_a_model_is_not_planned_for_its_twin() -> None:
    safemt.run(**SOME, history="live")
    guarded = {"history": "live", "moderator": ["demo-guard+observe"]}
    assert planned("target", **guarded) == planned("judge", **guarded) == (0, 0)
    run = safemt.run(**SOME, **guarded)
    assert (spent(run.id, "target"), spent(run.id, "judge")) == (0, 0)
    assert spent(run.id, "guard") > 0


@pytest.mark.usefixtures("here")
def test_money_is_of_the_requests() -> None:
    priced = {"price": ["demo=1/1"], "judge": "none"}

    def usd(**options: Any) -> tuple[float, float]:
        found = safemt.plan(**SOME, **priced, **options).usd
        assert found is not None
        return found

    alone = usd()
    assert usd(moderator=["none", "demo-guard+observe"])[1] == pytest.approx(alone[1])
    assert usd(moderator=["none", "demo-guard"])[1] == pytest.approx(2 * alone[1])


@pytest.mark.usefixtures("here")
def test_a_cap_leaves_room_for_twins_that_ask_nothing_of_their_own() -> None:
    """What is set aside for a conversation is what its own requests may cost."""
    options: dict[str, Any] = {
        **SOME,
        "moderator": ["none", "demo-guard+observe"],
        "price": ["demo=1/1", "demo-judge=0/0", "demo-guard=0/0"],
        "max_tokens": 10,
    }
    most = safemt.plan(**options).usd
    assert most is not None
    run = safemt.run(**options, max_cost=round(4 * most[1], 6))
    assert run.status == "done"
    with safemt.open("d.duckdb") as store:
        assert [tuple(row) for row in store.sql("SELECT DISTINCT state = 'pending' FROM conversations")] == [
            (False,)
        ]
