"""Wrong commands by the hundred: one line that names the remedy, at once, and nothing left behind."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tempo.paths import ROOT
from tests.bad_input.conftest import Refused, assert_says
from tests.bad_input.warm import Warm

# Group by group, key by key: (arguments of src/train.py, what the line must name).
TRAIN: list[tuple[str, list[str]]] = [
    # options of groups
    ("data=", ["data=", "conf/data:", "digits"]),
    ("model=mlp.yaml", ["model=mlp.yaml does not exist", "Did you mean 'mlp'?"]),
    ("model=../model/mlp", ["does not exist", "Did you mean 'mlp'?"]),
    ("model=/etc/passwd", ["does not exist", "conf/model:"]),
    ("model=[mlp,cnn3]", ["model.hidden is not a key", "Known: dropout, widths"]),
    ("'model={a: 1}'", ["model.a is not a key", "model has: depth"]),
    ("model=mlp,", ["model=mlp, cannot be read; end it without a comma, model=mlp"]),
    ("'model=mlp, cnn3'", ["has several values; add -m"]),
    ("trainer=3", ["trainer=3 does not exist", "conf/trainer: auto"]),
    ("data=null", ["data=null does not exist. Remove it"]),
    ("+model@data=mlp", ["data.input_shape is missing"]),
    ("experiment=nothing", ["experiment=nothing does not exist", "conf/experiment:"]),
    ("experiment=table1", ["Did you mean 'radiuk2020/table1'?"]),
    ("experiment=radiuk2020/table1", ["is a table of 18 runs; add -m"]),
    ("+experiment=radiuk2020/table1", ["experiment is chosen twice", "without +"]),
    ("logger=wandb", ["wandb is not installed", "pip install"]),
    # keys: misspelt, added, deleted
    ("+foo.bar=1", ["foo is not a key", "Leave it out"]),
    ("+trainer.foo=1", ["trainer.foo is not a key", "Known: accelerator"]),
    ("+seed=2", ["already at 'seed'; set seed=2 without +"]),
    ("~seed=1", ["The value of 'seed' is 0 and not 1; leave it out"]),
    ("~nothing", ["'nothing' does not exist; leave it out"]),
    ("~model", ["leave out what deletes it, ~model"]),
    ("~data", ["data has no _target_", "conf/data"]),
    ("~data.augment", ["data.augment=None must be a group of keys"]),
    ("~objective", ["objective is missing; leave ~objective out, or set objective=val/accuracy"]),
    ("~model.depth", ["model.depth is missing; leave ~model.depth out, or set model.depth=110"]),
    ("~name", ["~name", "leave it out"]),
    ("~hydra.run.dir", ["~hydra.run.dir", "leave it out"]),
    # what is no override
    ("data", ["'data' is not an override; write it as key=value"]),
    ("=", ["an override has no key"]),
    ("optimizer.lr=[1", ["optimizer.lr=[1 cannot be read; close its brackets"]),
    ("optimizer.lr==1", ["write one =, optimizer.lr=1"]),
    ("optimizer.lr=a=b", ["'optimizer.lr=\"a=b\"'"]),
    ("name=ü", ["name=ü cannot be read", "'name=\"ü\"'"]),
    ("seed=range(1,3,0)", ["seed=range(1,3,0)", "add -m"]),
    # values: kind, range, size
    ("'seed={a: 1}'", ["seed={'a': 1} is not a whole number"]),
    ("seed=???", ["seed has no value; give it a value, seed=<value>"]),
    ("'seed=${nothing}'", ["seed: Interpolation key 'nothing' not found"]),
    ("'seed=${seed}'", ["seed: Recursive interpolation", "give it a value"]),
    ("'seed=${now:%Y}'", ["is not a whole number"]),
    ("trainer.epochs='\"20\"'", ["trainer.epochs='20' is not a whole number"]),
    ("'name=\"a\nb\"'", ["name='a\\nb' is part of a folder's name"]),
    ("optimizer=bfgs optimizer.tolerance_change=1", ["optimizer.tolerance_change is not a key"]),
    ("'optimizer.lr=${optimizer.wd}${optimizer.lr}'", ["Recursive interpolation", "give it a value"]),
    ("'optimizer.lr=${oc.env:NOTHING_LIKE_THIS}'", ["NOTHING_LIKE_THIS", "give it a value"]),
    ("'model.depth={a: {b: {c: null}}}'", ["model.depth={'a': {'b': {'c': None}}} is not a whole number"]),
    ("'name=\"日本語/x\"'", ["name='日本語/x' is part of a folder's name"]),
    # files that other scripts leave
    ("init_from=", ["init_from= does not name a folder; set init_from=<folder of a run>, or leave it out"]),
    ("'init_from=\"  \"'", ["init_from= does not name a folder"]),
    ("init_from=/dev/zero", ["/dev/zero has no run.json"]),
    ("resume=", ["resume= does not name a folder"]),
    ("resume=null,x", ["null,x", "has no run.json"]),
    ("resume=/nowhere/at/all", ["/nowhere/at/all has no run.json"]),
    ("resume=.", ["has no run.json; name the folder of a run"]),
    ("scheduler=onecycle scheduler.max_lr=auto", ["scheduler.range_test=<folder of src/lr_range.py>"]),
    ("scheduler=onecycle scheduler.max_lr=auto scheduler.range_test=/nowhere", ["/nowhere: No such file"]),
    ("scheduler=onecycle scheduler.max_lr=auto scheduler.range_test=.", ["lr_range.json: No such file"]),
    (
        "scheduler=onecycle scheduler.max_lr=auto scheduler.range_test=3",
        ["scheduler.range_test=3 is not text"],
    ),
    (
        "scheduler=onecycle scheduler.max_lr=auto scheduler.range_test=/dev/null",
        ["it is not a regular file; run src/lr_range.py"],
    ),
    ("model=frugal", ["model.run", "give it a value"]),
    # Hydra's own keys
    ("hydra.run.dir=", ["hydra.run.dir='' does not name a folder"]),
    ("hydra.run.dir=null", ["hydra.run.dir=null", "leave it out"]),
    ("hydra.run.dir=/", ["hydra.run.dir=/ is this checkout or a folder above it"]),
    (
        "hydra.run.dir=/dev/null",
        ["/dev/null: File exists; choose another folder with hydra.run.dir=<folder>"],
    ),
    ("hydra.run.dir=/dev/null/x", ["/dev/null/x: Not a directory; choose another folder"]),
    ("hydra.run.dir=/proc/x", ["/proc/x", "choose another folder"]),
    (f"hydra.run.dir={'x' * 300}", ["File name too long; choose another folder"]),
    ("'hydra.run.dir=${nothing}'", ["hydra.run.dir: Interpolation key 'nothing' not found"]),
    ("hydra.output_subdir=../../x", ["hydra.output_subdir=../../x", "leave it out"]),
    ("hydra/launcher=nothing", ["hydra/launcher=nothing is for sweeps", "add -m"]),
    ("n_trials=3", ["n_trials=3 is for sweeps", "use hydra/sweeper=search n_trials=3"]),
    ("hydra.launcher.n_jobs=3", ["hydra.launcher.n_jobs=3 is for sweeps"]),
    ("seed=0 seed=1", ["seed has two values, 0 and 1; leave one of them out"]),
    ("resume=/nowhere -m", ["resume=/nowhere is for a single run", "leave -m out"]),
    (f"hydra.run.dir={ROOT}/src/x", ["set hydra.run.dir=logs/first"]),
    ("'paper={a: 1}'", ["paper.a is not a key; set paper=null"]),
    ("scheduler=triangular scheduler.cycles=1000000", ["needs 2000001; set scheduler.cycles="]),
    ("hydra.job_logging.root.level=LOUD", ["Unknown level: 'LOUD'"]),
    ("hydra.job.chdir=maybe", ["hydra.job.chdir=maybe", "leave it out"]),
    ("hydra.verbose=3", ["--help"]),
    ("hydra.foo=1", ["hydra.foo is not a key"]),
    ("hydra.mode=MULTI", ["MULTI", "MULTIRUN"]),
    ("hydra.searchpath=[file:///nowhere]", ["/nowhere is not available"]),
    # flags
    ("--config-name=nothing", ["conf/ has no such file; leave it out"]),
    ("--config-name=evaluate", ["belongs to another script; leave it out"]),
    ("--config-dir=/nowhere", ["--config-dir=/nowhere is not a folder"]),
    ("--config-path=/nowhere", ["/nowhere", "--help"]),
    ("--resolve", ["--resolve", "--cfg"]),
    ("--experimental-rerun x.pickle", ["runs code from a pickle", "resume=<folder>"]),
    ("-r -m", ["Only one of --run, --multirun"]),
    ("--cfg", ["expected one argument", "--help"]),
    ("--cfg job seed=1", ["put the flags last"]),
]
SWEEPS: list[tuple[str, list[str]]] = [
    ("seed=", ["seed='' is not a whole number"]),
    ("seed=0,", ["seed=0, cannot be read"]),
    ("seed=range(3,1)", ["the grid is empty", "seed=1,2"]),
    ("seed=range(1,1000000000)", ["999,999,999 jobs", "hydra.sweeper.max_jobs=999999999"]),
    (
        "seed=range(0,100) optimizer.lr=1,2,3,4,5,6,7,8,9,10,11",
        ["1,100 jobs (100 of seed x 11 of optimizer.lr)"],
    ),
    ("seed=range(1,3,0)", ["--help"]),
    ("'model=glob(x*)'", ["the grid is empty"]),
    ("'seed=interval(0,1)'", ["is not a list of values", "seed=range(1,4)"]),
    ("seed=0,-1", ["seed=-1 must be at least 0"]),
    ("model=mlp,densnet40", ["Did you mean 'densenet40'?"]),
    ("optimizer.lr=0.1,zehn", ["optimizer.lr='zehn' is not a number"]),
    ("preview=true seed=0,1", ["preview=true is for a single run"]),
    ("hydra.sweep.dir= seed=0,1", ["hydra.sweep.dir='' does not name a folder"]),
    ("hydra.sweep.dir=/ seed=0,1", ["hydra.sweep.dir=/ is this checkout or a folder above it"]),
    ("hydra.sweep.dir=/dev/null seed=0,1", ["choose another folder with hydra.sweep.dir=<folder>"]),
    ("'hydra.sweep.dir=${nothing}' seed=0,1", ["hydra.sweep.dir: Interpolation key 'nothing'"]),
    ("hydra.sweeper.rows=[3]", ["hydra.sweeper.rows must be a list; write each row as one text"]),
    ("+hydra.sweeper.foo=1 seed=0,1", ["hydra.sweeper.foo is not a key", "max_jobs"]),
    ("init_from=/nowhere seed=0,1", ["/nowhere has no run.json"]),
    ("seed=0,1,zwei,3", ["seed='zwei' is not a whole number"]),
    ("seed=range(0,3) trainer.epochs=1,0,2", ["trainer.epochs=0 must be at least 1"]),
    ("hydra/launcher=nothing seed=0,1", ["hydra/launcher=nothing does not exist", "local"]),
    (
        "hydra/launcher=local hydra.launcher.timeout_minutes=nan seed=0,1",
        ["timeout_minutes=nan is not a number"],
    ),
    ("n_trials=3 seed=0,1", ["use hydra/sweeper=search n_trials=3 -m"]),
    ("hydra/launcher=local +hydra.launcher.foo=1 seed=0,1", ["hydra.launcher.foo is not a key"]),
    ("hydra/launcher=slurm +hydra.launcher.qoss=a seed=0,1", ["qoss is not a key. Did you mean 'qos'?"]),
    (
        "hydra/launcher=ray hydra.launcher.address=127.0.0.1:1 seed=0,1",
        ["=127.0.0.1:1 cannot be", "null to"],
    ),
    ("hydra/launcher=ray hydra.launcher.address=nowhere seed=0,1", ["address=nowhere cannot be reached"]),
]
# (script and arguments, what the line must name)
OTHERS: list[tuple[str, list[str]]] = [
    ("evaluate.py", ["set run=<value>"]),
    ("evaluate.py run=", ["run= does not name a folder; set run=<folder of a run>"]),
    ("evaluate.py run=null", ["run=<folder of a run>"]),
    ("evaluate.py run=3", ["run=3 is not text"]),
    ("evaluate.py run=a,b", ["run=a,b has several values; give one"]),
    ("evaluate.py run=/nowhere", ["/nowhere has no run.json"]),
    ("evaluate.py run=.", ["has no run.json; name the folder of a run"]),
    ("evaluate.py sun=x", ["Did you mean 'run'?", "has: accelerator, checkpoint"]),
    ("evaluate.py -m run=a,b", ["one run at a time"]),
    (
        "evaluate.py run=a hydra.run.dir=x",
        ["hydra.run.dir=x: src/evaluate.py creates no Hydra folder", "leave it"],
    ),
    ("reproduce.py run=a hydra.run.dir=x", ["src/reproduce.py creates no Hydra folder; leave it out"]),
    ("reproduce.py", ["set run=<value>"]),
    ("evaluate.py /nowhere accelerator=cpu", ["/nowhere has no run.json"]),
    ("reproduce.py /nowhere", ["/nowhere has no run.json"]),
    ("reproduce.py run=", ["run= does not name a folder"]),
    ("reproduce.py seed=1", ["seed is not a key", "src/reproduce.py has: "]),
    ("reproduce.py a -m", ["one run at a time"]),
    ("report.py", ["folders", "--help"]),
    ("report.py . --paper", ["--paper", "--help"]),
    ("report.py ''", ["'' does not name a folder"]),
    ("lr_range.py trainer.max_steps=1", ["the run has 1 step, but its schedule needs 2"]),
    ("lr_range.py scheduler=onecycle", ["scheduler=range_test"]),
    ("lr_range.py scheduler.min_lr=1 scheduler.max_lr=0.1", ["scheduler.min_lr=0.1 scheduler.max_lr=1"]),
    ("lr_range.py scheduler.start_lr=1", ["scheduler.start_lr is not a key", "max_lr"]),
    ("lr_range.py trainer.epochs=0", ["trainer.epochs=1"]),
    ("tune.py tune.budget_epochs=0", ["tune.budget_epochs=1"]),
    ("tune.py tune.budget_epochs=9 tune.budget_minutes=9", ["exclude each other"]),
    ("tune.py tune.momenta=[2]", ["tune.momenta=[2] must be below 1; set e.g. tune.momenta=[0.9]"]),
    ("tune.py tune.weight_decays=[]", ["tune.weight_decays=auto"]),
    ("tune.py tune.batch_sizes=[0]", ["tune.batch_sizes=[0] must be at least 1"]),
    ("tune.py tune.foo=1", ["tune.foo is not a key", "budget_epochs"]),
    ("tune.py tune.short_epoch=3", ["tune.short_epoch is not a key. Did you mean 'short_epochs'?"]),
    ("tune.py experiment=radiuk2020/table1", ["a table of 18 runs; name one of its rows"]),
    ("tune.py model=mlp,cnn3 -m", ["leave -m out"]),
    ("tune.py data.val_size=0 checkpoint.select=last objective=test/accuracy", ["data.val_size=0.1"]),
    ("train.py +tune=1", ["tune is not a key"]),
    ("train.py +tune.short_epochs=1", ["tune is not a key"]),
    ("tune.py ~tune", ["tune=None must be a group of keys"]),
    ("tune.py scheduler=onecycle", ["the procedure sets it itself; leave it out"]),
    ("tune.py trainer.max_steps=9", ["set trainer.epochs instead"]),
]


@pytest.mark.parametrize(("arguments", "words"), TRAIN, ids=[case[0][:60] for case in TRAIN])
def test_a_run(arguments: str, words: list[str], light: Warm, refused: Refused, tmp_path: Path) -> None:
    given = [f"hydra.run.dir={tmp_path / 'made' / 'run'}", *shlex.split(arguments)]
    if "--config-path" in arguments:
        given = given[1:]
    assert_says(refused(light, "train.py", *given), words)


@pytest.mark.parametrize(("arguments", "words"), SWEEPS, ids=[case[0][:60] for case in SWEEPS])
def test_a_sweep(arguments: str, words: list[str], light: Warm, refused: Refused, tmp_path: Path) -> None:
    given = [f"hydra.sweep.dir={tmp_path / 'made' / 'sweep'}", *shlex.split(arguments), "-m"]
    assert_says(refused(light, "train.py", *given), words)


@pytest.mark.parametrize(("command", "words"), OTHERS, ids=[case[0][:60] for case in OTHERS])
def test_another_script(
    command: str, words: list[str], light: Warm, refused: Refused, tmp_path: Path
) -> None:
    script, *arguments = shlex.split(command)
    if script in ("lr_range.py", "tune.py"):
        arguments = [f"hydra.run.dir={tmp_path / 'made' / 'run'}", *arguments]
    assert_says(refused(light, script, *arguments), words)


def test_these_are_many() -> None:
    given = [case[0] for case in TRAIN], [f"-m {case[0]}" for case in SWEEPS], [case[0] for case in OTHERS]
    assert len(set().union(*given)) == sum(map(len, given)) > 120
