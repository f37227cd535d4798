"""Arguments before Hydra reads them, and Hydra's errors in one line."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from tempo.command_line.arguments import check_flags, multirun_first, resumed
from tempo.command_line.error_messages import one_line
from tempo.command_line.system_errors import storage_line
from tempo.errors import UserError, nearest
from tempo.record.run_json import RunRecord
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
    assert resumed(["seed=3", f"resume={tmp_path}"]) == [*overrides, f"resume='{tmp_path}'", "seed=3"]
    again = RunRecord(config={}, config_hash="", overrides=[*overrides, "resume='elsewhere'"], seed=0)
    again.write(tmp_path)
    assert resumed([f"resume={tmp_path}"]) == [*overrides, f"resume='{tmp_path}'"]
    for nothing in (["model=mlp"], ["resume=null", "a=1"]):
        assert resumed(nothing) == nothing
    for empty in ("resume=", "resume=''", "resume= "):
        with pytest.raises(UserError, match="does not name a folder"):
            resumed([empty])
    with pytest.raises(UserError, match=r"has no run\.json"):
        resumed([f"resume={tmp_path / 'absent'}"])
    for number in (7, None):
        damaged: list[Any] = ["model=mlp", number]
        RunRecord(config={}, config_hash="", overrides=damaged, seed=0).write(tmp_path)
        with pytest.raises(UserError, match="the record is damaged"):
            resumed([f"resume={tmp_path}"])


def test_a_run_killed_before_its_first_record_starts_again(tmp_path: Path) -> None:
    asked = tmp_path / ".hydra" / "overrides.yaml"
    asked.parent.mkdir()
    asked.write_text("- model=mlp\n- optimizer.lr=0.01\n", encoding="utf-8")
    expected = ["model=mlp", "optimizer.lr=0.01", f"hydra.run.dir='{tmp_path}'", "seed=3"]
    assert resumed(["seed=3", f"resume={tmp_path}"]) == expected
    for text, words in (("- hydra.run.dir=/\n", "has overrides with"), ("- [\n", "cannot be read")):
        asked.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=words):
            resumed([f"resume={tmp_path}"])


def test_a_folder_with_odd_characters_is_resumed(tmp_path: Path) -> None:
    for name in ("with space", "a=b", "ü,[x]", "it's"):
        folder = tmp_path / name
        folder.mkdir()
        RunRecord(config={}, config_hash="", overrides=["model=mlp"], seed=0).write(folder)
        for given in (f"resume={folder}", f"resume='{folder}'"):
            if "'" in name and given.endswith("'"):
                continue
            assert compose_job(resumed([given]))[0]["resume"] == str(folder)


# (wrong override, what the line must say)
WRONG = [
    ("model=densnet40", ["model=densnet40", "Did you mean 'densenet40'?", "conf/model:"]),
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
    ("optimizer.learning_rate=1", ["optimizer.learning_rate", "optimizer.lr"]),
    ("optimizer.weight_decay=1", ["optimizer.weight_decay", "optimizer.wd"]),
    ("optimizer.betas=[0.9,0.99]", ["optimizer.betas is called optimizer.momentum here"]),
    ("optimizer.amsgrad=true", ["optimizer has:", "+optimizer.amsgrad"]),
    ("optimizer.momentun=0.5", ["Did you mean 'momentum'?"]),
    ("trainer.epoch=3", ["trainer.epoch", "Did you mean 'epochs'?"]),
    ("trainer.max_step=3", ["Did you mean 'max_steps'?"]),
    ("data.batch_size=3", ["set data.total_batch_size=3"]),
    ("data.augment.croppadding=3", ["Did you mean 'crop_padding'?"]),
    ("checkpoint.every_steps=3", ["Did you mean 'every_n_steps'?"]),
    ("optimiser.lr=3", ["optimiser.lr", "Did you mean 'optimizer.lr'?"]),
    ("seed=1,2", ["seed=1,2", "add -m"]),
    ("seed=range(1,4)", ["seed=range(1,4)", "add -m"]),
    ("optimizer=adam,sgd", ["optimizer=adam,sgd", "add -m"]),
    ("optimizer.lr=[1", ["close its brackets"]),
    ("optimizer.lr={", ["close its brackets"]),
    ("lr", ["key=value"]),
    ("=3", ["--help"]),
    ("optimizer..lr=1", ["optimizer..lr"]),
    ("a b c=", ["a b c="]),
    ("+model=mlp", ["model is chosen twice"]),
]


@pytest.mark.parametrize(("override", "words"), WRONG, ids=[override for override, _ in WRONG])
def test_a_wrong_override_is_one_line(
    override: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", override])
    with pytest.raises(Exception) as caught:
        compose_job([override])
    GlobalHydra.instance().clear()
    message = one_line(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    if "is not a key" in message and not override.startswith("optimizer."):
        assert "+" not in message, "the check would refuse a new key"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["seed=1,2", "--multrun"], ["--multrun is not a flag", "Did you mean '--multirun'?"]),
        (["--confg-dir", "x"], ["--confg-dir", "Did you mean '--config-dir'?"]),
        (["--cfg", "jobs"], ["--cfg", "jobs"]),
        (["--config-dir"], ["--config-dir"]),
        (["a=1", "--cfg", "job", "b=2"], ["b=2", "put the flags last"]),
    ],
    ids=" ".join,
)
def test_a_flag_that_is_none(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError) as caught:
        check_flags(arguments)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)
    assert capsys.readouterr().err == "", "argparse has printed its usage"


def test_flags_of_hydra_pass() -> None:
    for good in (["-m", "a=1,2"], ["a=-1", "--cfg", "job", "--resolve"], ["-cd", "/", "b=2"], ["--info"], []):
        check_flags(good)


@pytest.mark.parametrize(
    "evil",
    [
        "--experimental-rerun=evil.pickle",
        "--config-dir=/tmp/evil",
        "-cp=/tmp/evil",
        "hydra.callbacks.x._target_=os.getcwd",
        "+hydra.callbacks.x={_target_:os.getcwd}",
        "++hydra.run.dir=/tmp/evil",
        "~hydra.callbacks",
        "hydra/launcher=evil",
        "hydra={run:{dir:x}}",
        "+model@hydra.callbacks.x=mlp",
        "hydra.searchpath=[file:///tmp]",
        "+a=" + "[" * 2000 + "]" * 2000,
        "not an override",
        "",
    ],
    ids=lambda evil: evil[:40],
)
def test_a_record_may_bring_nothing_but_keys_of_a_run(evil: str, tmp_path: Path) -> None:
    RunRecord(config={}, config_hash="", overrides=["model=mlp", evil], seed=0).write(tmp_path)
    with pytest.raises(UserError, match="which no run records"):
        resumed([f"resume={tmp_path}"])


def test_what_runs_record_is_accepted(tmp_path: Path) -> None:
    overrides = [
        "experiment=radiuk2020/table1_row01_resnet56_cifar10_step_100",
        "+optimizer.amsgrad=true",
        "++seed=3",
        "~optimizer.fused",
        "data.root='/a b/c=d'",
        "data.augment={crop_padding: 1, flip: true, cutout: 2}",
        "scheduler.milestones=[0.5,0.75]",
        "optimizer.wd=1e-4",
        "resume='/somewhere'",
    ]
    RunRecord(config={}, config_hash="", overrides=overrides, seed=0).write(tmp_path)
    assert resumed([f"resume={tmp_path}"])[:-1] == overrides[:-1]


def test_whose_fault_an_os_error_is(tmp_path: Path) -> None:
    """A folder that cannot be written is the user's to mend, a file of ours that is not there is a bug."""
    folder = tmp_path / "logs" / "run"

    def line(number: int, path: Path | None) -> str | None:
        error = OSError(number, os.strerror(number), *([] if path is None else [str(path)]))
        return storage_line(error, folder)

    for number in (errno.EACCES, errno.EROFS, errno.ENOENT, errno.ENOTDIR):
        for path in (folder, folder / "checkpoints" / "last.ckpt", folder.parent):
            found = line(number, path)
            assert found
            assert str(path) in found
            assert "hydra.run.dir=" in found
            assert "room" not in found
        assert line(number, tmp_path / "elsewhere") is None
        assert line(number, None) is None
        assert storage_line(OSError(number, "", str(folder)), None) is None
    for number in (errno.ENOSPC, errno.EDQUOT):
        for path in (folder / "run.json", None):
            found = line(number, path)
            assert found
            assert "make room, or choose another folder with hydra.run.dir=" in found
        found = line(number, tmp_path / "cache" / "images.npy")
        assert found
        assert "make room" in found
        assert "hydra.run.dir" not in found
    assert line(errno.EPIPE, folder) is None


def test_nearest() -> None:
    assert nearest("densnet40", ["densenet40", "mlp"]) == " Did you mean 'densenet40'?"
    assert nearest("qqq", ["densenet40", "mlp"]) == ""
    assert nearest("x", []) == ""


@drawn(st.text(max_size=30), st.text(max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_text_is_an_override_or_one_line(key: str, value: str) -> None:
    for override in (f"{key}={value}", f"seed={value}", f"optimizer.lr=[{value}", key):
        try:
            OverridesParser.create().parse_overrides([override])
        except HydraException as error:
            message = str(UserError(one_line(error)))
            assert len(message) > 10
            assert message.isprintable()
