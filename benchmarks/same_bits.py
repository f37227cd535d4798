"""Check that commands still give the same bits as benchmarks/same_bits.json.

    python benchmarks/same_bits.py                            # compare all; exit code 1 if one differs
    python benchmarks/same_bits.py --only muon range_test     # some of them
    python benchmarks/same_bits.py --write                    # record the bits of this checkout

It uses only the command line and the files of a run's folder, so the package inside may change. Bits are
promised for one processor and one set of versions: record them on the machine on which they are compared.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NOTED = Path(__file__).with_suffix(".json")
LATEST = ROOT / "logs" / "latest"
LONGEST_SECONDS = 300
MOST_SAID = 3
"""Number of printed differences per command."""


# The words of each command after `python`, but for its folder and the number of threads.
COMMANDS = {
    "densenet_onecycle": "src/train.py trainer=cpu model=densenet40 scheduler=onecycle data.train_size=320 "
    "trainer.epochs=2",
    "mlp_adam": "src/train.py trainer=cpu model=mlp optimizer=adam trainer.epochs=20 "
    "trainer.log_every_n_steps=7",
    "cnn_average_accumulation": "src/train.py trainer=cpu model=cnn3 ema.decay=0.9 ema.warmup=false "
    "trainer.accumulate=2 trainer.gradient_clip=1 trainer.epochs=4",
    "resnet_cutout_early_stopping": "src/train.py trainer=cpu model=resnet20 scheduler=cosine "
    "data.train_size=320 data.augment.cutout=3 data.augment.crop_padding=1 early_stopping.patience=2 "
    "early_stopping.min_delta=0.1 trainer.epochs=12",
    "lbfgs": "src/train.py trainer=cpu model=mlp optimizer=lbfgs trainer.max_steps=12 "
    "data.total_batch_size=320",
    "muon": "src/train.py trainer=cpu model=mlp optimizer=muon scheduler=triangular trainer.epochs=4",
    "ddp": "src/train.py trainer=ddp_cpu trainer.devices=2 model=cnn3 data.augment.crop_padding=1 "
    "trainer.epochs=4",
    "sweep_of_six": "src/train.py trainer=cpu model=mlp trainer.epochs=2 "
    "optimizer=momentum,nesterov,adamw seed=range(2) -m",
    "search_of_three": "src/train.py trainer=cpu model=mlp trainer.epochs=2 hydra/sweeper=search n_trials=3 "
    "optimizer.lr=tag(log,interval(1e-3,1)) -m",
    "range_test": "src/lr_range.py trainer=cpu model=mlp trainer.max_steps=200",
    "stopped_and_resumed": "src/train.py trainer=cpu model=densenet40 model.depth=10 model.dropout=0.2 "
    "optimizer=adamw scheduler=onecycle trainer.accumulate=2 trainer.epochs=5 trainer.log_every_n_steps=1 "
    "trainer.steps_per_call=1",
}
STOP_AT_ROW = {"stopped_and_resumed": 33}
"""Rows of metrics.csv after which a command gets SIGTERM, to be resumed."""


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start a script of this checkout on the CPU with one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    said = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=said,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str], expected: int = 0) -> None:
    """Wait for a process; RuntimeError with its last lines if its exit code is unexpected."""
    try:
        said, _ = process.communicate(timeout=LONGEST_SECONDS)
    finally:
        process.kill()
    if process.returncode != expected:
        raise RuntimeError(f"exit code {process.returncode}: {' | '.join(said.splitlines()[-2:])}")


def run(name: str, folder: Path) -> None:
    """Run a command in a folder, to its end."""
    words = COMMANDS[name].split()
    where = "hydra.sweep.dir" if "-m" in words else "hydra.run.dir"
    process = start(*words, "trainer.threads=1", f"{where}={folder}")
    if name in STOP_AT_ROW:
        while process.poll() is None and rows(folder / "metrics.csv") < STOP_AT_ROW[name]:
            time.sleep(0.001)
        process.send_signal(signal.SIGTERM)
        finish(process, expected=130)
        process = start(words[0], f"resume={folder}")
    finish(process)


def rows(metrics: Path) -> int:
    """Count the complete rows below the header."""
    return metrics.read_bytes().count(b"\n") - 1 if metrics.exists() else 0


def metrics_sha256(path: Path) -> str:
    """Hash the cells of metrics.csv except the column of seconds."""
    with path.open(encoding="utf-8", newline="") as file:
        cells = [[(k, v) for k, v in row.items() if k != "seconds"] for row in csv.DictReader(file)]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def outcome(folder: Path) -> dict[str, Any]:
    """Read the files: the result of every run by its folder (`.` for a single one), and the bounds."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("run.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        found[path.parent.relative_to(folder).as_posix()] = {
            **{key: record[key] for key in ("status", "steps", "weights_sha256")},
            "test": record["metrics"].get("test"),
            "metrics_sha256": metrics_sha256(path.with_name("metrics.csv")),
        }
    if (bounds := folder / "lr_range.json").exists():
        proposal = json.loads(bounds.read_text(encoding="utf-8"))["proposal"] or {}
        found["bounds"] = {key: proposal.get(key) for key in ("min_lr", "max_lr")}
    return found


