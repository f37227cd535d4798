"""What cannot work is refused by the check, which reads no data and imports no torch."""

from __future__ import annotations

import copy
import functools
import importlib.util
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException
from omegaconf import OmegaConf

from tempo.config.check import check
from tempo.config.resolve_interpolations import composed, plain
from tempo.errors import UserError
from tempo.paths import register_resolvers
from tempo.tuning.tune_settings import settings_of
from tests.jobs import CONF, compose_job

ASYNC = "trainer=ddp_cpu trainer.devices=2 trainer.method=ps_async"
SERVERS_STEP = "trainer=ddp_cpu trainer.devices=2 trainer.method=ps_sync server.reply=parameters"
# key=refused->remedy, after the options of the line: the message must contain both.
OUT_OF_RANGE = """
optimizer.lr=0->0.1 optimizer.lr=-0.1->0.1 optimizer.lr=nan->0.1 optimizer.lr=inf->0.1
optimizer.wd=inf->1e-4 optimizer.momentum=1->0.9 optimizer.momentum=-0.1->0.9 optimizer.dampening=2->0
server.max_staleness=4->null data.total_batch_size=0->1 data.eval_batch_size=0->1 data.val_size=-1->0.1
data.val_size=1.5->0.1 data.val_size=0->0.1 data.train_size=0->1000 data.augment.crop_padding=-1->0
trainer.devices=0->1 trainer.devices=-1->1 trainer.num_nodes=0->1 trainer.accumulate=0->1
trainer.epochs=0->1 trainer.max_steps=0->1 trainer.threads=0->1 trainer.val_every_n_epochs=0->1
trainer.log_every_n_steps=0->1 trainer.steps_per_call=0->1 trainer.gradient_clip=0->1
trainer.limit_train_steps=0->1 checkpoint.every_n_steps=0->1 checkpoint.every_n_minutes=0->1
early_stopping.patience=0->1 early_stopping.min_delta=-1->0 ema.decay=1->0.999 ema.decay=0->0.999
divergence.factor=1->2 seed=-1->0
optimizer=adam optimizer.beta2=1->0.999 optimizer.eps=-1->1e-8
optimizer=lbfgs optimizer.max_iter=0->20 trainer.precision=16-mixed->32-true trainer.gradient_clip=1->null
optimizer=newton_cg trainer.compile=true->false
optimizer=bfgs optimizer.c2=1->0.9 optimizer.max_memory_gb=0->2
optimizer=muon optimizer.adamw_momentum=1->0.9
optimizer=schedule_free ema.decay=0.9->null optimizer.momentum=0->0.9
"""
# What the message must say of each of these values.
WRONG_TYPES = {
    "whole number": [
        "optimizer=lbfgs optimizer.max_iter=1.5",
        "scheduler=triangular scheduler.cycles=1.5",
        "data.total_batch_size=64.5",
        "data.augment.cutout=1.5",
        "data=synthetic data.image_size=big",
        "trainer.epochs=ten",
        "seed=zero",
        "seed=null",
        "model.depth=twenty",
    ],
    "true or false": ["data.augment.flip=3", "trainer.channels_last=2", "preview=2"],
    "text": ["data=mnist data.root=3"],
    "number": ["model=cnn3 model.dropout=nan"],
}
# (overrides, what the message must contain: the value, and the override that helps)
REFUSED: list[tuple[str, ...]] = [
    ("optimizer.lr=fast", "optimizer.lr='fast'", "optimizer.lr=0.1"),
    ("optimizer.lr=true", "optimizer.lr=True", "optimizer.lr=0.1"),
    ("optimizer.lr=null", "optimizer.lr=None", "optimizer.lr=0.1"),
    ("optimizer.lr=[0.1,0.2]", "optimizer.lr=[0.1, 0.2]", "optimizer.lr=0.1"),
    ("optimizer.wd=-1e-4", "optimizer.wd=-0.0001", "optimizer.wd=1e-4"),
    ("optimizer=lbfgs +optimizer.history=3", "optimizer.history", "history_size"),
    ("optimizer=lbfgs optimizer.line_search_fn=armijo", "line_search_fn='armijo'", "strong_wolfe"),
    ("optimizer=newton_cg trainer=ddp_cpu trainer.devices=2", "trainer.devices=2", "optimizer=lbfgs"),
    ("data=folder data.channels=2", "data.channels=2", "one of 1, 3"),
    ("optimizer=schedule_free scheduler=onecycle", "momentum", "scheduler.min_momentum=null"),
    (f"optimizer=schedule_free {SERVERS_STEP}", "average of the weights", "server.reply=gradients"),
    (f"optimizer=muon {SERVERS_STEP}", "two parts", "server.reply=gradients"),
    (f"optimizer=lbfgs {SERVERS_STEP}", "line search", "server.reply=gradients"),
    ("trainer.method=ps_async", "more than one process", "trainer.devices=2"),
    (f"{ASYNC} trainer.num_nodes=2", "trainer.num_nodes=2", "trainer.num_nodes=1"),
    (f"{ASYNC} trainer.compress=fp16", "trainer.compress=fp16", "trainer.compress=null"),
    (f"{ASYNC} trainer.precision=16-mixed", "trainer.precision=16-mixed", "trainer.precision=32-true"),
    (f"{ASYNC} ema.decay=0.9", "ema.decay=0.9", "trainer.method=ring"),
    (f"{ASYNC} optimizer=lbfgs", "LBFGS", "trainer.method=ring"),
    (f"{ASYNC} optimizer=schedule_free", "ScheduleFree", "trainer.method=ring"),
    (f"{ASYNC} server.count=2", "server.count=2", "server.count=1"),
    (f"{ASYNC} server.placement=sharded", "server.placement=sharded", "server.placement=by_size"),
    (f"{ASYNC} server.reply=gradients", "server.reply=gradients", "server.reply=parameters"),
    (f"{ASYNC} server.max_staleness=-1", "server.max_staleness=-1", "server.max_staleness=4"),
    ("scheduler=onecycle optimizer=lbfgs", "momentum", "optimizer=momentum"),
    ("scheduler=onecycle optimizer=sgd", "momentum", "optimizer=momentum"),
    ("scheduler=onecycle optimizer=adagrad", "momentum", "scheduler.min_momentum=null"),
    ("scheduler=onecycle optimizer=rmsprop", "momentum 0", "scheduler.max_momentum=null"),
    ("scheduler=onecycle scheduler.min_lr=2", "scheduler.min_lr=2", "scheduler.max_lr=2"),
    (
        "scheduler=onecycle scheduler.min_momentum=0.99",
        "scheduler.min_momentum=0.99",
        "scheduler.max_momentum=0.99",
    ),
    (
        "scheduler=onecycle scheduler.min_momentum=null",
        "or scheduler.min_momentum=null scheduler.max_momentum=null",
    ),
    ("scheduler=onecycle scheduler.rise_fraction=0.9", "rise_fraction", "scheduler.rise_fraction=0.45"),
    ("scheduler=onecycle scheduler.curve=square", "scheduler.curve='square'", "one of linear, cosine"),
    ("scheduler=multistep scheduler.milestones=[1.5]", "milestones", "scheduler.milestones="),
    ("scheduler=triangular scheduler.cycles=0", "scheduler.cycles=0", "scheduler.cycles="),
    ("data.folds=5", "data.folds=5", "set data.fold=0, or -m data.fold='range(5)'"),
    ("data.fold=1", "data.fold=1", "data.folds=5"),
    ("data.folds=3 data.fold=3", "data.fold=3", "0 .. 2"),
    ("data.val_size=0 objective=test/accuracy", "checkpoint.select=best", "checkpoint.select=last"),
    (
        "data.val_size=0 objective=test/loss checkpoint.select=last early_stopping.patience=3",
        "early_stopping.patience",
        "data.val_size=0.1",
    ),
    ("data.normalize=pixel", "data.normalize='pixel'", "one of channel, unit"),
    ("data.augment=null", "data.augment=None", "data.augment.<key>="),
    ("+data.colour=red", "data.colour", "Known"),
    ("trainer=cpu trainer.accumulate=3", "data.total_batch_size=64", "data.total_batch_size=63"),
    ("trainer=ddp_cpu trainer.devices=5", "5 devices", "data.total_batch_size=65"),
    ("trainer.steps_per_call=many", "trainer.steps_per_call='many'", "auto"),
    ("trainer.precision=8", "trainer.precision=8", "32-true"),
    ("trainer.accelerator=abacus", "trainer.accelerator='abacus'", "cpu"),
    ("trainer.backend=nccl trainer.accelerator=cpu", "trainer.backend=nccl", "trainer.backend=gloo"),
    ("trainer.profiler=yes", "trainer.profiler=", "simple"),
    ("checkpoint.select=worst", "checkpoint.select='worst'", "best"),
    ("divergence.factor=nan", "divergence.factor=nan", "divergence.factor="),
    ("objective=val/f1", "objective=val/f1 is not computed", "metrics=[f1]"),
    ("objective=accuracy", "objective='accuracy'", "<split>/<metric>"),
    ("seed=4294967296", "seed=4294967296", "seed="),
    ("+model.width=3", "model.width", "Known: depth"),
    ("model=mlp model.hidden=128", "model.hidden=128", "model.hidden="),
    ("model=mlp model.hidden=[a]", "model.hidden=['a']", "model.hidden="),
    ("model._target_=tempo.model.mlp.Perceptron", "Perceptron", "mlp.py"),
    ("~model._target_", "model has no _target_", "conf/model"),
    ("~optimizer._target_", "optimizer has no _target_", "conf/optimizer"),
    ("model._target_=os.getcwd", "model._target_=os.getcwd", "model=<option"),
    ("data._target_=os.system", "data._target_=os.system", "data=<option"),
    ("model._target_=mlp", "model._target_=mlp", "model=<option"),
    ("model._target_=3", "model._target_=3", "model=<option"),
    ("model._target_=hydra.absent.Net", "model._target_=hydra.absent.Net", "model=<option"),
    ("model._target_=hydra.Absent", "model._target_=hydra.Absent", "model=<option"),
    ("model._target_=nowhere_at_all.Net", "No module named 'nowhere_at_all'", "model=<option"),
    ("model._target_=hydra.version", "is a module", "model=<option"),
    ("model._target_=tempo.run.process_launch.os.system", "tempo.run.process_launch.os", "model=<option"),
    ("+foo=1", "foo is not a key", "seed"),
    ("+sede=1", "sede is not a key", "Did you mean 'seed'?"),
    ("+experimnt=x", "experimnt is not a key", "Leave it out"),
    ("+early_stoping.patience=1", "early_stoping is not a key", "Did you mean 'early_stopping'?"),
    ("+optimizer.weight_decay=1e-4", "optimizer.weight_decay", "optimizer.wd"),
    (
        "optimizer=adam +optimizer.betas=[0.9,0.99]",
        "optimizer.betas",
        "optimizer.momentum and optimizer.beta2",
    ),
    ("+optimizer.learning_rate=1", "optimizer.learning_rate", "optimizer.lr"),
    ("data.total_batch_size=1295", "data.total_batch_size=1295", "data.total_batch_size=1294 or less"),
    ("data.total_batch_size=4096 trainer.accumulate=4", "the 1294 training", "data.total_batch_size=1292"),
    ("data.val_size=1438", "data.val_size=1438", "data.val_size=143"),
    ("data=mnist data.val_size=60000", "data.val_size=60000", "data.val_size=6000"),
    ("data=cifar10 data.train_size=45001", "data.train_size=45001", "at most 45000"),
    ("data.train_size=32", "data.total_batch_size=64", "data.total_batch_size=32"),
    ("scheduler._target_=tempo.scheduler.absent.Absent", "tempo.scheduler.absent", "scheduler="),
    ("trainer=ddp_cpu trainer.backend=nccl", "trainer.backend=nccl needs GPUs", "trainer.backend=gloo"),
    ("trainer=ddp_cpu trainer.method=powersgd", "trainer.method='powersgd'", "ring"),
    ("trainer.method=ps_sync", "needs more than one process", "trainer=ddp_cpu trainer.devices=2"),
    ("trainer=ddp_cpu trainer.method=ps_sync server.count=3", "server.count=3 must be in [1, 2]"),
    ("trainer.compress=fp16", "has only one; set trainer.compress=null"),
    ("trainer=ddp_cpu trainer.compress=bf16 trainer.precision=bf16-true", "trainer.compress=null"),
    ("trainer=ddp_cpu trainer.compress=bf16 trainer.precision=64-true", "rounds the float64"),
    ("trainer=ddp_cpu trainer.compress=int8", "trainer.compress='int8'", "fp16"),
    ("trainer=cpu trainer.cuda_graph=true", "needs an NVIDIA GPU", "trainer.cuda_graph=auto"),
    ("trainer=ddp trainer.cuda_graph=true", "of one process", "trainer.cuda_graph=auto"),
    ("trainer=gpu trainer.cuda_graph=true trainer.precision=16-mixed", "bf16-mixed"),
    ("trainer=gpu trainer.cuda_graph=true optimizer=lbfgs", "but LBFGS makes several"),
    ("trainer=gpu trainer.cuda_graph=true trainer.profiler=simple", "trainer.profiler=simple to measure"),
    ("trainer.cuda_graph=yes_please", "trainer.cuda_graph='yes_please'", "auto"),
    ("trainer=fsdp2 trainer.devices=1", "has only one; set trainer.devices=2, or trainer.shard=false"),
    ("trainer=fsdp2 trainer.method=ps_sync", "trainer.method=ring, or trainer.shard=false"),
    ("trainer=fsdp2 trainer.precision=16-mixed", "trainer.precision=bf16-mixed"),
    ("trainer=fsdp2 trainer.compile=true", "trainer.compile=false"),
    ("trainer=fsdp2 optimizer=lbfgs", "trainer.shard=true", "LBFGS", "optimizer=adamw"),
    ("trainer=fsdp2 optimizer=bfgs", "trainer.shard=true", "BFGS", "optimizer=adamw"),
    ("trainer=fsdp2 optimizer=newton_cg", "trainer.shard=true", "NewtonCG", "optimizer=adamw"),
    ("trainer=fsdp2 optimizer=muon", "MuonWithAdamW is made of", "optimizer=adamw"),
    ("trainer=fsdp2 optimizer=schedule_free", "AdamWScheduleFree keeps", "optimizer=adamw"),
    ("trainer=fsdp2 optimizer.fused=true", "no fused SGD kernel", "optimizer.fused=null"),
    ("seed=", "seed='' is not a whole number"),
    ("seed=999999999999999999999999", "must be at most 4294967295", "seed=0"),
    ("trainer.epochs=inf", "trainer.epochs=inf is not a whole number"),
    ("trainer.epochs=99999999999999999999", "must be at most 2147483647"),
    ("optimizer.lr=1e-400", "optimizer.lr=0.0 must be above 0"),
    ("divergence.factor=inf", "divergence.factor=inf must be finite"),
    ("name=a/b", "name='a/b' is part of a folder's name", "name=first_try"),
    ("name=", "name='' is part of a folder's name"),
    (f"name={'x' * 300}", "is part of a folder's name, which has 1 to 120 bytes"),
    ("scheduler=multistep scheduler.milestones=[0.9,0.5]", "'scheduler.milestones=[0.5,0.9]'"),
    ("trainer.accumulate=64 trainer.devices=2", "= 128; set data.total_batch_size=128"),
    ("optimizer=muon optimizer.ns_steps=0", "optimizer.ns_steps=0 must be in [1, 99]"),
    ("optimizer=muon optimizer.ns_steps=1000000000", "must be in [1, 99]; set e.g. optimizer.ns_steps=5"),
    ("optimizer=lbfgs optimizer.max_eval=0", "optimizer.max_eval=0 must be 1 or more, or null"),
    ("optimizer=lbfgs optimizer.tolerance_grad=-1", "must be 0 or more; set e.g. optimizer.tolerance_grad"),
    ("optimizer=schedule_free optimizer.warmup_steps=-1", "must be 0 or more; set e.g. optimizer.warmup"),
    ("optimizer=adam +optimizer.amsgrad=perhaps", "amsgrad='perhaps' is not true, false or null"),
    ("optimizer=adam optimizer.fused=x", "optimizer.fused='x' is not true, false or null"),
    ("+optimizer.maximize=1", "optimizer.maximize=1 is not true, false or null"),
    ("+model._args_=[1]", "model._args_ is not a key"),
    ("+data._partial_=true", "data._partial_ is not a key"),
    ("+model._recursive_=true", "model._recursive_ is not a key"),
    ("model._target_=tempo.model.mlp.Nothing", "defines no 'Nothing'; leave it out"),
    ("checkpoint.every_n_minutes=nan", "checkpoint.every_n_minutes=nan is not a number or null"),
]


