"""What each fault comes to, and the table of `docs/reliability.md` that is made of it.

python tests/faults/table.py        writes the table into the page
"""

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from faults.behaviours import FAULTS  # noqa: E402

PAGE = HERE.parents[1] / "docs" / "reliability.md"
BACK_OFF = (0.0, 1.0)
"""The first wait of a jittered back-off."""


@dataclass(frozen=True)
class Expected:
    """What the first command stores in the end, and what it took.

    `waits` are the seconds before each further request, as a figure or as what they lie between; `said` is in
    the error of the first attempt (of a stopped target: in the line on the screen), `text` is the reply.
    `early` faults cannot tell requests apart, `stalls` need a short `--attempt-timeout`.
    """

    outcome: str
    said: str = ""
    waits: tuple[float | tuple[float, float], ...] = ()
    text: str = ""
    stops: bool = False
    early: bool = False
    stalls: bool = False

    @property
    def requests(self) -> int:
        return 1 + len(self.waits)

    @property
    def asked_on_resume(self) -> bool:
        return self.outcome.startswith("error")


def again(said: str, *waits: float | tuple[float, float], **more: bool) -> Expected:
    return Expected("answered", said, waits or (BACK_OFF,), "hello", **more)


def answered(text: str = "hello") -> Expected:
    return Expected("answered", text=text)


def kept(outcome: str, said: str, text: str = "") -> Expected:
    return Expected(outcome, said, text=text)


def blocked(said: str, text: str = "") -> Expected:
    return kept("refused_by_provider", said, text)


def permanent(said: str) -> Expected:
    return Expected("error_permanent", said)


def stops(said: str, outcome: str = "error_permanent") -> Expected:
    return Expected(outcome, said, stops=True)


