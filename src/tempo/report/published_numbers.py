"""Ours beside the paper's, row by row.

An experiment names the number it aims at in its YAML, and so in the record's configuration:
`paper: {source: radiuk2020, item: "Table 1, row 3", metric: test/accuracy, mean: 0.901, sd: 0.008}`;
`mean: null` where the paper has words only, which `says: "..."` may quote. Where one experiment is several
rows, `rows: [{where: {optimizer.lr: 0.01}, item: .., mean: ..}, ..]`: a run's row is the one with its values.
`other_data: "..."` where the paper's data cannot be had: no difference is computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tempo.errors import UserError, nearest
from tempo.paths import ROOT
from tempo.report.grouping import Setting
from tempo.report.load_runs import Run
from tempo.report.number_format import (
    ABSENT,
    SMOKE,
    amount,
    human,
    mean_and_sd,
    metric_name,
    natural,
    points,
    unit,
)
from tempo.report.statistics import Statistics, Summary, describe, statistics
from tempo.report.tables import Cell, Table, number_cell

EXPERIMENTS = ROOT / "conf" / "experiment"
NOT_RUN = describe([])


@dataclass(frozen=True)
class PaperRow:
    """A published number and what our runs of the same experiment gave. Accuracies lie in [0, 1]."""

    source: str
    item: str
    metric: str
    mean: float
    sd: float
    says: str
    setting: str
    ours: Statistics
    smoke: bool
    again: str = ""
    """The command that runs it, where nothing was run."""
    other_data: str = ""
    """What the paper's number was measured on, where that cannot be had."""

    @property
    def difference(self) -> float:
        """Ours minus the paper's; NaN where either has no number, and for smoke runs."""
        return math.nan if self.smoke or self.other_data else self.ours.mean - self.mean

    @property
    def verdict(self) -> str:
        """The difference in words."""
        if self.smoke:
            return SMOKE
        if self.ours.n == 0:
            return f"not run: {self.again}" if self.again else "no completed run"
        if math.isnan(self.mean):
            return "the paper gives no number"
        if self.other_data:
            return f"not comparable: the paper's data are {self.other_data}"
        seeds = "" if self.ours.n > 1 else " (one seed)"
        return f"{amount(self.difference, self.metric, sign=True)}{points(self.metric)}{seeds}"

    @property
    def words(self) -> str:
        """One line: item, both numbers, the difference; which of a figure's values it is."""
        item, paper = self.item, f"paper {mean_and_sd(self.mean, self.sd, self.metric)}"
        if math.isnan(self.mean):
            paper = f'paper says "{self.says}"' if self.says else "paper words only"
            item += f", {self.setting}" if self.setting else ""
        ours = mean_and_sd(self.ours.mean, self.ours.sd, self.metric) if self.ours.n else "none"
        return (
            f"{self.source}, {item} ({metric_name(self.metric)}{unit(self.metric)}): "
            f"ours {ours} (n = {self.ours.n}), {paper}: {self.verdict}"
        )


def paper_rows(summary: Summary, asked: str | None = None) -> list[PaperRow]:
    """The rows our runs belong to; with `asked` (`radiuk2020/table1`) those of its files, run or not.

    Raises:
        UserError: there is no experiment of that name.
    """
    rows = [row for setting in summary.settings for row in _rows_of(setting)]
    if asked is not None:
        wanted = expected(asked)
        rows = [
            row for row in rows if (row.source, row.item) in {(each.source, each.item) for each in wanted}
        ]
        run = {(row.source, row.item) for row in rows}
        rows += [each for each in wanted if (each.source, each.item) not in run]
    return sorted(rows, key=lambda row: (row.source, natural(row.item)))


