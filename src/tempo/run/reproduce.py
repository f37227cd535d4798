"""Run a record again, in a new folder, and say whether it comes to the same."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from tempo.command_line.folder_names import new_folder
from tempo.config.check import check
from tempo.config.recorded import command_config, completed
from tempo.config.schema import RunConfig, field_types
from tempo.config.signature import check_types
from tempo.errors import INTERRUPTED_CODE, UserError
from tempo.paths import ROOT
from tempo.record.atomic_write import write_atomically
from tempo.record.comparison import (
    Curves,
    Difference,
    Verdict,
    causes,
    config_differences,
    judge,
    result_differences,
    row_differences,
)
from tempo.record.environment import git_state, same_source, versions
from tempo.record.foreign_folder import check_foreign_config
from tempo.record.run_folder import LAST, check_folder, note_folder, remove_unused
from tempo.record.run_json import RunRecord, config_hash, flatten
from tempo.report.load_runs import CURVES_FILE, read_curves
from tempo.run.build_data import build_data
from tempo.run.run_request import RunRequest
from tempo.run.train import run
from tempo.trainer.checkpoint_file import load
from tempo.trainer.stop_on_signal import STOPPED_AFTER

COMPARISON_FILE = "comparison.json"
CUT = ("interrupted", "pruned")
"""Of runs that ended before their last step, by a signal or by their search: they are run to that step."""
_MOST_DIFFERENCES = 100


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The keys of conf/reproduce.yaml; `recorded` stands for what the record says."""

    run: str
    threads: int | Literal["recorded"] = "recorded"
    accelerator: Literal["recorded", "auto", "cpu", "gpu", "mps"] = "recorded"
    devices: int | Literal["recorded"] = "recorded"
    data_root: str | None = None
    tolerance: float = 0.01
    out: str | None = None


@dataclass(frozen=True)
class Stopped:
    """The new run was stopped by the user: nothing was compared."""

    folder: Path


