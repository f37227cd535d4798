"""Images that a CSV or Parquet table lists, as competitions publish them."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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


SEVERAL = ("file,classes,dog,cat", "000,dog|cat,1,1", "001,,0,0", "002,cat,0,1", "003,dog,1,0")


@pytest.mark.parametrize(
    "changes",
    [
        {"label_column": "classes", "label_separator": "|"},
        {"label_column": ["cat", "dog"]},
    ],
)
@pytest.mark.parametrize("store", ["memory", "files"])
def test_images_may_have_several_classes_or_none(root: Path, changes: dict[str, Any], store: str) -> None:
    (root / "several.csv").write_text("\n".join(SEVERAL), encoding="utf-8")
    found = load(root, table="several.csv", test_size=1, store=store, **changes)
    train, test = found.values() if isinstance(found, dict) else found
    labels = [part.targets if store == "files" else part.labels.numpy() for part in (train, test)]
    assert train.classes == ("cat", "dog")
    assert sorted(np.concatenate(labels).tolist()) == [[0, 0], [0, 1], [1, 0], [1, 1]]
    if store == "files":
        assert torch.equal(train[0][1], torch.tensor(labels[0][0]))


def test_a_parquet_table_is_read_as_a_csv_table(root: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install -e '.[tables]'")
    from pyarrow import parquet

    as_csv = load(root, split_column="part")
    with (root / "train.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in rows[0]}
    columns["diagnosis"] = [float(value) for value in columns["diagnosis"]]  # as pandas writes it
    columns["findings"] = [["wet"], [], ["wet", "dry"]] * 4
    columns["pixels"] = [b"\x89PNG"] * 12
    parquet.write_table(pyarrow.table(columns), root / "train.parquet")
    as_parquet = load(root, table="train.parquet", split_column="part")
    for one, other in zip(as_csv, as_parquet, strict=True):
        assert one.sha256() == other.sha256()
    train, _ = load(root, table="train.parquet", label_column="findings", split_column="part")
    assert train.classes == ("dry", "wet")
    assert train.labels[:3].tolist() == [[0, 1], [0, 0], [1, 1]]
    with pytest.raises(UserError, match=r"save_to_disk.* data=huggingface"):
        load(root, table="train.parquet", file_column="pixels")
    (root / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot be read as a Parquet table"):
        load(root, table="train.parquet")


def test_parquet_without_its_package_is_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"run pip install -e '\.\[tables\]', or save the table as CSV"):
        load(root, table="train.parquet")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"table": "trian.csv"}, "trian.csv cannot be read as a CSV table"),
        ({"label_column": "diagnosi"}, "is not a column of the table. Did you mean 'diagnosis'"),
        ({"images": ""}, "12 of 12 files of the table are not below"),
        ({"split_column": "diagnosis"}, "has the word '0'; write train, test or val"),
        ({"label_column": ["id_code", "diagnosis"]}, "pictures/000 has '000' in the column id_code"),
        ({"table": "empty.csv"}, "empty.csv is empty"),
        ({"table": "head.csv"}, "head.csv has no rows below its head"),
        ({"table": "gaps.csv"}, "pictures/001 has no class in the table"),
    ],
)
def test_what_is_wrong_is_one_line(root: Path, changes: dict[str, Any], line: str) -> None:
    for name, text in {"empty": "", "head": "file,class", "gaps": "file,class\n000,cat\n001,"}.items():
        (root / f"{name}.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as refused:
        load(root, **changes)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)
