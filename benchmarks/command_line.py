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
_IMPORT_LIGHTNING = ("-c", "import torch, pytorch_lightning; print()")
# Hydra's own smallest program on our configuration: what it costs without anything of tempo's.
_HYDRAS_OWN = (
    f"import hydra; hydra.main(version_base='1.3', config_path={str(ROOT / 'conf')!r}, "
    "config_name='train')(lambda config: None)()"
)
_ANSWERS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "help": ((_TRAIN, "--help"), {}),
    "cfg_job": ((_TRAIN, "model=resnet56", "scheduler=onecycle", "--cfg", "job"), {}),
    "config_error": ((_TRAIN, "optimizer.lr=fast"), {}),
    # What the shell asks when somebody presses TAB after `model=res`.
    "completion": (
        (_TRAIN, "--shell-completion", "query=bash"),
        {"COMP_LINE": f"python {_TRAIN} model=res", "COMP_POINT": str(len(f"python {_TRAIN} model=res"))},
    ),
    "hydras_own_help": (("-c", _HYDRAS_OWN, "--help"), {}),
    "hydras_own_cfg_job": (("-c", _HYDRAS_OWN, "model=resnet56", "scheduler=onecycle", "--cfg", "job"), {}),
}


def surroundings(**more: str) -> dict[str, str]:
    """The environment of a measured process: a user's Python keeps what it has compiled."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **more}


def seconds_of(arguments: Sequence[str], environment: dict[str, str] | None = None) -> tuple[float, float]:
    """Of the clock and of the processor, from the start to the end of a Python process."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=surroundings(**(environment or {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, _, usage = os.wait4(process.pid, 0)
    return time.perf_counter() - begin, usage.ru_utime + usage.ru_stime


def answers(rounds: int) -> list[Row]:
    """What needs no training answers nearly as soon as Hydra is there."""
    commands = {"import_hydra": (_IMPORT_HYDRA, {}), **_ANSWERS}
    for arguments, environment in commands.values():
        seconds_of(arguments, environment)  # compiles the files
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, (arguments, environment) in commands.items():
            found[name].append(seconds_of(arguments, environment))
    wall = {name: [each for each, _ in values] for name, values in found.items()}
    cpu = {name: [each for _, each in values] for name, values in found.items()}
    rows = [Row(f"{name}_seconds", "s", values) for name, values in wall.items()]
    for name in _ANSWERS:
        goal = None if name.startswith("hydras_own") else 1.5
        rows.append(ratio(f"{name}_over_import", wall[name], wall["import_hydra"], at_most=goal))
        rows.append(ratio(f"{name}_over_import_cpu_time", cpu[name], cpu["import_hydra"]))
    return rows


def seconds_to_import() -> float:
    """From the start of a process until it has imported Lightning; its end takes another second."""
    begin = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *_IMPORT_LIGHTNING], env=surroundings(), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seconds = time.perf_counter() - begin
        process.kill()
    return seconds


def seconds_to_first_step(folder: Path) -> float:
    """From the start of the command to the first row of metrics.csv, then the process is ended."""
    begin = time.perf_counter()
    arguments = ["trainer=cpu", "trainer.log_every_n_steps=1", "trainer.steps_per_call=1"]
    process = subprocess.Popen(
        [sys.executable, _TRAIN, *arguments, f"hydra.run.dir={folder}"],
        env=surroundings(),
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
            values = seconds_to_import(), seconds_to_first_step(folder / "run")
        if number:  # the first one fills the disk's cache
            imports.append(values[0])
            steps.append(values[1])
    above = [step - one for step, one in zip(steps, imports, strict=True)]
    return [
        Row("import_seconds", "s", imports),
        Row("first_step_seconds", "s", steps),
        Row("above_imports_seconds", "s", above, at_most=1.0),
    ]


def searches(_: int) -> list[Row]:
    """The smoke form of the paper's search, whichever way it searches, once: it is minutes, not seconds."""
    rows = []
    for name, how in (
        ("random", "sampler=random"),
        ("hyperband", "pruner=hyperband"),
        ("bayesian", "sampler=gp"),
    ):
        with temporary_folder() as folder:
            asked = (_TRAIN, "-m", "experiment=frugal/search", "scale=smoke", how)
            wall, _cpu = seconds_of((*asked, f"hydra.sweep.dir={folder / 'search'}"))
            if len(list(folder.glob("search/*/run.json"))) != 4:
                raise RuntimeError(f"frugal/search by {how} did not run its four trials")
        rows.append(Row(f"{name}_seconds", "s", [wall], at_most=180))
    return rows


SECTIONS = [
    Section(
        "answers",
        "Seconds of a process, in turn: `python -c 'import hydra'`, src/train.py with what it answers "
        "without torch, and Hydra's own smallest program on this configuration.",
        answers,
    ),
    Section(
        "first_step",
        "Seconds in turn: the end of `import torch, pytorch_lightning`, and src/train.py model=resnet20 "
        "data=digits from the command to the first row of metrics.csv.",
        first_step,
    ),
    Section(
        "search",
        "Seconds of `src/train.py experiment=frugal/search scale=smoke -m`, its report included, by random, "
        "Hyperband and Bayesian search; once each.",
        searches,
    ),
]