@functools.cache
def composed_options(options: tuple[str, ...]) -> dict[str, Any]:
    return compose_job(options)[0]


def values_of(overrides: str) -> dict[str, Any]:
    """Compose the options, once for all cases that have the same, and set the keys as Hydra would."""
    given = overrides.split()
    if any(override[0] in "+~" for override in given):  # only Hydra knows how to add and delete
        return compose_job(given)[0]
    options = tuple(override for override in given if (CONF / override.partition("=")[0]).is_dir())
    values = copy.deepcopy(composed_options(options))
    keys = [override for override in given if override not in options]
    for override in OverridesParser.create().parse_overrides(keys):
        *parents, leaf = override.key_or_group.split(".")
        functools.reduce(dict.__getitem__, parents, values)[leaf] = override.value()
    return values


def out_of_range() -> Iterator[tuple[str, str, str]]:
    for line in OUT_OF_RANGE.strip().splitlines():
        options = [word for word in line.split() if "->" not in word]
        for entry in line.split()[len(options) :]:
            refused, remedy = entry.split("->")
            key, _, value = refused.partition("=")
            yield " ".join([*options, refused]), f"{key}={value}", f"{key}={remedy}"


def wrong_types() -> Iterator[tuple[str, str, str]]:
    for words, cases in WRONG_TYPES.items():
        for overrides in cases:
            yield overrides, f"{overrides.split()[-1].partition('=')[0]}=", words


