"""The user's own image files, named with their classes in a CSV or Parquet table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tempo.data.folder_listing import Listing
from tempo.data.folder_names import Split, read_suffixes, shown
from tempo.data.folder_scan import File
from tempo.data.image_cache import Store
from tempo.data.image_files import ImageFiles
from tempo.data.images import ImageData
from tempo.data.listed_images import decoding_of, read_listed
from tempo.data.table_rows import Columns, column_names, read_columns
from tempo.errors import UserError, nearest

_SPLITS: tuple[Split, ...] = ("train", "test", "val")
_YES, _NO = ("1", "true", "yes"), ("0", "false", "no", "")


def table(
    *,
    root: str,
    table: str,
    images: str,
    file_column: str | None,
    label_column: str | list[str] | None,
    split_column: str | None,
    image_size: int | None,
    channels: Literal[1, 3],
    test_size: int | float,
    test_seed: int,
    cache: str,
    label_separator: str | None = None,
    background: str = "white",
    max_megapixels: int | float = 89,
    store: Store = "memory",
) -> tuple[ImageData, ...] | dict[str, ImageFiles]:
    """Return the images that a table lists: training and test, and validation if its split column says so.

    Without a split column, test images are split off as for a single tree of `folder`, whose other keys mean
    the same here. Images have several labels each if there are several label columns, a separator, or lists
    in a column of a Parquet file.

    Args:
        root: folder that the table and the images are relative to.
        table: CSV file (UTF-8) whose first row names the columns, or Parquet file.
        images: folder of the images below `root`; empty for `root` itself.
        file_column: column of the files' names, with or without extension; None for the first column.
        label_column: column of the classes; None for the second column. A list names a column per class, with
            0 or 1 in each row.
        split_column: column with the words train, test and val; None if there is none.
        label_separator: text between the classes of an image, such as a space or `|`; an empty cell is an
            image of no class.
        image_size, channels, test_size, test_seed, cache, background, max_megapixels, store: see `folder`.

    Raises:
        UserError: the table cannot be read, a column or file is missing, or images cannot be read.
    """
    base = Path(root).expanduser()
    path = base / table
    how = decoding_of(image_size, channels, background, max_megapixels)
    names = column_names(path)
    if not names:
        raise UserError(f"{path} is empty; set data.table=<file of images and classes>")
    of_file = _column("file_column", file_column or names[0], names)
    chosen = label_column or names[min(1, len(names) - 1)]
    of_labels = [
        _column("label_column", name, names) for name in ([chosen] if isinstance(chosen, str) else chosen)
    ]
    of_split = None if split_column is None else _column("split_column", split_column, names)
    columns = read_columns(
        path, list(dict.fromkeys([of_file, *of_labels, *([of_split] if of_split else [])]))
    )
    splits = columns[of_split] if of_split else ["train"] * len(columns[of_file])
    if wrong := next((word for word in splits if word not in _SPLITS), None):
        raise UserError(
            f"data.split_column={split_column} has the word {wrong!r}; write train, test or val in each row, "
            "or set data.split_column=null"
        )
    files = [f"{images}/{name}" if images else name for name in columns[of_file]]
    if isinstance(chosen, str):
        labels, classes = _named_classes(files, columns[chosen], chosen, label_separator)
    else:
        labels, classes = _class_columns(files, columns, of_labels), tuple(of_labels)
    return read_listed(
        base,
        _listing(base, files, labels, classes, splits),
        how,
        cache=Path(cache).expanduser(),
        store=store,
        test_size=test_size,
        test_seed=test_seed,
    )


def _column(key: str, name: str, columns: Sequence[str]) -> str:
    if name not in columns:
        raise UserError(
            f"data.{key}={name} is not a column of the table.{nearest(name, columns)} Choose from: "
            f"{', '.join(columns)}"
        )
    return name


def _named_classes(
    files: Sequence[str], cells: Sequence[Any], column: str, separator: str | None
) -> tuple[list[Any], tuple[str, ...]]:
    """Return the label, or the tuple of labels, of each file, and the classes."""
    if separator == "":
        raise UserError("data.label_separator is empty; set it to the text between classes, or to null")
    several = separator is not None or any(isinstance(cell, list) for cell in cells)
    if not several and "" in cells:
        raise UserError(
            f"{shown(files[cells.index('')])} has no {column} in the table; write a class there, or remove "
            "the row; if images may have several classes, or none, set data.label_separator=<text between "
            "them>"
        )
    sets = [_classes_in(cell, separator) for cell in cells]
    found = {name for names in sets for name in names}
    # Numbers are sorted as numbers.
    numbers = all(name.lstrip("-").isdigit() for name in found)
    classes = tuple(sorted(found, key=int if numbers else None))
    number_of = {name: label for label, name in enumerate(classes)}
    if not several:
        return [number_of[names[0]] for names in sets], classes
    return [tuple(number_of[name] for name in names) for names in sets], classes


def _classes_in(cell: Any, separator: str | None) -> list[str]:
    parts = cell if isinstance(cell, list) else [cell] if separator is None else cell.split(separator)
    return [part.strip() for part in parts if part.strip()]


def _class_columns(files: Sequence[str], columns: Columns, names: Sequence[str]) -> list[tuple[int, ...]]:
    """Return the numbers of the columns that have 1, for each file."""
    marks = [[str(cell).lower() for cell in columns[name]] for name in names]
    for name, cells in zip(names, marks, strict=True):
        wrong = next((row for row, cell in enumerate(cells) if cell not in (*_YES, *_NO)), None)
        if wrong is not None:
            raise UserError(
                f"{shown(files[wrong])} has {columns[name][wrong]!r} in the column {name}, but a column per "
                f"class has 0 or 1; set data.label_column={name} if it names the classes"
            )
    return [
        tuple(label for label, cell in enumerate(row) if cell in _YES) for row in zip(*marks, strict=True)
    ]


def _listing(
    base: Path,
    names: Sequence[str],
    labels: Sequence[Any],
    classes: tuple[str, ...],
    splits: Sequence[str],
) -> Listing:
    """Return the files in the order of split and row."""
    found = Listing(classes=classes, has_label_sets=bool(labels) and isinstance(labels[0], tuple))
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
        found.labels += [labels[index] for index in chosen]
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
