"""Measure memory and processor time of data.store=disk on many images: `python benchmarks/many_images.py`.

Writes `--images` JPEG files of 224x224 (hard links to 1,000 different ones) and starts src/train.py twice:
the first start decodes all of them into the cache, the second one reads it. Each takes one step and evaluates
one batch. `--folder` is the folder of the record, `--scratch` has room for 150 kB per image.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measurement import ROOT, stamp
from PIL import Image

from tempo.record.atomic_write import write_atomically

_SIDE, _CLASSES, _DIFFERENT = 224, 10, 1000
_LOOK_SECONDS = 0.05
_JOB = (
    *(
        "data=folder",
        "data.store=disk",
        "data.val_size=0.1",
        "data.test_size=0.1",
        "model=mlp",
        "trainer=cpu",
    ),
    *("trainer.max_steps=1", "trainer.limit_eval_batches=1", "data.eval_batch_size=100", "model.hidden=[8]"),
)


def write_images(root: Path, count: int) -> None:
    """Write the files; a hard link to an image of the same class stands for most of them."""
    generator = np.random.default_rng(0)
    for number in range(count):
        folder = root / f"class{number % _CLASSES}"
        path = folder / f"{number:06d}.jpg"
        if number >= _DIFFERENT:
            os.link(folder / f"{number % _DIFFERENT:06d}.jpg", path)
            continue
        folder.mkdir(parents=True, exist_ok=True)
        coarse = generator.integers(0, 256, (_SIDE // 8, _SIDE // 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).save(path, quality=90)


def start(arguments: list[str], console: Path) -> dict[str, float]:
    """Run src/train.py and return its peak of anonymous memory and its times."""
    peak, begin = 0.0, time.perf_counter()
    with console.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "src" / "train.py"), *arguments], stdout=out, stderr=out
        )
        status = Path("/proc") / str(process.pid) / "status"
        while True:
            ended, code, used = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            peak = max(peak, float(lines.get("RssAnon", "0").split()[0]) * 1024)
            time.sleep(_LOOK_SECONDS)
    if code:
        sys.exit(
            f"exit code {os.waitstatus_to_exitcode(code)}: {console.read_text(encoding='utf-8')[-2000:]}"
        )
    return {
        "peak_anonymous_gb": round(peak / 1e9, 3),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def main() -> None:
    """Read the command line, measure and write the record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, default=ROOT / "logs" / "many_images")
    parser.add_argument("--scratch", type=Path, default=None)
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="tempo-images-", dir=arguments.scratch))
    try:
        write_images(scratch / "images", arguments.images)
        job = [*_JOB, f"data.root={scratch / 'images'}", f"data.cache={scratch / 'cache'}"]
        found: dict[str, Any] = {}
        for name in ("first", "second"):
            load = os.getloadavg()[0]
            found[name] = start([*job, f"hydra.run.dir={scratch / name}"], scratch / f"{name}.txt")
            found[name]["load_before"] = load
            print(name, found[name], flush=True)
        cache = sum(path.stat().st_size for path in (scratch / "cache").iterdir())
    finally:
        shutil.rmtree(scratch)
    record = {
        **stamp(f"python benchmarks/many_images.py --images {arguments.images}"),
        "images": arguments.images,
        "cores": os.cpu_count(),
        "cache_gb": round(cache / 1e9, 1),
        **found,
        "goals": {"peak_anonymous_gb": 2, "second.cpu_seconds": 30},
        "met": max(one["peak_anonymous_gb"] for one in found.values()) < 2
        and found["second"]["cpu_seconds"] < 30,
    }
    arguments.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.folder / "record.json", json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
