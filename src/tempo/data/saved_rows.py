"""Rows of a Hugging Face data set: which columns are images and classes, and the rows as items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from tempo.data.folder_names import Split
from tempo.data.label_sets import multi_hot
from tempo.errors import UserError, nearest

_USUAL_NAMES = ("label", "labels")


class SavedRows(Dataset[dict[str, Any]]):
    """Map-style data set of rows as dicts: numbers as tensors, texts as they are.

    Args:
        dataset: a `datasets.Dataset`.
        labels: class, or tuple of classes, of each row; None if they are not known.
        classes: names of the classes.
        sha256: identity of the rows.
        name: name of the data set.
    """

    def __init__(
        self, dataset: Any, labels: Sequence[Any] | None, classes: tuple[str, ...], sha256: str, name: str
    ) -> None:
        self.rows, self.labels, self.classes = dataset.with_format("torch"), labels, classes
        self.sha256, self.name = sha256, name
        self.targets: np.ndarray | None = None
        if labels:
            several = isinstance(labels[0], tuple)
            self.targets = multi_hot(labels, len(classes)) if several else np.array(labels, dtype=np.int64)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(self.rows[int(index)])

    def at(self, indices: np.ndarray) -> SavedRows:
        """Return the rows at `indices`."""
        labels = None if self.labels is None else [self.labels[index] for index in indices]
        part = SavedRows(self.rows.select(indices), labels, self.classes, "", self.name)
        part.sha256 = f"{self.sha256}{indices.tolist()}"
        return part


def image_columns(dataset: Any) -> list[str]:
    """Return the columns of images."""
    import datasets

    return [name for name, kind in dataset.features.items() if isinstance(kind, datasets.Image)]


def labels_of_splits(
    splits: Mapping[Split, Any], column: str | None, *, is_needed: bool
) -> tuple[dict[Split, list[Any]], tuple[str, ...], bool]:
    """Return the labels of each split, the classes, and whether a row may have several classes.

    A label is the number of a class, or a tuple of them. Without a column of classes, there are no labels.

    Raises:
        UserError: the column is unknown, needed and not found, or a row has no label.
    """
    train = splits["train"]
    name = _label_column(train, column, is_needed)
    if name is None:
        return {}, (), False
    kind = train.features[name]
    inner = getattr(kind, "feature", None)
    has_label_sets = inner is not None
    cells = {split: list(dataset.select_columns([name])[name]) for split, dataset in splits.items()}
    names = getattr(inner if has_label_sets else kind, "names", None)
    every = [one for found in cells.values() for cell in found for one in _listed(cell, has_label_sets)]
    values = list(range(len(names))) if names is not None else sorted(set(every) - {None})
    number_of = {value: number for number, value in enumerate(values)}
    for split, found in cells.items():
        for row, cell in enumerate(found):
            if any(one not in number_of for one in _listed(cell, has_label_sets)):
                raise UserError(
                    f"row {row} of the split {split} has {name}={cell}, which is not a class; leave such "
                    "rows, or a split without labels, out of the saved folder"
                )
    labels: dict[Split, list[Any]] = {
        split: [
            tuple(number_of[one] for one in cell) if has_label_sets else number_of[cell] for cell in found
        ]
        for split, found in cells.items()
    }
    return labels, tuple(map(str, names if names is not None else values)), has_label_sets


def _listed(cell: Any, has_label_sets: bool) -> Sequence[Any]:
    return cell if has_label_sets else (cell,)


def _label_column(dataset: Any, asked: str | None, is_needed: bool) -> str | None:
    import datasets

    features = dataset.features
    if asked is not None:
        if asked not in features:
            raise UserError(
                f"data.label_column={asked} is not a column.{nearest(asked, features)} Choose from: "
                f"{', '.join(features)}"
            )
        return asked
    kinds = {name: getattr(kind, "feature", kind) for name, kind in features.items()}
    found = [name for name, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)]
    usual = [name for name in _USUAL_NAMES if name in (found or features)]
    if len(found) == 1:
        return found[0]
    if usual and (is_needed or found):
        return usual[0]
    if is_needed:
        raise UserError(
            "data.label_column=null, but no column is a ClassLabel or named label; set data.label_column to "
            f"one of: {', '.join(features)}"
        )
    return None