NO_JSON, NO_COMPLETION = "the body is not a JSON object", "the body is not a chat completion"
NO_TEXT, CONNECTION = "no text in the reply", "connection failed"
EXPECTED: dict[str, Expected] = {
    "429-seconds": again("slow down", 7.0),
    "429-milliseconds": again("slow down", 1.5),
    "429-date": again("slow down", 30.0),
    "429-date-alone": again("slow down", (25.0, 30.0)),
    "429-date-past": again("slow down"),
    "429-date-nonsense": again("slow down"),
    "429-bare": again("slow down"),
    "429-zero": again("slow down"),
    "429-negative": again("slow down"),
    "429-word": again("slow down"),
    "429-infinite": again("slow down"),
    "429-absurd": stops("asked to wait 999,999,999 s (HTTP 429)", "error_transient"),
    "429-twice": again("slow down", 7.0, 2.0),
    "429-for-ever": replace(again("slow down", 40.0, 40.0), outcome="error_transient", text=""),
    "429-page": again("busy"),
    "429-minute-billing": again("requests per min", 20.0),
    "429-minute-quota": again("You exceeded your current quota", 34.0),
    "quota-used-up": stops("quota exhausted (HTTP 429): insufficient_quota", "error_transient"),
    "quota-daily": stops("quota exhausted (HTTP 429)", "error_transient"),
    "quota-daily-hours": stops("asked to wait 43,200 s (HTTP 429)", "error_transient"),
    "quota-daily-headers": stops("quota exhausted (HTTP 429)", "error_transient"),
    "quota-payment": stops("quota exhausted (HTTP 402)"),
    "408": again("no body"),
    "409": again("conflict"),
    "500": again("server_error internal error"),
    "500-page": again("oops"),
    "502": again("Bad Gateway"),
    "503": again("unavailable overloaded"),
    "503-seconds": again("unavailable overloaded", 12.0),
    "504": again("no body"),
    "529": again("overloaded_error"),
    "999": again("no body"),
    "400": permanent("unknown parameter: top_k"),
    "400-model": stops("unknown model (HTTP 400)"),
    "401": stops("authentication failed (HTTP 401): check the API key"),
    "403": stops("authentication failed (HTTP 403): check the API key"),
    "404": stops("unknown model (HTTP 404)"),
    "404-page": stops("unknown address or model (HTTP 404)"),
    "405": permanent("no body"),
    "413": permanent("too large"),
    "422": permanent("field required"),
    "302": stops("the endpoint moved: give http://127.0.0.1:9"),
    "204": again(NO_JSON),
    "router-429": again("429 busy"),
    "router-text-code": stops("authentication failed (HTTP 401): check the API key"),
    "router-unknown": again("oops"),
    "choice-error": again("502 upstream gone"),
    "finish-error": again("finish reason error"),
    "block-400": blocked("content_filter The response was filtered"),
    "block-400-policy": blocked("content_policy_violation"),
    "block-400-list": blocked("blocked by safety settings"),
    "block-400-late-word": blocked("The provider returned an error."),
    "block-403": blocked("input was flagged"),
    "block-422": blocked("rejected by moderation"),
    "block-451": blocked("content_policy"),
    "block-finish": blocked("finish reason content_filter"),
    "block-finish-partial": blocked("finish reason content_filter", "A kite is"),
    "block-finish-native": blocked("finish reason SAFETY"),
    "block-finish-reason": blocked("finish reason content_filter: PROHIBITED_CONTENT"),
    "block-finish-image": blocked("finish reason IMAGE_PROHIBITED_CONTENT"),
    "block-finish-refusal": blocked("finish reason refusal"),
    "block-finish-guardrail": blocked("finish reason guardrail_intervened"),
    "block-no-message": blocked("finish reason SAFETY"),
    "block-feedback": blocked("prompt blocked"),
    "block-router": blocked("content_filter"),
    "block-choice-error": blocked("blocked by moderation"),
    "content-null": kept("empty", NO_TEXT),
    "content-empty": kept("empty", NO_TEXT),
    "content-blank": kept("empty", NO_TEXT, " \n"),
    "content-missing": kept("empty", NO_TEXT),
    "content-parts": answered(),
    "content-number": again(NO_COMPLETION),
    "content-object": again(NO_COMPLETION),
    "content-think": answered(),
    "content-think-open": kept("truncated", "cut off while thinking: raise --max-tokens"),
    "content-reasoning-only": kept("empty", "reasoning only, no answer"),
    "content-refusal": answered("I would rather not."),
    "content-refusal-part": answered("I would rather not."),
    "content-tool-call": kept("empty", "a tool call and no text"),
    "content-cut-off": kept("truncated", "cut off at the token limit", "A kite is"),
    "content-odd-characters": answered("hello \x00 \\ud800"),
    "no-choices": kept("empty", "no choice in the response"),
    "choices-null": again(NO_COMPLETION),
    "choices-object": again(NO_COMPLETION),
    "choice-null": again(NO_COMPLETION),
    "choice-text": again(NO_COMPLETION),
    "message-list": again(NO_COMPLETION),
    "usage-absurd": answered(),
    "usage-too-large": answered(),
    "usage-nan": answered(),
    "usage-list": answered(),
    "body-empty": again(NO_JSON),
    "body-page": again(NO_JSON),
    "body-stream": again("the stream ended before the reply did"),
    "body-list": again(NO_JSON),
    "body-cut": again(NO_JSON),
    "body-short": again(CONNECTION),
    "body-chunk-cut": again(CONNECTION),
    "body-chunk-broken": again(CONNECTION),
    "body-gzip-broken": again(CONNECTION),
    "body-gzip-bomb": permanent("the response is larger than 33554432 bytes"),
    "body-huge": permanent("the response is larger than 33554432 bytes"),
    "body-deep": permanent("no reason given"),
    "body-deep-feedback": again("the body is nested too deeply"),
    "body-no-utf8": answered("\ufffd\ufffd"),
    "type-plain": answered(),
    "type-charset": answered(),
    "type-bom": answered(),
    "head-not-http": again(CONNECTION),
    "head-huge": again(CONNECTION),
    "head-hints": answered(),
    "stall-head": again("no answer within", stalls=True),
    "stall-in-head": again("no answer within", stalls=True),
    "stall-body": again("no answer within", stalls=True),
    "drip": again("no answer within", stalls=True),
    "half-open": again("no answer within", stalls=True, early=True),
    "reset-connect": again(CONNECTION, early=True),
    "reset-request": again(CONNECTION),
    "reset-head": again(CONNECTION),
    "reset-body": again(CONNECTION),
    "close-request": again(CONNECTION),
    "close-head": again("closed within the headers"),
    "close-kept": answered(),
}

