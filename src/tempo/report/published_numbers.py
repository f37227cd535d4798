"""Compare our results with the numbers that a paper published, row by row.

An experiment names the number it aims at in its YAML, and so in the record's configuration:
`paper: {source: radiuk2020, item: "Table 1, row 3", metric: test/accuracy, mean: 0.901, sd: 0.008}`.
`mean: null` if the paper has words only, which `says: "..."` may quote. If one experiment has several rows,
`rows: [{where: {optimizer.lr: 0.01}, item: .., mean: ..}, ..]`: a run belongs to the row with its values.
`other_data: "..."` if the paper's data are not public. A difference is computed only if the run has the
setting of the row's experiment in conf/experiment/SOURCE (see `comparability`). If conf/ and an older record
disagree about a row, conf/ counts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from tempo.config.schema import SMOKE
from tempo.errors import UserError, nearest
from tempo.paths import CONF, as_typed
from tempo.report.comparability import differences, listed
from tempo.report.grouping import Setting
from tempo.report.load_runs import Run
from tempo.report.number_format import (
    ABSENT,
    amount,
    head_of,
    human,
    mean_and_sd,
    metric_name,
    natural,
    points,
    unit,
)
from tempo.report.results_table import Cell, Columns, Table, count_cell, number_cell, table_of, text_cell
from tempo.report.statistics import Statistics, Summary, describe, statistics

NOT_RUN = describe([])


@dataclass(frozen=True)
class PaperRow:
    """A published number and the result of our runs of the same experiment; accuracies are in [0, 1].

    `command` is the command to run it if nothing was run; `other_data` names the paper's data if not public.
    """

    source: str
    item: str
    metric: str
    mean: float
    sd: float
    says: str
    setting: str
    ours: Statistics
    smoke: bool
    command: str = ""
    other_data: str = ""
    differs: tuple[str, ...] = ()
    """What our runs have otherwise than the row."""

    @property
    def difference(self) -> float:
        """Ours minus the paper's; NaN if either has no number, or if the two are not comparable."""
        comparable = not (self.smoke or self.other_data or self.differs)
        return self.ours.mean - self.mean if comparable else math.nan

    @property
    def verdict(self) -> str:
        """The difference in words."""
        if self.smoke:
            return SMOKE
        if self.ours.n == 0:
            return f"not run: {self.command}" if self.command else "no completed run"
        if math.isnan(self.mean):
            return "the paper gives no exact number"
        if self.other_data:
            return f"not comparable: the paper's data are {self.other_data}"
        if self.differs:
            return f"not comparable: {listed(self.differs)}"
        seeds = "" if self.ours.n > 1 else " (one seed)"
        return f"{amount(self.difference, self.metric, sign=True)}{points(self.metric)}{seeds}"

    @property
    def words(self) -> str:
        """One line: item, both numbers, and the difference."""
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
    """Return the rows our runs belong to; with `asked` (`radiuk2020/table1`) all its rows, run or not.

    Raises:
        UserError: there is no experiment of that name.
    """
    rows = [row for setting in summary.settings for row in _rows_of(setting)]
    if asked is not None:
        wanted = expected(asked)
        items = {(row.source, row.item) for row in wanted}
        rows = [row for row in rows if (row.source, row.item) in items]
        run = {(row.source, row.item) for row in rows}
        rows += [row for row in wanted if (row.source, row.item) not in run]
    return sorted(rows, key=lambda row: (row.source, natural(row.item)))


def expected(asked: str, experiments: Path = CONF / "experiment") -> list[PaperRow]:
    """Return the published numbers of the experiments `<paper>/<start of the file's name>`, without runs."""
    source, _, start = asked.strip("/").partition("/")
    found = [row for row in published(source, experiments) if row.name.startswith(start)]
    nodes = [node for name, node in paper_nodes(source, experiments) if name.startswith(f"{source}/{start}")]
    if not found and not any(nodes):
        names = [path.stem for path in sorted(experiments.glob(f"{source}/*.yaml"))] if source else []
        papers = sorted(path.name for path in experiments.glob("*") if path.is_dir())
        hint = nearest(start, names) if names else nearest(source, papers)
        raise UserError(
            f"--paper {asked} names no experiment with a published number.{hint} Papers: {', '.join(papers)}"
        )
    return [_row(row.node, "", NOT_RUN, smoke=False, command=row.command) for row in found]


@dataclass(frozen=True)
class Published:
    """A row of a paper in conf/: its node, its experiment, and the values by key that its runs have."""

    node: Mapping[str, Any]
    experiment: str
    where: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the experiment's file."""
        return self.experiment.rpartition("/")[2]

    @property
    def overrides(self) -> list[str]:
        """Overrides that make the row of its experiment."""
        return [f"{key}={human(value)}" for key, value in self.where.items()]

    @property
    def command(self) -> str:
        """Command that runs it."""
        return as_typed(" ".join([f"python src/train.py experiment={self.experiment}", *self.overrides]))


