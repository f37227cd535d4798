"""Run `src/train.py` as a user does, in a process of its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tempo.record.run_json import RunRecord
from tests.script_process import ScriptProcess

ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parent), "CUDA_VISIBLE_DEVICES": ""}
"""With the data sources of faults.py."""


def start(
    *arguments: str, environment: Mapping[str, str] | None = None, in_background: bool = False
) -> ScriptProcess:
    """Start the command, with standard output and errors in one stream."""
    return ScriptProcess(
        "train.py",
        "model=mlp",
        *arguments,
        environment={**ENVIRONMENT, **(environment or {})},
        one_stream=True,
        in_background=in_background,
    )


def finish(process: ScriptProcess) -> tuple[int, str]:
    """Return the exit code and the output."""
    return process.finish()[:2]


def train(*arguments: str) -> tuple[int, str]:
    """Run the command to its end."""
    return finish(start(*arguments))


def statuses(sweep: Path) -> dict[str, str]:
    """Return the status of each job that has a record, by slug."""
    return {path.parent.name: RunRecord.read(path.parent).status for path in sorted(sweep.glob("*/run.json"))}


def wait_until(holds: Callable[[], bool], seconds: float = 120) -> None:
    """Return as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def hold_each(folders: Sequence[Path], reached: Callable[[Path], bool]) -> list[int]:
    """Hold each run, by SIGSTOP, once it has reached something; return their processes.

    The faster run must not end while the slower one is on its way.
    """
    held: dict[Path, int] = {}

    def hold_those_that_have() -> bool:
        for folder in folders:
            if folder not in held and reached(folder):
                held[folder] = int((folder / ".lock").read_text(encoding="utf-8"))
                os.kill(held[folder], signal.SIGSTOP)
        return len(held) == len(folders)

    wait_until(hold_those_that_have)
    return [held[folder] for folder in folders]


def has_checkpoint(folder: Path) -> bool:
    """Whether the run has saved its state."""
    return (folder / "checkpoints" / "last.ckpt").exists()


def is_asked_to_stop(process: int, number: int) -> bool:
    """Whether the signal waits for a held process."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    pending = next(line for line in status.splitlines() if line.startswith("ShdPnd:"))
    return bool(int(pending.split()[1], 16) >> (number - 1) & 1)


def release(processes: Sequence[int]) -> None:
    """Let held processes go on."""
    for process in processes:
        os.kill(process, signal.SIGCONT)


def all_ended(processes: list[int]) -> bool:
    """Whether none of these processes is alive; a zombie is not."""
    return not any(_state(process) in set("RSDTt") for process in processes)


def _state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return ""
