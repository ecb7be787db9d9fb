"""What a user may say about the requests to one endpoint, and values that come from the environment.

A text `$NAME` or `${NAME}`, alone or after one word (`Bearer $NAME`), stands for the value of an environment
variable. Such a value is treated as a key: it goes to this endpoint alone and into nothing that is kept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from safemt_client.providers.chat_format import ImageFormat
from safemt_client.providers.errors import InputError
from safemt_client.providers.keys import Key, find_key
from safemt_client.providers.responses.thinking import AUTO, Reading
from safemt_client.providers.types import Request

__all__ = ["NO_OPTIONS", "EndpointOptions", "environment_of", "is_reference", "references"]

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_REFERENCE = re.compile(
    rf"(?P<before>[A-Za-z][A-Za-z0-9-]* )?\$(?:(?P<bare>{_NAME})|\{{(?P<braced>{_NAME})\}})"
)
_ESCAPED = re.compile(rf"\$\$(?:{_NAME}|\{{{_NAME}\}})")


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """How requests to one endpoint are put, beside what decides their answers.

    Attributes:
        headers: headers of every request.
        query: parameters added to the address.
        environment: values of the variables that headers, query and body name.
        max_tokens_field: the name under which the limit of a reply is sent.
        image_format: how the address of an image is given.
        session_header: the header that carries a conversation's id.
        reading: how reasoning in the text of a reply is told from the answer.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Key] = field(default_factory=dict)
    max_tokens_field: str | None = None
    image_format: ImageFormat = "object"
    session_header: str | None = None
    reading: Reading = AUTO

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values of the environment, whole and word by word."""
        return tuple(word for value in self.environment.values() for word in {str(value), *value.split()})

    def filled(self, content: Any) -> Any:
        """JSON-able content with the values of the environment in place of their names."""
        if isinstance(content, str):
            return self._text(content)
        if isinstance(content, Mapping):
            return {name: self.filled(value) for name, value in content.items()}
        return [self.filled(value) for value in content] if isinstance(content, list | tuple) else content

    def _text(self, text: str) -> str:
        if _ESCAPED.fullmatch(text):
            return text[1:]
        found = _REFERENCE.fullmatch(text)
        value = None if found is None else self.environment.get(found["bare"] or found["braced"])
        return text if found is None or value is None else Key((found["before"] or "") + value)

    def headers_of(self) -> dict[str, str]:
        """The headers of every request as they are sent."""
        headers: dict[str, str] = self.filled(self.headers)
        return headers

    def session_of(self, request: Request) -> dict[str, str]:
        """The header with the id of the request's conversation, if there is one."""
        return {} if self.session_header is None else {self.session_header: _conversation(request)}

    def query_of(self) -> dict[str, str]:
        """The parameters of the address as they are sent."""
        query: dict[str, str] = self.filled(self.query)
        return query


NO_OPTIONS = EndpointOptions()
"""Nothing was said: what every endpoint is asked with by default."""


def _conversation(request: Request) -> str:
    """The id of the request's conversation; where it has none, requests that begin alike share one."""
    if request.conversation is not None:
        return request.conversation
    first = request.messages[0]
    return hashlib.sha256(f"{first.role} {first.text}".encode("utf-8", "backslashreplace")).hexdigest()[:32]


def is_reference(text: str) -> bool:
    """Whether a text stands for a value of the environment."""
    return _REFERENCE.fullmatch(text) is not None


def references(content: Any) -> Iterator[str]:
    """The names of the environment variables that JSON-able content stands for."""
    if isinstance(content, str):
        if (found := _REFERENCE.fullmatch(content)) is not None:
            yield found["bare"] or found["braced"]
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from references(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from references(value)


def environment_of(name: str, contents: Any, env: Mapping[str, str]) -> dict[str, Key]:
    """The values of the variables that `contents` stands for, for the model that the user calls `name`.

    Raises:
        InputError: a variable is not set, or its value cannot be sent.
    """
    found: dict[str, Key] = {}
    for variable in dict.fromkeys(references(contents)):
        value = env.get(variable, "").strip() or find_key(variable, env)
        if not value:
            raise InputError(
                f"{name}: ${variable} has no value: set the environment variable {variable}, "
                f"or write $${variable} for that text itself"
            )
        if not value.isprintable() or not value.isascii():
            raise InputError(
                f"{name}: the environment variable {variable} contains characters that no key has"
            )
        found[variable] = Key(value)
    return found
