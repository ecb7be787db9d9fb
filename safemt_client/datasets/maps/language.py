"""The language of maps: what a TOML file may say of a data set's form, checked by pydantic."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    StrictBool,
    ValidationError,
    model_validator,
)

from safemt_client.datasets.files import shown
from safemt_client.datasets.maps.labels import Labelled
from safemt_client.datasets.maps.terms import STRICT, FieldPath, Template, Wanted, listed
from safemt_client.datasets.maps.values import names_in
from safemt_client.providers.errors import InputError

__all__ = ["Fields", "Join", "Map", "Picture", "Source", "Turns", "Variant", "open_map", "shipped"]

_SHIPPED = Path(__file__).resolve().parent / "shipped"
_LARGEST = 2**20
_FORMS = ("one", "users", "messages", "pairs", "wide")


def _pattern(text: str) -> str:
    steps = text.split("/")
    if not text.isprintable() or "" in steps or any("**" in step and step != "**" for step in steps):
        raise ValueError(f"{text!r} is no pattern: write names with *, and ** alone for any folders")
    if text.startswith("~") or ".." in steps or "\\" in text:
        raise ValueError("must be a path within the folder of the data, such as data/*.json")
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]
Patterns = Annotated[list[Pattern], BeforeValidator(listed), Field(min_length=1)]
Format = Literal["json", "jsonl", "csv", "parquet"]


class _Table(BaseModel):
    model_config = STRICT


class _Files(_Table):
    files: Patterns
    format: Format | None = None
    records: FieldPath | None = None

    @model_validator(mode="after")
    def _of_documents(self) -> Self:
        if self.records is not None and self.format not in (None, "json"):
            raise ValueError(f"records is a place in a JSON document, and goes not with {self.format}")
        return self


class Join(_Files):
    """Another file whose rows have more of each row: found by `on`, which must be the other's `key`."""

    key: FieldPath
    on: Template
    into: str = Field(alias="as", pattern="^[A-Za-z][A-Za-z0-9_]*$")


class Source(_Files):
    """The files, the place of the records in them, and the list of each that makes several dialogues.

    Instead of `files`, the `config` and the `split` of a data set in the hub's layout.
    """

    files: Patterns = []
    config: str | None = None
    split: str | None = None
    explode: FieldPath | None = None
    join: Join | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.files) == (self.config is not None or self.split is not None):
            raise ValueError("must have either files, or config or split of the hub's layout")
        return self


class Benign(_Table):
    """A dialogue is benign if the field has one of these values, and otherwise not."""

    field: FieldPath
    is_: Wanted = Field(alias="is")


class Fields(_Table):
    """The fields of the open form."""

    id: Template | None = None
    scenario: Template | None = None
    question: Template | None = None
    method: Template | None = None
    source: Template | None = None
    pair: Template | None = None
    benign: StrictBool | Benign | None = None


class Turns(_Table):
    """The conversation: in exactly one of the forms `one`, `users`, `messages`, `pairs` and `wide`.

    `wide` is the name of columns with `#` for their number. `role`, `text`, `label`, `pictures` and `roles`
    are of the messages of `messages` and `wide`, `user` and `assistant` of the entries of `pairs`.
    """

    one: Template | None = None
    users: FieldPath | list[Template] | None = None
    messages: FieldPath | None = None
    pairs: FieldPath | None = None
    wide: str | None = Field(default=None, pattern="^[^#]*#[^#]*$")
    role: str = "role"
    text: str = "content"
    label: str | None = None
    pictures: str | None = None
    labels: FieldPath | None = None
    roles: dict[str, Literal["user", "assistant", "system"]] = {}
    user: str = "user"
    assistant: str = "assistant"
    last_reply: Literal["refuse", "keep"] = "refuse"

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        given = [name for name in _FORMS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"must have exactly one of {', '.join(_FORMS)}, not {len(given)}")
        said = self.model_fields_set - {given[0]}
        fits = {"messages": {"role", "text", "label", "pictures", "roles"}, "pairs": {"user", "assistant"}}
        fits["wide"] = fits["messages"]
        if wrong := sorted(said - {"labels", "last_reply"} - fits.get(given[0], set())):
            raise ValueError(f"{wrong[0]} does not go with {given[0]}")
        if self.label is not None and self.labels is not None:
            raise ValueError("label and labels do not go together: name one")
        return self


