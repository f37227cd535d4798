"""Judge what a paper claims in words by a stated rule, on the runs of a report.

A file of conf/experiment/SOURCE lists claims in its `paper` node: `claims: [{says: "1e-3 is bad", key:
optimizer.wd, value: 1e-3, is: worse, than: [1e-4, 1e-5]}, ..]`. The key may also be a group, whose options
are compared (`key: optimizer, value: adam`). `of` is the quantity compared (see `quantity`), by default the
node's `metric`. `untested: "why"` takes the place of the key and its values if no record can tell.

`RULE` says when a claim holds. One about several values holds if it holds for each, and does not hold if it
fails for one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit  # type: ignore[import-untyped]

from tempo.config.schema import SMOKE
from tempo.report.comparability import differences, listed
from tempo.report.load_runs import Run
from tempo.report.number_format import canonical, human
from tempo.report.published_numbers import paper_nodes, row_in_conf
from tempo.report.quantity import Quantity, quantity
from tempo.report.results_table import Cell, Columns, Table, table_of, text_cell
from tempo.report.statistics import EQUAL_BELOW, describe

HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "cannot be told"
RULE = (
    "Differences are paired over common seeds (Student's t). Better or worse holds if the 99 % interval is "
    "on that side of zero. Like holds if the 90 % interval is within the margin (two one-sided tests, TOST, "
    "at 5 %); no worse holds if its lower end is. A claim does not hold if the interval is on the wrong side "
    "(for like and no worse: the 95 % interval is outside). Otherwise it cannot be told. Nothing is "
    "corrected for the number of claims."
)
"""When a claim holds, for a reader of a report."""
RELATIONS = ("better", "worse", "like", "no worse")
WITHIN = 0.01
"""Largest difference that counts as equal, if a claim does not name its own: one percentage point."""
DIFFERENCE, EQUIVALENCE, OUTSIDE = 0.99, 0.90, 0.95
"""Confidence of the intervals of the rule."""


@dataclass(frozen=True)
class Claim:
    """A claim of a paper: the quantity of runs with one value of a key in relation to those with `others`."""

    source: str
    says: str
    of: Quantity
    key: str
    value: Any
    relation: str
    others: tuple[Any, ...]
    within: float
    untested: str
    item: str
    """The row or figure whose runs it is about; empty for any."""

    @property
    def words(self) -> str:
        """The claim as it is tested."""
        if self.untested:
            return "not tested"
        others = ", ".join(map(self.named, self.others))
        margin = f" within {self.of.text(self.within)}{self.of.unit}" if self.is_equivalence else ""
        relation = "like" if self.relation == "like" else f"{self.relation} than"
        return f"{self.of.name}: {self.named(self.value)} {relation} {others}{margin}"

    @property
    def confidence(self) -> float:
        """Confidence of the interval that decides whether it holds."""
        return EQUIVALENCE if self.is_equivalence else DIFFERENCE

    def named(self, value: Any) -> str:
        """Name the setting with a value of the key: `wd=1e-4`, or the option of a group alone."""
        if "." not in self.key:
            return str(value).rpartition("/")[2]
        return f"{self.key.rpartition('.')[2]}={human(value)}"

    @property
    def is_equivalence(self) -> bool:
        """Whether a difference within a margin counts as none."""
        return self.relation in ("like", "no worse")


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict and the numbers behind it."""

    claim: Claim
    verdict: str
    evidence: str
    elsewhere: tuple[str, ...] = ()
    """What the runs have otherwise than the paper."""

    @property
    def words(self) -> str:
        """One line for the terminal."""
        claim = self.claim
        return (
            f'{claim.source} says "{claim.says}" ({claim.words}): {self.verdict}: {self.evidence}{self.note}'
        )

    @property
    def note(self) -> str:
        """Whether the runs have the paper's setting, as the end of a line."""
        return f"; not the paper's setting: {listed(self.elsewhere)}" if self.elsewhere else ""


@dataclass(frozen=True)
class Paired:
    """Mean, standard deviation and number of differences over common seeds, positive for the better side."""

    mean: float
    sd: float
    n: int

    def half_width(self, confidence: float) -> float:
        """Return half of the interval: t(n - 1) sd / sqrt(n); NaN for one seed or equal differences."""
        if self.n < 2 or self.sd < EQUAL_BELOW:
            return math.nan
        return float(stdtrit(self.n - 1, 0.5 + confidence / 2)) * self.sd / math.sqrt(self.n)

    def judge(self, relation: str, within: float) -> str:
        """Return the verdict of the rule in the module's docstring; comparisons with NaN are false."""
        if relation in ("better", "worse"):
            sign, half = (1 if relation == "better" else -1), self.half_width(DIFFERENCE)
            holds, fails = sign * self.mean > half, -sign * self.mean > half
        else:
            inner, outer = self.half_width(EQUIVALENCE), self.half_width(OUTSIDE)
            holds = self.mean - inner > -within and (relation == "no worse" or self.mean + inner < within)
            fails = self.mean + outer < -within or (relation == "like" and self.mean - outer > within)
        return HOLDS if holds else FAILS if fails else UNKNOWN


def judged_claims(runs: Sequence[Run], asked: str | None = None) -> list[Judged]:
    """Judge the claims of the papers that the runs aim at, as far as the runs have both sides of them.

    With `asked` (`mnist2024/optimizers`), judge all claims of these files instead.

    Raises:
        UserError: a file of the paper is not YAML.
    """
    if asked is not None:
        source, _, start = asked.strip("/").partition("/")
        found = [node for name, node in paper_nodes(source) if name.rpartition("/")[2].startswith(start)]
        return [judge(claim, runs) for node in found for claim in claims_of(node, runs)]
    sources = sorted({str(_paper(run).get("source", "")) for run in runs} - {""})
    claims = [
        claim for source in sources for _, node in paper_nodes(source) for claim in claims_of(node, runs)
    ]
    return [judge(claim, runs) for claim in claims if is_about(claim, runs)]


