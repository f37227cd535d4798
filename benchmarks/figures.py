"""Write the figures of README and docs from the records: `python benchmarks/figures.py [--check]`.

A figure stands between two comments, `<!--=STUDY FIELD-->86.4 %<!--/-->`: STUDY is a folder of docs/results
(or one in it, `superconvergence/step`), FIELD a dotted key (`a.b.0`) of its run records. A number is the
mean over the study's runs, with the standard deviation where there are several; accuracies are in percent.
`n` counts the runs, `max KEY` is the largest, `rank KEY` the place of the mean among the folders beside it.
`minus STUDY KEY` is the difference of the means and half its 95 % interval, paired over the seeds of both.
`verdict STUDY KEY` is `higher than` or `lower than` if the 99 % interval leaves out zero, `perhaps higher
than` if only the 95 % interval does, and else `not distinguishable from`.
`epochs_to STUDY` is the first epoch at which the mean validation accuracy over the runs reaches the highest
that the other STUDY's comes to, `epochs_to_own_best` that of its own. `steps_to METRIC=VALUE` and
`seconds_to METRIC=VALUE` are those of training until the first evaluation that is as good, over the runs that
get there. `each QUANTITY` lists a quantity of `tempo.report.quantity` by seed. `claims FILE` is the table of
the claims in conf/experiment/FILE.yaml, judged on the study's runs. `kept` is what a procedure of src/tune.py
kept, tuned or default; `cost` is what it cost. `interactions` is the table of benchmarks/interactions.py.
`. uncommitted` lists the folders with records of uncommitted code.
Numbers are rounded against tempo: down, but seconds, standard deviations and `max` up.
"""

from __future__ import annotations

import csv
import json
import math
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from benchmarks.interactions import table as interactions_table  # noqa: E402

from tempo.report.claims import Paired, judged_claims  # noqa: E402
from tempo.report.load_runs import Run, load  # noqa: E402
from tempo.report.quantity import quantity  # noqa: E402

RESULTS = ROOT / "docs" / "results"
_WORDS = {True: "higher than", False: "lower than"}
FIGURE = re.compile(r"<!--=(?P<study>\S+) (?P<field>[^>]+?)-->(?P<value>.*?)<!--/-->", re.DOTALL)


_ROUNDING = 1e-9


def figure(study: str, field: str) -> str:
    """Return the text of one figure; KeyError or FileNotFoundError if the records do not have it."""
    what, _, rest = field.partition(" ")
    if what in _FIGURES:
        return _FIGURES[what](study, rest)
    records = _records(study)
    if what in ("minus", "verdict"):
        other, key = rest.split()
        found = _difference(records, _records(other), key)
        mean, half_width = found.mean, found.half_width(0.95)
        if what == "verdict":
            # Equal differences give no interval: three seeds that agree by chance prove nothing.
            if not abs(mean) > half_width:
                return "not distinguishable from"
            return "perhaps " * (abs(mean) <= found.half_width(0.99)) + _WORDS[mean > 0]
        return f"{'+' if mean >= 0 else ''}{_cut(mean, 2, math.floor)} ± {_cut(half_width, 2, math.ceil)}"
    if field == "n":
        return str(len(records))
    largest = field.startswith("max ")
    key = field.removeprefix("max ")
    values = [_value(record, key) for record in records]
    if not isinstance(values[0], (int, float)) or key.startswith("config."):
        return ", ".join(dict.fromkeys(map(str, values)))
    percent = key.endswith("accuracy")
    numbers = [100 * value if percent else value for value in values]
    digits = 2 if percent else 0
    if largest:
        return _cut(max(numbers), digits, math.ceil) + (" %" if percent else "")
    cost = key.startswith("seconds")
    text = _cut(statistics.fmean(numbers), digits, math.ceil if cost else math.floor)
    if len(numbers) > 1:
        text += f" ± {_cut(statistics.stdev(numbers), digits, math.ceil)}"
    return text + (" %" if percent else "")


def _records(study: str) -> list[dict[str, Any]]:
    # A measurement that is no run has one `record.json`.
    paths = sorted((RESULTS / study).rglob("run.json")) or sorted((RESULTS / study).glob("record.json"))
    if not paths:
        raise FileNotFoundError(f"docs/results/{study} holds no run.json and no record.json")
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def _difference(ones: list[dict[str, Any]], others: list[dict[str, Any]], key: str) -> Paired:
    """Return the differences over the seeds of both."""
    first, second = ({run["seed"]: _value(run, key) for run in runs} for runs in (ones, others))
    factor = 100 if key.endswith("accuracy") else 1
    d = [factor * (first[seed] - second[seed]) for seed in sorted(first.keys() & second.keys())]
    return Paired(statistics.fmean(d), statistics.stdev(d), len(d))


def _runs(study: str) -> list[Run]:
    """Return the runs of a study in the order of their seeds, without those that chose a setting."""
    runs = load([RESULTS / study]).runs
    return sorted((run for run in runs if "tune" not in run.folder.parts), key=lambda run: run.record.seed)


def _each(study: str, name: str) -> str:
    of, texts = quantity(name), []
    for run in _runs(study):
        last = run.series("test/accuracy")[0]
        never = name.startswith("epochs to ") and of.value(run) > last[-1]
        value = of.value(run)
        texts.append(f"> {last[-1]:g}" if never else of.text(value) if of.metric else f"{value:g}")
    return ", ".join(texts)


