"""The user's own image files, named with their classes in a CSV table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tempo.data.folder_listing import Listing
from tempo.data.folder_names import Split, read_suffixes, shown
from tempo.data.folder_scan import File
from tempo.data.image_cache import Store
from tempo.data.image_files import ImageFiles
from tempo.data.images import ImageData
from tempo.data.listed_images import decoding_of, read_listed
from tempo.errors import UserError, nearest

_SPLITS: tuple[Split, ...] = ("train", "test", "val")


def table(
    *,
    root: str,
    table: str,
    images: str,
    file_column: str | None,
    label_column: str | None,
    split_column: str | None,
    image_size: int | None,
    channels: Literal[1, 3],
    test_size: int | float,
    test_seed: int,
    cache: str,
    background: str = "white",
    max_megapixels: int | float = 89,
    store: Store = "memory",
) -> tuple[ImageData, ...] | dict[str, ImageFiles]:
    """Return the images that a table lists: training and test, and validation if its split column says so.

    Without a split column, test images are split off as for a single tree of `folder`, whose other keys mean
    the same here.

    Args:
        root: folder that the table and the images are relative to.
        table: CSV file (UTF-8) whose first row names the columns.
        images: folder of the images below `root`; empty for `root` itself.
        file_column: column of the files' names, with or without extension; None for the first column.
        label_column: column of the classes; None for the second column.
        split_column: column with the words train, test and val; None if there is none.
        image_size, channels, test_size, test_seed, cache, background, max_megapixels, store: see `folder`.

    Raises:
        UserError: the table cannot be read, a column or file is missing, or images cannot be read.
    """
    base = Path(root).expanduser()
    how = decoding_of(image_size, channels, background, max_megapixels)
    rows = _rows(base / table)
    columns = list(rows[0])
    of_file = _column("file_column", file_column or columns[0], columns)
    of_label = _column("label_column", label_column or columns[min(1, len(columns) - 1)], columns)
    of_split = None if split_column is None else _column("split_column", split_column, columns)
    splits = [row[of_split] if of_split else "train" for row in rows]
    if wrong := next((word for word in splits if word not in _SPLITS), None):
        raise UserError(
            f"data.split_column={split_column} has the word {wrong!r}; write train, test or val in each row, "
            "or set data.split_column=null"
        )
    labels = [row[of_label] for row in rows]
    if "" in labels:
        raise UserError(
            f"row {labels.index('') + 2} of {base / table} has no {of_label}; write a class there, or remove "
            "the row"
        )
    listing = _listing(
        base, [f"{images}/{row[of_file]}" if images else row[of_file] for row in rows], labels, splits
    )
    return read_listed(
        base,
        listing,
        how,
        cache=Path(cache).expanduser(),
        store=store,
        test_size=test_size,
        test_seed=test_seed,
    )


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [
                {name: (value or "").strip() for name, value in row.items() if name}
                for row in csv.DictReader(file)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path} cannot be read as a CSV table ({error}); set data.root and data.table"
        ) from error
    if not rows:
        raise UserError(f"{path} has no rows below its head; set data.table=<file of images and classes>")
    return rows


def _column(key: str, name: str, columns: Sequence[str]) -> str:
    if name not in columns:
        raise UserError(
            f"data.{key}={name} is not a column of the table.{nearest(name, columns)} Choose from: "
            f"{', '.join(columns)}"
        )
    return name


def _listing(base: Path, names: Sequence[str], labels: Sequence[str], splits: Sequence[str]) -> Listing:
    """Return the files in the order of split and row; a number as a class is sorted as a number."""
    numbers = all(label.lstrip("-").isdigit() for label in labels)
    classes = sorted(set(labels), key=int if numbers else None)
    number_of = {name: label for label, name in enumerate(classes)}
    found = Listing(classes=tuple(classes))
    files = [_file(base, name) for name in names]
    missing = [name for name, file in zip(names, files, strict=True) if file is None]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(names)} files of the table are not below {base} (first: "
            f"{shown(missing[0])}); set data.images=<folder of the images>, or remove those rows"
        )
    for split in _SPLITS:
        chosen = [index for index, word in enumerate(splits) if word == split]
        found.files += [file for index in chosen if (file := files[index]) is not None]
        found.labels += [number_of[labels[index]] for index in chosen]
        if chosen:
            found.sizes[split] = len(chosen)
    if "train" not in found.sizes:
        raise UserError("no row of the table is for training; write train in its split column")
    return found


_SUFFIXES = tuple(dict.fromkeys(("", ".jpg", ".jpeg", ".png", *sorted(read_suffixes()))))


def _file(base: Path, name: str) -> File | None:
    """Return a file by its name, with an extension if the table leaves it out."""
    for suffix in _SUFFIXES:
        path = base / f"{name}{suffix}"
        if path.is_file():
            status = path.stat()
            return File(f"{name}{suffix}", status.st_size, status.st_mtime_ns)
    return None
