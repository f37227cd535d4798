"""Names that users bring along from lightning-hydra-template and Lightning, and what tempo has for them."""

from __future__ import annotations

import re

# In an advice, `{value}` is the value that the user gave, or an example if tempo could not take that value.
_COUNT, _NUMBER, _TEXT = r"[1-9]\d*", r"(?=.*[1-9])\d*\.?\d+(?:[eE][+-]?\d+)?", r"[^=,{}\[\]()'\"\s]+"

# name elsewhere: (key of tempo, form of a value that means the same, example)
RENAMED: dict[str, tuple[str, str, str]] = {
    "trainer.max_epochs": ("trainer.epochs", _COUNT, "20"),
    "trainer.accumulate_grad_batches": ("trainer.accumulate", _COUNT, "2"),
    "trainer.check_val_every_n_epoch": ("trainer.val_every_n_epochs", _COUNT, "1"),
    "trainer.gradient_clip_val": ("trainer.gradient_clip", _NUMBER, "1.0"),
    "trainer.gpus": ("trainer=gpu trainer.devices", _COUNT, "1"),
    "trainer.limit_train_batches": ("trainer.limit_train_steps", _COUNT, "10"),
    "trainer.limit_val_batches": ("trainer.limit_eval_batches", _COUNT, "2"),
    "trainer.limit_test_batches": ("trainer.limit_eval_batches", _COUNT, "2"),
    "trainer.default_root_dir": ("hydra.run.dir", _TEXT, "logs/first"),
    "data.batch_size": ("data.total_batch_size", _COUNT, "128"),
    "data.train_val_test_split": ("data.val_size", r"0\.\d+", "0.1"),
    "data.data_dir": ("data=mnist data.root", _TEXT, "data"),
    "paths.data_dir": ("data=mnist data.root", _TEXT, "data"),
    "paths.log_dir": ("hydra.run.dir", _TEXT, "logs/first"),
    "paths.output_dir": ("hydra.run.dir", _TEXT, "logs/first"),
    "model.compile": ("trainer.compile", "true|false", "true"),
    "model.lr": ("optimizer.lr", _NUMBER, "0.1"),
    "model.learning_rate": ("optimizer.lr", _NUMBER, "0.1"),
    "model.weight_decay": ("optimizer.wd", _NUMBER, "1e-4"),
    "model.optimizer.lr": ("optimizer.lr", _NUMBER, "0.1"),
    "model.optimizer.weight_decay": ("optimizer.wd", _NUMBER, "1e-4"),
    "model.optimizer.momentum": ("optimizer.momentum", _NUMBER, "0.9"),
    "model.optimizer._target_": ("optimizer._target_", _TEXT, "torch.optim.SGD"),
    "callbacks.early_stopping.patience": ("early_stopping.patience", _COUNT, "10"),
    "callbacks.early_stopping.min_delta": ("early_stopping.min_delta", _NUMBER, "0.001"),
    "callbacks.early_stopping.monitor": ("objective", "(?:train|val|test)/loss", "val/accuracy"),
    "callbacks.model_checkpoint.monitor": ("objective", "(?:train|val|test)/loss", "val/accuracy"),
    "callbacks.model_checkpoint.save_top_k": ("checkpoint.keep_best", _COUNT, "1"),
    "callbacks.model_checkpoint.every_n_train_steps": ("checkpoint.every_n_steps", _COUNT, "100"),
    "optimized_metric": ("objective", "(?:train|val|test)/loss", "val/accuracy"),
    "task_name": ("name", _TEXT, "first_try"),
    "lr": ("optimizer.lr", _NUMBER, "0.1"),
    "learning_rate": ("optimizer.lr", _NUMBER, "0.1"),
    "weight_decay": ("optimizer.wd", _NUMBER, "1e-4"),
    "batch_size": ("data.total_batch_size", _COUNT, "128"),
    "max_epochs": ("trainer.epochs", _COUNT, "20"),
}
_IN_MEMORY = "is not a key, because the images are in memory and no process loads them; leave it out"
_BUILT_IN = "is not a key: every run keeps its checkpoints and prints progress; leave it out"
# A pattern of names: what follows the name in the error line.
_ADVICE: dict[str, str] = {
    r"trainer\.min_(epochs|steps)": "is not a key, because no run ends early by itself; leave it out",
    r"trainer\.fast_dev_run": "is an option here; use debug=fast_dev_run",
    r"trainer\.overfit_batches": "is an option here; use debug=overfit",
    r"trainer\.strategy": "is an option here; use trainer=ddp, trainer=ddp_cpu or trainer=fsdp2",
    r"trainer\.val_check_interval": "counts epochs here; set trainer.val_every_n_epochs=1",
    r"trainer\.gradient_clip_algorithm": "is not a key: trainer.gradient_clip means the norm; leave it out",
    r"trainer\.(num_sanity_val_steps|enable_(checkpointing|progress_bar|model_summary))": _BUILT_IN,
    r"trainer\.benchmark": "depends on one key here; set trainer.deterministic=false",
    r"data\.(pin_memory|persistent_workers|prefetch_factor)": _IN_MEMORY,
    r"model\.scheduler\..*": "is a group of its own here; use scheduler=multistep, cosine or onecycle",
    r"model\.net\..*": "is a key of the network itself here; use e.g. model=mlp model.hidden=[64,128]",
    r"callbacks\.(early_stopping|model_checkpoint|model_summary|rich_progress_bar)(\..*)?": _BUILT_IN,
    r"logger\.wandb\.project": "is a key of a logger that is not chosen; use logger=wandb "
    "logger.wandb.project={value}",
    r"logger\.mlflow\.experiment_name": "is a key of a logger that is not chosen; use logger=mlflow "
    "logger.mlflow.experiment_name={value}",
    r"logger\.(csv|tensorboard)\..*": "is not a key: every run writes both of them itself; leave it out",
    r"ckpt_path": "is not a key: tempo resumes the folder of a run; set resume=<folder of the run>, or "
    "start a new run from its weights with init_from={value}",
    r"train": "is not a key: a run always trains; leave it out, or test a run with python src/evaluate.py "
    "<folder of the run>",
    r"test": "is not a key: a run reads the test set once, at its end; leave it out",
    r"extras\..*": "is not a key; leave it out (--cfg job prints the configuration)",
    r"paths\..*": "is not a key; leave it out, and choose the folder with hydra.run.dir=logs/first",
    r"hparams_search": "is one command here; use hydra/sweeper=search n_trials=20 "
    "'optimizer.lr=tag(log,interval(1e-3,1))' -m",
}
_OPTIONS: dict[str, str] = {
    "debug=default": "use debug=fast_dev_run, or debug=limit",
    "debug=fdr": "use debug=fast_dev_run",
    "debug=profiler": "use debug=profile",
    "trainer=default": "use trainer=auto",
    "trainer=ddp_sim": "use trainer=ddp_cpu",
    "trainer=mps": "set trainer.accelerator=mps",
    "logger=many_loggers": "every run writes metrics.csv and TensorBoard's files; leave it out",
    "callbacks=default": "checkpoints and progress lines are built in; leave it out",
    "callbacks=early_stopping": "set early_stopping.patience=10",
    "callbacks=model_checkpoint": "every run keeps its best and its last checkpoint; leave it out",
    "callbacks=model_summary": "it is built in; leave it out",
    "callbacks=rich_progress_bar": "it is built in; leave it out",
    "callbacks=none": "leave it out",
}
_EXAMPLES = {
    "logger.wandb.project": "tempo",
    "logger.mlflow.experiment_name": "tempo",
    "ckpt_path": "<file>",
}


def key_here(key: str, value: object = None) -> str | None:
    """Return the line for a key that tempo calls otherwise or does not need; None for any other key."""
    if key in RENAMED:
        ours, form, example = RENAMED[key]
        given = _values(value, form) or example
        return f"{key} is called {ours.split()[-1]} here; set {ours}={given}"
    for pattern, advice in _ADVICE.items():
        if re.fullmatch(pattern, key):
            given = _values(value, _TEXT) or _EXAMPLES.get(key, "")
            return f"{key} {advice.replace('{value}', given)}"
    return option_here(key, str(value))


def option_here(group: str, option: str) -> str | None:
    """Return the line for an option of another template's group; None for any other option."""
    advice = _OPTIONS.get(f"{group}={option}")
    return advice and f"{group}={option} does not exist here; {advice}"


def _values(value: object, form: str) -> str:
    """Return the value, or the values of a sweep, if tempo can take them; otherwise an empty text."""
    text = "" if value is None else str(value)
    text = text.lower() if isinstance(value, bool) or text in ("True", "False") else text
    return text if text and all(re.fullmatch(form, part) for part in text.split(",")) else ""