def claims_table(judged: Sequence[Judged]) -> Table:
    """Return one row per claim: the words, the test, the verdict, the numbers."""
    columns: Columns[Judged] = [
        ("the paper says", lambda row: text_cell(row.claim.says)),
        ("tested as", lambda row: text_cell(row.claim.words)),
        ("verdict", lambda row: text_cell(row.verdict)),
        ("differences", lambda row: Cell(row.evidence + row.note)),
    ]
    return table_of(columns, judged)


def claims_of(node: Any, runs: Sequence[Run] = ()) -> list[Claim]:
    """Return the claims of a `paper` node; entries that are not claims are left out.

    `runs` of the node's item may have another `paper.metric` than conf/.
    """
    if not isinstance(node, Mapping) or not isinstance(node.get("claims"), list):
        return []
    item = str(node.get("item", ""))
    metrics = [_paper(run).get("metric") for run in runs if item and _paper(run).get("item") == item]
    metric = str(next(filter(None, metrics), node.get("metric", "test/accuracy")))
    entries = [entry for entry in node["claims"] if isinstance(entry, Mapping)]
    return [
        Claim(
            source=str(node.get("source", "")),
            item=item,
            says=str(entry.get("says", "")),
            of=quantity(str(entry.get("of", metric))),
            key=str(entry.get("key", "")),
            value=entry.get("value"),
            relation=str(entry.get("is", "")),
            others=tuple(entry.get("than", ())),
            within=float(entry.get("within", WITHIN)),
            untested=str(entry.get("untested", "")),
        )
        for entry in entries
        if entry.get("is") in RELATIONS or "untested" in entry
    ]


def is_about(claim: Claim, runs: Sequence[Run]) -> bool:
    """Whether some run belongs to each side of the claim."""
    return not claim.untested and all(_matching(claim, value, runs) for value in (claim.value, *claim.others))


def judge(claim: Claim, runs: Sequence[Run]) -> Judged:
    """Judge a claim on completed runs, paired by seed."""
    if claim.untested:
        return Judged(claim, UNKNOWN, claim.untested)
    mine = _matching(claim, claim.value, runs)
    verdicts, evidence, counts, elsewhere = [], [], [], _elsewhere(claim, claim.value, mine)
    for other in claim.others:
        theirs = _matching(claim, other, runs)
        if any(run.smoke for run in (*mine, *theirs)):
            return Judged(claim, UNKNOWN, SMOKE)
        paired = _paired(claim.of, mine, theirs)
        verdicts.append(paired.judge(claim.relation, claim.within))
        evidence.append(_evidence(claim, paired, other))
        counts.append(paired.n)
        elsewhere += _elsewhere(claim, other, theirs)
    verdict = FAILS if FAILS in verdicts else UNKNOWN if UNKNOWN in verdicts else HOLDS
    numbers = ", ".join(evidence) + _interval_words(claim, counts)
    return Judged(claim, verdict, numbers, tuple(dict.fromkeys(elsewhere)))


def _elsewhere(claim: Claim, value: Any, runs: Sequence[Run]) -> list[str]:
    """Return what the runs have otherwise than the paper, apart from the values that the claim compares."""
    swept = [f"{claim.key}={human(value)}"] if "." in claim.key else []
    lines = []
    for run in runs:
        row = row_in_conf(run)
        lines += ["runs of none of its rows"] if row is None else differences(run, row.experiment, swept)
    return lines


def _matching(claim: Claim, value: Any, runs: Sequence[Run]) -> list[Run]:
    return [
        run
        for run in runs
        if run.record.status == "completed"
        and claim.item in ("", _paper(run).get("item"))
        and canonical(run.record.choices.get(claim.key, run.flat.get(claim.key))) == canonical(value)
    ]


def _paper(run: Run) -> Mapping[str, Any]:
    node = run.record.config.get("paper")
    return node if isinstance(node, Mapping) else {}


def _paired(of: Quantity, mine: Sequence[Run], theirs: Sequence[Run]) -> Paired:
    first, second = _by_seed(of, mine), _by_seed(of, theirs)
    common = sorted(first.keys() & second.keys())
    sign = 1 if of.more_is_better else -1
    found = describe([sign * (first[seed] - second[seed]) for seed in common])
    return Paired(found.mean, found.sd, found.n)


def _evidence(claim: Claim, paired: Paired, other: Any) -> str:
    """Return the difference to another value and half of its interval."""
    of, sign = claim.of, 1 if claim.of.more_is_better else -1
    if not paired.n:
        return f"no common seed with {claim.named(other)}"
    half = paired.half_width(claim.confidence)
    interval = "" if math.isnan(half) else f" ± {of.text(half)}"
    return f"{of.text(sign * paired.mean, sign=True)}{interval} to {claim.named(other)}"


def _interval_words(claim: Claim, counts: Sequence[int]) -> str:
    if not any(counts):
        return ""
    seeds = " and ".join(map(str, dict.fromkeys(counts)))
    unit = f"{claim.of.unit.strip()}, " * bool(claim.of.unit)
    return f" ({unit}{100 * claim.confidence:.0f} % intervals, n = {seeds})"


def _by_seed(of: Quantity, runs: Sequence[Run]) -> dict[int, float]:
    values: dict[int, list[float]] = {}
    for run in runs:
        if math.isfinite(value := of.value(run)):
            values.setdefault(run.record.seed, []).append(value)
    return {seed: float(np.mean(of_seed)) for seed, of_seed in values.items()}
