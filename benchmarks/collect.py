"""Keep the records of finished runs in docs/results: `python benchmarks/collect.py NAME FOLDER ...`.

Copies run.json and metrics.csv of every run in the folders into docs/results/NAME/<run>/, with paths of this
machine made relative to the repository, and replaces the former content of NAME. Of a procedure of
src/tune.py it keeps tune.json and the full runs, in NAME/tuned and NAME/default.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from tempo.errors import UserError  # noqa: E402
from tempo.paths import data_root  # noqa: E402
from tempo.record.atomic_write import write_atomically  # noqa: E402
from tempo.record.run_json import FILE_NAME, RunRecord  # noqa: E402

STATE_FILE = "tune.json"
RESULTS = ROOT / "docs" / "results"


def collect(name: str, folders: list[Path]) -> int:
    """Copy the records and return the number of runs."""
    runs = sorted(
        {
            path.parent
            for folder in folders
            for path in folder.absolute().rglob(FILE_NAME)
            if not (folder / STATE_FILE).exists() or path.parent.name.startswith("final_")
        }
    )
    if not runs:
        raise UserError(f"no {FILE_NAME} below {', '.join(map(str, folders))}: pass a finished run or sweep")
    open_ends = [run.name for run in runs if not RunRecord.read(run).finished]
    if open_ends:
        raise UserError(f"not finished: {', '.join(open_ends)}; resume them first")
    target = RESULTS / name
    shutil.rmtree(target, ignore_errors=True)
    for run in runs:
        arm = run.name.split("_")[1] if (run.parent / STATE_FILE).exists() else ""
        _copy(run, target / arm / run.name, (FILE_NAME, "metrics.csv"))
    for folder in folders:
        _copy(folder, target, (STATE_FILE,))
    return len(runs)


def _copy(source: Path, target: Path, files: Sequence[str]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        if (source / file).exists():
            write_atomically(target / file, portable((source / file).read_text(encoding="utf-8")))


def portable(text: str) -> str:
    """Replace the paths of this machine by portable ones."""
    home = str(Path.home())
    for path, written in ((data_root(), "data"), (str(ROOT), "."), (str(ROOT.parent), ".."), (home, "~")):
        for before in ('"', "'", "="):
            text = text.replace(f"{before}{path}", f"{before}{written}")
    return text


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", help="folder below docs/results")
    parser.add_argument("folders", nargs="+", type=Path, help="runs or sweeps")
    arguments = parser.parse_args()
    try:
        print(f"{collect(arguments.name, arguments.folders)} runs -> docs/results/{arguments.name}")
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
