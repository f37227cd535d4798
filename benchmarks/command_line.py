"""How long a command lets its user wait: help against `import hydra`, the first step against torch."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from jobs import ROOT, temporary_folder
from rows import Row, Section, ratio

_TRAIN = str(ROOT / "src" / "train.py")
_IMPORT_HYDRA = ("-c", "import hydra")
_IMPORT_LIGHTNING = ("-c", "import torch, pytorch_lightning")
_ANSWERS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "help": ((_TRAIN, "--help"), {}),
    "cfg_job": ((_TRAIN, "model=resnet56", "scheduler=onecycle", "--cfg", "job"), {}),
    "config_error": ((_TRAIN, "optimizer.lr=fast"), {}),
    # What the shell asks when somebody presses TAB after `model=res`.
    "completion": (
        (_TRAIN, "--shell-completion", "query=bash"),
        {"COMP_LINE": f"python {_TRAIN} model=res", "COMP_POINT": str(len(f"python {_TRAIN} model=res"))},
    ),
}


def seconds_of(arguments: Sequence[str], environment: dict[str, str] | None = None) -> float:
    """From the start to the end of a Python process, its output thrown away."""
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return time.perf_counter() - begin


def answers(rounds: int) -> list[Row]:
    """What needs no training answers nearly as soon as Hydra is there."""
    for arguments, environment in _ANSWERS.values():
        seconds_of(arguments, environment)  # compiles the files
    found: dict[str, list[float]] = {"import_hydra": [], **{name: [] for name in _ANSWERS}}
    for _ in range(rounds):
        found["import_hydra"].append(seconds_of(_IMPORT_HYDRA))
        for name, (arguments, environment) in _ANSWERS.items():
            found[name].append(seconds_of(arguments, environment))
    return [
        *(Row(f"{name}_seconds", "s", values) for name, values in found.items()),
        *(ratio(f"{name}_over_import", found[name], found["import_hydra"], at_most=1.5) for name in _ANSWERS),
    ]


def seconds_to_first_step(folder: Path) -> float:
    """From the start of the command to the first row of metrics.csv, then the process is ended."""
    begin = time.perf_counter()
    arguments = ["trainer=cpu", "trainer.log_every_n_steps=1", "trainer.steps_per_call=1"]
    process = subprocess.Popen(
        [sys.executable, _TRAIN, *arguments, f"hydra.run.dir={folder}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    metrics = folder / "metrics.csv"
    try:
        while process.poll() is None:
            if metrics.exists() and metrics.read_bytes().count(b"\n") > 1:
                return time.perf_counter() - begin
            time.sleep(0.005)
        raise RuntimeError("src/train.py ended before its first step")
    finally:
        process.kill()
        process.wait()


def first_step(rounds: int) -> list[Row]:
    """A run on the digits has taken its first step within a second after its imports."""
    imports, steps = [], []
    for number in range(rounds + 1):
        with temporary_folder() as folder:
            values = seconds_of(_IMPORT_LIGHTNING), seconds_to_first_step(folder / "run")
        if number:  # the first one fills the disk's cache
            imports.append(values[0])
            steps.append(values[1])
    above = [step - one for step, one in zip(steps, imports, strict=True)]
    return [
        Row("import_seconds", "s", imports),
        Row("first_step_seconds", "s", steps),
        Row("above_imports_seconds", "s", above, at_most=1.0),
    ]


SECTIONS = [
    Section(
        "answers",
        "Seconds of a process, in turn: `python -c 'import hydra'`, and src/train.py with what it answers "
        "without torch.",
        answers,
    ),
    Section(
        "first_step",
        "Seconds in turn: `python -c 'import torch, pytorch_lightning'`, and src/train.py model=resnet20 "
        "data=digits from the command to the first row of metrics.csv.",
        first_step,
    ),
]
