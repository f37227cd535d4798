"""A paper's words judged by the rule: differences, equivalence (TOST), and what cannot be told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from tempo.paths import CONF, ROOT
from tempo.report.claims import FAILS, HOLDS, UNKNOWN, Claim, claims_of, judge, judged_claims
from tempo.report.load_runs import Run, load
from tempo.report.markdown import markdown
from tempo.report.published_numbers import paper_nodes
from tempo.report.quantity import quantity
from tempo.report.sections import content_of, sections_of
from tests.report.example_runs import screen_text, write_run

RESULTS = ROOT / "docs" / "results"
WORSE = {"says": "1e-3 is bad", "key": "optimizer.wd", "value": 1e-3, "is": "worse", "than": [1e-4]}


def claim(**changes: Any) -> Claim:
    node = {"source": "radiuk2020", "metric": "test/accuracy", "claims": [{**WORSE, **changes}]}
    (found,) = claims_of(node)
    return found


def runs_of(folder: Path, accuracies: dict[float, Sequence[float]], **more: Any) -> list[Run]:
    """Runs of each weight decay, one per seed."""
    for wd, of_seeds in accuracies.items():
        for seed, test in enumerate(of_seeds):
            write_run(folder / f"{wd}_{seed}", seed=seed, test=test, optimizer__wd=wd, **more)
    return load([folder]).runs


BASE = (0.80, 0.82, 0.84, 0.81)


def moved(*points: float) -> list[float]:
    """The accuracies of `BASE`, moved by these percentage points."""
    return [value + point / 100 for value, point in zip(BASE, points, strict=True)]


@pytest.mark.parametrize(
    ("relation", "points", "verdict"),
    [
        ("worse", (-3.0, -3.1, -2.9, -3.0), HOLDS),
        ("worse", (3.0, 3.1, 2.9, 3.0), FAILS),
        ("worse", (-3.0, -0.1, -2.9, 0.2), UNKNOWN),
        ("better", (3.0, 3.1, 2.9, 3.0), HOLDS),
        ("better", (1.0, 2.0, 3.0, 1.6), UNKNOWN),  # p = 0.019: the 95 % interval would do, the 99 % does not
        ("better", (-3.0, -3.1, -2.9, -3.0), FAILS),
        ("like", (0.3, -0.2, 0.1, -0.1), HOLDS),
        ("like", (1.0, -1.2, 1.1, -1.1), UNKNOWN),  # no difference is seen, and none is shown
        ("like", (3.0, 3.1, 2.9, 3.0), FAILS),
        ("no worse", (3.0, 3.1, 2.9, 3.0), HOLDS),
        ("no worse", (-3.0, -3.1, -2.9, -3.0), FAILS),
        ("no worse", (-0.9, 1.2, -1.0, 0.2), UNKNOWN),
        ("like", (0.0, 0.0, 0.0, 0.0), UNKNOWN),  # equal differences give no interval
    ],
)
def test_the_rule(tmp_path: Path, relation: str, points: tuple[float, ...], verdict: str) -> None:
    """Against the p values of SciPy: |t| test at 1 %, and two one-sided tests at 5 %."""
    runs = runs_of(tmp_path, {1e-4: BASE, 1e-3: moved(*points)})
    assert judge(claim(**{"is": relation}), runs).verdict == verdict
    if verdict == UNKNOWN and not any(points):
        return
    if relation in ("better", "worse"):
        p = stats.ttest_1samp(points, 0).pvalue
        assert (p < 0.01) == (verdict != UNKNOWN)
    else:
        above = stats.ttest_1samp(points, -1, alternative="greater").pvalue
        below = stats.ttest_1samp(points, 1, alternative="less").pvalue
        p = above if relation == "no worse" else max(above, below)
        assert (p < 0.05) == (verdict == HOLDS)


def test_a_claim_about_several_values_holds_for_each_of_them(tmp_path: Path) -> None:
    better, wide = moved(3.0, 3.1, 2.9, 3.0), moved(-3.0, 4.0, 1.0, 2.0)
    runs = runs_of(tmp_path, {1e-3: BASE, 1e-4: better, 1e-5: wide, 1e-6: moved(-3.0, -3.1, -2.9, -3.0)})
    assert judge(claim(than=[1e-4]), runs).verdict == HOLDS
    assert judge(claim(than=[1e-4, 1e-5]), runs).verdict == UNKNOWN
    assert judge(claim(than=[1e-4, 1e-5, 1e-6]), runs).verdict == FAILS


def test_seeds_pair_and_one_seed_tells_nothing(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, {1e-3: BASE[:1], 1e-4: moved(3.0, 3.1, 2.9, 3.0)})
    judged = judge(claim(), runs)
    assert (judged.verdict, judged.evidence) == (
        UNKNOWN,
        "-3.00 to wd=1e-4 (percentage points, 99 % intervals, n = 1)",
    )
    assert judge(claim(than=[1e-5]), runs).evidence == "no common seed with wd=1e-5"


def test_a_smoke_run_tells_nothing(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, {1e-4: BASE, 1e-3: moved(-3.0, -3.1, -2.9, -3.0)}, scale="smoke")
    assert judge(claim(), runs).words.endswith("cannot be told: SMOKE: not comparable")


def test_what_no_record_can_tell_says_why() -> None:
    (found,) = claims_of({"source": "x", "claims": [{"says": "minima", "untested": "no minima in a record"}]})
    assert judge(found, []).words == 'x says "minima" (not tested): cannot be told: no minima in a record'


@pytest.mark.parametrize("wrong", [None, {}, {"claims": 3}, {"claims": [3]}, {"claims": [{"is": "nicer"}]}])
def test_a_node_without_claims(wrong: Any) -> None:
    assert claims_of(wrong) == []


def test_quantities_of_a_curve(tmp_path: Path) -> None:
    """Falls of 0.2 and 0.1; 0.75 is reached at the third epoch, 0.95 never: one epoch more than there are."""
    write_run(tmp_path / "a", rows=0)
    accuracies = (0.5, 0.3, 0.8, 0.7, 0.9)
    rows = "".join(f"{10 * n},{n},{n},{value}\n" for n, value in enumerate(accuracies, start=1))
    (tmp_path / "a" / "metrics.csv").write_text(f"step,epoch,seconds,test/accuracy\n{rows}")
    (run,) = load([tmp_path]).runs
    expected = {
        "drops test/accuracy": 0.3,
        "best test/accuracy": 0.9,
        "epochs to test/accuracy=0.75": 3,
        "epochs to test/accuracy=0.95": 6,
        "training seconds": run.train_seconds,
        "test/accuracy": run.metric("test/accuracy"),
    }
    assert {name: quantity(name).value(run) for name in expected} == pytest.approx(expected)
    assert [quantity(name).more_is_better for name in expected] == [False, True, False, False, False, True]
    assert quantity("drops val/accuracy").value(run) != quantity("drops val/accuracy").value(run)  # NaN


def test_a_report_judges_the_claims_that_its_runs_are_about(tmp_path: Path) -> None:
    """Figure 3a on the wrong network and data: the verdict says so."""
    paper = {
        "source": "radiuk2020",
        "item": "Figure 3a",
        "metric": "test/accuracy",
        "mean": None,
        "says": "x",
    }
    runs_of(tmp_path, {1e-4: BASE, 1e-5: BASE, 1e-3: moved(-3.0, -3.1, -2.9, -3.0)}, paper=paper)
    content = content_of([tmp_path], load([tmp_path]))
    assert [(found.claim.says, found.verdict) for found in content.claims] == [
        ("1e-3 is bad", HOLDS),
        ("1e-4 slightly better than 1e-5", UNKNOWN),
    ]  # 3e-5 was not run
    (section,) = [section for section in sections_of(content, []) if section.name == "claims"]
    table = markdown(section.blocks[0])  # type: ignore[arg-type]
    assert "| 1e-3 is bad | test accuracy: wd=1e-3 worse than wd=1e-4, wd=1e-5 | holds |" in table
    assert "not the paper's setting: data=digits (row: cifar10), model=ResNet (row: resnet32)" in table
    assert 'radiuk2020 says "1e-3 is bad"' in screen_text(tmp_path)
    asked = content_of([tmp_path], load([tmp_path]), paper="radiuk2020/figure3a")
    assert [found.verdict for found in asked.claims] == [HOLDS, UNKNOWN, UNKNOWN]


def test_the_claims_of_mnist2024_on_the_committed_records() -> None:
    """The runs are of the paper's rows, on the official images, so no verdict has a note."""
    judged = judged_claims(load([RESULTS / "mnist2024"]).runs)
    assert {found.claim.says: found.verdict for found in judged} == {
        "SGD is slow": HOLDS,
        "SGD is less stable": FAILS,
        "RMSprop converges steadily and is stable": UNKNOWN,
        "RMSprop has a better figure": HOLDS,
        "Adam usually converges fastest": UNKNOWN,
        "Adam often reaches the highest test accuracy": UNKNOWN,
    }
    assert [found.note for found in judged] == [""] * len(judged)


@pytest.mark.parametrize("source", sorted(path.name for path in (CONF / "experiment").iterdir()))
def test_every_claim_in_conf_can_be_read(source: str) -> None:
    for name, node in paper_nodes(source):
        if isinstance(node, dict) and "claims" in node:
            assert len(claims_of(node)) == len(node["claims"]), name
