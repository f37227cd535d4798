"""List the files below a folder of images, without opening them, and count those that are left out."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tempo.data.folder_names import SYSTEM_FOLDERS, describes, read_suffixes, shown, suffix_of
from tempo.errors import UserError

_MOST_LINKED_LEVELS = 3
"""Depth down to which links to folders outside the tree are followed: class folders may be links."""
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"\0\0\0\x0cjP")
"""First bytes of images whose file has no extension; PNM is checked apart."""


_REPEATS = re.compile(
    r"(.+?)[_-](?:(?:mask|segmentation|gt|thumb|thumbnail)(?:[_-]\d+)?|\d+x\d+)$", re.IGNORECASE
)
"""Names of files that describe or repeat the image whose name they start with."""


class File(NamedTuple):
    """A file's name relative to the root, size in bytes and time of its last change."""

    name: str
    size: int
    mtime_ns: int


@dataclass(eq=False)
class Folder:
    """A folder of the tree; `name` is its path relative to the root, with a slash at its end if not empty."""

    name: str
    images: list[File] = field(default_factory=list)
    folders: dict[str, Folder] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    """Number of files directly in this folder that are not read, by reason."""
    unread: list[str] = field(default_factory=list)
    """Names of those that may be images, in a format that Pillow does not read."""

    @property
    def title(self) -> str:
        """The last part of the name, as text."""
        return shown(self.name.rstrip("/").rpartition("/")[2])

    def walk(self) -> Iterator[Folder]:
        """Yield this folder and all below."""
        yield self
        for inner in self.folders.values():
            yield from inner.walk()

    def count(self) -> int:
        """Return the number of images in this folder and below."""
        return sum(len(inner.images) for inner in self.walk())

    def with_images(self) -> list[Folder]:
        """Return the folders directly in this one that have images at any depth, sorted by their names."""
        return [self.folders[name] for name in sorted(self.folders) if self.folders[name].count()]

    def all_left_out(self) -> Counter[str]:
        """Return the number of files that are not read in this folder and below, by reason."""
        return sum((inner.left_out for inner in self.walk()), Counter())


def scan(root: Path, skip: Path) -> Folder:
    """Return the tree below `root`, without `skip`, the cache.

    Raises:
        UserError: a folder cannot be read.
    """
    return _Scan(root, skip).folder(root, "", 0)


class _Scan:
    def __init__(self, root: Path, skip: Path) -> None:
        self.root, self.skip = root.resolve(), skip.resolve()
        self.suffixes = read_suffixes()
        self.followed: set[Path] = set()

    def folder(self, path: Path, name: str, depth: int) -> Folder:
        """Return one folder and all below it."""
        found = Folder(name)
        try:
            with os.scandir(path) as entries:
                for entry in sorted(entries, key=lambda one: one.name):
                    if self._is_folder(entry, found, depth):
                        if Path(entry.path).resolve() != self.skip:
                            inner = self.folder(Path(entry.path), f"{name}{entry.name}/", depth + 1)
                            found.folders[entry.name] = inner
                    elif not _is(entry.is_dir):
                        self._add_file(entry, found)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
        stems = {_stem(file.name) for file in found.images}
        kept = [file for file in found.images if not _repeats(file, stems)]
        if len(kept) < len(found.images):
            found.left_out["masks or thumbnails next to their images"] = len(found.images) - len(kept)
            found.images = kept
        found.unread = [unread for unread in found.unread if _stem(unread) not in stems]
        return found

    def _is_folder(self, entry: os.DirEntry[str], parent: Folder, depth: int) -> bool:
        """Whether an entry is a folder to look into; one that is passed over is counted in its parent."""
        if not _is(entry.is_dir):
            return False
        if entry.name.startswith("."):
            parent.left_out["hidden"] += self._images_below(entry.path)
            return False
        if entry.name.lower() in SYSTEM_FOLDERS:
            parent.left_out[f"in {shown(entry.name)}"] += self._images_below(entry.path)
            return False
        if entry.is_symlink():
            target = Path(entry.path).resolve()
            # A link into the tree would count images twice, and one to a folder above never ends.
            inside = target.is_relative_to(self.root) or self.root.is_relative_to(target)
            if inside or depth >= _MOST_LINKED_LEVELS or target in self.followed:
                parent.left_out["links to folders"] += 1
                return False
            self.followed.add(target)
        return True

    def _images_below(self, path: str) -> int:
        with_suffix = self.suffixes - {""}
        return sum(suffix_of(name) in with_suffix for _, _, names in os.walk(path) for name in names)

    def _add_file(self, entry: os.DirEntry[str], parent: Folder) -> None:
        suffix = suffix_of(entry.name)
        if entry.name.startswith("."):
            parent.left_out["hidden"] += suffix in self.suffixes
        elif not _is(entry.is_file):
            parent.left_out["links to nothing, pipes or devices"] += 1
        elif suffix in self.suffixes or (not suffix and _has_signature(entry.path)):
            status = entry.stat()
            parent.images.append(File(parent.name + entry.name, status.st_size, status.st_mtime_ns))
        else:
            parent.left_out[shown(suffix) or "no extension"] += 1
            if not describes(suffix):
                parent.unread.append(parent.name + entry.name)


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _repeats(file: File, stems: Container[str]) -> bool:
    form = _REPEATS.match(_stem(file.name))
    return form is not None and form[1] in stems


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:  # a link to itself
        return False


def _has_signature(path: str) -> bool:
    """Whether a file without an extension starts as an image does."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (one of thousands)
            start = file.read(8)
    except OSError:  # decoding it will name the reason
        return True
    return start.startswith(_SIGNATURES) or (start[:1] == b"P" and start[1:2].isdigit())