def expected(asked: str, experiments: Path = EXPERIMENTS) -> list[PaperRow]:
    """What the experiments `<paper>/<start of the file's name>` aim at, as rows without a run."""
    source, _, start = asked.strip("/").partition("/")
    files = sorted((experiments / source).glob("*.yaml")) if source else []
    rows = []
    for path in files:
        if not path.stem.startswith(start):
            continue
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise UserError(f"{path} is no YAML: {error}") from error
        again = f"python src/train.py experiment={source}/{path.stem}"
        for node, where in _nodes(values.get("paper") if values else None):
            command = " ".join([again, *(f"{key}={human(value)}" for key, value in where.items())])
            row = _row(node, "", NOT_RUN, smoke=False, again=command)
            rows += [row] if row is not None else []
    if not rows:
        papers = (
            sorted(each.name for each in experiments.iterdir() if each.is_dir())
            if experiments.is_dir()
            else []
        )
        known = [each.stem for each in files] if files else papers
        hint = nearest(start if files else source, known)
        raise UserError(
            f"--paper {asked} names no experiment with a paper's number.{hint} Papers: {', '.join(papers)}"
        )
    return rows


def paper_table(rows: Sequence[PaperRow]) -> Table:
    """Item, setting, ours, the paper's, the difference."""
    head = ("paper", "item", "metric", "setting", "seeds", "ours", "paper's", "difference")
    return Table(head, [_cells(row) for row in rows])


def _cells(row: PaperRow) -> list[Cell]:
    ours = mean_and_sd(row.ours.mean, row.ours.sd, row.metric)
    paper = mean_and_sd(row.mean, row.sd, row.metric)
    if math.isnan(row.mean):
        paper = row.says or "words only"
    return [
        Cell(row.source, row.source),
        Cell(row.item, row.item),
        Cell(metric_name(row.metric) + (f",{unit(row.metric)}" if unit(row.metric) else ""), row.metric),
        Cell(row.setting or ABSENT, row.setting),
        Cell(str(row.ours.n), row.ours.n),
        number_cell(row.ours.mean, ours),
        Cell(paper, None if math.isnan(row.mean) else row.mean),
        Cell(row.verdict, None if math.isnan(row.difference) else row.difference),
    ]


def _rows_of(setting: Setting) -> list[PaperRow]:
    """A setting's rows: usually one, more where several items of a paper are this same setting."""
    parts: dict[tuple[str, str], list[tuple[Mapping[str, Any], Run]]] = {}
    for run in setting.runs:
        for node, where in _nodes(run.record.config.get("paper")):
            if all(key in run.flat and run.flat[key] == value for key, value in where.items()):
                parts.setdefault((str(node.get("source")), str(node.get("item"))), []).append((node, run))
    rows = []
    for members in parts.values():
        part = Setting(setting.label, setting.values, tuple(run for _, run in members))
        node = members[0][0]
        ours = statistics(part, str(node.get("metric", "test/accuracy")))
        rows.append(_row(node, setting.label, ours, smoke=part.smoke))
    return [row for row in rows if row is not None]


def _nodes(node: Any) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """What a `paper` node says of each of its rows, and the values by key that a run of the row has."""
    if not isinstance(node, Mapping):
        return []
    rows = node.get("rows")
    if not isinstance(rows, list):
        return [(node, {})]
    whole = [each for each in rows if isinstance(each, Mapping) and isinstance(each.get("where"), Mapping)]
    return [({**node, **each}, each["where"]) for each in whole]


def _row(node: Any, setting: str, ours: Statistics, *, smoke: bool, again: str = "") -> PaperRow | None:
    if not isinstance(node, Mapping) or not node.get("source"):
        return None
    return PaperRow(
        source=str(node["source"]),
        item=str(node.get("item", "")),
        metric=str(node.get("metric", "test/accuracy")),
        mean=_number(node.get("mean")),
        sd=_number(node.get("sd")),
        says=str(node.get("says") or ""),
        setting=setting,
        ours=ours,
        smoke=smoke,
        again=again,
        other_data=str(node.get("other_data") or ""),
    )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan
