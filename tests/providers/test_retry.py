"""The one retry loop, in virtual time."""

import anyio
import pytest
from support.clock import run

from safemt_client.providers.error_codes import ErrorCode
from safemt_client.providers.errors import TargetStoppedError
from safemt_client.providers.retry import with_retries
from safemt_client.providers.types import Outcome, Reply

BUSY = Reply(Outcome.ERROR_TRANSIENT, error="busy", status_code=503)
FINE = Reply(Outcome.ANSWERED, text="hello")


def attempt_all(replies: list[Reply], max_wait_s: float = 3600) -> tuple[Reply, list[float], float]:
    """The reply, the waits that were announced, and the seconds it took."""

    async def main() -> tuple[Reply, list[float], float]:
        left, waits = list(replies), []

        async def attempt() -> Reply:
            return left.pop(0)

        reply = await with_retries(
            attempt, max_wait_s=max_wait_s, on_retry=lambda _, wait: waits.append(wait)
        )
        return reply, waits, anyio.current_time()

    return run(main)


def test_retry_after_comes_from_the_current_error() -> None:
    asked = [Reply(Outcome.ERROR_TRANSIENT, error="x", status_code=429, retry_after_s=s) for s in (7.0, 2.0)]
    reply, waits, seconds = attempt_all([*asked, FINE])
    assert reply is FINE
    assert waits == [7.0, 2.0]
    assert seconds == pytest.approx(9.0)


def test_back_off_is_jittered_and_bounded() -> None:
    reply, waits, seconds = attempt_all([*[BUSY] * 12, FINE])
    assert reply is FINE
    assert len(set(waits)) > 6
    assert all(0 <= wait <= 60 for wait in waits)
    assert seconds == pytest.approx(sum(waits))


def test_given_up_when_the_next_wait_would_pass_the_limit() -> None:
    slow = Reply(Outcome.ERROR_TRANSIENT, error="x", status_code=429, retry_after_s=40.0)
    reply, waits, seconds = attempt_all([slow] * 3, max_wait_s=100)
    assert reply is slow
    assert waits == [40.0, 40.0]
    assert seconds == pytest.approx(80.0)


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome.ANSWERED,
        Outcome.REFUSED_BY_PROVIDER,
        Outcome.TRUNCATED,
        Outcome.EMPTY,
        Outcome.ERROR_PERMANENT,
    ],
)
def test_only_what_is_transient_is_repeated(outcome: Outcome) -> None:
    reply, waits, _ = attempt_all([Reply(outcome, status_code=400, error="x")])
    assert reply.outcome is outcome
    assert waits == []


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, ErrorCode.AUTHENTICATION),
        (403, ErrorCode.ACCOUNT),
        (402, ErrorCode.QUOTA),
        (429, ErrorCode.QUOTA),
        (404, ErrorCode.MODEL_NOT_FOUND),
        (308, ErrorCode.REDIRECTED),
    ],
)
def test_what_cannot_get_better_stops_the_target(status: int, code: ErrorCode) -> None:
    outcome = Outcome.ERROR_TRANSIENT if status == 429 else Outcome.ERROR_PERMANENT
    with pytest.raises(TargetStoppedError) as caught:
        attempt_all([Reply(outcome, error="no", status_code=status, error_code=code)])
    assert len(str(caught.value).splitlines()) == 1
    assert isinstance(caught.value.reply, Reply)
    assert (caught.value.code, caught.value.status) == (code, status)


@pytest.mark.parametrize("retry_after_s", [0.0, 0.001])
def test_an_endpoint_that_asks_for_no_wait_is_not_flooded(retry_after_s: float) -> None:
    busy = Reply(Outcome.ERROR_TRANSIENT, error="x", status_code=429, retry_after_s=retry_after_s)
    asked = 0

    async def attempt() -> Reply:
        nonlocal asked
        asked += 1
        return busy

    async def hour() -> Reply:
        return await with_retries(attempt, max_wait_s=3600)

    assert run(hour) is busy
    assert 50 < asked < 300