_BY_CODE = {
    "rate_limited": """429-seconds 429-milliseconds 429-date 429-date-alone 429-date-past 429-date-nonsense 429-bare
        429-zero 429-negative 429-word 429-infinite 429-absurd 429-twice 429-for-ever 429-page 429-minute-billing
        429-minute-quota router-429""",
    "quota": "quota-used-up quota-daily quota-daily-headers quota-payment",
    "period_limit": "quota-daily-hours",
    "timeout": "408 504 stall-head stall-in-head stall-body drip half-open",
    "server_error": "409 500 500-page 502 999 choice-error finish-error body-stream",
    "overloaded": "503 503-seconds 529",
    "bad_request": "400 405 422 body-deep",
    "model_not_found": "400-model 404",
    "not_found": "404-page",
    "authentication": "401 403 router-text-code",
    "request_too_large": "413",
    "response_too_large": "body-gzip-bomb body-huge",
    "redirected": "302",
    "bad_response": """204 router-unknown content-number content-object choices-null choices-object choice-null choice-text
        message-list body-empty body-page body-list body-cut body-deep-feedback""",
    "content_filter_input": """block-400 block-400-policy block-400-list block-400-late-word block-403 block-422
        block-451 block-feedback block-router""",
    "content_filter_output": """block-finish block-finish-partial block-finish-native block-finish-reason
        block-finish-image block-finish-refusal block-finish-guardrail block-no-message block-choice-error""",
    "empty": """content-null content-empty content-blank content-missing content-reasoning-only content-tool-call
        no-choices""",
    "truncated": "content-think-open content-cut-off",
    "connection_failed": """body-short body-chunk-cut body-chunk-broken body-gzip-broken head-not-http head-huge
        reset-connect reset-request reset-head reset-body close-request close-head""",
}
CODES = {name: code for code, names in _BY_CODE.items() for name in names.split()}
"""The error code of every attempt that is not an answer."""

