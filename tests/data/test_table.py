"""Images that a CSV table lists, as competitions publish them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tempo.data.table import table
from tempo.errors import UserError

RNG = np.random.default_rng(5)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve images and a table in which the extension is missing."""
    rows = ["id_code,diagnosis,part"]
    (tmp_path / "pictures").mkdir()
    for number in range(12):
        pixels = np.full((4, 4, 3), number, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number:03d}.png")
        rows.append(f"{number:03d},{(number % 3) * 5},{'test' if number >= 9 else 'train'}")
    (tmp_path / "train.csv").write_text("\ufeff" + "\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path


def load(root: Path, **changes: Any) -> Any:
    settings: dict[str, Any] = {"table": "train.csv", "images": "pictures"}
    settings |= dict.fromkeys(("file_column", "label_column", "split_column", "image_size"))
    settings |= {"channels": 3, "test_size": 3, "test_seed": 0, "cache": str(root / "cache"), **changes}
    return table(root=str(root), **settings)


@pytest.mark.parametrize("store", ["memory", "disk"])
def test_rows_are_images_with_their_classes_and_splits(root: Path, store: str) -> None:
    train, test = load(root, split_column="part", store=store)
    assert train.classes == ("0", "5", "10")
    assert train.labels.tolist() == [0, 1, 2] * 3
    assert train.images[:][:, 0, 0, 0].tolist() == list(range(9))
    assert test.images[:][:, 0, 0, 0].tolist() == [9, 10, 11]


def test_without_a_split_column_test_images_are_split_off(root: Path) -> None:
    train, test = load(root)
    assert (len(train), len(test)) == (9, 3)
    assert sorted(test.labels.tolist()) == [0, 1, 2]
    files = load(root, store="files")
    assert [files["test"][index][0][0, 0, 0] for index in range(3)] == test.images[:, 0, 0, 0].tolist()
    assert files["train"].targets.tolist() == train.labels.tolist()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"table": "trian.csv"}, "trian.csv cannot be read as a CSV table"),
        ({"label_column": "diagnosi"}, "is not a column of the table. Did you mean 'diagnosis'"),
        ({"images": ""}, "12 of 12 files of the table are not below"),
        ({"split_column": "diagnosis"}, "has the word '0'; write train, test or val"),
    ],
)
def test_what_is_wrong_is_one_line(root: Path, changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as refused:
        load(root, **changes)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)
