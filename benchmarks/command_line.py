"""How long a user waits for an answer, compared with Hydra alone, and for the first step."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from jobs import ROOT, temporary_folder
from measurement import Row, Section

_TRAIN = str(ROOT / "src" / "train.py")
_IMPORT_LIGHTNING = ("-c", "import torch, pytorch_lightning; print()")
# The smallest program of Hydra that does anything with this configuration.
_HYDRA_ALONE = (
    f"import hydra; hydra.main(version_base='1.3', config_path={str(ROOT / 'conf')!r}, "
    "config_name='train')(lambda config: None)()"
)
_ANSWERS: dict[str, tuple[str, ...]] = {
    "help": ("--help",),
    "cfg_job": ("model=resnet56", "scheduler=onecycle", "--cfg", "job"),
    "config_error": ("optimizer.lr=fast",),
    "completion": ("--shell-completion", "query=bash"),
}
# What the shell asks when somebody presses TAB after `model=res`; other commands ignore it.
_COMPLETION = {"COMP_LINE": "python train.py model=res", "COMP_POINT": str(len("python train.py model=res"))}
MOST_SECONDS, MOST_ABOVE_HYDRA = 1.0, 0.2


def surroundings(**more: str) -> dict[str, str]:
    """Return the environment of a measured process, whose Python keeps compiled files as a user's does."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **more}


def seconds_of(arguments: Sequence[str], environment: dict[str, str] | None = None) -> tuple[float, float]:
    """Measure wall-clock and processor seconds from the start to the end of a Python process."""
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
    """Measure what is answered without torch, in turn with Hydra alone.

    The goals are of processor time: it is what a quiet machine takes by the clock, and a busy one does not
    change it.
    """
    commands = {
        f"{name}{suffix}": (*program, *arguments)
        for name, arguments in _ANSWERS.items()
        for suffix, program in (("", (_TRAIN,)), ("_of_hydra_alone", ("-c", _HYDRA_ALONE)))
    }
    # Hydra alone finds no fault with the value; composing it is what the two have in common.
    commands["config_error_of_hydra_alone"] += ("--cfg", "job")
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            seconds = seconds_of(command, _COMPLETION)
            if number:  # the first round compiles the files
                measured[name].append(seconds)
    rows = []
    for name in commands:
        goal = MOST_SECONDS if name in _ANSWERS else None
        rows.append(Row(f"{name}_seconds", "s", [wall for wall, _ in measured[name]]))
        rows.append(Row(f"{name}_cpu_seconds", "s", [cpu for _, cpu in measured[name]], at_most=goal))
    for name in _ANSWERS:
        pairs = zip(measured[name], measured[f"{name}_of_hydra_alone"], strict=True)
        above = [ours - alone for (_, ours), (_, alone) in pairs]
        rows.append(Row(f"{name}_above_hydra_cpu_seconds", "s", above, at_most=MOST_ABOVE_HYDRA))
    return rows


def seconds_to_import() -> float:
    """Measure from the start of a process until it has imported Lightning, without its end."""
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
    """Measure from the start of the command to the first row of metrics.csv, then kill the process."""
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
    """Measure the first step of a run on the digits after its imports."""
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
    """Run the smoke form of the paper's search once per way to search: it takes minutes."""
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
        "Seconds by the clock and of the processor, in turn: what src/train.py answers without torch, "
        "and the smallest program of Hydra on the same configuration.",
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
