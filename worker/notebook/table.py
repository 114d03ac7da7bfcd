"""What was hashed, as a table: pandas' where it is installed, else rows that read well."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any


class Rows(list[dict[str, Any]]):
    """A list of rows, each a dictionary with the same keys; it shows itself as a table."""

    def __repr__(self) -> str:
        if not self:
            return "no files"
        lines = [list(self[0]), *([_shown(value) for value in row.values()] for row in self)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )


def make_table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> Any:
    """Make the table of some rows.

    Args:
        rows: Each has all columns.
        columns: Their order, which also a table without rows has.

    Returns:
        A `pandas.DataFrame`, or `Rows` where pandas is not installed or does not work.
    """
    try:
        pandas: Any = import_module("pandas")  # it is slow to load, and has no types
        return pandas.DataFrame(list(rows), columns=list(columns))
    # Not ImportError alone: one that does not fit its numpy raises ValueError, and the files are hashed.
    except Exception:  # noqa: BLE001 - as above
        return Rows({column: row[column] for column in columns} for row in rows)


def _shown(value: object) -> str:
    return "" if value is None else str(value)
