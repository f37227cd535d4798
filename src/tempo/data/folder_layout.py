"""Decide which folders of a tree are splits and which are classes; refuse a tree that allows no decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tempo.data.folder_names import (
    IMAGE_FOLDERS,
    NUMBERED_PART,
    SIDE_FOLDERS,
    Split,
    is_split_name,
    splits_among,
)
from tempo.data.folder_scan import Folder
from tempo.errors import UserError

Classes = dict[str, list[Folder]]
"""Name of a class -> the folders of its images; two only if their names are one in NFC."""
_MOST_SEEN = 6
_WANTED = "<class>/*, or train/<class>/* with test/<class>/* or val/<class>/*"


class LayoutReader:
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
        if any(inner):
            self._refuse_several_data_sets(top, kids, inner)
            return self._splits_of_classes(kids)
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
        # An `images` folder of annotated, unsorted images is not a class, nor is test/test/*.
        repeated = {folder.title.lower(), *IMAGE_FOLDERS}
        return bool(kids) and not all(
            not kid.with_images() and (kid.title.lower() in repeated or is_split_name(kid.title))
            for kid in kids
        )

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

    def _refuse_several_data_sets(
        self, top: Folder, kids: list[Folder], inner: list[dict[Split, list[str]]]
    ) -> None:
        """Refuse folders of which only some have splits, or whose splits have folders of classes inside."""
        split = next(kid for kid, splits in zip(kids, inner, strict=True) if splits)
        alone = (
            f"set data.root='{self.root / split.name.rstrip('/')}' to read {split.name} alone, or {_FORCED}"
        )
        if {} in inner:
            raise self._not_understood(
                top,
                f"{split.name} has train and test, but {kids[inner.index({})].name} has not; {alone}",
            )
        if any(_wraps(part) for kid in kids for part in kid.with_images()):
            raise self._not_understood(top, f"{split.name} may be a data set of its own; {alone}")

    def _refuse_repeated_folders(self, top: Folder, kids: list[Folder]) -> None:
        """Refuse folders that all have the same folders, or a folder that has those next to it once more."""
        titles = {kid.title for kid in kids}
        for kid in kids:
            if len(titles & {folder.title for folder in kid.with_images()}) > 1:
                raise self._not_understood(
                    top,
                    f"{kid.name} has folders named as those next to it; move it, or {_FORCED}",
                )
        if len(kids) < 2 or any(kid.images for kid in kids):
            return
        inner = [{folder.title for folder in without_side_folders(kid)} for kid in kids]
        if len(inner[0]) > 1 and all(names == inner[0] for names in inner):
            names = ", ".join(sorted(inner[0])[:3])
            raise self._not_understood(
                top,
                f"each of these folders has the same folders ({names}), which may be the classes: name "
                f"the outer ones train, val and test, or {_FORCED}",
            )

    def _not_understood(self, top: Folder, why: str) -> UserError:
        return UserError(f"{self.root / top.name} has {_seen(top)}: {why}. tempo reads {_WANTED}")


_FORCED = "set data.layout=classes if each folder is a class"


def without_side_folders(folder: Folder) -> list[Folder]:
    """Return the folders of a class except those that repeat its images: masks, thumbnails."""
    kids = folder.with_images()
    others = [kid for kid in kids if kid.title.lower() not in SIDE_FOLDERS]
    return others if others or folder.images else kids


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