class Picture(_Table):
    """A picture of user turn `turn`, counted from 1: a file by its path, or what a field contains."""

    path: Template | None = None
    field: FieldPath | None = None
    turn: int = Field(default=1, ge=1)
    optional: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.path is None) == (self.field is None):
            raise ValueError("must have either path (a file's, as a template) or field (which contains it)")
        return self


class Variant(_Table):
    """A dialogue that a row makes if it is of `files`, `where` holds and all fields named here are there.

    `turns`, `images`, `system` and `labelled` stand in for the map's, and `fields` for those of them that it
    names.
    """

    files: Pattern | None = None
    where: dict[FieldPath, Wanted] = {}
    fields: Fields = Fields()
    turns: Turns | None = None
    images: list[Picture] | None = None
    system: Template | None = None
    labelled: Labelled | None = None


class Map(_Table):
    """A map: about the data set, and how a row of it is read.

    `values` are texts that templates name as `{$NAME}`; those of `ask` have none, the user gives them.
    With `labelled` the rows are replies that people have labelled.
    """

    name: str = Field(min_length=1)
    licence: str | None = None
    address: str | None = None
    citation: str | None = None
    unconfirmed: str | None = None
    source: Source
    values: dict[str, str] = {}
    ask: dict[str, str] = {}
    fields: Fields
    extra: dict[str, FieldPath] = {}
    system: Template | None = None
    turns: Turns | None = None
    images: list[Picture] = []
    variant: list[Variant] = []
    labelled: Labelled | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        variants = self.variant or [Variant()]
        if self.fields.id is None and any(one.fields.id is None for one in variants):
            raise ValueError("key fields.id: is missing: a template that is another for each dialogue")
        if self.turns is None and any(one.turns is None for one in variants):
            raise ValueError("key turns: is missing, and not every variant has its own")
        if both := sorted(self.values.keys() & self.ask.keys()):
            raise ValueError(f"key ask.{both[0]}: has a value in values: remove one")
        known = {f"${name}" for name in (*self.values, *self.ask)}
        for template in _templates(self.model_dump()):
            if unknown := sorted({n for n in names_in(template) if n.startswith("$")} - known):
                raise ValueError(f"{{{unknown[0]}}}: neither values nor ask has this name")
        return self


def _templates(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if "{$" in value else []
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [found for entry in inner for found in _templates(entry)]


def shipped() -> dict[str, Path]:
    """The files of the maps that come with the program, by name."""
    return {path.stem: path for path in sorted(_SHIPPED.glob("*.toml"))}


def open_map(named: str) -> Map:
    """The map that `--data-map` names: one that is shipped, or a TOML file.

    Raises:
        InputError: there is none, or it is no map; the line names the file and the key.
    """
    path = shipped().get(named, Path(named))
    if not path.is_file():
        near = f"write a file, or one of {', '.join(shipped())}"
        raise InputError(f"--data-map {shown(named)}: no such file or map: {near}")
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path}: larger than {_LARGEST} bytes: is it a map?")
        return Map.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not TOML: {str(error) or 'nested too deeply'}") from None
    except ValidationError as error:
        raise InputError(f"{path}: {_reason(error)}") from None


def _reason(error: ValidationError) -> str:
    # Of a key that takes several forms, what is wrong with the one that it comes nearest to.
    first = max(error.errors(include_url=False), key=lambda one: len(one["loc"]))
    steps = [step for step in first["loc"] if not (isinstance(step, str) and ("[" in step or step == "bool"))]
    steps = [step for step in steps if step not in ("Benign", "int")]
    key = ".".join(str(step) for step in steps)
    kind = first["type"]
    if kind == "missing":
        text = "is missing"
    elif kind == "extra_forbidden":
        text = "there is no such key: see docs/data.md"
    else:
        text = str(first["ctx"]["error"]) if kind == "value_error" else first["msg"]
    return f"key {key}: {text}" if key else text
