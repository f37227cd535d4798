"""What a study draws, learns and draws again, without a run."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

optuna = pytest.importorskip("optuna", reason="Optuna is not installed: pip install -e '.[search]'")

from tempo.errors import UserError  # noqa: E402
from tempo.record.run_json import RunRecord  # noqa: E402
from tempo.sweep.search.optuna_study import Drawn, Plan, SearchStudy  # noqa: E402
from tempo.sweep.search.sampler import DistinctSampler  # noqa: E402
from tempo.sweep.search.space import Space, parse_space  # noqa: E402
from tempo.trainer.optuna_trial import storage_url  # noqa: E402

FINITE = ("a=1,2,3", "b=x,y", "c=range(0,2)")
CONTINUOUS = ("a=tag(log, interval(1e-3, 10))", "b=x,y", "c=range(0,9)")
STATE = optuna.trial.TrialState


def space(*arguments: str) -> Space:
    return parse_space(OverridesParser.create(), arguments, {})


def open_study(folder: Path, *arguments: str, storage: str = "journal", **changes: Any) -> SearchStudy:
    plan = {
        "storage": storage_url(storage, str(folder)),
        "study": "test",
        "direction": "minimize",
        "sampler": "random",
        "startup_trials": 3,
        "pruner": "none",
        "epochs": 9,
        "seed": 0,
        "folder": str(folder),
    }
    return SearchStudy(Plan(**(plan | changes)), space(*(arguments or FINITE)))


def record(status: str, value: float = math.nan, reason: str = "") -> RunRecord:
    found = RunRecord(config={}, config_hash="", overrides=[], seed=0, status=status, reason=reason)
    found.objective = {"value": value}
    return found


def loss(values: Any) -> float:
    return float((values["a"] - 2) ** 2 + (values["b"] == "x") + values["c"])


def draw(study: SearchStudy) -> Drawn:
    drawn = study.draw()
    assert drawn is not None
    return drawn


def search(study: SearchStudy, n: int, of: Callable[[Any], float] = loss) -> list[Drawn]:
    """Draw up to n trials that complete; return them."""
    found = list[Drawn]()
    while len(found) < n and (drawn := study.draw()) is not None:
        study.tell(drawn.number, record("completed", of(drawn.values)))
        found.append(drawn)
    return found


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_each_point_of_a_finite_space_is_drawn_once(tmp_path: Path, sampler: str) -> None:
    axes = FINITE[:2] if sampler == "gp" else FINITE
    values = ((1, 2, 3), "xy", (0, 1))[: len(axes)]
    study = open_study(tmp_path, *axes, sampler=sampler)
    points = [tuple(drawn.values.values()) for drawn in search(study, 100, lambda values: values["a"])]
    assert sorted(points) == sorted(itertools.product(*values))
    assert study.draw() is None
    assert open_study(tmp_path, *axes, sampler=sampler).draw() is None


@st.composite
def axes(draw: st.DrawFn) -> tuple[str, ...]:
    """One or two axes: numbers, words, ranges up and down, whole numbers, on a log scale too."""
    values = st.sampled_from(
        ("1e-2,1e-3,0.1", "x,y", "true,false", "range(0,4)", "range(0.5,0.1,-0.2)", "int(interval(1,3))",
         "tag(log,int(interval(1,4)))")
    )  # fmt: skip
    found = draw(st.lists(values, min_size=1, max_size=2))
    return tuple(f"{name}={text}" for name, text in zip("ab", found, strict=False))


@hypothesis.settings(max_examples=10, deadline=None, derandomize=True)
@hypothesis.given(
    arguments=axes(),
    sampler=st.sampled_from(("random", "tpe")),
    seed=st.integers(0, 99),
    ends=st.lists(st.sampled_from(("completed", "pruned", "diverged", "failed", "running")), min_size=1),
)
def test_every_point_of_any_finite_space_is_drawn_once(
    arguments: tuple[str, ...], sampler: str, seed: int, ends: list[str]
) -> None:
    """However the trials end, even if they are still running, and if the study is opened again and again."""
    with tempfile.TemporaryDirectory() as folder:
        points = []
        for ending in itertools.cycle(ends):
            if len(points) % 5 == 0:
                study = open_study(Path(folder), *arguments, sampler=sampler, seed=seed)
            drawn = study.draw()
            if drawn is None:
                break
            points.append(study.space.point(drawn.values))
            if ending != "running":
                study.tell(drawn.number, record(ending, 0.5 if ending == "completed" else math.nan))
        assert len(points) == len(set(points)) == study.space.size


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_an_interrupted_search_draws_what_it_would_have_drawn(tmp_path: Path, sampler: str) -> None:
    folders = [tmp_path / name for name in ("whole", "cut", "other")]
    for folder in folders:
        folder.mkdir()
    whole = search(open_study(folders[0], *CONTINUOUS, sampler=sampler), 5)
    cut = [search(open_study(folders[1], *CONTINUOUS, sampler=sampler), 1)[0] for _ in range(5)]
    other = search(open_study(folders[2], *CONTINUOUS, sampler=sampler, seed=1), 2)
    assert cut == whole
    assert [drawn.values for drawn in other] != [drawn.values for drawn in whole[:2]]


def test_all_points_that_are_left_have_the_same_chance() -> None:
    """The k-th of them, in the order of all points, follows from a draw of k."""
    found = space(*FINITE)
    points = list(itertools.product((1, 2, 3), "xy", (0, 1)))
    sampler = DistinctSampler(found, "random", 0, 0)

    class Counter:
        def __init__(self, k: int) -> None:
            self.k = k

        def integers(self, n: int) -> int:
            assert n == len(left)
            return self.k

    for known in ([], points[:3], points[::2], points[5:], points[1:]):
        sampler.known = set(known)
        left = [point for point in points if point not in known]
        drawn = [sampler._draw_unknown(Counter(k)) for k in range(len(left))]  # type: ignore[arg-type]
        assert [found.point(values) for values in drawn] == left


def test_an_interrupted_trial_resumes_under_its_number(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    first, second = draw(study), draw(study)
    study.tell(first.number, record("completed", 1.0))
    study.tell(second.number, record("interrupted"))
    again = open_study(tmp_path)
    assert again.open_trials() == [second]
    assert again.numbers_with_result() == {first.number}
    again.tell(second.number, record("completed", 0.5))
    assert again.study.best_trial.number == second.number
    assert open_study(tmp_path).open_trials() == []


def test_a_trial_that_was_interrupted_while_it_was_drawn_is_closed(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    study.study._storage.create_new_trial(study.study._study_id)
    assert study.open_trials() == []
    study.queue_failed()
    assert len(search(study, 100)) == 12
    assert [trial.state for trial in study.study.trials][:2] == [STATE.FAIL, STATE.COMPLETE]


def test_a_failed_point_is_queued_once_per_command(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    failed = draw(study)
    study.tell(failed.number, record("failed", reason="out of luck"))
    assert study.numbers_with_result() == set()
    search(study, 2)
    study.queue_failed()
    study.queue_failed()
    again, new = draw(study), draw(study)
    assert (again.values == failed.values, new.values == failed.values) == (True, False)
    study.tell(again.number, record("completed", 0.0))
    study.queue_failed()
    assert len(search(study, 100)) == 12 - 4


@pytest.mark.parametrize(
    ("status", "value", "state"),
    [
        ("completed", 0.25, STATE.COMPLETE),
        ("completed", math.nan, STATE.FAIL),
        ("pruned", math.nan, STATE.PRUNED),
        ("diverged", math.nan, STATE.PRUNED),
        ("failed", math.nan, STATE.FAIL),
        ("interrupted", math.nan, STATE.RUNNING),
    ],
)
def test_the_study_learns_how_a_run_ended(tmp_path: Path, status: str, value: float, state: Any) -> None:
    study = open_study(tmp_path)
    number = draw(study).number
    study.tell(number, record(status, value, f"so it {status}"))
    trial = study.study.trials[number]
    assert (trial.state, trial.value) == (state, 0.25 if state == STATE.COMPLETE else None)
    assert trial.user_attrs == {"status": status, "reason": f"so it {status}"}
    assert study.numbers_with_result() == ({number} if state in (STATE.COMPLETE, STATE.PRUNED) else set())


@pytest.mark.parametrize(
    "change",
    [
        {"direction": "maximize"},
        {"arguments": ("a=1,2,3", "b=x,z", "c=range(0,2)")},
        {"arguments": ("a=1,2,3", "b=x,y")},
        {"arguments": (*FINITE, "model=mlp")},
    ],
)
def test_a_study_of_another_search_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    open_study(tmp_path)
    with pytest.raises(UserError, match=r"was made for .*, and this is .*study_name=") as caught:
        open_study(tmp_path, *change.pop("arguments", FINITE), **change)
    assert "\n" not in str(caught.value)


def test_a_foreign_study_and_one_of_another_folder_are_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    optuna.create_study(study_name="theirs", storage=url).add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(UserError, match="something other than a tempo search"):
        open_study(tmp_path / "a", storage=url, study="theirs")
    for _ in range(2):
        open_study(tmp_path / "a", storage=url)
    with pytest.raises(UserError, match="folder"):
        open_study(tmp_path / "b", storage=url)


@pytest.mark.parametrize(
    "storage", ["sqlite:////nowhere/at/all.db", "nonsense", "postgresql://me:secret@127.0.0.1:1/x"]
)
def test_a_storage_that_cannot_be_used_is_one_line_without_the_password(tmp_path: Path, storage: str) -> None:
    with pytest.raises(UserError, match="cannot be used") as caught:
        open_study(tmp_path, storage=storage)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_any_user_of_optuna_can_open_the_study(tmp_path: Path) -> None:
    search(open_study(tmp_path, storage="sqlite"), 4)
    theirs = optuna.load_study(study_name="test", storage=f"sqlite:///{tmp_path}/study.db")
    assert len(theirs.trials) == 4
    assert theirs.best_value == min(loss(trial.params) for trial in theirs.trials)
    assert set(theirs.trials[0].params) == {"a", "b", "c"}
    assert len(search(open_study(tmp_path, storage="sqlite"), 100)) == 8


@pytest.mark.parametrize(("sampler", "n"), [("tpe", 30), ("gp", 10)])
def test_a_sampler_that_learns_finds_a_minimum(tmp_path: Path, sampler: str, n: int) -> None:
    """(log10 x + 2)^2 over six decades, where most random draws are more than a decade away."""
    study = open_study(tmp_path, "x=tag(log, interval(1e-5, 10))", sampler=sampler, startup_trials=5)
    drawn = search(study, n, lambda values: (math.log10(values["x"]) + 2) ** 2)
    best = min(drawn, key=lambda trial: abs(math.log10(trial.values["x"]) + 2))
    assert best.values["x"] == pytest.approx(1e-2, rel=0.2)


def test_importance_is_that_of_the_axis_that_matters(tmp_path: Path) -> None:
    study = open_study(tmp_path, "a=interval(0,1)", "b=interval(0,1)")
    assert study.importance() == {}
    search(study, 30, lambda values: values["a"] ** 2)
    shares = study.importance()
    assert shares["a"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)


def test_what_a_report_reads(tmp_path: Path) -> None:
    study = open_study(tmp_path, "a=interval(0,1)", "b=tag(log, interval(1,2))")
    drawn = draw(study)
    study.note(drawn.number, "run", "a=1,b=2")
    study.tell(drawn.number, record("completed", 0.5))
    plain = study.as_plain(importance=False)
    assert [plain[key] for key in ("sampler", "pruner", "mode", "log_axes")] == [
        "random",
        "none",
        "min",
        ["b"],
    ]
    trial = {"number": 0, "folder": "a=1,b=2", "status": "completed", "reason": "", "values": drawn.values}
    assert plain["trials"] == [{**trial, "value": 0.5, "by_epoch": {}}]