_SELF = "tests/faults/test_faults.py::"
_OUTAGES = "tests/faults/test_outages.py::"
_BATCHES = "tests/engine/test_batches.py::"
_RESOURCES = "tests/integration/test_resources.py::"
_OWN_FILES = "tests/integration/test_own_files.py::"
_REMOTE = "tests/providers/batch/test_endpoints.py::"
_ADAPTIVE = "tests/providers/limits/test_concurrency.py::"
# Faults that take more than one request: what happens, what the user sees, the test that proves it.
SCENARIOS: tuple[tuple[str, str, str], ...] = (
    (
        "an hour of 529, 503 or 500 `Internal server error` from the first request",
        "fewer than 100 requests, one at a time; then everything is answered, status 0",
        _OUTAGES + "test_an_hour_from_the_first_request",
    ),
    (
        "an outage that is longer than `--max-wait`",
        "turns end as `error_transient`; after ten of them, in ten minutes or more, the target is stopped",
        "tests/engine/test_watch.py::test_a_day_of_outage_stops_once_ten_turns_were_given_up",
    ),
    (
        "one request that always fails while others are answered",
        "it holds up no other, and ends as `error_transient`",
        "tests/providers/test_outage.py::test_a_request_that_always_fails_holds_up_no_other",
    ),
    (
        "the same error at every request, such as a template that does not take the messages",
        "the target is stopped within 25 requests, with the server's words and a hint",
        _OUTAGES + "test_a_fault_of_every_request_is_said_in_the_server_s_words",
    ),
    (
        "requests that are too long for the model",
        "`error_permanent`; if ten are and none was answered, the shortest one left decides whether the target is stopped",
        _OUTAGES + "test_what_is_too_long_is_decided_by_the_shortest",
    ),
    (
        "every prompt is blocked, or the first one",
        "each is `refused_by_provider`; no target is stopped",
        "tests/engine/test_watch.py::test_blocks_at_every_request_stop_nothing",
    ),
    (
        "a limit of a day that states a wait of seconds",
        "waited for twice; then the target is stopped with the server's words",
        "tests/engine/test_watch.py::test_a_daily_limit_is_waited_for_twice",
    ),
    (
        "a completion that fails, such as a finish reason `abort`",
        "asked again twice in a session; each attempt is spent",
        "tests/engine/test_attempts.py::test_three_attempts_a_session_then_an_error_and_again_on_resume",
    ),
    (
        "100 calls are in flight under `--max-cost`, and each reply costs five times the estimate",
        "a call is sent only if what it may cost at most still fits: the cap is not passed",
        "tests/engine/test_cap.py::test_the_cap_holds_whatever_the_replies_cost_and_over_kills",
    ),
    (
        "a run with `--max-cost` is killed with calls in flight",
        "they count as spent until `runs --release`; the resume says so and keeps to the cap",
        "tests/integration/test_cap_over_kills.py::test_what_was_in_flight_at_a_kill_counts_against_the_cap",
    ),
    (
        "an endpoint ignores `max_tokens`, or charges more than its list says",
        "from then on money is set aside for calls like the dearest so far",
        "tests/engine/test_cap.py::test_a_bound_that_is_broken_is_followed",
    ),
    (
        "a certificate that is not trusted, or a server without TLS",
        "the target is stopped at once, with the variable or the address to change",
        "tests/providers/test_network.py::test_a_tunnel_to_a_server_with_a_certificate_of_ones_own",
    ),
    (
        "the key expires in the middle of a run",
        "the target is stopped with one line, exit status 1; the same command with a right key asks what is missing and nothing twice",
        _SELF + "test_a_key_expires_in_the_middle_and_nothing_is_asked_twice",
    ),
    (
        "a pause of hours, asked for while other requests wait",
        "all that wait are told at once; the run ends, resumable",
        _SELF + "test_who_waits_behind_a_stop_is_told_at_once",
    ),
    (
        "an endpoint that always says `Retry-After: 0`",
        "it is asked at the pace of the back-off, not without a pause",
        "tests/providers/test_retry.py::test_an_endpoint_that_asks_for_no_wait_is_not_flooded",
    ),
    (
        "this machine's clock is a day off",
        "a `Retry-After` date counts from the response's own `Date`",
        _SELF + "test_a_wrong_clock_does_not_change_a_wait",
    ),
    (
        "the clock is set back or forward during a run",
        "the last attempt still counts, latencies stay right, the resume asks nothing twice",
        _SELF + "test_the_clock_jumps_during_a_run",
    ),
    (
        "the endpoint's capacity changes",
        "the calls in flight follow it; changes are rows of `limit_changes`",
        "tests/providers/test_openai_compatible.py::test_calls_in_flight_follow_a_capacity_that_changes",
    ),
    (
        "few calls are refused or fail, whatever the load",
        "the calls in flight stay up",
        _ADAPTIVE + "test_faults_that_come_whatever_the_load_do_not_wear_the_number_down",
    ),
    (
        "an endpoint takes all calls and gets to few in time",
        "time-outs lower the calls in flight until it gets to most",
        _ADAPTIVE + "test_an_endpoint_that_queues_is_asked_no_more_than_it_gets_to_in_time",
    ),
    (
        "429 with `Retry-After` while others are in flight",
        "the whole account waits; one overload is one cut",
        _ADAPTIVE + "test_retry_after_holds_the_whole_account",
    ),
    (
        "nobody listens",
        "`error_transient`, connection failed: asked again",
        "tests/providers/test_openai_compatible.py::test_nobody_listens",
    ),
    (
        "the key comes back in an error or a body",
        "`[key]` is stored in its place",
        "tests/providers/test_openai_compatible.py::test_a_key_that_comes_back_is_not_kept",
    ),
    (
        "results of a batch out of order, doubled, broken, missing",
        "each result goes to its own request, once; what is missing is asked again",
        _REMOTE + "test_results_in_any_order_doubled_broken_and_failed",
    ),
    (
        "a batch whose submission was not answered, that expires, that is gone",
        "nothing is lost or asked twice",
        _BATCHES + "test_whatever_happens_nothing_is_lost_or_asked_twice",
    ),
    (
        "a batch's submission ends without an answer",
        "it is looked for before anything is sent again",
        _REMOTE + "test_a_submission_of_unknown_end_is_not_repeated",
    ),
    (
        "the process is stopped (Ctrl-Z, a frozen container) for longer than an attempt may take",
        "what arrived meanwhile is read and kept, nothing is asked twice; one line says how long the pause was",
        "tests/integration/test_pauses.py::test_answers_that_arrive_while_the_process_is_stopped_are_kept",
    ),
    (
        "the machine sleeps, or its clock is set",
        "one line; no time limit and no latency counts that time",
        "tests/providers/test_pauses.py::test_each_kind_of_jump_is_said_once",
    ),
    (
        "fewer open files (`ulimit -n`) than calls in flight",
        "fewer calls at a time, said in the plan; everything is answered and stored",
        _RESOURCES + "test_fewer_open_files_than_calls_in_flight",
    ),
    (
        "open files run out in the middle of a run",
        "`local_shortage`: tried again with fewer calls at a time, and no outage of the endpoint",
        _RESOURCES + "test_files_that_run_out_in_the_middle_are_no_outage",
    ),
    (
        "no memory, thread or file is left for the program itself",
        "one line, status 1 (2 if nothing could be asked at all); the same command goes on",
        _RESOURCES + "test_a_shortage_ends_in_one_line_and_the_same_command_goes_on",
    ),
    (
        "more clients of `moderate` than there are files for",
        "the others wait; each is answered",
        "tests/proxy/test_listening.py::test_more_clients_than_files_wait_for_their_turn",
    ),
    (
        "more connections to the viewer than there are files for",
        "one line; who comes later is answered",
        "tests/viewer/test_few_files.py::test_more_connections_than_files_are_one_line_and_no_end",
    ),
    (
        "files or threads run out while another command asks the run",
        "that command is not answered; the run goes on",
        "tests/results/store/test_query_server.py::test_a_shortage_neither_ends_it_nor_lets_it_spin",
    ),
    (
        "a link, a pipe or another user's file in the place of a log",
        "one line, status 2; nothing is written through it",
        _OWN_FILES + "test_a_log_is_not_written_through_a_link",
    ),
    (
        "control characters in the name of a store or another file",
        "shown as codes; a command to copy still names the same file",
        _OWN_FILES + "test_no_name_of_a_file_acts_on_a_screen",
    ),
)


