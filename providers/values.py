"""Frozen dataclasses that are made as fast as those that may be changed.

The constructor of a frozen dataclass sets each of its fields by a call, so that the row of a turn takes five
times as long. Here an object is one of an open class of the same layout until all of its fields are set.
It is for what has many fields and is made at each turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["value_class"]

if TYPE_CHECKING:
    from dataclasses import dataclass as value_class
else:
    from dataclasses import MISSING, dataclass, fields

    def value_class(*, frozen, slots):
        """What `dataclass` does; for fields that are all in the constructor, without factories."""
        return lambda kind: _with_quick_constructor(dataclass(frozen=frozen, slots=slots)(kind))

    def _with_quick_constructor(kind):
        body = {"__slots__": kind.__slots__, "__setattr__": object.__setattr__}
        names = {
            "_change": object.__setattr__,
            "_kind": kind,
            "_open": type(kind.__name__, kind.__bases__, body),
        }
        parameters, lines = ["self"], ['_change(self, "__class__", _open)']
        for field in fields(kind):
            if not field.init or field.kw_only or field.default_factory is not MISSING:
                raise TypeError(f"{kind.__name__}.{field.name}: a value_class has plain fields only")
            if field.default is not MISSING:
                names[f"_{field.name}"] = field.default
            parameters.append(field.name if field.default is MISSING else f"{field.name}=_{field.name}")
            lines.append(f"self.{field.name} = {field.name}")
        lines.append("self.__class__ = _kind")
        exec(f"def __init__({', '.join(parameters)}):\n " + "\n ".join(lines), names)
        names["__init__"].__qualname__ = f"{kind.__qualname__}.__init__"
        kind.__init__ = names["__init__"]
        return kind
