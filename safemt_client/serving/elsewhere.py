"""Models that other machines of a run serve: what is known of them here, and what such a machine is told."""

from __future__ import annotations

import hashlib
import math
import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path

from safemt_client.providers.errors import InputError
from safemt_client.serving.deciding import is_file
from safemt_client.serving.engines import Served, served_of
from safemt_client.serving.memory import cards, in_words
from safemt_client.serving.names import Serving

__all__ = ["Order", "db_here", "described", "gpus_of", "line_elsewhere", "served_here"]

_DIVIDED = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size")
"""Options of vLLM that multiply the cards that it takes."""


@dataclass(frozen=True)
class Order:
    """What another machine is told about a model that it is to serve.

    Attributes:
        name: the model as the user wrote it.
        host: the made-up host in requests to it.
        source: the model with the whole path, which is the same on all machines.
        path: that path; None for a model of the hub.
        said: how it is served, with whole paths.
        gpus: the cards that it takes; None for one, where there is any.
        identity, called, version: what the server must be, since the plan was made for it.
        db: the store of the run.
    """

    name: str
    host: str
    source: str
    path: Path | None
    said: Serving
    gpus: int | None
    identity: str
    called: str
    version: str
    db: Path


def described(name: str, said: Serving) -> tuple[Served, str, Serving]:
    """What `ENGINE:MODEL` stands for on all machines, and both with whole paths.

    What depends on the machine, such as its memory, is not looked at.

    Raises:
        InputError: the engine is not installed here, or the model cannot be read here.
    """
    source, said = _whole(name, said)
    try:
        served = served_of(source, said)
    except InputError as error:
        raise InputError(
            f"{error} (with --ray this machine needs the engine and the weights too, to plan the run)"
        ) from None
    return replace(served, spec=replace(served.spec, name=name)), source, said


def _whole(name: str, said: Serving) -> tuple[str, Serving]:
    engine, _, source = name.partition(":")
    path = Path(source).expanduser()
    if path.exists():
        source = str(path.absolute())
    options = {
        option: str(Path(value).expanduser().absolute()) if is_file(value) else value
        for option, value in said.options.items()
    }
    python = said.python
    if python is not None and os.sep in python:
        python = str(Path(python).expanduser().absolute())
    return f"{engine}:{source}", replace(said, python=python, options=options)


def gpus_of(served: Served, said: Serving) -> int | None:
    """How many cards a server takes; None for one where there is any, and none elsewhere.

    The numbers of `--gpus` mean nothing on another machine, but how many they are.
    """
    if said.gpus is not None:
        return len(said.gpus)
    if served.engine != "vllm":
        return 0 if said.options.get("gpu-layers") == "0" else None
    if not served.on_cards:
        return 0
    try:
        return math.prod(max(1, int(said.options.get(option, "1"))) for option in _DIVIDED)
    except ValueError:
        return 1  # vLLM says what is wrong with it


def line_elsewhere(served: Served, said: Serving) -> str:
    """A sentence on a server of another machine: that it is started, on how many cards, and what it needs."""
    gpus = gpus_of(served, said)
    on = {None: "a GPU where it has any", 0: "no GPU", 1: "one GPU"}.get(gpus, f"{gpus} GPUs")
    told = (
        f"{served.spec.name} is served by a machine of the cluster, with {served.engine} {served.version}, "
        f"on {on}"
    )
    if served.needs is None:
        return f"{told}; its weights are downloaded there first"
    return f"{told}: needs about {in_words(served.needs)} of memory"


def served_here(order: Order) -> Served:
    """What an order stands for on this machine.

    Raises:
        InputError: it cannot be served here, or would be another model than the plan was made for.
    """
    node = platform.node()
    if order.path is not None and not order.path.exists():
        raise InputError(
            f"{order.name}: {order.path} is not on {node}, which is to serve it: put it there under the "
            "same path, or start Ray on machines that have it"
        )
    try:
        served = served_of(order.source, _of_this_machine(order))
    except InputError as error:
        raise InputError(f"on {node}, which is to serve it: {error}") from None
    if served.version != order.version:
        raise InputError(
            f"{order.name}: {served.engine} is {served.version} on {node} and {order.version} where the run "
            "was started: install the same"
        )
    if (served.identity, served.called) != (order.identity, order.called):
        raise InputError(
            f"{order.name}: is another model on {node} than where the run was started: copy it there; of a "
            "model of the hub name the revision, ORG/NAME@REVISION"
        )
    return replace(served, spec=replace(served.spec, name=order.name))


def _of_this_machine(order: Order) -> Serving:
    """With the cards that Ray gave this process, where they are numbered as their driver does.

    Of a process that asked for none Ray hides none.
    """
    if order.gpus == 0:
        return replace(order.said, elsewhere=False, gpus=())
    mine = tuple(number for number in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if number)
    numbered = mine and {card[0] for card in cards()}.issuperset(mine)
    return replace(order.said, elsewhere=False, gpus=mine if numbered else None)


def db_here(db: Path) -> Path:
    """Beside what a server's log and record stand here: the store, where its folder is here too.

    Raises:
        InputError: there is no folder for them.
    """
    if db.parent.is_dir() and os.access(db.parent, os.W_OK):
        return db
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "safemt"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{platform.node()}, which is to serve a model, has no folder for its log: {error}: start Ray "
            "there with XDG_CACHE_HOME set to a folder that can be written"
        ) from None
    return folder / f"{hashlib.sha256(str(db).encode()).hexdigest()[:8]}-{db.name}"