def published(source: str, experiments: Path = CONF / "experiment") -> list[Published]:
    """Return the rows of a paper in conf/; none for a source that is not a folder there.

    Raises:
        UserError: a file is not YAML.
    """
    return [
        Published(node, experiment, where)
        for experiment, paper in paper_nodes(source, experiments)
        for node, where in _nodes(paper)
    ]


@lru_cache(maxsize=32)  # a report asks for each of its runs
def paper_nodes(source: str, experiments: Path = CONF / "experiment") -> tuple[tuple[str, Any], ...]:
    """Return the name and the `paper` node of each experiment of a paper in conf/.

    Raises:
        UserError: a file is not YAML.
    """
    # A record from elsewhere may name any source: never follow it out of the folder.
    if source not in {path.name for path in experiments.glob("*") if path.is_dir()}:
        return ()
    found = []
    for path in sorted((experiments / source).glob("*.yaml")):
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise UserError(f"{path} is not YAML: {error}") from error
        found.append((f"{source}/{path.stem}", values.get("paper") if values else None))
    return tuple(found)


def paper_table(rows: Sequence[PaperRow]) -> Table:
    """Return one row per published number: ours, the paper's, the difference."""
    columns: Columns[PaperRow] = [
        ("paper", lambda row: text_cell(row.source)),
        ("item", lambda row: text_cell(row.item)),
        ("metric", lambda row: text_cell(head_of(row.metric))),
        ("setting", lambda row: Cell(row.setting or ABSENT, row.setting)),
        ("seeds", lambda row: count_cell(row.ours.n)),
        ("ours", lambda row: number_cell(row.ours.mean, mean_and_sd(row.ours.mean, row.ours.sd, row.metric))),
        ("paper's", _papers_cell),
        ("difference", lambda row: Cell(row.verdict, None if math.isnan(row.difference) else row.difference)),
    ]
    return table_of(columns, rows)


def _papers_cell(row: PaperRow) -> Cell:
    if math.isnan(row.mean):
        return Cell(row.says or "words only")
    return Cell(mean_and_sd(row.mean, row.sd, row.metric), row.mean)


def _rows_of(setting: Setting) -> list[PaperRow]:
    """Return the rows of a setting: usually one, more if several items of a paper are this same setting."""
    parts: dict[tuple[str, str], tuple[Mapping[str, Any], list[Run]]] = {}
    for run in setting.runs:
        for node in _nodes_of(run):
            parts.setdefault((str(node["source"]), str(node.get("item"))), (node, []))[1].append(run)
    rows = []
    for (source, item), (node, runs) in parts.items():
        part = replace(setting, runs=tuple(runs))
        row = row_in_conf(runs[0], item)
        metric = str(node.get("metric", "test/accuracy"))
        node = {**(node if row is None else row.node), "metric": metric}
        has_number = math.isfinite(_number(node.get("mean")))
        differs = _differences(part, row, source) if has_number else ()
        ours = statistics(part, metric)
        rows.append(_row(node, setting.label, ours, smoke=part.smoke, differs=differs))
    return rows


def _nodes_of(run: Run) -> list[Mapping[str, Any]]:
    """Return the published numbers that a run aims at, as in its record."""
    nodes = _nodes(run.record.config.get("paper"))
    return [
        node
        for node, where in nodes
        if all(key in run.flat and run.flat[key] == value for key, value in where.items())
    ]


def row_in_conf(run: Run, item: str | None = None) -> Published | None:
    """Return the row in conf/ that a run aims at, or its row `item`; its own experiment comes first."""
    found = [
        row
        for node in _nodes_of(run)
        for row in published(str(node["source"]))
        if row.node["item"] == node["item"] and item in (None, node["item"])
    ]
    return min(found, key=lambda row: row.experiment != run.record.choices.get("experiment"), default=None)


def _differences(setting: Setting, row: Published | None, source: str) -> tuple[str, ...]:
    if setting.smoke or not setting.completed:
        return ()
    if row is None:
        return (f"conf/experiment/{source} has no such row",)
    lines = [differences(run, row.experiment, row.overrides) for run in setting.completed]
    return tuple(dict.fromkeys(itertools.chain(*lines)))


def _nodes(node: Any) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Return the published numbers of a `paper` node, each with the values by key that a run of it has."""
    if not isinstance(node, Mapping) or not node.get("source") or not node.get("item"):
        return []  # claims alone are no row
    rows = node.get("rows")
    if not isinstance(rows, list):
        return [(node, {})]
    whole = [row for row in rows if isinstance(row, Mapping) and isinstance(row.get("where"), Mapping)]
    return [({**node, **row}, row["where"]) for row in whole]


def _row(
    node: Mapping[str, Any],
    setting: str,
    ours: Statistics,
    *,
    smoke: bool,
    command: str = "",
    differs: tuple[str, ...] = (),
) -> PaperRow:
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
        command=command,
        other_data=str(node.get("other_data") or ""),
        differs=differs,
    )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan
