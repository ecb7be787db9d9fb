"""Run multi-turn, multimodal safety dialogues at a model, keep every turn, judge and score.

The sub-packages `providers`, `judges`, `moderator` and `results` stand at the top level of the
repository. An installed wheel holds them below this package; in a checkout the line below
makes them importable under the same names.
"""

from pathlib import Path

__version__ = "0.1.0"

_root = Path(__file__).resolve().parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "providers" / "types.py").is_file():
    __path__.append(str(_root))
