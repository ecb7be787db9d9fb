"""Rows with the names of their columns, for use in Python, pandas or Arrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from safemt_client.providers.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Table"]

R = TypeVar("R", bound=tuple[Any, ...])


class Table(Sequence[R], Generic[R]):
    """Rows, each a tuple in the order of `columns`; named tuples where the columns are known beforehand."""

    def __init__(self, columns: Sequence[str], rows: Sequence[R]) -> None:
        self.columns = list(columns)
        self.rows = list(rows)

    @overload
    def __getitem__(self, place: int) -> R: ...

    @overload
    def __getitem__(self, place: slice) -> list[R]: ...

    def __getitem__(self, place: int | slice) -> R | list[R]:
        return self.rows[place]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[R]:
        return iter(self.rows)

    def __repr__(self) -> str:
        return f"<Table of {len(self.rows)} rows: {', '.join(self.columns)}>"

    def df(self) -> Any:
        """A pandas `DataFrame`.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            import pandas as pd  # type: ignore[import-untyped,unused-ignore]
        except ImportError:
            raise InputError("df: pandas is missing: pip install pandas, or use .arrow() or .rows") from None
        return pd.DataFrame.from_records(self.rows, columns=self.columns)

    def arrow(self) -> pa.Table:
        """An Arrow table; a column whose values have no common Arrow type becomes text."""
        # Arrow takes a while to import.
        import pyarrow as pa

        columns = [_column([row[place] for row in self.rows]) for place in range(len(self.columns))]
        return pa.Table.from_arrays(columns, names=self.columns)


def _column(values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return pa.array([None if value is None else str(value) for value in values])
