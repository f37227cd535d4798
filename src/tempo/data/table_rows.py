"""Columns of a table in a file: CSV, or Parquet with the package pyarrow."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tempo.errors import UserError

Columns = dict[str, list[Any]]
"""The values of each column: text, or lists of texts."""
_PARQUET = frozenset({".parquet", ".pq"})


def column_names(path: Path) -> list[str]:
    """Return the names of a table's columns.

    A CSV file is UTF-8 and names them in its first row.

    Raises:
        UserError: the file cannot be read, or pyarrow is not installed.
    """
    if path.suffix.lower() in _PARQUET:
        return list(_parquet(path).schema_arrow.names)
    rows = _csv_rows(path, most=1)
    return [name for name in rows[0] if name] if rows else []


def read_columns(path: Path, names: Sequence[str]) -> Columns:
    """Return the values of some columns.

    Raises:
        UserError: there are no rows, or the values are binary.
    """
    if path.suffix.lower() in _PARQUET:
        columns = _of_parquet(path, names)
    else:
        head, *rows = _csv_rows(path)
        where = {name: head.index(name) for name in names}
        columns = {
            name: [row[at].strip() if at < len(row) else "" for row in rows] for name, at in where.items()
        }
    if not columns[names[0]]:
        raise UserError(f"{path} has no rows below its head; set data.table=<file of images and classes>")
    return columns


def _csv_rows(path: Path, most: int | None = None) -> list[list[str]]:
    """Return the rows that are not empty, the names of the columns first."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            found: list[list[str]] = []
            for row in csv.reader(file):
                if row:
                    found.append(row)
                if len(found) == most:
                    break
            return found
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path} cannot be read as a CSV table ({error}); set data.root and data.table"
        ) from error


def _parquet(path: Path) -> Any:
    """Return an open Parquet file."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(
            f"data.table={path.name} needs the package pyarrow; run pip install -e '.[tables]', or save the "
            "table as CSV"
        ) from error
    try:
        return parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} cannot be read as a Parquet table ({reason}); set data.root and data.table"
        ) from error


def _of_parquet(path: Path, names: Sequence[str]) -> Columns:
    table = _parquet(path).read(columns=list(names))
    columns = {name: table.column(name).to_pylist() for name in names}
    for name, values in columns.items():
        if any(isinstance(value, (bytes, dict)) for value in values):
            raise UserError(
                f"the column {name} of {path} has images or other binary values, but data=table reads names "
                "of image files; run datasets.Dataset.from_parquet(..).save_to_disk(<folder>), and set "
                "data=huggingface data.root=<folder>"
            )
    return {name: [_value(value) for value in values] for name, values in columns.items()}


def _value(value: Any) -> Any:
    return [_text(one) for one in value] if isinstance(value, list) else _text(value)


def _text(value: Any) -> str:
    """Return a cell as text; a whole number that is stored as a float is written without its `.0`."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
