"""Train a record anew in a new folder, and compare the results."""

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

from tempo.command_line.run_folder_name import new_folder
from tempo.config.check import check
from tempo.config.recorded_config import command_config, completed, with_data_root
from tempo.config.schema import RunConfig, field_types
from tempo.config.value_types import check_types
from tempo.errors import INTERRUPTED_CODE, UserError
from tempo.paths import root
from tempo.record.atomic_write import write_atomically
from tempo.record.compare_records import (
    Curves,
    Difference,
    Verdict,
    config_differences,
    judge,
    result_differences,
    row_differences,
)
from tempo.record.environment import git_state, versions
from tempo.record.foreign_folder import check_foreign_config
from tempo.record.run_folder import LAST, check_folder, note_folder, remove_unused
from tempo.record.run_json import RunRecord, config_hash, flatten
from tempo.report.load_runs import CURVES_FILE, read_curves
from tempo.run.build_data import build_data
from tempo.run.resume import changes_between
from tempo.run.run_request import RunRequest
from tempo.run.train import run
from tempo.trainer.checkpoint_file import load
from tempo.trainer.stop_ranks_on_signal import STOPPED_AFTER

COMPARISON_FILE = "comparison.json"
ENDED_EARLY = ("interrupted", "pruned")
"""Statuses of runs ended by a signal or a search; the new run stops at the same step."""
_MOST_DIFFERENCES = 100


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The keys of conf/reproduce.yaml (`data_root`: data.root); `recorded` stands for the record's value."""

    run: str
    threads: int | Literal["recorded"] = "recorded"
    accelerator: Literal["recorded", "auto", "cpu", "gpu", "mps"] = "recorded"
    devices: int | Literal["recorded"] = "recorded"
    data_root: str | None = None
    tolerance: float = 0.01
    out: str | None = None


