"""Decide which folders of a tree are splits and which are classes; refuse a tree that allows no decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tempo.data.folder_names import (
    IMAGE_FOLDERS,
    NUMBERED_PART,
    SIDE_FOLDERS,
    Split,
    is_split_name,
    splits_among,
)
from tempo.data.folder_scan import File, Folder, scan
from tempo.errors import UserError, nearest

Layout = Literal["auto", "classes"]
Classes = dict[str, list[Folder]]
"""Name of a class -> the folders of its images; two only if their names are one in NFC."""
_MOST_SEEN = 6
_WANTED = "<class>/*, or train/<class>/* with test/<class>/* or val/<class>/*"


@dataclass
class Listing:
    """The images of a data set: files in the order of split, class and name, and what was left out."""

    files: list[File] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    sizes: dict[Split, int] = field(default_factory=dict)
    """Number of files per split, in the order of the files; without splits, all are `train`."""
    classes: tuple[str, ...] = ()
    left_out: Counter[str] = field(default_factory=Counter)
    """Number of files that are not read, by reason."""
    layout: str = ""
    """How folders were understood, if that is not plain from their names."""


def list_images(root: Path, skip: Path, layout: Layout) -> Listing:
    """Return the images below `root` with their classes and splits.

    Splits are found by the names of folders (`splits_among`) above or below the class folders, also in a
    wrapping folder. With `layout="classes"` each folder directly in `root` is a class, whatever its name.

    Raises:
        UserError: there are no images, a class is empty or mostly unreadable, splits have other classes, or
            the tree can be understood in several ways; the message shows the folders.
    """
    tree = scan(root, skip)
    reader = _Reader(root)
    if layout == "classes":
        return reader.listing(tree, {"train": reader.classes_of(tree)})
    return reader.listing(tree, reader.splits_of(tree))


class _Reader:
    """Finds splits and classes in a tree, and notes on the way what it passes over."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.passed: Counter[str] = Counter()
        self.notes: list[str] = []

    def splits_of(self, top: Folder) -> dict[Split, Classes]:
        """Return the classes of each split; only `train` if the tree has no splits."""
        kids = self._candidates(top)
        if found := splits_among(kid.title for kid in kids):
            return self._split_folders(top, kids, found)
        self._refuse_half_a_split(top, kids)
        if len(kids) == 1 and (_wraps(kids[0]) or kids[0].title.lower() in IMAGE_FOLDERS):
            self._pass_beside(top, kids)
            self.notes.append(f"read from {kids[0].name}")
            return self.splits_of(kids[0])
        numbered = len(kids) > 1 and all(NUMBERED_PART.fullmatch(kid.title) for kid in kids)
        if numbered and all(map(_wraps, kids)):
            raise self._not_understood(
                top, "nothing says which parts are for training; name them train, val and test"
            )
        inner = [splits_among(kid.title for kid in folder.with_images()) for folder in kids]
        if kids and all(inner):
            return self._splits_of_classes(kids)
        if any(inner):
            odd = kids[inner.index({})]
            raise self._not_understood(
                top,
                f"some classes are split into train and test, but {odd.name} is not; split it, or {_FORCED}",
            )
        self._refuse_repeated_folders(top, kids)
        return {"train": self.classes_of(top)}

    def _split_folders(
        self, top: Folder, kids: list[Folder], found: dict[Split, list[str]]
    ) -> dict[Split, Classes]:
        for split, names in found.items():
            if len(names) > 1:
                raise self._not_understood(
                    top, f"{' and '.join(names)} are both the {split} folder; keep one of them, or {_FORCED}"
                )
        of_split = {
            split: next(kid for kid in kids if kid.title == names[0]) for split, names in found.items()
        }
        others = [kid for kid in kids if kid not in of_split.values()]
        flat = [folder for folder in of_split.values() if not self._has_classes(folder)]
        if flat and any(not other.with_images() for other in others):
            raise self._not_understood(
                top, f"{flat[0].name} may be a split or a class; rename it, or {_FORCED}"
            )
        if flat:
            deep = [folder for folder in of_split.values() if folder not in flat]
            only = (
                f"; to split {deep[0].name} alone, set data.root='{self.root / deep[0].name}'" if deep else ""
            )
            raise self._not_understood(
                top,
                f"{flat[0].name} has {flat[0].count()} images but no class folders; sort them into "
                f"{flat[0].name}<class>/{only}",
            )
        for other in others:
            self.passed[f"in {other.name}"] += other.count()
        self._pass_beside(top, list(of_split.values()))
        if any(folder.title.lower() != split for split, folder in of_split.items()) or "val" in of_split:
            self.notes.append(
                ", ".join(f"{folder.name} is the {split} set" for split, folder in of_split.items())
            )
        return {split: self._classes_in(folder) for split, folder in of_split.items()}

    def _has_classes(self, folder: Folder) -> bool:
        kids = self._candidates(folder)
        if len(kids) == 1 and not kids[0].images and kids[0].title.lower() in IMAGE_FOLDERS:
            return self._has_classes(kids[0])
        # An `images` folder of annotated, unsorted images is not a class.
        return bool(kids) and not all(kid.title.lower() in IMAGE_FOLDERS for kid in kids)

    def _classes_in(self, folder: Folder) -> Classes:
        """Return the classes of a split, in a folder inside it if that is all it has."""
        kids = self._candidates(folder)
        if len(kids) == 1 and _wraps(kids[0]):
            self._pass_beside(folder, kids)
            return self._classes_in(kids[0])
        return self.classes_of(folder)

    def _splits_of_classes(self, kids: list[Folder]) -> dict[Split, Classes]:
        """Return the splits of a tree whose classes come first: `<class>/train/*` and `<class>/test/*`."""
        found: dict[Split, Classes] = {}
        for kid in kids:
            inner = kid.with_images()
            names = splits_among(folder.title for folder in inner)
            for split, titles in names.items():
                parts = [folder for folder in inner if folder.title in titles]
                found.setdefault(split, {}).setdefault(kid.title, []).extend(parts)
            used = {title for titles in names.values() for title in titles}
            for folder in inner:
                if folder.title not in used:
                    self.passed[f"in {folder.name}"] += folder.count()
            self._pass_beside(kid, inner)
        self.notes.append("each class has its own splits")
        return found

    def classes_of(self, top: Folder) -> Classes:
        """Return each folder directly in `top` as a class."""
        kids = self._candidates(top)
        for empty in top.folders.values():
            if empty not in kids and not empty.count():
                self._pass_empty(empty)
        if not kids:
            where = self.root / top.name
            flat = f": its {len(top.images)} images are in no class folder" if top.images else ""
            raise UserError(
                f"{where} has no class folders{flat}; put the images in {where}/<class>/, or set data.root"
            )
        self._pass_beside(top, kids)
        found: Classes = {}
        for kid in kids:
            found.setdefault(kid.title, []).append(kid)
        for name, folders in found.items():
            if len(folders) > 1:
                self.notes.append(
                    f"{len(folders)} folders are named {name} in different Unicode forms: one class"
                )
        return found

    def _pass_empty(self, folder: Folder) -> None:
        """Accept a folder without images next to classes if it only describes images, else refuse it."""
        unread = [name for inner in folder.walk() for name in inner.unread]
        described = sum(folder.all_left_out().values()) > 0 and not unread
        if folder.title.lower() in SIDE_FOLDERS or described:
            return
        seen = f" (Pillow does not read the format of {Path(unread[0]).name})" if unread else ""
        raise UserError(
            f"class folder {self.root / folder.name.rstrip('/')} has no images{seen}; add some or remove the "
            "folder"
        )

    def _candidates(self, top: Folder) -> list[Folder]:
        """Return the folders with images, without masks or thumbnails next to a folder of images."""
        kids = top.with_images()
        names = {kid.title.lower() for kid in kids}
        if names & IMAGE_FOLDERS and names & SIDE_FOLDERS and names <= IMAGE_FOLDERS | SIDE_FOLDERS:
            for kid in kids:
                if kid.title.lower() in SIDE_FOLDERS:
                    self.passed[f"in {kid.name}"] = kid.count()
            return [kid for kid in kids if kid.title.lower() in IMAGE_FOLDERS]
        return kids

    def _pass_beside(self, top: Folder, kids: Sequence[Folder]) -> None:
        """Count images directly in `top`; refuse them if there are more than in the folders."""
        beside, inside = len(top.images), sum(kid.count() for kid in kids)
        if beside > inside:
            raise self._not_understood(
                top,
                f"{beside} images are next to the class folders, which have {inside}; sort them into class "
                "folders, or move them away",
            )
        if beside:
            self.passed["next to the class folders"] += beside

    def _refuse_half_a_split(self, top: Folder, kids: list[Folder]) -> None:
        """Refuse a tree with only train/<class>/ or only test/<class>/; a class called train has images."""
        halves = [kid for kid in kids if is_split_name(kid.title) and _wraps(kid)]
        if halves and not any(kid.images for kid in kids):
            missing = "train" if splits_among([halves[0].title, "train"]) else "test"
            raise UserError(
                f"{self.root / top.name} has a folder '{halves[0].title}' but no '{missing}'; add it, "
                f"or split a single tree with data.root='{self.root / halves[0].name.rstrip('/')}'; or "
                f"{_FORCED}"
            )

    def _refuse_repeated_folders(self, top: Folder, kids: list[Folder]) -> None:
        """Refuse folders that all have the same folders: either of them may be the classes."""
        if len(kids) < 2 or any(kid.images for kid in kids):
            return
        inner = [{folder.title for folder in self._without_sides(kid)} for kid in kids]
        if len(inner[0]) > 1 and all(names == inner[0] for names in inner):
            names = ", ".join(sorted(inner[0])[:3])
            raise self._not_understood(
                top,
                f"each of these folders has the same folders ({names}), which may be the classes: name "
                f"the outer ones train, val and test, or {_FORCED}",
            )

    def _without_sides(self, folder: Folder) -> list[Folder]:
        """Return the folders of a class except those that repeat its images: masks, thumbnails."""
        kids = folder.with_images()
        others = [kid for kid in kids if kid.title.lower() not in SIDE_FOLDERS]
        return others if others or folder.images else kids

    def _not_understood(self, top: Folder, why: str) -> UserError:
        return UserError(f"{self.root / top.name} has {_seen(top)}: {why}. tempo reads {_WANTED}")

    def listing(self, tree: Folder, splits: dict[Split, Classes]) -> Listing:
        """Return the files of the classes; UserError if a class is mostly unreadable or only in one split."""
        train = splits["train"]
        for split, classes in splits.items():
            _check_same(self.root, train, classes, split)
        names = sorted(train)
        found = Listing(classes=tuple(names), layout="; ".join(self.notes))
        for split, classes in splits.items():
            before = len(found.files)
            for label, name in enumerate(names):
                files = [file for folder in classes.get(name, ()) for file in self._files_of(folder)]
                found.files += sorted(files)
                found.labels += [label] * len(files)
            found.sizes[split] = len(found.files) - before
        found.left_out = tree.all_left_out() + self.passed
        return found

    def _files_of(self, folder: Folder) -> list[File]:
        """Return the images of a class at any depth, without masks and thumbnails of them."""
        files, unread = list(folder.images), list(folder.unread)
        kept = self._without_sides(folder)
        for name in sorted(folder.folders):
            inner = folder.folders[name]
            if inner in kept:
                files += self._files_of(inner)
            elif inner.count():
                self.passed[f"in folders named {inner.title}"] += inner.count()
            unread += inner.unread
        if len(unread) > len(files):
            where, example = self.root / folder.name, Path(unread[0]).name
            raise UserError(
                f"class folder {where} has {len(files)} images, and {len(unread)} files in a format Pillow "
                f"does not read, such as {example}; convert them to PNG, or remove them"
            )
        return files


_FORCED = "set data.layout=classes if each folder is a class"


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


def _wraps(folder: Folder) -> bool:
    """Whether all images are in folders inside."""
    return not folder.images and bool(folder.with_images())


def _seen(top: Folder) -> str:
    """Return the folders of a tree as text: `train/ (40 images, 2 folders), valid/ (10 images)`."""
    kids = [top.folders[name] for name in sorted(top.folders)]
    parts = []
    for kid in kids[:_MOST_SEEN]:
        inner = f", {len(kid.folders)} folders" if kid.folders else ""
        parts.append(f"{kid.title}/ ({kid.count()} images{inner})")
    if len(kids) > _MOST_SEEN:
        parts.append(f"{len(kids) - _MOST_SEEN} more folders")
    if top.images:
        parts.append(f"{len(top.images)} images")
    return ", ".join(parts)
