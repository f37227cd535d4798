"""Draw the pictures of docs/results: `python benchmarks/pictures.py [NAME ...]`, all without a NAME.

A figure is that of the report which `src/report.py` makes of the same records. `screen/terminal.svg` is what
the terminal shows of a sweep, which is run for it, and `screen/report.png` its report's page in Chromium.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from rich.console import Console  # noqa: E402
from rich.terminal_theme import MONOKAI  # noqa: E402
from rich.text import Text  # noqa: E402

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


COLUMNS = 120
SWEEP = "src/train.py model=mlp trainer.epochs=5 -m optimizer=adam,momentum optimizer.lr=1e-3,1e-2 seed=0,1,2"
SCREENS = ("screen/terminal.svg", "screen/report.png")


def screens() -> list[Path]:
    """Run a sweep, and draw what the terminal shows of it and its report."""
    folder = ROOT / "logs" / "pictures" / "sweep"
    shutil.rmtree(folder, ignore_errors=True)
    shown = subprocess.run(
        [sys.executable, *SWEEP.split(), f"hydra.sweep.dir={folder.relative_to(ROOT)}"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": str(COLUMNS), "FORCE_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    terminal, page = (RESULTS / name for name in SCREENS)
    terminal.parent.mkdir(exist_ok=True)
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(f"[bold]$ python {SWEEP}[/bold]", highlight=False)
    console.print(Text.from_ansi(shown.replace(f"{ROOT}/", "")))
    svg = console.export_svg(title="tempo", theme=MONOKAI)
    # Without the fonts that it would load from elsewhere.
    terminal.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), encoding="utf-8")
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1250,1900")
    report = (folder / "report" / "report.html").as_uri()
    subprocess.run([browser, *options, f"--screenshot={page}", report], check=True, capture_output=True)
    return [terminal, page]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join((*PICTURES, *SCREENS)))
    known = (*PICTURES, *SCREENS)
    asked = parser.parse_args().names or list(known)
    if strange := sorted(set(asked) - set(known)):
        sys.exit(f"{', '.join(strange)}: is not a picture; choose from {', '.join(known)}")
    drawn = [picture(name) for name in asked if name in PICTURES]
    for path in (*drawn, *(screens() if set(asked) & set(SCREENS) else [])):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
