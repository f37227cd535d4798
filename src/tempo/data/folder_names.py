"""Read the names of folders and files: splits, classes, thumbnails, annotations, system folders."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from typing import Literal, get_args

from PIL import Image

Split = Literal["train", "val", "test"]

_ROLES = {
    "train": r"train(?:ing|ed|val)?|trn|entrenamiento|treino|treinamento|entrainement|apprentissage",
    "val": r"val(?:id(?:ation|ate|ating)?)?|dev(?:el(?:opment)?)?|validacion|validacao",
    "test": r"test(?:ing)?|tst|holdout|prueba|teste",
    "eval": r"eval(?:uation)?",
}
_THINGS = (
    r"s|sets?|data|datas(?:et|ets|atz)|images?|imgs?|pics?|photos?|pictures?|samples?|splits?|parts?|folders?|dirs?"
    r"|daten"
)
_ROLE = {role: re.compile(rf"(?:{words})(?:{_THINGS})?") for role, words in _ROLES.items()}
_THING = re.compile(rf"(?:{_THINGS}|the|my|of|v|\d+)")
_WORD = re.compile(r"\d+|[^\W\d_]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
NUMBERED_PART = re.compile(r"(?:fold|split|part|batch|set|subset|chunk|shard)s?[\W_]*\d+", re.IGNORECASE)
"""Names of folders that divide a data set without telling which part is for training."""

SYSTEM_FOLDERS = frozenset(
    {
        *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "__macosx"),
        *("$recycle.bin", "system volume information", "lost+found", "__pycache__"),
    }
)
"""Folders (in lower case) that file servers and systems add: thumbnails, deleted files, attributes."""
IMAGE_FOLDERS = frozenset({"images", "image", "imgs", "img", "jpegimages", "photos", "pictures", "pics"})
SIDE_FOLDERS = frozenset(
    {
        *("thumbs", "thumbnails", "thumb", "_thumbs", "__thumbs", "masks", "mask", "labels", "annotations"),
        *("annotation", "ground_truth", "groundtruth", "gt", "segmentation", "segmentations", "bboxes"),
    }
)
"""Folders (in lower case) next to images that repeat or describe them."""
_SIDE_SUFFIXES = frozenset(
    {
        *(".txt", ".json", ".jsonl", ".xml", ".csv", ".tsv", ".yaml", ".yml", ".md", ".html", ".htm", ".ini"),
        *(".db", ".info", ".log", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".py", ".ipynb", ".sh", ".pt"),
        *(".pth", ".ckpt", ".pkl", ".parquet", ".names", ".data", ".cfg", ".toml", ".rtf", ".url", ".lnk"),
        *(".sha256", ".md5", ".bib"),
    }
)
_STUBS = frozenset({"MPEG", "HDF5", "BUFR", "GRIB", "WMF"})
"""Formats that Pillow recognizes but cannot decode by itself."""


def read_suffixes() -> frozenset[str]:
    """Return the suffixes (in lower case) of the formats that Pillow decodes."""
    known = Image.registered_extensions()
    return frozenset(ext for ext, form in known.items() if form in Image.OPEN and form not in _STUBS)


def suffix_of(name: str) -> str:
    """Return Path.suffix in lower case; making 60,000 Paths would take half of the time of a second start."""
    _, dot, extension = name.rpartition("/")[2].rpartition(".")
    return dot + extension.lower() if dot else ""


def describes(suffix: str) -> bool:
    """Whether files with this suffix describe images rather than being images."""
    return suffix in _SIDE_SUFFIXES


def shown(name: str) -> str:
    r"""Return the name of a file as text in NFC, whatever the locale; a byte that is not UTF-8 as `\xe9`."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))


def splits_among(names: Iterable[str]) -> dict[Split, list[str]]:
    """Return the folders that are a data set's splits, or an empty dict if these are not splits.

    There must be a training folder and one for test or validation, and apart from these words (any case, any
    of their forms, also as `seg_train`, `TrainingSet` or `test_images`) their names must agree. Folders with
    other names are not splits, nor are two sets of splits such as `small_train` and `large_train`. `eval` is
    the test, or the validation if there is a test folder.
    """
    by_rest: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for name in names:
        if (role := _role(name)) is not None:
            by_rest.setdefault(role[1], {}).setdefault(role[0], []).append(name)
    complete = {}
    for rest, found in by_rest.items():
        if "eval" in found:
            found.setdefault("val" if "test" in found else "test", []).extend(found.pop("eval"))
        if "train" in found and len(found) > 1:
            complete[rest] = {split: found[split] for split in get_args(Split) if split in found}
    return complete.get((), next(iter(complete.values()))) if () in complete or len(complete) == 1 else {}


def is_split_name(name: str) -> bool:
    """Whether a name alone is that of a split, with nothing but a noun such as `set` or `images`."""
    role = _role(name)
    return role is not None and not role[1]


def _role(name: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the split that a name names, and its other words; None if it names none or two."""
    words = [word.lower() for word in _WORD.findall(_CAMEL.sub(" ", name))]
    roles = [next((role for role, form in _ROLE.items() if form.fullmatch(word)), None) for word in words]
    found = {role for role in roles if role is not None}
    if found == {"train", "val"}:  # train_val is for training; its owner tests on something else
        found = {"train"}
    if len(found) != 1:
        return None
    rest = (word for word, role in zip(words, roles, strict=True) if role is None)
    return found.pop(), tuple(word for word in rest if not _THING.fullmatch(word))