@pytest.mark.parametrize("case", [*out_of_range(), *wrong_types(), *REFUSED], ids=lambda case: case[0])
def test_refused_in_one_line(case: tuple[str, ...]) -> None:
    overrides, *words = case
    with pytest.raises(UserError) as caught:
        check(values_of(overrides))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_the_asynchronous_server_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else find(name))
    with pytest.raises(UserError, match=re.escape("pip install -e '.[ray]'")):
        check(values_of(ASYNC))


def test_what_is_near_a_bound_is_not_refused() -> None:
    """The bounds themselves, where they are allowed: else a check that says no to all would pass too."""
    for overrides in (
        "optimizer.wd=0 optimizer.momentum=0 seed=0 optimizer.lr=1e-12",
        "optimizer.momentum=0.999 trainer.accumulate=4 trainer.gradient_clip=1e-9",
        "data.val_size=0 objective=test/accuracy checkpoint.select=last",
        "data.val_size=1 trainer.max_steps=1 trainer.epochs=1",
        "scheduler=onecycle optimizer=sgd scheduler.min_momentum=null scheduler.max_momentum=null",
        "scheduler=onecycle optimizer=nadam divergence.factor=null ema.decay=1e-3",
        "seed=4294967295",
        "data.total_batch_size=1294",
        "data.val_size=1374",  # leaves one batch of 64
        "data=mnist data.train_size=55000",
        "data=folder data.total_batch_size=1000000",  # who knows how many there are
        "+optimizer.amsgrad=true optimizer=adam",
        "model._target_=omegaconf.DictConfig",  # of another package: what it makes is seen when it is called
        "scale=smoke experiment=radiuk2020/table1_row01_resnet56_cifar10_step_100",
    ):
        check(values_of(overrides))


