"""What is left out, doubled or named oddly in the user's folders is said, or refused."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tempo.data.class_counts import check_learnable, missing_classes
from tempo.data.folder import folder
from tempo.data.images import ImageData
from tempo.errors import UserError

RNG = np.random.default_rng(3)


def save(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of ten images."""
    for name in ("cat", "dog"):
        for number in range(10):
            save(tmp_path / "pets" / name / f"{number}.png")
    return tmp_path / "pets"


def load(root: Path, **changes: object) -> tuple[ImageData, ...]:
    settings = {"image_size": None, "channels": 3, "test_size": 4, "test_seed": 0}
    return folder(root=str(root), cache=str(root.parent / "cache"), **(settings | changes))


def left_out(root: Path) -> tuple[str, int]:
    """The line about files left out, and the number of images read."""
    train, test = load(root)
    lines = [line for line in train.remarks if "left out" in line]
    assert sum(train.reading["left_out"].values()) == (int(lines[0].split()[3]) if lines else 0)
    return (lines[0] if lines else ""), len(train) + len(test)


def test_nothing_is_said_of_nothing(root: Path) -> None:
    (root / ".git" / "objects").mkdir(parents=True)
    (root / "cat" / ".DS_Store").write_bytes(b"?")
    assert load(root)[0].remarks == ()


def test_files_are_counted_by_reason(root: Path) -> None:
    for name in ("@eaDir", ".thumbnails", "__MACOSX"):
        save(root / "cat" / name / "0.png")
    save(root / "dog" / "thumbs" / "0.png")
    save(root / "beside.png")
    for name in ("0_mask.png", "0-150x150.png", "1_thumb.png", "7_mask_1.png"):
        save(root / "dog" / name)
    save(root / "cat" / "._0.png")
    (root / "cat" / "0.xml").write_text("<a/>")
    (root / "dog" / "icon.svg").write_text("<svg/>")
    (root / "dog" / "gone.png").symlink_to("nowhere")
    (root / "dog" / "again").symlink_to(root / "cat")
    line, images = left_out(root)
    assert images == 20
    assert line.startswith("files left out: 14 (")
    for part in (
        *(
            "1 in @eaDir",
            "2 hidden",
            "1 in __MACOSX",
            "1 in folders named thumbs",
            "1 next to the class folders",
        ),
        "4 masks or thumbnails next to their images",
        *("1 .xml", "1 .svg", "1 links to nothing", "1 links to folders"),
    ):
        assert part in line


def test_links_to_folders_elsewhere_are_classes(root: Path, tmp_path: Path) -> None:
    for number in range(10):
        save(tmp_path / "elsewhere" / f"{number}.png")
    (root / "fox").symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(root)
    train, _ = load(root)
    assert train.classes == ("cat", "dog", "fox")


@pytest.mark.parametrize("suffix", [".svg", ".heic", ".cr2", ".npy", ".mp4"])
def test_a_class_that_is_mostly_of_another_format_is_refused(suffix: str, root: Path) -> None:
    for number in range(11):
        (root / "dog" / f"x{number}{suffix}").write_bytes(b"?")
    with pytest.raises(
        UserError, match=rf"class folder .*dog.* 10 images, and 11 files .* x0\{suffix}"
    ) as error:
        load(root)
    assert "convert them to PNG" in str(error.value)


def test_annotations_and_raw_files_beside_images_are_no_loss(root: Path) -> None:
    for number in range(10):
        for suffix in (".txt", ".json", ".xml", ".cr2"):
            (root / "dog" / f"{number}{suffix}").write_bytes(b"?")
    line, images = left_out(root)
    assert images == 20
    assert "10 .cr2" in line


def test_duplicates_across_the_split_and_across_classes(root: Path) -> None:
    for number in range(10):
        (root / "cat" / f"copy{number}.png").write_bytes((root / "cat" / f"{number}.png").read_bytes())
    (root / "dog" / "cat.png").write_bytes((root / "cat" / "3.png").read_bytes())
    train, test = load(root, test_size=0.5)
    train_pixels = {image.numpy().tobytes() for image in train.images}
    shared = sum(image.numpy().tobytes() in train_pixels for image in test.images)
    assert shared > 0
    assert train.reading["in_two_splits"] == shared
    assert any(
        line.startswith(f"images both in the training set and in another one: {shared} (")
        for line in train.remarks
    )
    assert any(
        line.startswith("images in two classes: 3 (cat/3.png = dog/cat.png)") for line in train.remarks
    )


def test_duplicates_between_trees(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            for number in range(4):
                save(tmp_path / "pets" / part / name / f"{number}.png")
    source = tmp_path / "pets" / "train" / "cat" / "1.png"
    (tmp_path / "pets" / "test" / "cat" / "9.png").write_bytes(source.read_bytes())
    train, _ = load(tmp_path / "pets")
    (line,) = train.remarks
    assert line.startswith(
        "images both in the training set and in another one: 1 (test/cat/9.png = train/cat/1.png)"
    )


def test_one_word_in_two_unicode_forms_is_one_class(root: Path) -> None:
    for form in ("NFC", "NFD"):
        for number in range(4):
            save(root / unicodedata.normalize(form, "café") / f"{form}{number}.png")
    train, test = load(root)
    assert train.classes == ("café", "cat", "dog")
    assert len(train) + len(test) == 28
    assert any("café in different Unicode forms" in line for line in train.remarks)


def test_unicode_forms_agree_between_trees(tmp_path: Path) -> None:
    for part, form in (("train", "NFC"), ("test", "NFD")):
        for name in ("café", "thé"):
            for number in range(4):
                save(tmp_path / "pets" / part / unicodedata.normalize(form, name) / f"{number}.png")
    train, test = load(tmp_path / "pets")
    assert (train.classes, len(train), len(test)) == (("café", "thé"), 8, 8)


def test_a_name_that_is_not_utf8_is_text(root: Path) -> None:
    for number in range(4):
        path = os.fsdecode(os.fsencode(root) + b"/caf\xe9")
        save(Path(path) / f"{number}.png")
    train, _ = load(root)
    assert train.classes == ("caf\\xe9", "cat", "dog")
    "".join(train.classes).encode()


def test_classes_that_a_set_lacks_are_named() -> None:
    lines = list(missing_classes(("a", "b", "c"), {"train": [3, 0, 1], "val": [1, 1, 1], "test": [0, 1, 0]}))
    assert lines == ["1 of 3 classes have no train images: b", "2 of 3 classes have no test images: a, c"]


@pytest.mark.parametrize(
    ("counts", "objective", "reason"),
    [
        ({"train": [3, 0], "test": [1, 1]}, "test/loss", "1 of 2 classes have training images"),
        (
            {"train": [3, 3, 0], "val": [0, 0, 2], "test": [1, 1, 0]},
            "val/accuracy",
            "none of the 2 val images",
        ),
        ({"train": [3, 3, 0], "val": [1, 1, 0], "test": [0, 0, 4]}, "val/loss", "none of the 4 test images"),
    ],
)
def test_sets_without_a_meaning_are_refused(
    counts: dict[str, list[int]], objective: str, reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        check_learnable(counts, objective)


def test_an_empty_root_is_no_folder() -> None:
    with pytest.raises(UserError, match="is not a folder"):
        load(Path("/nowhere"))
    with pytest.raises(UserError, match="is not a folder"):
        folder(root="", image_size=None, channels=3, test_size=2, test_seed=0, cache="cache")