def _seconds(wait: float | tuple[float, float]) -> str:
    if wait == BACK_OFF:
        return "back-off"
    return f"{max(wait) if isinstance(wait, tuple) else wait:g} s"


def _sees(one: Expected) -> str:
    if one.stops:
        return f"the target stops: {one.said}"
    if one.outcome == "answered":
        return "answered" + (f"; before: {one.said}" if one.waits else "")
    given_up = ", given up: the next wait would pass `--max-wait 100`" if one.waits else ""
    return f"{one.said}{given_up}"


def _plain(cell: str) -> str:
    """The cell without what Markdown would take for a tag; between backquotes nothing is one."""
    parts = cell.split("`")
    return "`".join(part if n % 2 else re.sub(r"([<>|])", r"\\\1", part) for n, part in enumerate(parts))


def table() -> str:
    """The two tables, as Markdown."""
    lines = [
        "| fault | what the endpoint does | stored | error code | what the user sees | requests | waits "
        "| on resume | test |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for name, fault in FAULTS.items():
        one = EXPECTED[name]
        waits = ", ".join(map(_seconds, one.waits)) or "-"
        resume = "asked again" if one.asked_on_resume else "kept"
        code = f"`{CODES[name]}`" if name in CODES else "-"
        cells = [f"`{name}`", _plain(fault.says), f"`{one.outcome}`", code, _plain(_sees(one))]
        cells.append(str(one.requests))
        lines.append("| " + " | ".join([*cells, waits, resume, f"`test_fault[{name}]`"]) + " |")
    lines += ["", f"`test_fault[...]` stands in `{_SELF.rstrip(':')}`.", ""]
    lines += ["| what happens | what the user sees | test |", "|---|---|---|"]
    lines += [f"| {what} | {sees} | `{test}` |" for what, sees, test in SCENARIOS]
    return "\n".join(lines)


BEGIN, END = "<!-- made by tests/faults/table.py -->", "<!-- end -->"


def page_with_table(page: str) -> str:
    """The page with the table as it should be."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text()))
