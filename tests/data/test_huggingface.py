"""Folders that Hugging Face's `datasets` saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from tempo.errors import UserError

datasets = pytest.importorskip(
    "datasets", reason="datasets is not installed: pip install -e '.[huggingface]'"
)

from tempo.data.huggingface import huggingface  # noqa: E402

NAMES = ["cat", "dog", "fish"]


def save(folder: Path, **columns: Any) -> Path:
    """Save 24 rows of grey images of 4x4, all different, and further columns."""
    datasets.disable_progress_bars()
    images = [Image.fromarray(np.full((4, 4, 3), number, dtype=np.uint8)) for number in range(24)]
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    kinds |= {name: kind for name, (kind, _) in columns.items()}
    values = {"image": images, "label": [number % 3 for number in range(24)]}
    values |= {name: found for name, (_, found) in columns.items()}
    rows = datasets.Dataset.from_dict(values, features=datasets.Features(kinds))
    parts = {
        "train": rows.select(range(16)),
        "validation": rows.select(range(16, 20)),
        "test": rows.select(range(20, 24)),
    }
    datasets.DatasetDict(parts).save_to_disk(folder)
    return folder


def load(root: Path, **changes: Any) -> Any:
    settings: dict[str, Any] = dict.fromkeys(("image_column", "label_column", "image_size"))
    settings |= {"channels": 3, "test_size": 0.25, "test_seed": 0, "cache": str(root.parent / "cache")}
    return huggingface(root=str(root), **{**settings, **changes})


@pytest.mark.parametrize("store", ["memory", "disk"])
def test_images_their_classes_and_splits_are_those_saved(tmp_path: Path, store: str) -> None:
    root = save(tmp_path / "pets")
    for _ in range(2):  # decoded, and from the cache
        train, test, val = load(root, store=store)
        assert (train.name, train.classes) == ("pets", tuple(NAMES))
        for part, first, last in ((train, 0, 16), (val, 16, 20), (test, 20, 24)):
            assert part.images[:][:, 0, 0, 0].tolist() == list(range(first, last))
            assert part.labels.tolist() == [number % 3 for number in range(first, last)]


def test_files_and_labels_of_several_classes(tmp_path: Path) -> None:
    tags = [[number % 3] if number % 4 else [] for number in range(24)]
    root = save(tmp_path / "pets", tags=(datasets.Sequence(datasets.ClassLabel(names=NAMES)), tags))
    found = load(root, label_column="tags", store="files")
    image, label = found["train"][1]
    assert (int(image[0, 0, 0]), label.tolist()) == (1, [0, 1, 0])
    assert found["train"].targets[0].tolist() == [0, 0, 0]
    assert set(found) == {"train", "val", "test"}
    again = save(
        tmp_path / "again" / "pets", tags=(datasets.Sequence(datasets.ClassLabel(names=NAMES)), tags)
    )
    assert load(again, label_column="tags", store="files")["val"].sha256 == found["val"].sha256


def test_changed_data_are_unpacked_again(tmp_path: Path) -> None:
    root = save(tmp_path / "pets")
    load(root)
    before = load(root, cache=str(root / "cache"))[0].sha256()
    unpacked = sorted((root / "cache").iterdir())
    assert load(root, cache=str(root / "cache"))[0].sha256() == before
    assert sorted((root / "cache").iterdir()) == unpacked
    rows = datasets.load_from_disk(str(root))["train"].filter(lambda row: row["label"] < 2)
    rows.save_to_disk(tmp_path / "fewer")
    (tmp_path / "pets").rename(tmp_path / "before")
    (tmp_path / "fewer").rename(root)
    train, test = load(root)
    assert len(train) + len(test) == 11
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1


def test_rows_without_images_are_dicts_of_tensors(tmp_path: Path) -> None:
    rows = {"tokens": [[number, 7] for number in range(12)], "text": ["a"] * 12, "label": [0.5] * 12}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "texts")
    found = load(tmp_path / "texts")
    assert {split: len(part) for split, part in found.items()} == {"train": 9, "test": 3}
    batch = next(iter(DataLoader(found["train"], batch_size=4, num_workers=1)))
    assert batch["tokens"].shape == (4, 2)
    assert batch["text"] == ["a"] * 4
    tokens = [int(part[index]["tokens"][0]) for part in found.values() for index in range(len(part))]
    assert sorted(tokens) == list(range(12))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"root": "nowhere"}, "is not a folder of Hugging Face datasets"),
        ({"image_column": "imge"}, "is not a column of images. Did you mean 'image'"),
        ({"label_column": "lable"}, "is not a column. Did you mean 'label'"),
        ({"label_column": "part"}, "row 2 of the split train has part=None, which is not a class"),
        ({"image_column": "other"}, "row 0 of the split train has no other; filter such rows out"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    parts = ["a", "b", None] * 8
    others = (datasets.Image(), [None] * 24)
    root = save(tmp_path / "pets", part=(datasets.Value("string"), parts), other=others)
    given = {"image_column": "image", **changes}
    with pytest.raises(UserError) as refused:
        load(tmp_path / given.pop("root", root.name), **given)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=r"data\.image_column=null is ambiguous\. Choose from: image, other"):
        load(root)
