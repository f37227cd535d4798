"""Arguments before Hydra sees them, and Hydra's complaints in one line."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from tempo.command_line import multirun_first, one_line, resumed
from tempo.errors import UserError, nearest
from tempo.record import RunRecord
from tests.jobs import compose_job


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_multirun_may_stand_anywhere(flag: str) -> None:
    overrides = ["model=mlp", "optimizer.wd=1e-4,1e-5", "seed=0,1"]
    for place in range(len(overrides) + 1):
        given = [*overrides[:place], flag, *overrides[place:]]
        assert multirun_first(given) == [flag, *overrides]


def test_multirun_first_leaves_the_rest_alone() -> None:
    assert multirun_first([]) == []
    assert multirun_first(["a=1", "--cfg", "job"]) == ["a=1", "--cfg", "job"]
    assert multirun_first(["-m", "a=1", "-m"]) == ["-m", "a=1"]
    assert multirun_first(["name=-m"]) == ["name=-m"]
    for order in itertools.permutations(["a=1", "b=2", "c=3"]):
        assert multirun_first([*order, "-m"]) == ["-m", *order]


def test_resuming_brings_the_overrides_back(tmp_path: Path) -> None:
    overrides = ["model=mlp", "optimizer.lr=0.01"]
    RunRecord(config={}, config_hash="", overrides=overrides, seed=0).write(tmp_path)
    assert resumed([f"resume={tmp_path}"]) == [*overrides, f"resume='{tmp_path}'"]
    assert resumed(["seed=3", f"resume={tmp_path}"]) == [*overrides, "seed=3", f"resume='{tmp_path}'"]
    again = RunRecord(config={}, config_hash="", overrides=[*overrides, "resume='elsewhere'"], seed=0)
    again.write(tmp_path)
    assert resumed([f"resume={tmp_path}"]) == [*overrides, f"resume='{tmp_path}'"]
    for nothing in (["model=mlp"], ["resume=null", "a=1"], ["resume="]):
        assert resumed(nothing) == nothing
    with pytest.raises(UserError, match=r"holds no run\.json"):
        resumed([f"resume={tmp_path / 'absent'}"])


def test_a_folder_with_odd_characters_is_resumed(tmp_path: Path) -> None:
    for name in ("with space", "a=b", "ü,[x]", "it's"):
        folder = tmp_path / name
        folder.mkdir()
        RunRecord(config={}, config_hash="", overrides=["model=mlp"], seed=0).write(folder)
        for given in (f"resume={folder}", f"resume='{folder}'"):
            if "'" in name and given.endswith("'"):
                continue
            assert compose_job(resumed([given]))[0]["resume"] == str(folder)


# (misspelt override, what the line must say)
MISSPELT = [
    ("model=densnet40", ["model=densnet40", "Did you mean 'densenet40'?", "conf/model has:"]),
    ("scheduler=1cycle", ["scheduler=1cycle", "Did you mean 'onecycle'?"]),
    ("optimizer=adm", ["optimizer=adm", "Did you mean 'adam'?"]),
    ("data=cifar", ["data=cifar", "Did you mean 'cifar10'?", "digits"]),
    ("trainer=ddpcpu", ["Did you mean 'ddp_cpu'?"]),
    ("debug=fastdevrun", ["Did you mean 'fast_dev_run'?"]),
    ("logger=tensorbord", ["Did you mean 'tensorboard'?"]),
    ("modl=mlp", ["modl", "Did you mean 'model'?"]),
    ("shedule=onecycle", ["shedule", "Did you mean 'scheduler'?"]),
    ("sed=1", ["sed", "Did you mean 'seed'?"]),
    ("objectiv=val/loss", ["Did you mean 'objective'?"]),
    ("optimizer.learning_rate=1", ["optimizer.learning_rate", "optimizer has:", "lr"]),
    ("optimizer.momentun=0.5", ["Did you mean 'momentum'?"]),
    ("trainer.epoch=3", ["trainer.epoch", "Did you mean 'epochs'?"]),
    ("trainer.max_step=3", ["Did you mean 'max_steps'?"]),
    ("data.batch_size=3", ["data.batch_size", "batch_size'?"]),
    ("data.augment.croppadding=3", ["Did you mean 'crop_padding'?"]),
    ("checkpoint.every_steps=3", ["Did you mean 'every_n_steps'?"]),
    ("optimiser.lr=3", ["optimiser.lr", "Did you mean 'optimizer.lr'?"]),
]


@pytest.mark.parametrize(("override", "words"), MISSPELT, ids=[each[0] for each in MISSPELT])
def test_a_misspelt_name_gets_the_nearest_one(
    override: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", override])
    with pytest.raises(Exception) as caught:
        compose_job([override])
    message = one_line(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "override", ["optimizer.lr=[1", "optimizer.lr={", "lr", "=3", "optimizer..lr=1", "a b c=", "+model=mlp"]
)
def test_a_broken_override_is_one_line(override: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", override])
    with pytest.raises(Exception) as caught:
        compose_job([override])
    GlobalHydra.instance().clear()
    message = one_line(caught.value)
    assert message
    assert "\n" not in message
    assert "Traceback" not in message


def test_nearest() -> None:
    assert nearest("densnet40", ["densenet40", "mlp"]) == " Did you mean 'densenet40'?"
    assert nearest("qqq", ["densenet40", "mlp"]) == ""
    assert nearest("x", []) == ""