def surroundings(folder: Path) -> dict[str, str]:
    """Return what the bits depend on: the processor, the versions and the code."""
    record = json.loads(min(folder.rglob("run.json")).read_text(encoding="utf-8"))
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
    cpu = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    # Virtual machines give several processors the same name, so the name alone is not enough.
    name = f"{cpu.get('model name')}, family {cpu.get('cpu family')}, model {cpu.get('model')}"
    versions = {name: record["versions"][name] for name in ("torch", "numpy")}
    return {"cpu": name, **versions, "commit": record["git"].get("commit", "")}


def differences(noted: Any, found: Any, where: str = "") -> Iterator[str]:
    """`seed=0/steps is 40, noted 60` for each value that is not the same."""
    if isinstance(noted, dict) and isinstance(found, dict):
        for key in sorted({*noted, *found}):
            yield from differences(noted.get(key), found.get(key), f"{where}/{key}".lstrip("/"))
    elif noted != found:
        yield f"{where} is {str(found)[:20]}, noted {str(noted)[:20]}"


def verdict(noted: Any, found: Any) -> str:
    """`same`, or what differs."""
    wrong = list(differences(noted, found))
    more = f"; {len(wrong) - MOST_SAID} more" if len(wrong) > MOST_SAID else ""
    return f"DIFFERS: {'; '.join(wrong[:MOST_SAID])}{more}" if wrong else "same"


def check(name: str, noted: dict[str, Any] | None) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Run a command; return how it compares, its outcome, and what that depends on."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "run")
        try:
            run(name, folder)
            found, where = outcome(folder), surroundings(folder)
            return "noted" if noted is None else verdict(noted["commands"].get(name), found), found, where
        except (LookupError, OSError, RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
            return f"DIFFERS: {type(error).__name__}: {error}", {}, {}


def main() -> None:
    """Run the commands, then write or compare; logs/latest stays unchanged."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"note the bits of all in {NOTED.name}")
    parser.add_argument("--only", nargs="+", choices=COMMANDS, metavar="NAME", help=", ".join(COMMANDS))
    asked = parser.parse_args()
    noted = None if asked.write else json.loads(NOTED.read_text(encoding="utf-8"))
    latest = LATEST.readlink() if LATEST.is_symlink() else None
    words: set[str] = set()
    new: dict[str, Any] = {"commit": "", "commands": {}}
    for name in COMMANDS if asked.write else asked.only or COMMANDS:
        word, new["commands"][name], where = check(name, noted)
        print(f"{name}: {word}", flush=True)
        words.add(word)
        new |= where
    if LATEST.is_symlink() and LATEST.readlink() != latest:
        LATEST.unlink()
        if latest is not None:
            LATEST.symlink_to(latest)
    for key in ("cpu", "torch", "numpy"):
        if noted is not None and new.get(key, noted[key]) != noted[key]:
            print(f"noted with {key} {noted[key]}, not {new[key]}: bits that differ prove nothing")
    if words == {"noted"}:
        NOTED.write_text(json.dumps(new, indent=2) + "\n", encoding="utf-8")
    sys.exit(0 if words <= {"same", "noted"} else 1)


if __name__ == "__main__":
    main()
