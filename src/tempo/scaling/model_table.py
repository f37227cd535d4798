"""Table of the networks' sizes next to the paper's; does not import torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tempo.record.atomic_write import write_atomically
from tempo.record.read_file import read_text
from tempo.report.number_format import ABSENT
from tempo.report.results_table import Cell, Table, number_cell

FILE_NAME = "models.json"
PUBLISHED_SIDE = 224
"""Side of the images for which operations are usually published."""


@dataclass(frozen=True)
class ModelSize:
    """Parameters, bytes of gradients, and operations of a forward pass over one image, for two image sizes.

    Only convolutions and matrix products count; a multiplication and an addition are two operations, as in
    the paper.
    """

    name: str
    parameters: int
    gradient_bytes: int
    image_size: int
    flops: int | None
    flops_at_224: int | None


@dataclass(frozen=True)
class PaperModel:
    """A row of the paper's table of networks."""

    parameters_millions: float
    gflops: float
    top5_percent: float


PAPER = {
    "vgg16": PaperModel(138, 30.9, 90.0),
    "vgg19": PaperModel(143, 39, 92.7),
    "resnet50": PaperModel(25, 10, 92.9),
    "inception_v4": PaperModel(65, 20, 95.0),
}


def write_sizes(sizes: Sequence[ModelSize], folder: Path) -> None:
    """Write the sizes next to the points, so that a report needs no torch."""
    known = {size.name: size for size in [*read_sizes([folder]), *sizes]}
    rows = [dataclasses.asdict(size) for size in known.values()]
    write_atomically(folder / FILE_NAME, json.dumps(rows, indent=2) + "\n")


def read_sizes(folders: Sequence[Path]) -> list[ModelSize]:
    """Read the files of `write_sizes` in the folders; skip files that cannot be read."""
    found: dict[str, ModelSize] = {}
    for folder in folders:
        try:
            rows = json.loads(read_text(folder / FILE_NAME))
            found |= {row["name"]: ModelSize(**row) for row in rows}
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return list(found.values())


def models_table(sizes: Sequence[ModelSize]) -> Table:
    """Return a table with one row per network, ours next to the paper's."""
    sides = sorted({size.image_size for size in sizes})
    here = f"at {sides[0]}x{sides[0]}" if len(sides) == 1 else "at the benchmark's size"
    head = (
        *("network", "parameters, millions", "paper", f"GFLOPs at {PUBLISHED_SIDE}x{PUBLISHED_SIDE}"),
        *(f"GFLOPs {here}", "paper", "gradients, MB", "paper: top-5, %"),
    )
    return Table(head, [_row(size) for size in sizes])


def _row(size: ModelSize) -> list[Cell]:
    paper = PAPER.get(size.name)
    millions = size.parameters / 1e6
    return [
        Cell(size.name, size.name),
        Cell(f"{millions:.3g}" if millions < 10 else f"{millions:.1f}", millions),
        _number(paper.parameters_millions if paper else None),
        _number(None if size.flops_at_224 is None else size.flops_at_224 / 1e9),
        _number(None if size.flops is None else size.flops / 1e9),
        _number(paper.gflops if paper else None),
        number_cell(size.gradient_bytes / 1e6, f"{size.gradient_bytes / 1e6:.3g}"),
        _number(paper.top5_percent if paper else None),
    ]


def _number(value: float | None) -> Cell:
    return Cell(ABSENT) if value is None else Cell(f"{value:.3g}", value)