@pytest.mark.parametrize("name", ["train", "tune", "lr_range"])
def test_the_configuration_of_each_script_passes(name: str) -> None:
    """But for the keys of `tune`, which are checked apart."""
    register_resolvers()
    OmegaConf.register_new_resolver("run_folder", lambda *_: "unused", replace=True)
    OmegaConf.register_new_resolver("tune_folder", lambda *_: "unused", replace=True)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra_compose(name, return_hydra_config=True)
    values = composed(config)
    if name == "tune":
        assert values.pop("tune").keys() == vars(settings_of(config)).keys()
    check(values)


def test_plain_resolves_and_refuses_what_is_missing() -> None:
    config = OmegaConf.create({"a": {"b": 1, "c": "${a.b}"}, "hydra": {"x": "${absent}"}})
    assert plain(config) == {"a": {"b": 1, "c": 1}}
    for broken in ({"a": "???"}, {"a": "${b}"}, {"a": "${nothing:1}"}):
        with pytest.raises(UserError, match=r"^a(:| has no value;) .*value"):
            plain(OmegaConf.create(broken))


def test_user_error_is_what_hydra_prints_without_traceback() -> None:
    assert issubclass(UserError, CompactHydraException)
    assert str(UserError("a\n  line\tand another")) == "a line and another"
