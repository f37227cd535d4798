from __future__ import annotations

from pathlib import Path

import pytest

from tempo.report.grouping import ABSENT, differing, group, shared, value_of
from tempo.report.load_runs import load
from tempo.report.number_format import canonical, duration, human, natural, order, short_keys
from tests.report.example_runs import weight_decay_sweep, write_run, write_sweep


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1e-4, "1e-4"),
        (3e-5, "3e-5"),
        (1.5e-3, "1.5e-3"),
        (0.0, "0"),
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
def test_values_are_said_as_a_person_writes_them(value: object, said: str) -> None:
    assert human(value) == said


def test_words_sort_naturally_and_numbers_by_size() -> None:
    assert sorted([None, "b10", 3, "b2", 1e-4, ABSENT], key=order) == [1e-4, 3, "b2", "b10", None, ABSENT]
    assert natural("row 2") < natural("row 10")
    assert canonical(1) == canonical(1.0) != canonical(True)
    assert short_keys(("optimizer.lr", "scheduler.lr", "model._target_")) == (
        "optimizer.lr",
        "scheduler.lr",
        "model",
    )
    assert [duration(each) for each in (3.14159, 200, 7500)] == ["3.14 s", "3 min 20 s", "2 h 5 min"]


def test_the_seed_is_an_axis_and_followers_are_no_keys(tmp_path: Path) -> None:
    jobs = []
    for lr in (0.1, 0.01):
        for seed in (0, 1, 2):
            overrides = [f"optimizer.lr={lr}", f"seed={seed}"]
            jobs.append((f"lr={lr},seed={seed}", overrides))
            write_run(
                tmp_path / jobs[-1][0], seed=seed, overrides=overrides, optimizer__lr=lr, scheduler__lr=lr
            )
    write_sweep(tmp_path, ["optimizer.lr", "seed"], jobs)
    runs = load([tmp_path]).runs

    keys, settings = group(runs)

    assert keys == ("optimizer.lr",)
    assert [setting.label for setting in settings] == ["lr=0.01", "lr=0.1"]
    assert [[run.record.seed for run in setting.runs] for setting in settings] == [[0, 1, 2], [0, 1, 2]]
    assert set(differing(runs)) == {"seed", "optimizer.lr", "scheduler.lr"}
    assert shared(runs)["optimizer.wd"] == 1e-4
    assert "scheduler.lr" not in shared(runs)


def test_any_runs_are_told_apart_without_a_sweep(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / f"a{seed}", seed=seed)
        write_run(tmp_path / f"b{seed}", seed=seed, optimizer__wd=0.0, scheduler__extra=3)
    keys, settings = group(load([tmp_path]).runs)
    # One key is enough to tell the two apart; what goes with it is shown under "what differs".
    assert keys == ("optimizer.wd",)
    assert [len(each.runs) for each in settings] == [2, 2]


def test_a_changed_class_is_named_before_its_arguments(tmp_path: Path) -> None:
    write_run(tmp_path / "a", optimizer___target_="torch.optim.Adam", optimizer__beta2=0.999)
    write_run(tmp_path / "b")
    keys, settings = group(load([tmp_path]).runs)
    assert keys == ("optimizer._target_",)
    assert [each.label for each in settings] == ["optimizer=Adam", "optimizer=SGD"]


def test_a_swept_group_shows_the_option_chosen(tmp_path: Path) -> None:
    jobs = [(f"model={name}", [f"model={name}"]) for name in ("cnn3", "resnet20")]
    write_run(tmp_path / "model=cnn3", overrides=jobs[0][1], model___target_="tempo.model.cnn3.Cnn3")
    write_run(tmp_path / "model=resnet20", overrides=jobs[1][1])
    write_sweep(tmp_path, ["model"], jobs)
    keys, settings = group(load([tmp_path]).runs)
    assert keys == ("model",)
    assert [each.values for each in settings] == [("cnn3",), ("resnet20",)]


def test_an_override_with_an_exponent_is_a_number(tmp_path: Path) -> None:
    write_run(tmp_path / "a", overrides=["+new.key=1e-4"])
    (run,) = load([tmp_path]).runs
    assert value_of(run, "new.key") == 1e-4
    assert value_of(run, "never.named") == ABSENT


def test_the_same_configuration_in_two_folders_is_compared_by_folder(tmp_path: Path) -> None:
    accuracies = {1e-4: {0: 0.9, 1: 0.91}}
    weight_decay_sweep(tmp_path / "before", [1e-4], [0, 1], accuracies)
    weight_decay_sweep(tmp_path / "after", [1e-4], [0, 1], accuracies)
    keys, settings = group(load([tmp_path / "before", tmp_path / "after"]).runs)
    assert keys == ("folder",)
    assert [each.label for each in settings] == ["folder=after", "folder=before"]
    # Found below one folder they are repetitions of the same seeds.
    assert len(group(load([tmp_path]).runs)[1]) == 1


def test_smoke_runs_never_share_a_setting_with_full_ones(tmp_path: Path) -> None:
    write_run(tmp_path / "full", scale="full", overrides=["trainer.epochs=5"])
    write_run(tmp_path / "smoke", scale="smoke", trainer__epochs=1, overrides=["trainer.epochs=1"])
    keys, settings = group(load([tmp_path]).runs)
    assert keys == ("scale",)
    assert [each.smoke for each in settings] == [False, True]


def test_a_path_that_names_the_runs_own_seed_follows_it(tmp_path: Path) -> None:
    """`model.run=<sweep>/seed=${seed}`: three stems on three networks are one setting."""
    for seed in (0, 1, 12):
        write_run(tmp_path / f"{seed}", seed=seed, model__run=f"logs/below/seed={seed}")
    keys, settings = group(load([tmp_path]).runs)
    assert keys == ()
    assert [len(each.runs) for each in settings] == [3]
    write_run(tmp_path / "other", seed=1, model__run="logs/below/seed=0")
    keys, settings = group(load([tmp_path]).runs)
    assert keys == ("model.run",)
    assert sorted(len(each.runs) for each in settings) == [1, 3]


def test_the_option_of_a_group_says_more_than_its_keys(tmp_path: Path) -> None:
    for name, momentum, nesterov in (("sgd", None, False), ("momentum", 0.9, False), ("nesterov", 0.9, True)):
        choices = {"choices": {"optimizer": name, "experiment": "paper/seven"}}
        write_run(tmp_path / name, fields=choices, optimizer__momentum=momentum, optimizer__nesterov=nesterov)
    keys, settings = group(load([tmp_path]).runs)
    assert keys == ("optimizer",)
    assert [each.label for each in settings] == [
        "optimizer=momentum", "optimizer=nesterov", "optimizer=sgd",
    ]  # fmt: skip


def test_an_option_does_not_split_runs_of_one_configuration(tmp_path: Path) -> None:
    """The same setting by two experiments is the same setting."""
    write_run(tmp_path / "a", seed=0, fields={"choices": {"experiment": "paper/row"}})
    write_run(tmp_path / "b", seed=1, fields={"choices": {"experiment": "paper/figure"}})
    write_run(tmp_path / "c", seed=0, optimizer__wd=1.0, fields={"choices": {"experiment": "paper/other"}})
    keys, settings = group(load([tmp_path]).runs)
    assert keys == ("optimizer.wd",)
    assert [len(each.runs) for each in settings] == [2, 1]
