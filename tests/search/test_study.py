"""What is drawn, told and drawn again: studies without a run."""

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
from tempo.sweep.search.sampler import DistinctSampler  # noqa: E402
from tempo.sweep.search.space import Space, parse_space  # noqa: E402
from tempo.sweep.search.study import Drawn, Plan, SearchStudy  # noqa: E402
from tempo.trainer.search_trial import storage_url  # noqa: E402

FINITE = ("a=1,2,3", "b=x,y", "c=range(0,2)")
STATE = optuna.trial.TrialState


def space(*arguments: str) -> Space:
    return parse_space(OverridesParser.create(), arguments, {})


def study(folder: Path, *arguments: str, storage: str = "journal", **changes: Any) -> SearchStudy:
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


def record(status: str, value: float | None = None, reason: str = "") -> RunRecord:
    objective = {} if value is None else {"value": value}
    return RunRecord(
        config={}, config_hash="", overrides=[], seed=0, status=status, objective=objective, reason=reason
    )


def loss(values: Any) -> float:
    return float((values["a"] - 2) ** 2 + (values["b"] == "x") + values["c"])


def search(one: SearchStudy, n: int, of: Callable[[Any], float] = loss) -> list[Drawn]:
    drawn = []
    while len(drawn) < n and (each := one.draw()) is not None:
        one.tell(each.number, record("completed", of(each.values)))
        drawn.append(each)
    return drawn


@pytest.mark.parametrize(("sampler", "seed"), [("random", 0), ("random", 1), ("tpe", 0), ("gp", 0)])
def test_no_point_of_a_finite_space_is_drawn_twice(tmp_path: Path, sampler: str, seed: int) -> None:
    axes = FINITE[:2] if sampler == "gp" else FINITE
    values = ((1, 2, 3), "xy", (0, 1))[: len(axes)]
    one = study(tmp_path, *axes, sampler=sampler, seed=seed)
    drawn = search(one, 100, lambda values: values["a"])
    points = {tuple(each.values.values()) for each in drawn}
    assert points == set(itertools.product(*values))
    assert len(drawn) == len(points)
    assert one.draw() is None
    assert study(tmp_path, *axes, sampler=sampler, seed=seed).draw() is None


