"""Count the images of each class in each set, and find classes that a set lacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tempo.data.dataset_split import labels_of
from tempo.data.images import ImageData
from tempo.data.label_sets import images_per_class
from tempo.errors import UserError, printable

Counts = Mapping[str, Sequence[int]]
"""Set (`train`, `val`, `test`) -> number of images of each class."""
_MOST_NAMED = 5


def counts_of_sets(train: ImageData, val: ImageData | None, test: ImageData) -> dict[str, list[int]]:
    """Return the number of images of each class in each set; without validation, its entry is missing."""
    sets = {"train": train, "val": val, "test": test}
    return {
        name: images_per_class(part.labels.cpu().numpy(), len(part.classes))
        for name, part in sets.items()
        if part is not None
    }


def counts_of_datasets(sets: Mapping[str, Any], classes: int) -> dict[str, list[int]]:
    """Return the number of images of each class in each labelled dataset; None stands for no dataset."""
    labels = {name: labels_of(dataset) for name, dataset in sets.items() if dataset is not None}
    return {name: images_per_class(found, classes) for name, found in labels.items() if found is not None}


def class_names(source: Any, dataset: Any) -> tuple[str, ...]:
    """Return the names of the classes that a user's data say: `classes`, or numbers up to `num_classes`.

    `source` is what has the loaders, `dataset` the training set.
    """
    names = getattr(source, "classes", None) or getattr(dataset, "classes", None)
    count = getattr(source, "num_classes", None)
    if isinstance(names, (list, tuple)):
        return tuple(map(str, names))
    return tuple(map(str, range(count))) if type(count) is int else ()


def missing_classes(classes: Sequence[str], counts: Counts) -> Iterator[str]:
    """Yield one line per set that lacks images of some classes."""
    for split, of_classes in counts.items():
        names = [name for name, count in zip(classes, of_classes, strict=True) if not count]
        if names:
            more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
            listed = printable(", ".join(names[:_MOST_NAMED]))
            yield f"{len(names)} of {len(classes)} classes have no {split} images: {listed}{more}"


def check_learnable(counts: Counts, objective: str) -> None:
    """Refuse sets that make a result meaningless.

    Raises:
        UserError: fewer than two classes have training images, or no image of the test set or of the set of
            the objective belongs to a class with training images.
    """
    trained = [index for index, count in enumerate(counts["train"]) if count]
    if len(trained) < 2:
        raise UserError(
            f"after the splits, {len(trained)} of {len(counts['train'])} classes have training images, so "
            "there is nothing to learn; add images to each class, or lower data.test_size and data.val_size"
        )
    for split in dict.fromkeys((objective.partition("/")[0], "test")):
        if split in counts and not any(counts[split][index] for index in trained):
            raise UserError(
                f"objective={objective}: none of the {sum(counts[split])} {split} images is of a class with "
                "training images, so its accuracy means nothing; add images: each class needs one per set"
            )
