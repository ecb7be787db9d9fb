"""Where a guard `local-model:FOLDER` runs: on a GPU in vLLM where that is installed, else in this process."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from safemt_client.guard_judges import GUARD
from safemt_client.moderator.build import LOCAL_MODEL
from safemt_client.said import said_of, serving_of
from safemt_client.settings import RunSettings

__all__ = ["Earlier", "placed"]

Earlier = Callable[[], Collection[str]]
"""The models in a process of which a store has assessments, by their identities."""


def placed(settings: RunSettings, earlier: Earlier | None) -> tuple[RunSettings, list[str]]:
    """The settings with `vllm:` in place of `local-model:` where vLLM is preferred, and a sentence on each.

    A model of which the store has assessments stays in this process: another engine's are others, and all
    would be asked again. `earlier` is None where all this is decided already, as for workers.
    """
    if earlier is None:
        return settings, []
    guards = [*(settings.moderator or ()), *(name for name in settings.judge_names if name.startswith(GUARD))]
    named = dict.fromkeys(
        where for text in guards if (where := text.partition("=")[2]).startswith(LOCAL_MODEL)
    )
    if not named:
        return settings, []
    instead: dict[str, str] = {}
    notes: list[str] = []
    for where in named:
        served = f"vllm:{where.removeprefix(LOCAL_MODEL)}"
        why = _why_here(settings, where, earlier)
        if why is None:
            instead[where] = served
            notes.append(f"{where}: vLLM serves it, since there is a GPU and vLLM is installed, as {served}")
        else:
            notes.append(f"{where} runs in this process: {why}")
    changes: dict[str, object] = {
        "moderator": _with(settings.moderator, instead),
        "judge": _with(settings.judge, instead),
        # What a table says is about servers: it is nothing to a model in this process.
        "providers": {
            instead.get(name, name): table
            for name, table in settings.providers.items()
            if name in instead or name not in named
        },
    }
    return settings.model_copy(update=changes), notes


def _why_here(settings: RunSettings, where: str, earlier: Earlier) -> str | None:
    """Why a model runs in this process; None if vLLM is to serve it."""
    from safemt_client.serving.engines import version_of
    from safemt_client.serving.memory import has_accelerator

    if not has_accelerator():
        return "there is no GPU"
    version = version_of("vllm", serving_of(settings, said_of(settings, where, "guard")).python)
    if version is None:
        return "vLLM, which is quicker on a GPU, is not installed (docs/local-models.md)"
    if "cpu" in version:
        return "vLLM is installed without support for the GPU"
    path = where.removeprefix(LOCAL_MODEL)
    name = Path(path).name if Path(path).is_dir() else path
    if any(identity.rpartition("@")[0] == f"local-model/{name}" for identity in earlier()):
        return f"the store has its assessments from there; with vllm:{path} all would be asked again"
    return None


def _with(given: list[str] | None, instead: dict[str, str]) -> list[str] | None:
    """Values of `--moderator` or `--judge` with other models in place of these."""
    if given is None:
        return None
    parts = [text.partition("=") for text in given]
    return [f"{head}{mark}{instead.get(where, where)}" for head, mark, where in parts]
