"""Each remedy that an error line names is followed, and the command then composes and passes the check."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tempo.config.check import check
from tempo.config.lr_range_bounds import FILE_NAME, KIND, SCHEMA_VERSION, essentials
from tempo.errors import UserError
from tests.bad_input.test_commands import TRAIN
from tests.command_line.follow_advice import composer, followed, line_of, remedies
from tests.config.test_refusals import REFUSED, out_of_range, wrong_types
from tests.jobs import CONF

RECORDS = CONF.parent / "tests" / "records_06bb3c6"
# What people bring from lightning-hydra-template, from Lightning, and from habit.
BROUGHT = """
trainer.max_epochs=5 trainer.min_epochs=1 trainer.gradient_clip_val=0.5 trainer.accumulate_grad_batches=2
trainer.check_val_every_n_epoch=2 trainer.limit_train_batches=10 trainer.limit_val_batches=0.1
trainer.limit_test_batches=3 trainer.fast_dev_run=true trainer.overfit_batches=1 trainer.strategy=ddp
trainer.val_check_interval=0.5 trainer.gradient_clip_algorithm=norm trainer.num_sanity_val_steps=0
trainer.enable_progress_bar=false trainer.benchmark=true trainer.default_root_dir=logs/mine
trainer.max_epochs=-1 trainer.gradient_clip_val=0 +trainer.max_epochs=5 data.batch_size=64
data.pin_memory=true data.data_dir=data data.train_val_test_split=[55000,5000,10000] model.optimizer.lr=0.01
model.lr=0.01 model.optimizer.weight_decay=0.1 model.scheduler.factor=0.1 model.net.lin1_size=64
model.compile=true logger.wandb.project=mine logger.csv.save_dir=x callbacks.early_stopping.patience=3
callbacks.early_stopping.monitor=val/acc callbacks.early_stopping.monitor=val/loss
callbacks.model_checkpoint.save_top_k=2 callbacks.model_checkpoint.dirpath=x train=False test=False
ckpt_path=interrupted/checkpoints/last.ckpt task_name=mine debug=default debug=fdr
debug=profiler callbacks=default callbacks=none extras.print_config=false paths.data_dir=data
paths.log_dir=logs/mine optimized_metric=val/acc
hparams_search=mnist_optuna trainer=ddp_sim trainer=mps trainer=default logger=many_loggers lr=0.1
batch_size=64 epochs=5 max_epochs=5 weight_decay=0.1 val_size=0.1 depth=44 +batch_size=64 +lr=0.1
"""
MORE = [
    "optimizer=adam +optimizer.betas=[0.9,0.99]",
    "model=mlp model.hidden=1,2",
    "seed=0,1",
    "n_trials=3",
    "n_trials=3 -m optimizer.lr=0.1,0.2",
    "hydra/launcher=local",
    "hydra.sweep.dir=logs/x",
    "hydra.run.dir=logs/x -m seed=0,1",
    "hydra/sweeper=search",
    "preview=true -m seed=0,1",
    "resume=interrupted -m",
    "seed=0 seed=1",
    "data=mnist data.root=/a,b",
    "optimizer.lr==0.1",
    "scheduler=onecycle scheduler.range_test=range",
    "'paper={a: 1}'",
    "'paper={item: 1}'",
    "scheduler=triangular trainer.max_steps=3",
    "scheduler=triangular scheduler.cycles=1000000",
    "scheduler=range_test trainer.max_steps=1",
    "data.val_size=0.0001",
    "data=mnist data.val_size=60000",
    "data.train_size=4 trainer=ddp_cpu trainer.devices=8 data.total_batch_size=8",
]
# Two mistakes in one: the remedy of the first leads to the second, and that one's to a command that works.
TWO_MISTAKES = {
    "optimizer=bfgs optimizer.tolerance_change=nan",
    "optimizer.lr=a=b",
    "optimizer.lr=[1",
    "+experiment=radiuk2020/table1",
    "experiment=table1",
    "hydra/launcher=nothing",
    "hydra.launcher.n_jobs=3",
    "resume=/nowhere -m",
    "hydra/sweeper=search",
}
# What only the user can give, or do.
NOTHING_TO_FOLLOW = {
    "model=frugal": "the run of another network",
    "+model@data=mlp": "a package that no one needs",
    "hydra.verbose=3": "Hydra's own line",
    "hydra.mode=MULTI": "Hydra's own line",
    "hydra.searchpath=[file:///nowhere]": "Hydra's own line",
    "hydra.job_logging.root.level=LOUD": "Python's own line",
    "hydra.run.dir=/dev/null": "refused when Hydra creates the folder",
    "hydra.run.dir=/dev/null/x": "refused when Hydra creates the folder",
    "hydra.run.dir=/proc/x": "refused when Hydra creates the folder",
}


def given() -> list[str]:
    """All wrong commands: those of this test, and of two that compare the lines with words."""
    tables = (out_of_range(), wrong_types(), REFUSED, TRAIN)
    others = (case[0] for table in tables for case in table)
    commands = dict.fromkeys([*others, *BROUGHT.split(), *MORE])
    # Flags are argparse's: tests/bad_input compares their lines.
    return [
        command for command in commands if not command.startswith("-") and command not in NOTHING_TO_FOLLOW
    ]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to work in, with a run and the result of a range test."""
    base = tmp_path_factory.mktemp("advice")
    shutil.copytree(RECORDS / "interrupted", base / "interrupted")
    setting = {"label": "", "proposal": {"min_lr": 0.1, "max_lr": 1.0}, "go_on": ""}
    setting["essentials"] = essentials(composer().values([]))
    values = {"kind": KIND, "schema_version": SCHEMA_VERSION, "settings": [setting]}
    (base / "range").mkdir()
    (base / "range" / FILE_NAME).write_text(json.dumps(values))
    return base