def reproduce_from_hydra(config: DictConfig) -> int:
    """Reproduce a record as set in conf/reproduce.yaml and the overrides; return the exit code."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    asked = {str(key): value for key, value in values.items() if key != "data"}
    asked["data_root"] = values["data"]["root"]
    check_types("", asked, field_types(Asked))
    verdict = reproduce(Asked(**asked))
    return INTERRUPTED_CODE if verdict is None else verdict.exit_code


def reproduce(asked: Asked) -> Verdict | None:
    """Train a folder's record anew and compare; also write the comparison into the new folder.

    Return None if the user stopped the new run.

    Raises:
        UserError: the folder has no record, its record has no result or names foreign code, this checkout or
            machine cannot train its configuration, or the tolerance is outside [0, 1].
    """
    if not 0 <= asked.tolerance <= 1:
        raise UserError(
            f"tolerance={asked.tolerance} is not a relative difference in [0, 1]; set e.g. tolerance=0.01"
        )
    folder = Path(asked.run).expanduser().absolute()
    record, curves = RunRecord.read(folder), read_curves(folder / CURVES_FILE)
    check_foreign_config(record.config)
    stop_after = _stop_after(record, curves, folder)
    config, changes = _config(record, folder, asked)
    out = Path(asked.out or new_folder(root("logs", "reproductions"), folder.name))
    out = out.expanduser().absolute()
    if out.resolve() == folder.resolve():
        raise UserError(f"out={asked.out} is the recorded run itself; choose another folder, or remove out=")
    check_folder(config.values, out)
    differences = list(_tampered_keys(record, folder))
    _announce(record, folder)
    sha256 = build_data(config).sha256
    if record.data.get("sha256") not in (None, sha256):
        differences.append(Difference("data.sha256", record.data["sha256"], sha256))
        verdict = judge(differences, [], asked.tolerance, ["data SHA-256"])
        _print(f"{verdict.line()}; nothing was trained. Set the folder of the images with data.root=<folder>")
        return verdict
    overrides = [override for override in record.overrides if not override.startswith("resume=")]
    found = _train(
        RunRequest(
            config=config,
            folder=out,
            overrides=[*overrides, *changes],
            choices=record.choices,
            stop_after=stop_after,
        )
    )
    if found.status == "interrupted" and found.reason != STOPPED_AFTER:
        return None
    found_differences, compared = _compare(record, folder, found, out)
    reasons = changes_between(record, found)
    verdict = judge([*differences, *found_differences], reasons, asked.tolerance, compared)
    _write(verdict, folder, out)
    _print(f"compared  {', '.join(verdict.compared)}")
    _print(f"verdict   {verdict.line()}")
    return verdict


def _stop_after(record: RunRecord, curves: Curves, folder: Path) -> int | None:
    """Return the step at which a run was stopped or killed; None if it ended by itself."""
    steps = curves.get("step", np.empty(0))
    if not np.isfinite(steps).all():
        raise UserError(f"{folder / CURVES_FILE} was changed: a row has no step; restore the run's own file")
    if record.finished and record.status not in ENDED_EARLY:
        return None
    last = record.steps if record.status in ENDED_EARLY else int(max(steps, default=0))
    if record.status == "failed":
        raise UserError(f"{folder} failed ({record.reason}) and has no result; run src/train.py again")
    if last <= 0:
        raise UserError(f"{folder} is {record.status} before its first step; run src/train.py again")
    return last


def _config(record: RunRecord, folder: Path, asked: Asked) -> tuple[RunConfig, list[str]]:
    """Return the checked configuration of the new run, and its changes as overrides."""
    config = completed(record, folder)
    trainer = dict(config["trainer"])
    recorded = {**trainer, "threads": flatten(record.environment).get("threads.intra_op", trainer["threads"])}
    wanted: dict[str, Any] = {"profiler": None}
    for key in ("threads", "accelerator", "devices"):
        value = getattr(asked, key)
        wanted[key] = recorded[key] if value == "recorded" else value
    changes = {f"trainer.{key}": value for key, value in wanted.items() if value != trainer[key]}
    config |= {"trainer": trainer | wanted, "logger": {}, "resume": None, "preview": False}
    if asked.data_root is not None:
        config = with_data_root(config, record, asked.data_root)
        changes["data.root"] = f"'{config['data']['root']}'"
    try:
        checked = check(config)
    except UserError as error:
        commit = str(record.git.get("commit") or "unknown")[:12]
        raise UserError(f"{error} (the record is of commit {commit}; check it out to run it)") from error
    return checked, [f"{key}={'null' if value is None else value}" for key, value in changes.items()]


def _tampered_keys(record: RunRecord, folder: Path) -> Iterator[Difference]:
    """Yield the keys of a record that match neither its hash nor its overrides, so were changed later."""
    config = {key: value for key, value in record.config.items() if key != "resume"}
    if config_hash(config) == record.config_hash:
        return
    command = command_config(record, folder) or {}
    for key, (recorded, made) in config_differences(record.config, command).items():
        yield Difference(f"config.{key} as the recorded overrides make it", recorded, made)


def _announce(record: RunRecord, folder: Path) -> None:
    """Print what differs before training starts: code, versions, keys whose default has changed."""
    now = dataclasses.replace(record, git=git_state()[0], versions=versions())
    _print(f"record    {folder}: {record.name}, {record.status} after {record.steps} steps")
    for change in changes_between(record, now):
        _print(f"differs   {change}")
    commit = str(record.git.get("commit", ""))
    # This line is for copying into a shell: every text from the record must be one quoted word.
    if commit != now.git.get("commit") and re.fullmatch(r"[0-9a-f]{7,64}", commit):
        diff = folder / str(record.git.get("diff", ""))
        apply = f" && git apply {shlex.quote(str(diff))}" if record.git.get("diff") and diff.is_file() else ""
        _print(f"note      the recorded code: git checkout {commit}{apply}")
    command = command_config(record, folder)
    if command is not None:
        for key, (recorded, made) in config_differences(record.config, command).items():
            _print(f"note      {key}={recorded} is recorded and used; the same command gives {made} today")


def _train(request: RunRequest) -> RunRecord:
    """Train in a new folder; remove the folder if the run is refused."""
    note_folder(request.folder)
    try:
        request.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}; choose another out=<folder>") from error
    try:
        return run(request)
    except UserError:
        remove_unused(request.folder)
        raise


def _compare(
    record: RunRecord, folder: Path, found: RunRecord, out: Path
) -> tuple[list[Difference], list[str]]:
    """Return the differences between the two runs, earliest first, and the list of things compared."""
    one, two = read_curves(folder / CURVES_FILE), read_curves(out / CURVES_FILE)
    differences: list[Difference] = []
    compared = ["configuration", "versions"]
    if record.data.get("sha256") is not None:
        compared.insert(1, "data SHA-256")
    ended_early = record.status in ENDED_EARLY
    if ended_early and found.reason == STOPPED_AFTER:
        found = dataclasses.replace(found, status=record.status, reason=record.reason)
    same_step = record.status == found.status and record.steps == found.steps
    same_end = same_step or (record.finished and not ended_early)
    if "step" in one:
        up_to = float("inf") if same_end else float(max(one["step"], default=0))
        differences += row_differences(one, two, up_to)
        compared.append(f"{len(one['step'])} rows of {CURVES_FILE}")
    if same_end:
        differences += result_differences(record, found)
        compared += ["its end", "steps", *(f"metrics of {split}" for split in record.metrics)]
    elif ended_early and found.steps < record.steps:
        differences.append(Difference("steps", record.steps, found.steps))
    if same_end and record.weights_sha256:
        compared.append("weights SHA-256")
    elif ended_early and record.steps == found.steps:  # also if the run was stopped during its test
        checkpoints = [path / "checkpoints" / LAST for path in (folder, out)]
        if all(path.exists() for path in checkpoints):
            differences += _checkpoint_differences(*checkpoints)
            compared.append(LAST)
    return differences, compared


def _checkpoint_differences(recorded: Path, found: Path) -> Iterator[Difference]:
    """Yield the tensors that differ between two checkpoints, for runs without tested weights."""
    one, two = load(recorded), load(found)
    if one.get("global_step") != two.get("global_step"):
        yield Difference(f"{LAST}, step", one.get("global_step"), two.get("global_step"))
        return
    for name in sorted(one["state_dict"].keys() | two["state_dict"].keys()):
        a, b = one["state_dict"].get(name), two["state_dict"].get(name)
        if a is None or b is None or a.shape != b.shape:
            one_shape, two_shape = (
                "absent" if tensor is None else f"of shape {tuple(tensor.shape)}" for tensor in (a, b)
            )
            yield Difference(f"{LAST}, {name}", one_shape, two_shape)
        elif not torch.equal(a, b):
            size = float((a.double() - b.double()).abs().max() / a.double().abs().max().clamp(min=1))
            yield Difference(f"{LAST}, {name}", "its values", f"other values, by {size:.2g}", size)


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
        "first_differences": [str(difference) for difference in verdict.differences[:_MOST_DIFFERENCES]],
    }
    write_atomically(out / COMPARISON_FILE, json.dumps(content, indent=2) + "\n")


def _print(line: str) -> None:
    """Print a line without control characters: the record may come from another person."""
    print("".join(character if character.isprintable() else "?" for character in line), flush=True)
