"""Tell which swept keys depend on each other: `python benchmarks/interactions.py docs/results/balance`.

For two keys a and b of a full grid, the interaction is

    [m(a_high, b_high) - m(a_low, b_high)] - [m(a_high, b_low) - m(a_low, b_low)],

where m is the test accuracy averaged over the values of the other keys. It is computed for each seed; its
interval is Student's t over the seeds. A run that diverged counts as guessing. Prints the table and draws
`interactions.png`.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from tempo.report.claims import Paired  # noqa: E402
from tempo.report.colours_and_axes import new_figure  # noqa: E402
from tempo.report.load_runs import load  # noqa: E402
from tempo.report.number_format import human  # noqa: E402

KEYS = ("optimizer.wd", "scheduler.max_lr", "optimizer.momentum")


@dataclass(frozen=True)
class Grid:
    """Test accuracies in percent, `[values of each key .., seeds]`, and the values of each key."""

    accuracy: np.ndarray
    values: tuple[tuple[float, ...], ...]

    def means(self, first: int, second: int) -> np.ndarray:
        """Return `[values of first, values of second, seeds]`, averaged over the other keys."""
        others = tuple(axis for axis in range(len(self.values)) if axis not in (first, second))
        found = self.accuracy.mean(axis=others)
        return found if first < second else found.swapaxes(0, 1)

    def interaction(self, first: int, second: int) -> Paired:
        """Return the interaction of two keys, over the seeds."""
        means = self.means(first, second)
        by_seed = (means[-1, -1] - means[0, -1]) - (means[-1, 0] - means[0, 0])
        return Paired(float(by_seed.mean()), float(by_seed.std(ddof=1)), len(by_seed))


def grid(folder: Path, keys: Sequence[str] = KEYS) -> Grid:
    """Return the grid of the runs below a folder; KeyError if a run of the grid is missing."""
    found: dict[tuple[float, ...], float] = {}
    for run in load([folder]).runs:
        config: Any = run.record.config
        point = tuple(float(config[group][name]) for group, _, name in (key.partition(".") for key in keys))
        guess = 1 / run.record.data["num_classes"]
        diverged = run.record.status == "diverged"
        found[(*point, run.record.seed)] = 100 * (
            guess if diverged else run.record.metrics["test"]["accuracy"]
        )
    axes = [sorted({point[axis] for point in found}) for axis in range(len(keys) + 1)]
    accuracy = np.array([found[point] for point in itertools.product(*axes)])
    return Grid(accuracy.reshape([len(axis) for axis in axes]), tuple(map(tuple, axes[:-1])))


def table(folder: Path) -> str:
    """Return the Markdown table of interactions, and a line on the best value of the first key."""
    found = grid(folder)
    rows = ["| keys | interaction, percentage points, 99 % interval | verdict |", "|---|---|---|"]
    for first, second in itertools.combinations(range(len(KEYS)), 2):
        paired = found.interaction(first, second)
        half = paired.half_width(0.99)
        verdict = "holds" if abs(paired.mean) > half else "cannot be told"
        rows.append(f"| `{KEYS[first]}` and `{KEYS[second]}` | {paired.mean:+.2f} ± {half:.2f} | {verdict} |")
    best = found.accuracy.mean(axis=-1).argmax(axis=0)
    counts = [f"{human(value)} for {(best == at).sum()}" for at, value in enumerate(found.values[0])]
    rows.append(
        f"\nThe best `{KEYS[0]}` by the mean over the seeds is {', '.join(counts)} of the {best.size} pairs "
        "of the other two keys."
    )
    return "\n".join(rows) + "\n"


def draw(folder: Path, target: Path) -> None:
    """Draw a heat map of mean accuracies for each pair of keys."""
    found = grid(folder)
    pairs = list(itertools.combinations(range(len(KEYS)), 2))
    figure, axes = new_figure(1, len(pairs), 12, 3.6)
    means = [found.means(first, second).mean(axis=-1) for first, second in pairs]
    low, high = min(mean.min() for mean in means), max(mean.max() for mean in means)
    for plot, (first, second), mean in zip(axes, pairs, means, strict=True):
        plot.imshow(mean, vmin=low, vmax=high, origin="lower", aspect="auto", cmap="viridis")
        for row, column in np.ndindex(*mean.shape):
            colour = "white" if mean[row, column] < (low + high) / 2 else "black"
            plot.text(column, row, f"{mean[row, column]:.1f} %", ha="center", va="center", color=colour)
        plot.set_yticks(range(len(found.values[first])), [human(value) for value in found.values[first]])
        plot.set_xticks(range(len(found.values[second])), [human(value) for value in found.values[second]])
        plot.set(ylabel=KEYS[first], xlabel=KEYS[second])
    figure.savefig(target, dpi=110)


def main() -> None:
    """Read the command line."""
    folder = Path(sys.argv[1])
    print(table(folder))
    draw(folder, folder / "interactions.png")


if __name__ == "__main__":
    main()
