"""The order of the house: imports go down only and in no circle; modules and functions stay small."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
AT_THE_TOP = ("providers", "judges", "moderator", "results")
"""Folders of the repository that are imported as `safemt_client.NAME`."""

BELOW = {
    "providers": "",
    "demo": "providers",
    "keywords": "",
    "option": "",
    "tables": "providers",
    "settings": "tables option providers",
    "loading": "settings tables option providers",
    "judges": "providers",
    "moderator": "providers",
    "results": "judges moderator providers",
    "datasets": "results providers",
    "serving": "providers",
    "said": "serving settings tables providers",
    "guard_judges": "judges moderator providers",
    "pricing": "settings providers",
    "placing": "guard_judges said serving settings providers",
    "models": "placing pricing serving guard_judges said settings tables judges moderator demo providers",
    "planning": "datasets pricing models said settings results judges moderator providers",
    "importing": "planning datasets results judges providers",
    "telemetry": "planning datasets models said settings results judges moderator providers",
    "engine": "serving telemetry planning datasets models said settings results judges moderator providers",
    "proxy": "models loading settings moderator providers",
    "viewer": "datasets results providers",
    "asked": "loading settings judges providers",
    "cluster": "engine serving telemetry planning models said settings results judges moderator providers",
    "carrying": "cluster engine telemetry planning models settings results judges",
    "rejudging": "carrying asked engine telemetry planning models results providers",
    "api": "rejudging carrying asked keywords engine telemetry planning datasets models said loading settings results judges moderator providers",
    "cli": "api importing engine telemetry planning proxy viewer datasets models said keywords loading settings option results judges moderator providers",
    "__main__": "cli results providers",
}
"""What each sub-package or module of the package may import, from the lowest to the highest."""

BELOW_IN_RESULTS = {
    "cache": "",
    "sanitize": "",
    "files": "",
    "names": "",
    "screen": "",
    "stats": "",
    "table": "",
    "store": "cache sanitize",
    "sql": "store screen sanitize",
    "scores": "store stats table names sanitize files",
    "exports": "scores store sanitize files",
    "report": "scores stats store names sanitize files",
    "access": "report scores store table",
}

LONGEST = {"module": 400, "test module": 500, "function": 60}
MOST_PARAMETERS = 8


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by the name that it is imported by."""
    found = {}
    for top in ("safemt_client", *AT_THE_TOP):
        for path in (ROOT / top).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found[name if top == "safemt_client" else f"safemt_client.{name}"] = path
    return found


@cache
def imports(name: str) -> frozenset[str]:
    """The modules of the package that `name` imports: at its head, in functions and for its types."""
    found = set()
    for node in ast.walk(ast.parse(modules()[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import"
            wanted = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {one if one in modules() else str(node.module) for one in wanted}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    # The package itself is the public face above all rooms; the rooms take the version alone from it.
    return frozenset(found & modules().keys() - {name, "safemt_client"})


def room(name: str, depth: int) -> str:
    return (name.split(".") + [""] * depth)[depth]


def climbing(table: dict[str, str], prefix: str) -> list[str]:
    """The imports between the rooms of `prefix` that the table does not allow."""
    depth = prefix.count(".") + 1
    inside = {name for name in modules() if name.startswith(f"{prefix}.")}
    wrong = []
    for name in sorted(inside):
        here = room(name, depth)
        for target in sorted(imports(name) & inside):
            there = room(target, depth)
            if there != here and there not in table[here].split():
                wrong.append(f"{name} imports {target}")
    return wrong


@pytest.mark.parametrize(
    ("table", "prefix"), [(BELOW, "safemt_client"), (BELOW_IN_RESULTS, "safemt_client.results")]
)
def test_imports_go_down_only(table: dict[str, str], prefix: str) -> None:
    depth = prefix.count(".") + 1
    rooms = {room(name, depth) for name in modules() if name.startswith(f"{prefix}.")}
    assert rooms <= table.keys(), "a room that the table does not have"
    above: set[str] = set()
    for name, below in table.items():
        assert set(below.split()) <= above, f"{name} may import what does not stand below it"
        above.add(name)
    assert climbing(table, prefix) == []


def circles() -> list[list[str]]:
    """Groups of modules that import each other, found by removing what imports nothing that is left."""
    left = {name: set(imports(name)) for name in modules()}
    while loose := {name for name, wanted in left.items() if not wanted & left.keys()}:
        left = {name: wanted for name, wanted in left.items() if name not in loose}
    while loose := left.keys() - set().union(*left.values()):
        left = {name: wanted & left.keys() for name, wanted in left.items() if name not in loose}
    return [sorted(left)] if left else []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles() == []


def test_the_package_itself_is_imported_for_its_version_alone() -> None:
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "safemt_client":
                taken = {one.name for one in node.names if f"safemt_client.{one.name}" not in modules()}
                assert taken <= {"__version__"}, f"{name} takes {taken} from the public face"
            elif isinstance(node, ast.Import):
                assert "safemt_client" not in {one.name for one in node.names}, name


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def program() -> list[Path]:
    return list(sources("safemt_client", *AT_THE_TOP, "tools", "examples"))


def too_long(limit: int, paths: list[Path]) -> dict[str, int]:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in paths
    }
    return {name: length for name, length in lengths.items() if length > limit}


def functions(paths: list[Path]) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, list[str]]]:
    for path in paths:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(ROOT)}::{node.name}", node, text.splitlines()


def test_modules_are_short() -> None:
    assert too_long(LONGEST["module"], [*program(), *sources("benchmarks")]) == {}


def test_test_modules_are_short() -> None:
    assert too_long(LONGEST["test module"], list(sources("tests"))) == {}


def test_functions_are_short() -> None:
    lengths = {name: (node.end_lineno or 0) - node.lineno + 1 for name, node, _ in functions(program())}
    assert {name: length for name, length in lengths.items() if length > LONGEST["function"]} == {}


def test_constructors_take_few_parameters_or_say_why() -> None:
    wrong = []
    for name, node, lines in functions(program()):
        count = len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs) - 1
        # `# 9 parameters: REASON` in the line above or beside it.
        beside = "\n".join(lines[node.lineno - 2 : node.body[0].lineno])
        if node.name == "__init__" and count > MOST_PARAMETERS:
            given = re.search(r"# (\d+) parameters: \S", beside)
            if given is None or int(given[1]) != count:
                wrong.append(f"{name} at line {node.lineno} has {count}")
    assert wrong == []