@st.composite
def axes(draw: st.DrawFn) -> tuple[str, ...]:
    """One or two axes: numbers, words, ranges up and down, whole numbers, on a log scale too."""
    values = st.sampled_from(
        ("1e-2,1e-3,0.1", "x,y", "true,false", "range(0,4)", "range(0.5,0.1,-0.2)", "int(interval(1,3))",
         "tag(log,int(interval(1,4)))")
    )  # fmt: skip
    found = draw(st.lists(values, min_size=1, max_size=2))
    return tuple(f"{name}={each}" for name, each in zip("ab", found, strict=False))


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
    """Whatever becomes of the trials, and though the search is opened anew after each fifth."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = []
        for ending in itertools.cycle(ends):
            if len(drawn) % 5 == 0:
                one = study(Path(folder), *arguments, sampler=sampler, seed=seed)
            each = one.draw()
            if each is None:
                break
            drawn.append(one.space.point(each.values))
            if ending != "running":
                one.tell(each.number, record(ending, 0.5 if ending == "completed" else math.nan))
        assert len(drawn) == len(set(drawn)) == one.space.size


def test_points_that_are_running_are_not_drawn_again(tmp_path: Path) -> None:
    one = study(tmp_path)
    drawn = [one.draw() for _ in range(13)]
    assert drawn.pop() is None
    assert len({tuple(each.values.values()) for each in drawn if each}) == 12


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_a_search_that_is_cut_draws_what_it_would_have_drawn(tmp_path: Path, sampler: str) -> None:
    continuous = ("a=tag(log, interval(1e-3, 10))", "b=x,y", "c=range(0,9)")
    folders = [tmp_path / name for name in ("whole", "cut", "other")]
    for each in folders:
        each.mkdir()
    whole = search(study(folders[0], *continuous, sampler=sampler), 5)
    cut = [search(study(folders[1], *continuous, sampler=sampler), 1)[0] for _ in range(5)]
    other = search(study(folders[2], *continuous, sampler=sampler, seed=1), 2)
    assert cut == whole
    assert [each.values for each in other] != [each.values for each in whole[:2]]


def test_the_draw_of_what_is_left_is_even() -> None:
    """Every point that is left has the same chance: the k-th of them in the order of all points."""
    found = space(*FINITE)
    points = list(itertools.product((1, 2, 3), "xy", (0, 1)))
    sampler = DistinctSampler(found, "random", 0, 0)

    class Counter:
        def __init__(self, at: int) -> None:
            self.at = at

        def integers(self, n: int) -> int:
            assert n == left
            return self.at

    for known in ([], points[:3], points[::2], points[5:], points[1:]):
        sampler.known = set(known)
        rest = [each for each in points if each not in known]
        left = len(rest)
        got = [sampler._any_new(Counter(k)) for k in range(left)]  # type: ignore[arg-type]
        assert [found.point(each) for each in got] == rest


def test_a_trial_that_was_cut_goes_on_under_its_number(tmp_path: Path) -> None:
    one = study(tmp_path)
    first, second = one.draw(), one.draw()
    assert first is not None
    assert second is not None
    one.tell(first.number, record("completed", 1.0))
    one.tell(second.number, record("interrupted"))
    again = study(tmp_path)
    assert again.open_trials() == [second]
    assert again.results == 1
    again.tell(second.number, record("completed", 0.5))
    assert again.study.best_trial.number == second.number
    assert study(tmp_path).open_trials() == []


def test_a_trial_that_was_cut_while_it_was_drawn_is_closed(tmp_path: Path) -> None:
    one = study(tmp_path)
    one.study._storage.create_new_trial(one.study._study_id)
    assert one.open_trials() == []
    one.queue_failed()
    drawn = search(one, 100)
    assert len(drawn) == 12
    assert [each.state for each in one.study.trials][:2] == [STATE.FAIL, STATE.COMPLETE]


def test_a_failed_point_is_queued_once_a_command(tmp_path: Path) -> None:
    one = study(tmp_path)
    failed = one.draw()
    assert failed is not None
    one.tell(failed.number, record("failed", reason="out of luck"))
    assert one.results == 0
    search(one, 2)
    one.queue_failed()
    one.queue_failed()
    again, new = one.draw(), one.draw()
    assert again is not None
    assert new is not None
    assert again.values == failed.values
    assert new.values != failed.values
    one.tell(again.number, record("completed", 0.0))
    one.queue_failed()
    assert len(search(one, 100)) == 12 - 4


def test_what_became_of_a_run_is_what_the_study_knows(tmp_path: Path) -> None:
    one = study(tmp_path)
    ends = {
        "completed": (STATE.COMPLETE, 0.25),
        "pruned": (STATE.PRUNED, None),
        "diverged": (STATE.PRUNED, None),
        "failed": (STATE.FAIL, None),
    }
    for status, (state, value) in ends.items():
        drawn = one.draw()
        assert drawn is not None
        one.tell(drawn.number, record(status, 0.25 if status == "completed" else math.nan, f"so it {status}"))
        told = one.study.trials[drawn.number]
        assert (told.state, told.value) == (state, value)
        assert told.user_attrs["status"] == status
        assert told.user_attrs["reason"] == f"so it {status}"
    drawn = one.draw()
    assert drawn is not None
    one.tell(drawn.number, record("completed", math.nan))
    assert one.study.trials[drawn.number].state == STATE.FAIL
    assert one.results == 3


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
    study(tmp_path)
    with pytest.raises(UserError, match=r"was made for .*, and this is .*study_name=") as caught:
        study(tmp_path, *change.pop("arguments", FINITE), **change)
    assert "\n" not in str(caught.value)


def test_a_foreign_study_and_one_of_another_folder_are_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    optuna.create_study(study_name="theirs", storage=url).add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(UserError, match="something else than a search of tempo"):
        study(tmp_path / "a", storage=url, study="theirs")
    study(tmp_path / "a", storage=url)
    study(tmp_path / "a", storage=url)
    with pytest.raises(UserError, match="folder"):
        study(tmp_path / "b", storage=url)


@pytest.mark.parametrize(
    "storage", ["sqlite:////nowhere/at/all.db", "nonsense", "postgresql://me:secret@127.0.0.1:1/x"]
)
def test_a_storage_that_cannot_be_used_is_one_line_without_the_password(tmp_path: Path, storage: str) -> None:
    with pytest.raises(UserError, match="cannot be used") as caught:
        study(tmp_path, storage=storage)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("storage", "name"), [("sqlite", "study.db"), ("journal", "study.journal")])
def test_a_file_in_the_folder_of_the_sweep_holds_the_study(tmp_path: Path, storage: str, name: str) -> None:
    search(study(tmp_path, storage=storage), 5)
    assert (tmp_path / name).is_file()
    assert len(search(study(tmp_path, storage=storage), 100)) == 7


def test_any_user_of_optuna_can_open_the_study(tmp_path: Path) -> None:
    search(study(tmp_path, storage="sqlite"), 4)
    theirs = optuna.load_study(study_name="test", storage=f"sqlite:///{tmp_path}/study.db")
    assert len(theirs.trials) == 4
    assert theirs.best_value == min(loss(each.params) for each in theirs.trials)
    assert set(theirs.trials[0].params) == {"a", "b", "c"}


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_sampler_that_learns_finds_a_minimum(tmp_path: Path, sampler: str) -> None:
    """(log10 x + 2)^2 over six decades, where most random draws are more than a decade away."""
    one = study(tmp_path, "x=tag(log, interval(1e-5, 10))", sampler=sampler, startup_trials=5)
    n = 10 if sampler == "gp" else 30
    drawn = search(one, n, lambda values: (math.log10(values["x"]) + 2) ** 2)
    best = min(drawn, key=lambda each: abs(math.log10(each.values["x"]) + 2))
    assert best.values["x"] == pytest.approx(1e-2, rel=0.2)


def test_importance_is_that_of_the_axis_that_matters(tmp_path: Path) -> None:
    one = study(tmp_path, "a=interval(0,1)", "b=interval(0,1)")
    assert one.importance() == {}
    search(one, 30, lambda values: values["a"] ** 2)
    shares = one.importance()
    assert shares["a"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)


def test_what_a_report_is_told(tmp_path: Path) -> None:
    one = study(tmp_path, "a=interval(0,1)", "b=tag(log, interval(1,2))")
    drawn = one.draw()
    assert drawn is not None
    one.place(drawn.number, "a=1,b=2")
    one.tell(drawn.number, record("completed", 0.5))
    told = one.as_plain(importance=False)
    assert (told["sampler"], told["pruner"], told["mode"], told["log_axes"]) == (
        "random",
        "none",
        "min",
        ["b"],
    )
    assert told["trials"] == [
        {
            "number": 0,
            "folder": "a=1,b=2",
            "status": "completed",
            "reason": "",
            "values": drawn.values,
            "value": 0.5,
            "by_epoch": {},
        }
    ]
