"""Actors as threads of this process: what the cluster does, without Ray's processes."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

pytest.importorskip("ray")

from ray.exceptions import ActorDiedError, RayActorError, RayTaskError

from safemt_client.cluster import actors, driver, shared
from safemt_client.cluster.messages import Sharing
from safemt_client.settings import RunSettings


class Ref:
    """What a call will return."""

    def __init__(self, future: Future[Any]) -> None:
        self.future = future

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.wrap_future(self.future).__await__()


@dataclass(eq=False)
class Handle:
    """An actor in a thread with a loop of its own."""

    make: Callable[[], Any]
    lasting: bool
    kind: str
    calls: list[str] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    """All that was sent to it, and what it has answered."""
    dead: bool = False
    starts: int = 0

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.starts += 1
        self.open: set[Future[Any]] = set()
        self.loop = asyncio.new_event_loop()
        # What a kill leaves unfinished is no news.
        self.loop.set_exception_handler(lambda loop, context: None)
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

        async def made() -> Any:
            return self.make()

        self.actor = asyncio.run_coroutine_threadsafe(made(), self.loop).result()

    def kill(self) -> None:
        """As kill -9: nothing more is done, and who waits for an answer learns it."""
        loop, self.dead = self.loop, not self.lasting
        loop.call_soon_threadsafe(loop.stop)
        for future in list(self.open):
            if not future.done():
                future.set_exception(self._gone())
        if self.lasting:
            self.start()

    def _gone(self) -> RayActorError:
        return RayActorError() if self.lasting else ActorDiedError()

    def __getattr__(self, name: str) -> Any:
        return Method(self, name)

    def __reduce__(self) -> Any:
        _handles[id(self)] = self
        return _handles.__getitem__, (id(self),)


_handles: dict[int, Handle] = {}


@dataclass
class Method:
    handle: Handle
    name: str

    def remote(self, *about: Any) -> Ref:
        handle, answer = self.handle, Future[Any]()
        handle.calls.append(self.name)
        if handle.dead:
            answer.set_exception(handle._gone())
            return Ref(answer)
        handle.open.add(answer)
        sent = pickle.dumps(about)
        handle.messages.append(sent)

        async def call() -> Any:
            answered = pickle.dumps(await getattr(handle.actor, self.name)(*pickle.loads(sent)))
            handle.messages.append(answered)
            return answered

        def done(future: Future[bytes]) -> None:
            handle.open.discard(answer)
            if answer.done():
                return
            if (error := future.exception()) is None:
                answer.set_result(pickle.loads(future.result()))
            else:
                answer.set_exception(RayTaskError(self.name, "", error).as_instanceof_cause())

        asyncio.run_coroutine_threadsafe(call(), handle.loop).add_done_callback(done)
        return Ref(answer)


class SharedAccounts(shared.SharedAccounts):
    """As `actors.SharedAccounts`."""

    def __init__(self, anew: bool) -> None:
        super().__init__(anew=anew)


@dataclass
class Nodes:
    """As `nodes.Nodes`."""

    workers: int
    started: list[Handle] = field(default_factory=list)
    named: dict[str, Handle] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    gpus: tuple[int, int] = (0, 0)
    given_gpus: list[int] = field(default_factory=list)

    def beside(self, actor: type, name: str, *about: Any) -> Handle:
        return self.named.setdefault(name, self._start(actor, about, lasting=True))

    def anywhere(self, actor: type, *about: Any) -> Handle:
        return self._start(actor, about, lasting=False)

    def with_gpus(self, actor: type, name: str, gpus: int) -> Handle:
        self.given_gpus.append(gpus)
        return self.named.setdefault(name, self._start(actor, (), lasting=False))

    def put(self, content: bytes) -> Ref:
        done = Future[Any]()
        done.set_result(content)
        return Stored(content)

    def kill(self, handle: Handle) -> None:
        handle.lasting, handle.dead = False, True
        handle.kill()

    def of(self, kind: str) -> list[Handle]:
        return [handle for handle in self.started if handle.kind == kind]

    def _start(self, actor: type, about: tuple[Any, ...], *, lasting: bool) -> Handle:
        handle = Handle(lambda: actor(*about), lasting, actor.__name__)
        self.started.append(handle)
        return handle

    def shared_accounts(self, sharing: Sharing, *, anew: bool = False) -> Handle:
        """As `actors.shared_accounts`."""
        name = f"{sharing.namespace}/{sharing.name}"
        with self.lock:
            if name not in self.named or self.named[name].dead:
                self.named[name] = self._start(SharedAccounts, (anew,), lasting=False)
            return self.named[name]


@dataclass
class Stored:
    content: bytes


def get(ref: Ref | Stored) -> Any:
    return ref.content if isinstance(ref, Stored) else ref.future.result()


@contextmanager
def on_threads(workers: int) -> Iterator[Nodes]:
    """Runs with `--workers` take place in threads meanwhile."""
    nodes = Nodes(workers)

    @contextmanager
    def started(settings: RunSettings) -> Iterator[Nodes]:
        yield nodes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "started", started)
        patch.setattr(actors, "shared_accounts", nodes.shared_accounts)
        patch.setattr(actors.ray, "get", get)
        patch.setattr(actors.ray, "cancel", lambda ref: ref.future.cancel())
        patch.setattr(actors.ray, "get_actor", nodes.named.__getitem__)
        yield nodes
