"""Replies that people have labelled, in the language of maps: where the reply is, and each person's label."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, Field, model_validator

from safemt_client.datasets.files import shown
from safemt_client.datasets.maps.terms import STRICT, FieldPath, Template, Wanted
from safemt_client.datasets.maps.values import as_text, fill, look_up, names_in, same
from safemt_client.datasets.records import LABELLED
from safemt_client.providers.errors import InputError

__all__ = ["LABELLED", "Labelled", "Vote", "fields_of", "labelled_of"]


class Vote(BaseModel):
    """One person's label, or that of several together: of a field whose values are words, or a number.

    Unsafe is what has one of the values of `unsafe`, or a number of at least `unsafe_from`.
    """

    model_config = STRICT

    by: Template = "people"
    field: FieldPath
    unsafe: Wanted | None = None
    safe: Wanted | None = None
    unsafe_from: float | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        words = self.unsafe is not None and self.safe is not None
        if words == (self.unsafe_from is not None) or (self.unsafe is None) != (self.safe is None):
            raise ValueError("must have either both unsafe and safe, or unsafe_from")
        return self


class Labelled(BaseModel):
    """What is labelled in a row. Without `reply` it is the last reply of the conversation, which is kept.

    Rows with the same `id` are labels of one reply; replies with the same `item` are of one question, and
    not independent. Both are by default the dialogue's own id.
    """

    model_config = STRICT

    reply: FieldPath | None = None
    id: Template | None = None
    item: Template | None = None
    votes: list[Vote] = Field(min_length=1)


def fields_of(labelled: Labelled) -> list[str]:
    """The fields that a row needs to be taken."""
    found = [] if labelled.reply is None else [labelled.reply]
    for template in (labelled.id, labelled.item):
        found += [] if template is None else names_in(template)
    return found


def labelled_of(labelled: Labelled, row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The reply of a row, with what it has of `id`, `item`, and the votes that are not empty.

    Raises:
        InputError: the reply is no text, or a label is none of the values that the map knows.
    """
    here = f"{where}: key labelled"
    found: dict[str, Any] = {"votes": []}
    if labelled.reply is not None:
        reply = as_text(look_up(row, labelled.reply))
        if reply is None:
            raise InputError(f"{here}.reply: the row has no text in {shown(labelled.reply)}")
        found["reply"] = reply
    for name in ("id", "item"):
        template = getattr(labelled, name)
        if template is not None and (text := fill(template, row)) is not None:
            found[name] = text
    for number, vote in enumerate(labelled.votes):
        value = look_up(row, vote.field)
        if value is None or as_text(value) == "" or (isinstance(value, float) and math.isnan(value)):
            continue
        by = fill(vote.by, row)
        if by is None:
            raise InputError(f"{here}.votes.{number}.by: the row has not all fields of {shown(vote.by)}")
        found["votes"].append([by, _label(vote, value, f"{here}.votes.{number}"), as_text(value)])
    return found


def _label(vote: Vote, value: Any, where: str) -> str:
    if vote.unsafe_from is not None:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if math.isnan(number):
            raise InputError(f"{where}.unsafe_from: {shown(value)} in {shown(vote.field)} is no number")
        return "unsafe" if number >= vote.unsafe_from else "safe"
    for label, values in (("unsafe", vote.unsafe), ("safe", vote.safe)):
        if any(same(value, one) for one in values or ()):
            return label
    raise InputError(
        f"{where}: {shown(value)} in {shown(vote.field)} is neither unsafe nor safe: add it to one"
    )
