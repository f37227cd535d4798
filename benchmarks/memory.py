"""Peak memory of training, and the speed of keeping freed memory; each process measures one way."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from jobs import SHAPED_LIKE_CIFAR10, PlainLoop, fresh_process
from layouts import images_per_second, warm_loop
from measurement import ROOT, Row, Section, ratio
from peak import own_peak_bytes

from tempo.trainer.malloc_settings import keep_freed_memory

_FOLDER = str(ROOT / "benchmarks")
_IMAGE_BYTES = 3 * 32 * 32
_MIB = 2**20
_AT_ONCE = 2
"""Processes at the same time: one does not change the peak of the other."""
_JOB = (
    "data=synthetic",
    "data.test_images=1000",
    "data.val_size=5000",
    "data.augment.crop_padding=4",
    "data.augment.flip=true",
    "model=cnn3",
    "trainer=cpu",
    "trainer.max_steps=4",
)
_PEAK = f"""
import sys; sys.path.insert(0, {_FOLDER!r})
from peak import own_peak_bytes
print(own_peak_bytes())
"""
_IMPORTS = "import torch, pytorch_lightning"
_RAW = """
import sys; sys.path.insert(0, {folder!r})
import torch
from torch.nn import functional as F
from jobs import composed_config
from tempo.run.build_network import build_network
config = composed_config(*{job!r})
channels, side, images = 3, 32, {images}
data = torch.randint(0, 256, (images, channels, side, side), dtype=torch.uint8)
labels = torch.randint(0, 10, (images,))
network = build_network(config.model, config.seed, (3, 32, 32), 10).to(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, fused=True)
for step in range(4):
    batch = data[step * 128 : (step + 1) * 128].float().div(255)
    batch = batch.contiguous(memory_format=torch.channels_last)
    F.cross_entropy(network(batch), labels[step * 128 : (step + 1) * 128]).backward()
    optimizer.step()
    optimizer.zero_grad()
"""
_TEMPO = """
import sys; sys.path.insert(0, {folder!r})
from jobs import composed_config, train
train(composed_config(*{job!r}))
"""


def _program(text: str, train_images: int, held: int = 0) -> str:
    return text.format(folder=_FOLDER, job=(*_JOB, f"data.train_images={train_images}"), images=held)


def peak_bytes(program: str) -> int:
    """Return the largest resident memory of a Python process that runs `program`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{_PEAK}"],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"a process ended with status {done.returncode}: {json.dumps(program[:200])}")
    return int(done.stdout.split()[-1])


def peaks(rounds: int) -> list[Row]:
    """Measure the peaks, and how many copies of its data a process holds."""
    more = {"tempo": 50_000, "tempo_more": 250_000}
    programs = {"imports": _IMPORTS, "raw": _program(_RAW, 10_000, held=60_000)}
    programs |= {name: _program(_TEMPO, images) for name, images in more.items()}
    found: dict[str, list[float]] = {name: [] for name in programs}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in range(rounds):
            for name, peak in zip(programs, pool.map(peak_bytes, programs.values()), strict=True):
                found[name].append(peak)
    more_bytes = (more["tempo_more"] - more["tempo"]) * _IMAGE_BYTES
    copies = (statistics.median(found["tempo_more"]) - statistics.median(found["tempo"])) / more_bytes
    return [
        *(Row(f"{name}_mib", "MiB", [value / _MIB for value in values]) for name, values in found.items()),
        ratio("tempo_over_raw", found["tempo"], found["raw"], at_most=1.5),
        Row("copies_of_the_data", "bytes a byte", [copies], at_most=1.1),
    ]


_loops: list[PlainLoop] = []
"""The loop of a measured process, from the call that warms it up to the last."""


def freed_memory(rounds: int) -> list[Row]:
    """Measure two processes in turn, one of which keeps what is freed."""
    rows = []
    for model in ("cnn3", "resnet20", "densenet40"):
        with fresh_process() as kept, fresh_process() as given_back:
            if not kept.submit(keep_freed_memory).result():
                return []
            for process in (kept, given_back):
                process.submit(_warm_up, model).result()
            speeds: dict[str, list[float]] = {"kept": [], "given_back": []}
            for _ in range(rounds):
                speeds["kept"].append(kept.submit(_speed).result())
                speeds["given_back"].append(given_back.submit(_speed).result())
            sizes = [process.submit(own_peak_bytes).result() for process in (kept, given_back)]
        rows += [Row(f"{model}_{way}", "images/s", values) for way, values in speeds.items()]
        rows.append(ratio(f"{model}_gain", speeds["kept"], speeds["given_back"]))
        rows.append(ratio(f"{model}_peak", [sizes[0]], [sizes[1]]))
    return rows


def _warm_up(model: str) -> None:
    _loops.append(warm_loop(*SHAPED_LIKE_CIFAR10, f"model={model}"))


def _speed() -> float:
    return images_per_second(_loops[0])


SECTIONS = [
    Section(
        "memory",
        "Peak resident memory of a process: imports alone; a plain loop of cnn3 that holds 60,000 images as "
        "uint8; src/train.py's path on as many, and on 200,000 more, which shows how often it holds them.",
        peaks,
    ),
    Section(
        "freed_memory",
        "Images per second of the plain loop, batch 128 of 3x32x32, half a second or a step each in turn: in "
        "a process that keeps the memory that a step frees, and in one whose malloc is as glibc has it. At "
        "the end, the ratio of their peaks of resident memory.",
        freed_memory,
    ),
]
