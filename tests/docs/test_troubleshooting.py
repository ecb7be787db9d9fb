"""The messages that the page on troubleshooting explains are those that the program has."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOPS = ("safemt_client", "providers", "judges", "moderator", "results")
PAGE = ROOT / "docs" / "troubleshooting.md"


def texts() -> str:
    """All texts of the program; what is put into one at run time stands as NAME."""
    found = []
    for path in (path for top in TOPS for path in (ROOT / top).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(
                        str(one.value) if isinstance(one, ast.Constant) else "NAME" for one in node.values
                    )
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def explained(page: str) -> list[str]:
    """The messages in the first column of the tables with the heading `message`, split where they leave something out."""
    tables = re.findall(r"^\| message \|.*\n\|[-|]+\n((?:\|.*\n)+)", page, flags=re.M)
    quoted = [
        message
        for table in tables
        for row in table.splitlines()
        for message in re.findall(r"`([^`]+)`", re.split(r"(?<!\\)\|", row)[1])
        if not message.startswith("--provider")
    ]
    return [piece for message in quoted for piece in re.split(r" \.\.\. | ?PROCESS,? ?", message) if piece]


def test_every_message_that_is_explained_is_one_of_the_program() -> None:
    messages, known = explained(PAGE.read_text(encoding="utf-8")), texts()
    assert len(messages) > 15
    assert [message for message in messages if message not in known] == []


def test_a_message_that_the_program_does_not_have_is_found() -> None:
    page = "| message | why |\n|---|---|\n| `no such words: anywhere` | x |\n"
    assert [message for message in explained(page) if message not in texts()] == ["no such words: anywhere"]
