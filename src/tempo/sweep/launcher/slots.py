"""How the jobs that run at the same time share a machine: GPUs and CPU threads by slot."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Literal

Gpus = Literal["auto"] | Sequence[int | str] | None


def slot_environments(n_jobs: int, gpus: Gpus, threads: int | None) -> list[dict[str, str]]:
    """The environment variables of each of `n_jobs` slots.

    GPUs are dealt out like cards; with fewer GPUs than slots, slots share one.
    """
    names = visible_gpus() if gpus == "auto" else None if gpus is None else [str(each) for each in gpus]
    if threads is None:
        given = os.environ.get("OMP_NUM_THREADS", "")
        threads = int(given) if given.isdigit() else max(1, cores() // n_jobs)
    slots = []
    for slot in range(n_jobs):
        environment = {"OMP_NUM_THREADS": str(threads)}
        if names:
            mine = names[slot::n_jobs] or [names[slot % len(names)]]
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
        slots.append(environment)
    return slots


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """The GPUs that CUDA would see, found without loading CUDA: a process that has loaded it cannot fork."""
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [each.strip() for each in given.split(",") if each.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.split() if done.returncode == 0 else []