def reproduce_from_hydra(config: DictConfig) -> int:
    """Reproduce as conf/reproduce.yaml and the overrides say; the exit code."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    asked = {str(key): value for key, value in values.items()}
    check_types("", asked, field_types(Asked))
    result = reproduce(Asked(**asked))
    return INTERRUPTED_CODE if isinstance(result, Stopped) else result.exit_code


def reproduce(asked: Asked) -> Verdict | Stopped:
    """Run the record in a folder again and compare; the comparison is written into the new folder.

    Raises:
        UserError: no record there, one without a result, one that names foreign code, a configuration that
            this checkout or machine cannot run, or a tolerance outside of [0, 1].
    """
    if not 0 <= asked.tolerance <= 1:
        raise UserError(
            f"tolerance={asked.tolerance} is no relative difference: a number in [0, 1], e.g. tolerance=0.01"
        )
    folder = Path(asked.run).expanduser().absolute()
    record = RunRecord.read(folder)
    check_foreign_config(record.config)
    curves = read_curves(folder / CURVES_FILE)
    stop_after = _stop_after(record, _last_row(curves, folder), folder)
    config, changes = _config(record, folder, asked)
    out = (
        Path(asked.out or new_folder(str(ROOT / "logs" / "reproductions"), folder.name))
        .expanduser()
        .absolute()
    )
    if out.resolve() == folder.resolve():
        raise UserError(f"out={asked.out} is the recorded run itself: name another folder, or leave it out")
    check_folder(config.values, out)
    wrong = [*_changed_config(record, folder)]
    _announce(record, folder)
    data = build_data(config)
    if record.data.get("sha256") not in (None, data.sha256):
        # A training on other images could only say the same.
        wrong.append(Difference("data.sha256", record.data["sha256"], data.sha256))
        verdict = judge(wrong, [], asked.tolerance, ["data SHA-256"])
        _print(f"{verdict.line()}; nothing was trained. data_root=<folder> says where the images are")
        return verdict
    del data
    note_folder(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{error.filename}: {error.strerror}; choose another folder with out=<folder>"
        ) from error
    kept = [each for each in record.overrides if not each.startswith("resume=")]
    job = RunRequest(
        config=config,
        folder=out,
        overrides=[*kept, *changes],
        choices=record.choices,
        stop_after=stop_after,
    )
    try:
        found = run(job)
    except UserError:
        remove_unused(out)
        raise
    if found.status == "interrupted" and found.reason != STOPPED_AFTER:
        return Stopped(out)
    verdict = _compare(record, folder, found, out, wrong, asked.tolerance)
    _write(verdict, folder, out)
    _print(f"compared  {', '.join(verdict.compared)}")
    _print(f"verdict   {verdict.line()}")
    return verdict


def _last_row(curves: Curves, folder: Path) -> int:
    """The step of the last row of metrics; 0 where there is none."""
    steps = curves.get("step", np.empty(0))
    if not np.isfinite(steps).all():
        raise UserError(
            f"{folder / CURVES_FILE} has a row without its step: it was changed; give the run's own"
        )
    return int(max(steps, default=0))


def _stop_after(record: RunRecord, last_row: int, folder: Path) -> int | None:
    """The step where a run was stopped or killed; None of one that came to its own end."""
    if record.finished and record.status not in CUT:
        return None
    steps = record.steps if record.status in CUT else last_row
    if record.status == "failed" or steps <= 0:
        why = (
            f"failed ({record.reason})" if record.status == "failed" else f"is {record.status} before a step"
        )
        raise UserError(f"{folder} {why}: there is no result to compare; start it again with src/train.py")
    return steps


def _config(record: RunRecord, folder: Path, asked: Asked) -> tuple[RunConfig, list[str]]:
    """The configuration to run, checked, and what was changed in it, as overrides."""
    config = completed(record, folder)
    trainer = dict(config["trainer"])
    threads = flatten(record.environment).get("threads.intra_op", trainer["threads"])
    wanted = {
        "threads": threads if asked.threads == "recorded" else asked.threads,
        "accelerator": trainer["accelerator"] if asked.accelerator == "recorded" else asked.accelerator,
        "devices": trainer["devices"] if asked.devices == "recorded" else asked.devices,
        "profiler": None,
    }
    changes = {f"trainer.{key}": value for key, value in wanted.items() if value != trainer[key]}
    config |= {"trainer": trainer | wanted, "logger": {}, "resume": None, "preview": False}
    if asked.data_root is not None:
        asked_data = {key: value for key, value in record.config["data"].items() if key == "download"}
        config["data"] = {**config["data"], **asked_data, "root": asked.data_root}
        changes["data.root"] = f"'{asked.data_root}'"
    try:
        checked = check(config)
    except UserError as error:
        commit = str(record.git.get("commit") or "unknown")[:12]
        raise UserError(f"{error} (the record is of commit {commit}: check that out to run it)") from error
    return checked, [f"{key}={'null' if value is None else value}" for key, value in changes.items()]


def _changed_config(record: RunRecord, folder: Path) -> Iterator[Difference]:
    """Keys of a record that was changed after its run: neither its hash nor its overrides know them."""
    if (
        config_hash({key: value for key, value in record.config.items() if key != "resume"})
        == record.config_hash
    ):
        return
    command = command_config(record, folder) or {}
    for key, (recorded, made) in config_differences(record.config, command).items():
        yield Difference(f"config.{key} as the recorded overrides make it", recorded, made)


def _announce(record: RunRecord, folder: Path) -> None:
    """Say what differs before the training begins: code, versions, and what its command makes today."""
    now = dataclasses.replace(record, git=git_state()[0], versions=versions())
    _print(f"record    {folder}: {record.name}, {record.status} after {record.steps} steps")
    for each in causes(record, now, same_source=_same_source(record, now)):
        _print(f"differs   {each}")
    commit = str(record.git.get("commit", ""))
    # Such a line is made to be copied into a shell: what a stranger wrote into a record must be one word.
    if commit != now.git.get("commit") and re.fullmatch(r"[0-9a-f]{7,64}", commit):
        diff = folder / str(record.git.get("diff", ""))
        apply = f" && git apply {shlex.quote(str(diff))}" if record.git.get("diff") and diff.is_file() else ""
        _print(f"note      the recorded code: git checkout {commit}{apply}")
    command = command_config(record, folder)
    for key, (recorded, made) in config_differences(record.config, command or {}).items():
        if command is not None:
            _print(f"note      {key}={recorded} is recorded and is run; its command makes {made} today")


def _compare(
    record: RunRecord, folder: Path, found: RunRecord, out: Path, wrong: list[Difference], tolerance: float
) -> Verdict:
    """All that both runs have, in the order of time."""
    one, two = read_curves(folder / CURVES_FILE), read_curves(out / CURVES_FILE)
    differences, compared = [*wrong], ["configuration", "versions"]
    if record.data.get("sha256") is not None:
        compared.insert(1, "data SHA-256")
    is_cut = record.status in CUT
    if is_cut and found.reason == STOPPED_AFTER:
        found = dataclasses.replace(found, status=record.status, reason=record.reason)
    same_end = (record.finished and not is_cut) or (
        record.status == found.status and record.steps == found.steps
    )
    if "step" in one:
        up_to = float("inf") if same_end else float(max(one["step"], default=0))
        differences += row_differences(one, two, up_to)
        compared.append(f"{len(one['step'])} rows of {CURVES_FILE}")
    if same_end:
        differences += result_differences(record, found)
        compared += ["its end", "steps", *(f"metrics of {split}" for split in record.metrics)]
    elif is_cut and found.steps < record.steps:
        differences.append(Difference("steps", record.steps, found.steps))
    if record.weights_sha256 and same_end:
        compared.append("weights SHA-256")
    elif is_cut and record.steps == found.steps:  # perhaps while it was tested
        states = [each / "checkpoints" / LAST for each in (folder, out)]
        if all(each.exists() for each in states):
            differences += _state_differences(*states)
            compared.append(LAST)
    reasons = causes(record, found, same_source=_same_source(record, found))
    return judge(differences, reasons, tolerance, compared)


def _state_differences(recorded: Path, found: Path) -> Iterator[Difference]:
    """Tensors of two checkpoints that are not equal, of runs that have no hash of tested weights."""
    one, two = load(recorded), load(found)
    if one.get("global_step") != two.get("global_step"):
        yield Difference(f"{LAST}, step", one.get("global_step"), two.get("global_step"))
        return
    for name in sorted(one["state_dict"].keys() | two["state_dict"].keys()):
        a, b = one["state_dict"].get(name), two["state_dict"].get(name)
        if a is None or b is None or a.shape != b.shape:
            yield Difference(f"{LAST}, {name}", _shape(a), _shape(b))
        elif not torch.equal(a, b):
            size = float((a.double() - b.double()).abs().max() / a.double().abs().max().clamp(min=1))
            yield Difference(f"{LAST}, {name}", "its values", f"other values, by {size:.2g}", size)


def _shape(tensor: Any) -> str:
    return "absent" if tensor is None else f"of shape {tuple(tensor.shape)}"


def _same_source(one: RunRecord, two: RunRecord) -> bool:
    return same_source(str(one.git.get("commit", "")), str(two.git.get("commit", "")))


def _write(verdict: Verdict, folder: Path, out: Path) -> None:
    content = {
        "verdict": verdict.word,
        "line": verdict.line(),
        "exit_code": verdict.exit_code,
        "recorded": str(folder),
        "tolerance": verdict.tolerance,
        "compared": list(verdict.compared),
        "causes": list(verdict.causes),
        "differences": len(verdict.differences),
        "first_differences": [str(each) for each in verdict.differences[:_MOST_DIFFERENCES]],
    }
    write_atomically(out / COMPARISON_FILE, json.dumps(content, indent=2) + "\n")


def _print(line: str) -> None:
    """A record may be a stranger's: nothing in it reaches the terminal but what can be seen."""
    print("".join(each if each.isprintable() else "?" for each in line), flush=True)
