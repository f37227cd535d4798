"""List the images of a folder with their classes and splits, and what is left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tempo.data.folder_layout import Classes, LayoutReader, without_side_folders
from tempo.data.folder_names import Split
from tempo.data.folder_scan import File, Folder, scan
from tempo.errors import UserError, nearest

Layout = Literal["auto", "classes"]


@dataclass
class Listing:
    """The images of a data set: files in the order of split, class and name, and what was left out."""

    files: list[File] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    """Number of the class of each file; with `has_label_sets`, the numbers of its classes."""
    has_label_sets: bool = False
    """Whether a file has several classes, or none."""
    sizes: dict[Split, int] = field(default_factory=dict)
    """Number of files per split, in the order of the files; without splits, all are `train`."""
    classes: tuple[str, ...] = ()
    left_out: Counter[str] = field(default_factory=Counter)
    """Number of files that are not read, by reason."""
    layout: str = ""
    """Layout that was recognized, if the folders' names do not show it."""


def list_images(root: Path, skip: Path, layout: Layout) -> Listing:
    """Return the images below `root` with their classes and splits.

    Splits are found by the names of folders (`splits_among`) above or below the class folders, also in a
    wrapping folder. With `layout="classes"` each folder directly in `root` is a class, whatever its name.

    Raises:
        UserError: there are no images, a class is empty or mostly unreadable, splits have other classes, or
            the tree can be understood in several ways; the message shows the folders.
    """
    tree = scan(root, skip)
    reader = LayoutReader(root)
    if layout == "classes":
        return _listed(reader, tree, {"train": reader.classes_of(tree)})
    return _listed(reader, tree, reader.splits_of(tree))


def _listed(reader: LayoutReader, tree: Folder, splits: dict[Split, Classes]) -> Listing:
    """Return the files of the classes; UserError if a class is mostly unreadable or only in one split."""
    train = splits["train"]
    for split, classes in splits.items():
        _check_same(reader.root, train, classes, split)
    names = sorted(train)
    found = Listing(classes=tuple(names), layout="; ".join(reader.notes))
    for split, classes in splits.items():
        before = len(found.files)
        for label, name in enumerate(names):
            files = [file for folder in classes.get(name, ()) for file in _files_of(reader, folder)]
            found.files += sorted(files)
            found.labels += [label] * len(files)
        found.sizes[split] = len(found.files) - before
    found.left_out = tree.all_left_out() + reader.passed
    return found


def _files_of(reader: LayoutReader, folder: Folder) -> list[File]:
    """Return the images of a class at any depth, without masks and thumbnails of them."""
    files, unread = list(folder.images), list(folder.unread)
    kept = without_side_folders(folder)
    for name in sorted(folder.folders):
        inner = folder.folders[name]
        if inner in kept:
            files += _files_of(reader, inner)
        elif inner.count():
            reader.passed[f"in folders named {inner.title}"] += inner.count()
        unread += inner.unread
    if len(unread) > len(files):
        where, example = reader.root / folder.name, Path(unread[0]).name
        raise UserError(
            f"class folder {where} has {len(files)} images, and {len(unread)} files in a format Pillow "
            f"does not read, such as {example}; convert them to PNG, or remove them"
        )
    return files


def _check_same(root: Path, train: Classes, other: Classes, split: Split) -> None:
    """Refuse a class that only one of two splits has; validation may lack some."""
    pairs = [(other, train)] if split == "val" else [(other, train), (train, other)]
    for one, two in pairs:
        for name, folders in one.items():
            if name not in two:
                there = root / next(iter(two.values()))[0].name.rstrip("/")
                raise UserError(
                    f"class '{name}' ({root / folders[0].name}) is not in {there.parent}; both need the same "
                    "class folders." + nearest(name, set(two) - set(one))
                )
