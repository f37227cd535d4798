"""Folders that Hugging Face's `datasets` saved: images with their classes, or rows of any other kind."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tempo.data.folder_listing import Listing
from tempo.data.folder_names import Split, splits_among
from tempo.data.folder_scan import File
from tempo.data.image_cache import Store, content_digest
from tempo.data.image_files import ImageFiles
from tempo.data.images import ImageData
from tempo.data.label_sets import strata
from tempo.data.listed_images import decoding_of, read_listed
from tempo.data.saved_rows import SavedRows, image_columns, labels_of_splits
from tempo.data.split import stratified
from tempo.errors import UserError, nearest

_LEFT_FREE_BYTES = 1 << 28
_SPLITS: tuple[Split, ...] = ("train", "test", "val")


def huggingface(
    *,
    root: str,
    image_column: str | None,
    label_column: str | None,
    image_size: int | None,
    channels: Literal[1, 3],
    test_size: int | float,
    test_seed: int,
    cache: str,
    background: str = "white",
    max_megapixels: int | float = 89,
    store: Store = "memory",
) -> tuple[ImageData, ...] | dict[str, ImageFiles] | dict[str, SavedRows]:
    """Return the splits of a folder that `save_to_disk` of a `Dataset` or a `DatasetDict` wrote.

    Images are written to files in `cache` once, as they were encoded, and are then read like those of
    `folder`, whose other keys mean the same here. Without a column of images, the items are dicts of tensors,
    for a LightningModule.

    Args:
        root: the folder.
        image_column: column of the images; None for the only one, if there is one.
        label_column: column of the classes, or of lists of classes; None for the only `ClassLabel`, or for
            `label` or `labels`.
        image_size, channels, test_size, test_seed, cache, background, max_megapixels, store: see `folder`.

    Raises:
        UserError: the folder is of another kind, or a column or a label is missing.
    """
    base, store_folder = Path(root).expanduser(), Path(cache).expanduser()
    how = decoding_of(image_size, channels, background, max_megapixels)
    splits = _splits(base)
    images = _image_column(splits["train"], image_column)
    if images is None:
        labels, classes, _ = labels_of_splits({"train": splits["train"]}, label_column, is_needed=False)
        return _rows(base, store_folder, splits, labels, classes, test_size, test_seed)
    labels, classes, has_label_sets = labels_of_splits(splits, label_column, is_needed=True)
    unpacked = _unpacked(base, splits, images, store_folder)
    found = Listing(classes=classes, has_label_sets=has_label_sets)
    for split, dataset in splits.items():
        found.files += _files_of(unpacked, split, len(dataset))
        found.labels += labels[split]
        found.sizes[split] = len(dataset)
    return read_listed(
        unpacked, found, how, cache=store_folder, store=store, test_size=test_size, test_seed=test_seed
    )


def _splits(base: Path) -> dict[Split, Any]:
    """Return the saved data sets by split, training first."""
    import datasets

    datasets.disable_progress_bars()
    remedy = "write it with save_to_disk of a Dataset or a DatasetDict, and set data.root=<that folder>"
    try:
        loaded = datasets.load_from_disk(str(base))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(
            f"data.root={base} is not a folder of Hugging Face datasets ({reason}); {remedy}"
        ) from error
    if isinstance(loaded, datasets.Dataset):
        return {"train": loaded}
    names = list(loaded)
    by_split = {"train": names} if len(names) == 1 else splits_among(names)
    if not by_split or any(len(found) > 1 for found in by_split.values()):
        raise UserError(
            f"data.root={base} has the splits {', '.join(names)}; one must be train, and others val or test; "
            f"{remedy} with those names"
        )
    return {split: loaded[by_split[split][0]] for split in _SPLITS if split in by_split}


def _image_column(dataset: Any, asked: str | None) -> str | None:
    columns = image_columns(dataset)
    if asked is None and len(columns) < 2:
        return columns[0] if columns else None
    if asked not in columns:
        what = "is not a column of images." + nearest(asked, columns) if asked else "is ambiguous."
        raise UserError(
            f"data.image_column={asked or 'null'} {what} Choose from: {', '.join(columns) or 'null (none)'}"
        )
    return asked


def _unpacked(base: Path, splits: Mapping[Split, Any], column: str, cache: Path) -> Path:
    """Return the folder in the cache with the encoded images; it appears complete or not at all."""
    files = _saved_files(base, cache)
    facts = repr((column, [tuple(file) for file in files], content_digest(base, files)))
    tree = f"unpacked-{hashlib.sha256(str(base.resolve()).encode()).hexdigest()[:16]}"
    home = cache / f"{tree}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"
    folder = home / base.resolve().name
    if folder.is_dir():
        return folder
    part = cache / f".{home.name}.{os.getpid()}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        need = sum(file.size for file in files) + _LEFT_FREE_BYTES
        if need > (free := shutil.disk_usage(cache).free):
            raise UserError(
                f"the images of {base} need {need / 1e9:.3g} GB on the disk of {cache}, and "
                f"{free / 1e9:.3g} GB are free; set data.cache=<folder>"
            )
        for old in cache.glob(f"{tree}-*"):
            shutil.rmtree(old, ignore_errors=True)
        for split, dataset in splits.items():
            _unpack(dataset, column, part / folder.name, split)
        part.replace(home)
    except OSError as error:
        if not folder.is_dir():  # which another process may have written in the meantime
            raise UserError(
                f"data=huggingface keeps the images as files in {cache}, which cannot be written "
                f"({error.strerror}); set data.cache=<folder>"
            ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _saved_files(base: Path, cache: Path) -> list[File]:
    """Return all files of a saved folder, without a cache in it."""
    paths = sorted(path for path in base.rglob("*") if path.is_file() and not path.is_relative_to(cache))
    return [File(str(path.relative_to(base)), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]


def _unpack(dataset: Any, column: str, folder: Path, split: Split) -> None:
    import datasets

    encoded = dataset.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    (folder / split).mkdir(parents=True)
    for index, row in enumerate(encoded):
        image = row[column]
        if image is None or (image["bytes"] is None and image["path"] is None):
            raise UserError(
                f"row {index} of the split {split} has no {column}; filter such rows out, and save "
                "the data again"
            )
        content = image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()
        (folder / _name(split, index)).write_bytes(content)


def _name(split: Split, index: int) -> str:
    return f"{split}/{index:08d}"


def _files_of(folder: Path, split: Split, count: int) -> list[File]:
    found = []
    for index in range(count):
        status = (folder / _name(split, index)).stat()
        found.append(File(_name(split, index), status.st_size, status.st_mtime_ns))
    return found


def _rows(
    base: Path,
    cache: Path,
    splits: Mapping[Split, Any],
    labels: Mapping[Split, Any],
    classes: tuple[str, ...],
    test_size: int | float,
    test_seed: int,
) -> dict[str, SavedRows]:
    """Return rows without images; test rows are split off if there is no such split."""
    files = _saved_files(base, cache)
    sha256 = hashlib.sha256(
        repr(([(file.name, file.size) for file in files], content_digest(base, files))).encode()
    ).hexdigest()
    found: dict[str, SavedRows] = {
        split: SavedRows(dataset, labels.get(split), classes, f"{sha256}{split}", base.resolve().name)
        for split, dataset in splits.items()
    }
    if "test" not in found:
        train = found["train"]
        groups = np.zeros(len(train), dtype=np.int64) if train.targets is None else strata(train.targets)
        count = round(test_size * len(train)) if isinstance(test_size, float) else test_size
        test = stratified(groups, count, test_seed)
        rest = np.setdiff1d(np.arange(len(train)), test, assume_unique=True)
        found["train"], found["test"] = train.at(rest), train.at(test)
    return found