@pytest.mark.parametrize("command", given())
def test_every_remedy_works(command: str, monkeypatch: pytest.MonkeyPatch, folders: Path) -> None:
    monkeypatch.chdir(folders)
    arguments = shlex.split(command)
    line = line_of(arguments, monkeypatch)
    assert line is not None
    found = remedies(line, arguments)
    assert found or "pip install" in line, line
    for remedy in found:
        edited = followed(arguments, remedy)
        again = line_of(edited, monkeypatch)
        if again is not None and command in TWO_MISTAKES:
            assert again != line
            edited = followed(edited, remedies(again, edited)[0])
            again = line_of(edited, monkeypatch)
        assert again is None or "pip install" in again, f"{line}\n  leads to {edited}:\n{again}"


# Refused only when the parts of a run are built, which needs the data and torch.
BUILDS = [
    "model=mlp data.augment.crop_padding=8",
    "model=mlp data.augment.cutout=9",
    "model=mlp data.train_images=100 data.total_batch_size=16",
    "model=mlp +optimizer.foo=1",
    "model=mlp optimizer._target_=torch.nn.Linear",
    "model=mlp optimizer._target_=nothing.Nothing",
    "model=mlp trainer.precision=bf16-true ema.decay=0.9",
    "model=mlp model.hidden=[16] optimizer=muon",
    "model=mlp model.hidden=[100000000000]",
    "model=mlp data=synthetic data.image_size=1000000 data.train_images=1000",
    "model=mlp data=synthetic data.test_images=0",
    "model=mlp data=synthetic data.classes=1 data.train_images=200 data.test_images=8",
    "model.depth=21",
    "optimizer=bfgs",
    "model=cnn3 model.widths=[0,0,0]",
    "model=cnn3 model.dropout=1.0",
    "model=torchvision model.name=nothing data=synthetic data.train_images=200 data.test_images=8",
]


def build_line(arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> str | None:
    """The line with which the check, or then the building of the run's parts, refuses the arguments."""
    from tempo.command_line.system_errors import task_line
    from tempo.optimizer.build import build_optimizer
    from tempo.run.build_data import build_data, build_plan
    from tempo.run.build_module import build_task

    if (line := line_of(arguments, monkeypatch)) is not None:
        return line
    config = check(composer().values(arguments))
    try:
        data = build_data(config)
        task = build_task(config, data, build_plan(config, data, 1, 0))
        build_optimizer(task.network, config.optimizer.node)
    except (UserError, MemoryError, RuntimeError) as error:
        return task_line(error, None) or repr(error)
    return None


@pytest.mark.parametrize("command", BUILDS)
def test_every_remedy_of_a_build_works(command: str, monkeypatch: pytest.MonkeyPatch, folders: Path) -> None:
    monkeypatch.chdir(folders)
    arguments = command.split()
    line = build_line(arguments, monkeypatch)
    assert line is not None
    assert remedies(line, arguments), line
    for remedy in remedies(line, arguments):
        edited = followed(arguments, remedy)
        again = build_line(edited, monkeypatch)
        assert again is None, f"{line}\n  leads to {edited}:\n{again}"
