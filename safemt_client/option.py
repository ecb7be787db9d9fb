"""Fields of a settings model that know what they are to a user: an option with a flag, help and a group."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from pydantic import Field

__all__ = ["Option", "OptionGroup", "words_of"]


@dataclass(frozen=True)
class Option:
    """What a field of the settings is to a user.

    Attributes:
        group: heading that it is listed under.
        help: what it does, without its default.
        metavar: placeholder for its value; none for a switch, and where the field's type lists the values.
        shown: the default in words, where the field's own default does not say it.
        decides: whether it decides replies or labels: only then a store keeps it with a run.
        commands: those that have its flag.
    """

    group: str
    help: str
    metavar: str | None = None
    shown: str | None = None
    decides: bool = True
    commands: tuple[str, ...] = ("run",)

    def __call__(self, schema: dict[str, Any]) -> None:
        """Describe the field in the model's JSON schema."""
        schema |= {"description": self.help, "group": self.group}


class OptionGroup:
    """Makes the fields of one group, which share a heading and mostly the rest."""

    def __init__(self, name: str, *commands: str, decides: bool = True) -> None:
        self.name = name
        self._shared: dict[str, Any] = {"commands": ("run", *commands), "decides": decides}

    def __call__(
        self, default: Any, help: str, metavar: str | None = None, shown: str | None = None, **more: Any
    ) -> Any:
        """A field; `more` holds its checks, and what of the option differs from the group's."""
        own = {name: more.pop(name) for name in self._shared if name in more}
        option = Option(self.name, help, metavar, shown, **(self._shared | own))
        return Field(default, json_schema_extra=option, **more)


def words_of(command: str) -> list[str]:
    """The words of a command, as a shell would divide them.

    Raises:
        ValueError: a quotation is not closed, or the command is empty.
    """
    words = shlex.split(command)
    if not words:
        raise ValueError("no command")
    return words
