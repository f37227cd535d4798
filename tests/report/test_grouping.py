"""Which runs form a setting, and the keys that name it; how values are written for a reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tempo.report.grouping import ABSENT, differing, group, shared, value_of
from tempo.report.load_runs import load
from tempo.report.number_format import canonical, duration, human, natural, order, short_keys
from tempo.report.statistics import statistics
from tests.report.example_runs import weight_decay_sweep, write_run, write_sweep


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-4, "1e-4"),
        (1.5e-3, "1.5e-3"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (512, "512"),
        (3.0, "3"),
        (True, "true"),
        (None, "null"),
        ([1, 2e-4], "[1, 2e-4]"),
        ("adam", "adam"),
        (2.5e7, "2.5e7"),
        (float("nan"), "nan"),
    ],
)
def test_values_are_written_as_a_person_does(value: object, text: str) -> None:
    assert human(value) == text


def test_words_sort_naturally_and_numbers_by_size() -> None:
    assert sorted([None, "b10", 3, "b2", 1e-4, ABSENT], key=order) == [1e-4, 3, "b2", "b10", None, ABSENT]
    assert natural("row 2") < natural("row 10")
    assert canonical(1) == canonical(1.0) != canonical(True)
    keys = ("optimizer.lr", "scheduler.lr", "model._target_")
    assert short_keys(keys) == ("optimizer.lr", "scheduler.lr", "model")
    assert [duration(seconds) for seconds in (3.14159, 200, 7500)] == ["3.14 s", "3 min 20 s", "2 h 5 min"]


def grouped(*folders: Path) -> tuple[tuple[str, ...], dict[str, int]]:
    """The keys that tell settings apart, and label -> number of runs."""
    keys, settings = group(load(folders).runs)
    return keys, {setting.label: len(setting.runs) for setting in settings}


def test_folds_of_a_cross_validation_are_one_setting(tmp_path: Path) -> None:
    for fold, accuracy in enumerate((0.5, 0.7, 0.9)):
        write_run(tmp_path / str(fold), val=accuracy, data__folds=3, data__fold=fold)
    keys, settings = group(load([tmp_path]).runs)
    assert keys == ()
    found = statistics(settings[0], "val/accuracy")
    assert (found.n, found.mean, found.sd) == (3, pytest.approx(0.7), pytest.approx(0.2))


def test_the_seed_is_no_key_and_neither_is_what_follows_another_key(tmp_path: Path) -> None:
    jobs = []
    for lr in (0.1, 0.01):
        for seed in (0, 1, 2):
            overrides = [f"optimizer.lr={lr}", f"seed={seed}"]
            jobs.append((f"lr={lr},seed={seed}", overrides))
            rates = {"optimizer__lr": lr, "scheduler__lr": lr}
            write_run(tmp_path / jobs[-1][0], seed=seed, overrides=overrides, **rates)
    write_sweep(tmp_path, ["optimizer.lr", "seed"], jobs)
    assert grouped(tmp_path) == (("optimizer.lr",), {"lr=0.01": 3, "lr=0.1": 3})
    runs = load([tmp_path]).runs
    assert set(differing(runs)) == {"seed", "optimizer.lr", "scheduler.lr"}
    assert shared(runs)["optimizer.wd"] == 1e-4
    assert "scheduler.lr" not in shared(runs)


SEEDS = [{"seed": seed} for seed in (0, 1, 12)]
OPTIMIZERS = (("sgd", None, False), ("momentum", 0.9, False), ("nesterov", 0.9, True))


@pytest.mark.parametrize(
    ("runs", "keys", "settings"),
    [
        # Without a sweep one key is enough; what goes with it is listed under the keys that differ.
        (
            [*SEEDS, *({**run, "optimizer__wd": 0.0, "scheduler__extra": 3} for run in SEEDS)],
            ("optimizer.wd",),
            {"wd=0": 3, "wd=1e-4": 3},
        ),
        # A changed class is named before its arguments.
        (
            [{"optimizer___target_": "torch.optim.Adam", "optimizer__beta2": 0.999}, {}],
            ("optimizer._target_",),
            {"optimizer=Adam": 1, "optimizer=SGD": 1},
        ),
        # Smoke runs never share a setting with full ones.
        (
            [{"scale": "full"}, {"scale": "smoke", "trainer__epochs": 1, "overrides": ["trainer.epochs=1"]}],
            ("scale",),
            {"scale=full": 1, "scale=smoke": 1},
        ),
        # A path that names the run's own seed follows it; one that names another seed does not.
        (
            [{**run, "model__run": f"logs/below/seed={run['seed']}"} for run in SEEDS],
            (),
            {"resnet20_digits": 3},
        ),
        (
            [
                *({**run, "model__run": f"logs/below/seed={run['seed']}"} for run in SEEDS),
                {"seed": 1, "model__run": "logs/below/seed=0"},
            ],
            ("model.run",),
            {"run=logs/below/seed=0": 1, "run=logs/below/seed=<seed>": 3},
        ),
        # The option of a group says more than its keys, but does not split runs of one configuration.
        (
            [
                {
                    "fields": {"choices": {"optimizer": name, "experiment": "paper/seven"}},
                    "optimizer__momentum": momentum,
                    "optimizer__nesterov": nesterov,
                }
                for name, momentum, nesterov in OPTIMIZERS
            ],
            ("optimizer",),
            {"optimizer=momentum": 1, "optimizer=nesterov": 1, "optimizer=sgd": 1},
        ),
        (
            [
                {"seed": 0, "fields": {"choices": {"experiment": "paper/row"}}},
                {"seed": 1, "fields": {"choices": {"experiment": "paper/figure"}}},
                {"optimizer__wd": 1.0, "fields": {"choices": {"experiment": "paper/other"}}},
            ],
            ("optimizer.wd",),
            {"wd=1e-4": 2, "wd=1": 1},
        ),
    ],
)
def test_settings(
    tmp_path: Path, runs: list[dict[str, Any]], keys: tuple[str, ...], settings: dict[str, int]
) -> None:
    for number, changes in enumerate(runs):
        write_run(tmp_path / str(number), **changes)
    assert grouped(tmp_path) == (keys, settings)


def test_a_swept_group_shows_the_option_chosen(tmp_path: Path) -> None:
    jobs = [(f"model={name}", [f"model={name}"]) for name in ("cnn3", "resnet20")]
    write_run(tmp_path / "model=cnn3", overrides=jobs[0][1], model___target_="tempo.model.cnn3.Cnn3")
    write_run(tmp_path / "model=resnet20", overrides=jobs[1][1])
    write_sweep(tmp_path, ["model"], jobs)
    assert grouped(tmp_path) == (("model",), {"model=cnn3": 1, "model=resnet20": 1})


def test_an_override_with_an_exponent_is_a_number(tmp_path: Path) -> None:
    write_run(tmp_path / "a", overrides=["+new.key=1e-4"])
    (run,) = load([tmp_path]).runs
    assert value_of(run, "new.key") == 1e-4
    assert value_of(run, "never.named") == ABSENT


def test_the_same_configuration_in_two_folders_is_compared_by_folder(tmp_path: Path) -> None:
    accuracies = {1e-4: {0: 0.9, 1: 0.91}}
    for name in ("before", "after"):
        weight_decay_sweep(tmp_path / name, [1e-4], [0, 1], accuracies)
    both = (("folder",), {"folder=after": 2, "folder=before": 2})
    assert grouped(tmp_path / "before", tmp_path / "after") == both
    # Found below one folder they are repetitions of the same seeds.
    assert grouped(tmp_path) == ((), {"resnet20_digits": 4})


def test_settings_that_would_read_the_same_are_told_apart(tmp_path: Path) -> None:
    for at, lr in enumerate((0.1, 0.10000001, 0.3)):
        write_run(tmp_path / f"numbers/{at}", optimizer__lr=lr)
    _, labels = grouped(tmp_path / "numbers")
    assert list(labels) == ["lr=0.1", "lr=0.10000001", "lr=0.3"]
    for at, name in enumerate(("torch.optim.SGD", "mine.optim.SGD", "torch.optim.Adam")):
        write_run(tmp_path / f"classes/{at}", optimizer___target_=name)
    _, labels = grouped(tmp_path / "classes")
    assert set(labels) == {"optimizer=Adam", "optimizer=mine.optim.SGD", "optimizer=torch.optim.SGD"}
    for at, value in enumerate(("1", 1)):
        write_run(tmp_path / f"kinds/{at}", model__depth=value)
    assert set(grouped(tmp_path / "kinds")[1]) == {"depth='1'", "depth=1"}