def _claims(study: str, file: str) -> str:
    """Return a Markdown table of claims with their verdicts."""
    rows = [
        (judged.claim.says, judged.claim.words, judged.verdict, judged.evidence)
        for judged in judged_claims(_runs(study), file)
    ]
    head = ("the paper says", "tested as", "verdict", "differences")
    return "\n" + "".join(f"| {' | '.join(row)} |\n" for row in (head, ("---",) * len(head), *rows))


def _kept(study: str, _: str) -> str:
    return str(_procedure(study)["comparison"]["verdict"]["chosen"])


def _cost(study: str, _: str) -> str:
    """Return the whole cost of a procedure, runs that diverged or lost included."""
    state = _procedure(study)
    epochs, runs = math.ceil(state["epochs"]), state["runs"]
    return f"{epochs} epochs in {runs} runs, {math.ceil(state['seconds'])} s"


def _uncommitted(study: str) -> str:
    """List the studies with a record whose git state says that files had changed."""
    names = set()
    for path in (RESULTS / study).rglob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        git = record.get("git") if isinstance(record, dict) else None
        if isinstance(git, dict) and git.get("dirty"):
            parts = path.relative_to(RESULTS).parts
            names.add("/".join(parts[: 2 if parts[0] == "bench" else 1]))
    return ", ".join(f"`{name}`" for name in sorted(names))


def _procedure(study: str) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((RESULTS / study / "tune.json").read_text(encoding="utf-8"))
    return state


def _rank(study: str, key: str) -> str:
    """Return the rank of the study's mean among the folders next to it; the highest is 1."""
    beside = [folder for folder in (RESULTS / study).parent.iterdir() if folder.is_dir()]
    means = {
        folder.name: statistics.fmean(
            _value(record, key) for record in _records(str(folder.relative_to(RESULTS)))
        )
        for folder in beside
    }
    mine = means[Path(study).name]
    return str(1 + sum(mean > mine + _ROUNDING for mean in means.values()))


def _to_target(study: str, target: str, column: str) -> str:
    """Return mean ± sd over the runs that reach an accuracy, and their number if not all do; or `never`."""
    metric, _, least = target.partition("=")
    found, runs = [], 0
    for path in sorted((RESULTS / study).rglob("metrics.csv")):
        runs += 1
        with path.open(encoding="utf-8") as file:
            good = [row for row in csv.DictReader(file) if row[metric] and float(row[metric]) >= float(least)]
        found += [float(good[0][column])] if good else []
    if not found:
        return "never"
    text = _cut(statistics.fmean(found), 0, math.ceil)
    if len(found) > 1:
        text += f" ± {_cut(statistics.stdev(found), 0, math.ceil)}"
    return text if len(found) == runs else f"{text} ({len(found)} of {runs} runs)"


def _epochs_to(study: str, other: str) -> str:
    means = _mean_accuracy(study)
    target = max(_mean_accuracy(other).values())
    return next((f"{epoch:g}" for epoch, mean in means.items() if mean >= target), "never")


_FIGURES: dict[str, Callable[[str, str], str]] = {
    "steps_to": lambda study, target: _to_target(study, target, "step"),
    "seconds_to": lambda study, target: _to_target(study, target, "seconds"),
    "epochs_to": _epochs_to,
    "epochs_to_own_best": lambda study, _: _epochs_to(study, study),
    "each": _each,
    "claims": _claims,
    "rank": _rank,
    "kept": _kept,
    "cost": _cost,
    "interactions": lambda study, _: "\n" + interactions_table(RESULTS / study),
    "uncommitted": lambda study, _: _uncommitted(study),
}
"""Fields that are computed from more than one key of the records, by their first word."""


def _mean_accuracy(study: str) -> dict[float, float]:
    """Return epoch -> mean validation accuracy over the study's runs, which validate at the same epochs."""
    found: dict[float, list[float]] = {}
    for path in sorted((RESULTS / study).rglob("metrics.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["val/accuracy"]:
                    found.setdefault(float(row["epoch"]), []).append(float(row["val/accuracy"]))
    return {epoch: statistics.fmean(found[epoch]) for epoch in sorted(found)}


def rewrite(text: str) -> str:
    """Replace every figure in a text by that of the records."""
    return FIGURE.sub(
        lambda m: f"<!--={m['study']} {m['field']}-->{figure(m['study'], m['field'])}<!--/-->", text
    )


def pages() -> list[Path]:
    """List the README and the pages of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _value(record: dict[str, Any], key: str) -> Any:
    node: Any = record
    for part in key.split("."):
        node = node[int(part) if isinstance(node, list) else part]
    return node


def _cut(value: float, digits: int, direction: Any) -> str:
    # The epsilon keeps 98.3 from being cut to 98.29 by its binary form.
    scaled = value * 10**digits
    nearest = round(scaled)
    whole = nearest if abs(scaled - nearest) < 1e-9 else direction(scaled)
    return f"{whole / 10**digits:,.{digits}f}"


def main() -> None:
    """Rewrite the pages, or with --check name those that are out of date."""
    stale = []
    for page in pages():
        before = page.read_text(encoding="utf-8")
        after = rewrite(before)
        if after != before:
            stale.append(str(page.relative_to(ROOT)))
            if "--check" not in sys.argv:
                page.write_text(after, encoding="utf-8")
    verb = "out of date" if "--check" in sys.argv else "rewritten"
    print(f"{verb}: {', '.join(stale) or 'nothing'}")
    if "--check" in sys.argv and stale:
        sys.exit(1)


if __name__ == "__main__":
    main()
