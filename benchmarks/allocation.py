"""What it gives to keep the memory that a step frees (`src/tempo/trainer/freed_memory.py`)."""

from __future__ import annotations

from jobs import SHAPED_LIKE_CIFAR10, PlainLoop, fresh_process
from layouts import images_per_second, warm_loop
from peak import own_peak_bytes
from rows import Row, Section, ratio

from tempo.trainer.freed_memory import keep_freed_memory

_loops: list[PlainLoop] = []
"""The one that the process measures, from the call that warms it up to the last."""


def measure(rounds: int) -> list[Row]:
    """Two processes in turn, one of which keeps what is freed."""
    rows = []
    for model in ("cnn3", "resnet20", "densenet40"):
        with fresh_process() as kept, fresh_process() as given_back:
            if not kept.submit(keep_freed_memory).result():
                return []
            for each in (kept, given_back):
                each.submit(_warm_up, model).result()
            speeds: dict[str, list[float]] = {"kept": [], "given_back": []}
            for _ in range(rounds):
                speeds["kept"].append(kept.submit(_speed).result())
                speeds["given_back"].append(given_back.submit(_speed).result())
            peaks = [each.submit(own_peak_bytes).result() for each in (kept, given_back)]
        rows += [Row(f"{model}_{way}", "images/s", values) for way, values in speeds.items()]
        rows.append(ratio(f"{model}_gain", speeds["kept"], speeds["given_back"]))
        rows.append(ratio(f"{model}_peak", [peaks[0]], [peaks[1]]))
    return rows


def _warm_up(model: str) -> None:
    _loops.append(warm_loop(*SHAPED_LIKE_CIFAR10, f"model={model}"))


def _speed() -> float:
    return images_per_second(_loops[0])


SECTIONS = [
    Section(
        "freed_memory",
        "Images per second of the plain loop, batch 128 of 3x32x32, half a second or a step each in turn: in "
        "a process that keeps the memory that a step frees, and in one whose malloc is as glibc has it. In "
        "the end, the ratio of their peaks of resident memory.",
        measure,
    )
]
