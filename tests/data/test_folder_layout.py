"""Which folders of the user's images are splits, which are classes, and what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tempo.data.folder import folder
from tempo.data.images import ImageData
from tempo.errors import UserError

CLASSES = ("cat", "dog")


def build(root: Path, *patterns: str) -> None:
    """Make files from patterns such as `{train,test}/{cat,dog}/*3`, each image with its own pixels."""
    number = itertools.count()
    for pattern in patterns:
        for name in braces(pattern):
            head, star, count = name.partition("*")
            names = [f"{head}{index}.png" for index in range(int(count))] if star else [head]
            for path in (root / name for name in names):
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.suffix == ".png":
                    value = next(number)
                    pixels = np.full((8, 8, 3), value % 251, dtype=np.uint8)
                    pixels[0, 0] = (value // 251, 1, 2)
                    Image.fromarray(pixels).save(path)
                elif name.endswith("/"):
                    path.mkdir(parents=True, exist_ok=True)
                else:
                    path.write_text("no image", encoding="utf-8")


def braces(pattern: str) -> list[str]:
    head, brace, tail = pattern.partition("{")
    if not brace:
        return [pattern]
    middle, _, tail = tail.partition("}")
    return [name for part in middle.split(",") for name in braces(f"{head}{part}{tail}")]


def load(root: Path, **changes: object) -> tuple[ImageData, ...]:
    settings = {"image_size": None, "channels": 3, "test_size": 0.25, "test_seed": 0}
    return folder(root=str(root), cache=str(root.parent / "cache"), **(settings | changes))


SPLIT = [
    "{train,test}/{cat,dog}/*4",
    "{Training,Testing}/{cat,dog}/*4",
    "{Train,Test}/{cat,dog}/*4",
    "{TRAIN,TEST}/{cat,dog}/*4",
    "{training_set,test_set}/{cat,dog}/*4",
    "{trainingSet,testSet}/{cat,dog}/*4",
    "{TrainingData,TestData}/{cat,dog}/*4",
    "{trainset,testset}/{cat,dog}/*4",
    "{train-images,test-images}/{cat,dog}/*4",
    "{train2017,test2017}/{cat,dog}/*4",
    "{seg_train,seg_test}/{cat,dog}/*4",
    "seg_{train/seg_train,test/seg_test}/{cat,dog}/*4",
    "archive/{train,test}/{cat,dog}/*4",
    "archive/animals 10/{Train,Test}/{cat,dog}/*4",
    "{train,test}/images/{cat,dog}/*4",
    "{cat,dog}/{train,test}/*4",
    "archive/{cat,dog}/{Train,Test}/*4",
    "{train,eval}/{cat,dog}/*4",
    "{trainval,test}/{cat,dog}/*4",
    "{entrenamiento,prueba}/{cat,dog}/*4",
    "{0_train,1_test}/{cat,dog}/*4",
]


@pytest.mark.parametrize("pattern", SPLIT)
def test_splits_are_understood(pattern: str, tmp_path: Path) -> None:
    build(tmp_path / "pets", pattern, "README.md", "archive/LICENSE.txt")
    train, test = load(tmp_path / "pets")
    assert (train.classes, len(train), len(test)) == (CLASSES, 8, 8)
    first = {name.lower() for name in (str(path) for path in (tmp_path / "pets").rglob("*.png"))}
    expected = sorted(name for name in first if any(word in name for word in ("train", "entren")))
    assert len(expected) == 8
    found = {tuple(image[:, 0, 1].tolist()) for image in train.images}
    with_pixels = {
        tuple(int(value) for value in np.asarray(Image.open(path))[0, 1])
        for path in (tmp_path / "pets").rglob("*.png")
        if str(path).lower() in expected
    }
    assert found == with_pixels


@pytest.mark.parametrize("name", ["val", "valid", "Validation", "val_set", "dev"])
def test_a_validation_folder_is_the_validation_set(name: str, tmp_path: Path) -> None:
    build(tmp_path / "pets", f"{{train,{name},test}}/{{cat,dog}}/*4", "train/{cat,dog}/*6")
    train, test, val = load(tmp_path / "pets")
    assert (len(train), len(test), len(val)) == (12, 8, 8)
    assert any(f"{name}/ is the val set" in remark for remark in train.remarks)


def test_without_a_test_folder_test_images_are_split_off(tmp_path: Path) -> None:
    build(tmp_path / "pets", "{train,val}/{cat,dog}/*8")
    train, test, val = load(tmp_path / "pets")
    assert (len(train), len(test), len(val)) == (12, 4, 16)
    assert any("no test folder" in remark for remark in train.remarks)


ONE_TREE = [
    ("{bus,train}/*4", ("bus", "train")),
    ("{bus,test}/*4", ("bus", "test")),
    ("{train_station,test_tube}/*4", ("test_tube", "train_station")),
    ("{trainer,tester}/*4", ("tester", "trainer")),
    ("{development,valid_ticket}/*4", ("development", "valid_ticket")),
    ("photos/{cat,dog}/*4", CLASSES),
    ("{cat,dog}/{2021,2022/may}/*2", None),
    ("cat/{indoor,outdoor}/*2 dog/*4", CLASSES),
    ("images/{cat,dog}/*4 annotations/{cat,dog}/a.xml", CLASSES),
    ("{cat,dog}/images/*4 {cat,dog}/masks/*4", CLASSES),
    ("{cat,dog}/*4 annotations/a.csv labels/", CLASSES),
    ("{with_mask,mask}/*4", ("mask", "with_mask")),
    ("{1,2,10}/*4", ("1", "10", "2")),
]


@pytest.mark.parametrize(("patterns", "classes"), ONE_TREE)
def test_one_tree_is_one_tree(patterns: str, classes: tuple[str, ...] | None, tmp_path: Path) -> None:
    build(tmp_path / "pets", *patterns.split())
    if classes is None:
        with pytest.raises(UserError, match="same folders"):
            load(tmp_path / "pets")
        assert load(tmp_path / "pets", layout="classes")[0].classes == CLASSES
        return
    train, test = load(tmp_path / "pets")
    assert train.classes == classes
    assert len(train) + len(test) == 4 * len(classes)


REFUSED = [
    ("{train,valid,test}/*4 {train,valid,test}/_annotations.coco.json", "no class folders"),
    ("{train,valid,test}/images/*4 {train,valid,test}/labels/0.txt", "no class folders"),
    ("images/{train,val}/*4 labels/{train,val}/0.txt", "no class folders"),
    ("{images,masks}/*4", "no class folders"),
    ("{bus,train,test}/*4", "may be a split or a class"),
    ("train/{cat,dog}/*4 test/*4", "data.root='.*pets/train'"),
    ("train/{cat,dog}/*4", "no 'test'"),
    ("{Test,other}/{cat,dog}/*4", "no 'train'"),
    ("{fold1,fold2,fold3}/{cat,dog}/*4", "nothing says which parts"),
    ("{split_0,split_1}/{cat,dog}/*4", "nothing says which parts"),
    ("{Train,training,test}/{cat,dog}/*4", "are both the train folder"),
    ("cat/{train,test}/*4 dog/*4", "dog/ has not"),
    ("{A,B}/{cat,dog}/*4", "same folders"),
    ("pets/{cat,dog}/*4 {cat,dog}/*4", "named as those next to it"),
    ("{small_train,small_test,large_train,large_test}/{cat,dog}/*4", "same folders"),
    ("cifar10/{train,test}/{cat,dog}/*4 cifar100/{train,test}/{fox,hen}/*4", "data.root='.*cifar10'"),
    ("train/{cat,dog}/*4 test/test/*4", "no class folders"),
    ("*9 {cat,dog}/*2", "next to the class folders"),
    ("*9", "9 images are in no class folder"),
    ("train/{cat,dog}/*4 test/{cat,dog,fox}/*4", "'fox'"),
]


@pytest.mark.parametrize(("patterns", "reason"), REFUSED)
def test_what_cannot_be_understood_is_refused_with_its_folders(
    patterns: str, reason: str, tmp_path: Path
) -> None:
    build(tmp_path / "pets", *patterns.split())
    with pytest.raises(UserError, match=reason) as error:
        load(tmp_path / "pets")
    message = str(error.value)
    assert "\n" not in message
    assert "data.root" in message or "images" in message or "class folders" in message


@pytest.mark.parametrize(
    "patterns", ["{A,B}/{cat,dog}/*4", "{bus,train,test}/*4", "{fold1,fold2}/{cat,dog}/*4"]
)
def test_the_key_takes_each_folder_as_a_class(patterns: str, tmp_path: Path) -> None:
    build(tmp_path / "pets", patterns)
    with pytest.raises(UserError):
        load(tmp_path / "pets")
    train, _ = load(tmp_path / "pets", layout="classes")
    assert train.classes == tuple(sorted(path.name for path in (tmp_path / "pets").iterdir()))


def test_label_images_next_to_the_splits_are_not_the_splits(tmp_path: Path) -> None:
    build(tmp_path / "pets", "{train,test}/{cat,dog}/*4", "{train_labels,test_labels}/{cat,dog}/*3")
    train, test = load(tmp_path / "pets")
    assert (len(train), len(test), train.classes) == (8, 8, CLASSES)
    assert train.reading["left_out"] == {"in train_labels/": 6, "in test_labels/": 6}


def test_folders_next_to_the_splits_are_said(tmp_path: Path) -> None:
    build(tmp_path / "pets", "{train,test}/{cat,dog}/*4", "{extra,seg_pred}/*3", "*2")
    train, _ = load(tmp_path / "pets")
    assert len(train) == 8
    (line,) = train.remarks
    assert line.startswith("files left out: 8 (")
    for part in ("3 in extra/", "3 in seg_pred/", "2 next to the class folders"):
        assert part in line
