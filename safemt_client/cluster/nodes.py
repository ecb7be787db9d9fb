"""Ray for a run: one of its own on this machine, or a cluster that is there."""

from __future__ import annotations

import os
import secrets
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from safemt_client.cluster.reached import check_closed, check_reached, check_tls
from safemt_client.providers.errors import InputError
from safemt_client.settings import RunSettings

__all__ = ["Nodes", "started"]

_OBJECTS = 100_000_000
"""Bytes of shared memory for pictures and pieces on their way, on this machine."""
_ENVIRONMENT = {
    # Ray would tell its makers what it is used for.
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    # Else guards in a worker would see no GPU.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_enable_metrics_collection": "0",
}


@dataclass(frozen=True, slots=True)
class Nodes:
    """Where actors run."""

    ray: ModuleType
    workers: int
    here: str
    _on: Counter[str] = field(default_factory=Counter)

    def beside(self, actor: type, name: str, *about: Any) -> Any:
        """Start an actor on this machine under a name of this run; it is started again when it dies."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self.here, soft=False)
        return self._start(actor, about, name=name, max_restarts=-1, scheduling_strategy=here)

    def anywhere(self, actor: type, *about: Any, **options: Any) -> Any:
        """Start an actor on whichever machine has the fewest; it is not started again."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # Ray spreads only what asks for a share of a machine, which workers, waiting mostly, do not.
        node = min(_alive(self.ray), key=lambda one: self._on[str(one["NodeID"])])["NodeID"]
        self._on[node] += 1
        there = NodeAffinitySchedulingStrategy(node, soft=True)
        return self._start(actor, about, max_restarts=0, scheduling_strategy=there, **options)

    def with_gpus(self, actor: type, name: str, gpus: int) -> Any:
        """Start an actor that has so many GPUs of one machine to itself; without any, `anywhere`.

        It keeps a program that it starts: Ray leaves that one alone when it ends the actor.
        """
        kept = {"env_vars": {"RAY_kill_child_processes_on_worker_exit": "false"}}
        if not gpus:
            return self.anywhere(actor, name=name, runtime_env=kept)
        return self._start(actor, (), name=name, max_restarts=0, num_gpus=gpus, runtime_env=kept)

    @property
    def gpus(self) -> tuple[int, int]:
        """The most GPUs that one machine has, and how many there are in all."""
        found = [int(node["Resources"].get("GPU", 0)) for node in _alive(self.ray)]
        return max(found, default=0), sum(found)

    def put(self, content: bytes) -> Any:
        """Bytes that each machine fetches once."""
        return self.ray.put(content)

    def kill(self, handle: Any) -> None:
        """End an actor at once, for good."""
        self.ray.kill(handle, no_restart=True)

    def _start(self, actor: type, about: tuple[Any, ...], **options: Any) -> Any:
        options |= {"num_cpus": 0, "max_concurrency": 1000, "max_task_retries": 0}
        return self.ray.remote(actor).options(**options).remote(*about)


@contextmanager
def started(settings: RunSettings) -> Iterator[Nodes]:
    """Ray while a run lasts.

    Raises:
        InputError: it is not installed, cannot be started or reached, or is open to others.
    """
    flag = "--workers" if settings.ray is None else "--ray"
    # Ray reads them once, as it is imported, and its processes have them from here.
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if settings.ray is None:
        _keep_to_this_process()
    try:
        import ray
    except ModuleNotFoundError as error:
        raise InputError(f"{flag}: {error.name} is missing: pip install 'safemt-client[cluster]'") from None
    if settings.ray is not None and settings.ray != "auto":
        peer = check_reached(settings.ray)
        if not settings.ray_insecure:
            check_closed([peer])
        check_tls(settings.ray)
    if ray.is_initialized():
        raise InputError(f"{flag}: this process uses Ray already: start the run in a process of its own")
    try:
        _connect(ray, settings)
    except Exception as error:  # noqa: BLE001 - a start that takes too long raises just that, a wrong token its own
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{flag}: Ray cannot be used: {said[0]}") from None
    try:
        alive = _alive(ray)
        if settings.ray is not None and not settings.ray_insecure:
            check_closed([node["NodeManagerAddress"] for node in alive])
        yield Nodes(ray, settings.workers or len(alive), ray.get_runtime_context().get_node_id())
    finally:
        ray.shutdown()


def _keep_to_this_process() -> None:
    """See that nobody else on this machine can reach the Ray that is to be started.

    Raises:
        InputError: it is too late for that.
    """
    if sys.modules.get("ray") is None:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    elif os.environ.get("RAY_AUTH_MODE") != "token":
        raise InputError(
            "--workers: this process has imported Ray before the run and without a token, so others on this "
            "machine could reach it: start the run in a process of its own, or set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN before Ray is imported"
        )


def _alive(ray: Any) -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _connect(ray: ModuleType, settings: RunSettings) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if settings.ray is not None:
        ray.init(address=settings.ray, **quiet)
        return
    # On loopback alone, without its web page: nobody else can reach it.
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=_OBJECTS,
        _node_ip_address="127.0.0.1",
        **quiet,
    )
