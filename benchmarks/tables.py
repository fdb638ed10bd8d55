"""Tables of measurements as text: for the terminal, and for the book."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table as RichTable


def cell_text(cell: Any) -> str:
    """A number as ``1.23``, a number with a spread as ``1.23 (1.20 to 1.30)``, anything else unchanged."""
    if isinstance(cell, dict):
        return f"{_number(cell['median'])} ({_number(cell['low'])} to {_number(cell['high'])})"
    return _number(cell) if isinstance(cell, float) else str(cell)


def _number(value: float) -> str:
    size = abs(value)
    if size and not 0.005 <= size < 1e6:
        return f"{value:.0e}"
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def columns_of(table: dict[str, dict[str, Any]]) -> list[str]:
    """The columns of all rows; some rows have fewer."""
    return list(dict.fromkeys(name for row in table.values() for name in row))


def print_tables(tables: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Print tables by their titles."""
    for title, table in tables.items():
        names = columns_of(table)
        shown = RichTable("", *names, title=title, title_justify="left")
        for name, row in table.items():
            shown.add_row(name, *(cell_text(row.get(column, "")) for column in names))
        Console(width=140).print(shown)
