"""Run multi-turn, multimodal safety dialogues at a model, keep every turn, judge and score.

    import safemt_client as safemt

    run = safemt.run(provider="demo", turns=[1, 2], db="x.duckdb")
    with safemt.open("x.duckdb") as store:
        print(store.scores(run.id).asr_by_turn.df())

The public names are in `__all__`; each is imported when it is first used, so that `--help` is quick.

The sub-packages `providers`, `judges`, `moderator` and `results` stand at the top level of the
repository. An installed wheel holds them below this package; in a checkout the line below
makes them importable under the same names.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safemt_client.api import arejudge, arun, open, plan, rejudge, release, run
    from safemt_client.importing.results import import_results
    from safemt_client.importing.writing import Imported
    from safemt_client.planning.estimate import RunEstimate
    from safemt_client.providers.errors import InputError, SafemtError
    from safemt_client.providers.provider import Provider
    from safemt_client.providers.types import Image, Message, Outcome, Reply, Request, Sampling, Usage
    from safemt_client.results.access import OpenStore
    from safemt_client.results.store.errors import StoreError
    from safemt_client.results.table import Table
    from safemt_client.settings import RunSettings
    from safemt_client.telemetry.events import ProgressSnapshot, RunResult

__all__ = [
    "Image",
    "Imported",
    "InputError",
    "Message",
    "OpenStore",
    "Outcome",
    "ProgressSnapshot",
    "Provider",
    "Reply",
    "Request",
    "RunEstimate",
    "RunResult",
    "RunSettings",
    "SafemtError",
    "Sampling",
    "StoreError",
    "Table",
    "Usage",
    "arejudge",
    "arun",
    "calibrate",
    "import_results",
    "open",
    "plan",
    "rejudge",
    "release",
    "run",
]

__version__ = "0.1.0"

_HOMES = {
    "api": ("arejudge", "arun", "calibrate", "open", "plan", "rejudge", "release", "run"),
    "importing.results": ("import_results",),
    "importing.writing": ("Imported",),
    "planning.estimate": ("RunEstimate",),
    "providers.errors": ("InputError", "SafemtError"),
    "providers.provider": ("Provider",),
    "providers.types": ("Image", "Message", "Outcome", "Reply", "Request", "Sampling", "Usage"),
    "results.access": ("OpenStore",),
    "results.store.errors": ("StoreError",),
    "results.table": ("Table",),
    "settings": ("RunSettings",),
    "telemetry.events": ("ProgressSnapshot", "RunResult"),
}

_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "providers" / "types.py").is_file():
    __path__.append(str(_root))


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
