"""Write and read `test_images.json`: how a run classified its test images, and some that were wrong."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tempo.errors import UserError
from tempo.record.atomic_write import write_atomically
from tempo.record.json_values import fits
from tempo.record.read_file import read_text

TEST_IMAGES_FILE = "test_images.json"
MOST_BYTES = 16 << 20
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class WrongImage:
    """A test image with its class, the predicted class (numbers) and the probability of the prediction.

    `png` is the image as PNG in base64.
    """

    true: int
    predicted: int
    probability: float
    png: str


@dataclass(frozen=True)
class ClassifiedImages:
    """The confusion matrix of a test as `[true, predicted, count]` without zeros, and some wrong images."""

    classes: list[str]
    confusion: list[list[int]]
    wrong: list[WrongImage]

    def write(self, folder: Path) -> None:
        """Replace `folder/test_images.json` atomically."""
        write_atomically(folder / TEST_IMAGES_FILE, json.dumps(dataclasses.asdict(self)) + "\n")

    @classmethod
    def read(cls, folder: Path) -> ClassifiedImages | None:
        """Return what `write` wrote, or None if the run has no such file.

        Raises:
            UserError: the file cannot be read, or has other values.
        """
        path = folder / TEST_IMAGES_FILE
        try:
            values = json.loads(read_text(path, MOST_BYTES))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path} cannot be read ({error}); delete it") from error
        try:
            wrong = [WrongImage(**image) for image in values.pop("wrong")]
            found = cls(**values, wrong=wrong)
        except (TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{path} has other values than tempo writes ({error}); delete it") from error
        if not found._is_valid():
            raise UserError(f"{path} has other values than tempo writes; delete it")
        return found

    def _is_valid(self) -> bool:
        known = range(len(self.classes)) if fits(self.classes, list[str]) else range(0)
        return (
            fits(self.confusion, list[list[int]])
            and all(_are_classes(entry[:2], known) and len(entry) == 3 for entry in self.confusion)
            and all(
                _are_classes((image.true, image.predicted), known)
                and fits(image.probability, float)
                and _is_png(image.png)
                for image in self.wrong
            )
        )


def _are_classes(numbers: Sequence[int], known: range) -> bool:
    return all(fits(number, int) and number in known for number in numbers)


def _is_png(text: object) -> bool:
    try:
        return isinstance(text, str) and base64.b64decode(text, validate=True).startswith(_PNG)
    except (binascii.Error, ValueError):
        return False
