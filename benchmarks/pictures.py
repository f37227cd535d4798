"""Draw the pictures of docs/results from their records: `python benchmarks/pictures.py [NAME ...]`.

Each is a figure of the report that `src/report.py` makes of the same folders; without a NAME all are drawn.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from tempo.report.figures import draw  # noqa: E402
from tempo.report.load_runs import load  # noqa: E402
from tempo.report.sections import content_of  # noqa: E402

RESULTS = ROOT / "docs" / "results"


@dataclass(frozen=True)
class Picture:
    """The figure that a report of these folders of docs/results has under this name."""

    figure: str
    folders: tuple[str, ...]
    metric: str = "val/accuracy"


_SUPERCONVERGENCE = tuple(f"superconvergence/{name}" for name in ("onecycle", "step", "step_4x"))
PICTURES = {
    "superconvergence/curves.png": Picture("curves", _SUPERCONVERGENCE),
    "mnist2024/curves.png": Picture("curves", ("mnist2024",), "test/accuracy"),
    "mnist2024/final.png": Picture("finals", ("mnist2024",), "test/accuracy"),
    "optimizers/paper.png": Picture("curves", ("optimizers/paper",)),
    "optimizers/fair.png": Picture("curves", ("optimizers/fair",)),
    "frugal/curves.png": Picture("curves", ("frugal",), "test/accuracy"),
    "frugal/trade_off.png": Picture("trade_off", ("frugal",), "test/accuracy"),
}
"""Path below docs/results -> its figure."""


def picture(name: str) -> Path:
    """Draw one picture and return its path."""
    what, target = PICTURES[name], RESULTS / name
    folders = [RESULTS / folder for folder in what.folders]
    with tempfile.TemporaryDirectory() as scratch:
        drawn = draw(content_of(folders, load(folders), what.metric).summary, Path(scratch))
        (found,) = (figure for figure in drawn if figure.name == what.figure)
        shutil.copyfile(found.png, target)
    return target


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PICTURES))
    asked = parser.parse_args().names or list(PICTURES)
    if strange := sorted(set(asked) - set(PICTURES)):
        sys.exit(f"{', '.join(strange)}: is not a picture; choose from {', '.join(PICTURES)}")
    for name in asked:
        print(picture(name).relative_to(ROOT))


if __name__ == "__main__":
    main()
