"""Imports between the folders go down only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BELOW = {
    "providers": set(),
    "judges": {"providers"},
    "moderator": {"providers"},
    "results": {"providers", "judges", "moderator"},
}


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] == "safemt_client"}


@pytest.mark.parametrize("folder", sorted(BELOW))
def test_no_layer_reaches_up(folder: str) -> None:
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    for path in files:
        for name in imported(path):
            part = name.partition(".")[2].split(".")[0]
            # `safemt_client` itself holds the version alone.
            assert part == "" or part == folder or part in BELOW[folder], f"{path} imports {name}"


def test_settings_rest_on_the_providers_alone() -> None:
    for name in imported(ROOT / "safemt_client" / "settings.py"):
        assert name.startswith("safemt_client.providers."), f"settings imports {name}"
