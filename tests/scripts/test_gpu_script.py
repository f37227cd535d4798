"""benchmarks/gpu.sh in its shortened form: the path that a GPU would take, on the CPU."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tempo.paths import ROOT
from tests.script_process import run_script


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two classes of noise in the form of CIFAR-10's images: train/<class>/NNNN.jpg."""
    path = tmp_path / "images.tar.xz"
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w:xz") as tar:
        for part, count in (("train", 24), ("test", 4)):
            for name in ("cat", "dog"):
                for number in range(count):
                    buffer = io.BytesIO()
                    pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(buffer, "JPEG")
                    info = tarfile.TarInfo(f"{part}/{name}/{number:04d}.jpg")
                    info.size = buffer.tell()
                    buffer.seek(0)
                    tar.addfile(info, buffer)
    return path


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / "benchmarks" / "gpu.sh"), *arguments],
        env={**os.environ, "PYTHON": sys.executable},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_its_path_on_the_cpu(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = call(str(archive), "--device", "cpu", "--shorten", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((out / "gpu.json").read_text(encoding="utf-8"))
    for model in ("resnet56", "densenet40"):
        rows = record["rows"][model]
        assert {"raw_eager", "tempo_eager", "tempo_over_raw_eager"} <= rows.keys()
        assert all(value > 0 for row in rows.values() for value in row["values"])
    assert record["rows"]["data"]["loader"]["median"] > 0
    runs = {each["name"]: each for each in record["runs"]}
    assert set(runs) == {"resnet56_1cycle_1_epochs_seed0", "densenet40_1cycle_1_epochs_seed0"}
    assert "resnet56 graph: CUDA graphs need a GPU" in record["left_out"]
    with tarfile.open(out / "records.tar.gz") as tar:
        assert {"gpu.json", *(f"runs/{name}/run.json" for name in runs)} <= set(tar.getnames())
        stream = tar.extractfile("runs/resnet56_1cycle_1_epochs_seed0/run.json")
        assert stream is not None
        run = json.loads(stream.read())
    assert run["data"]["train"] == 48
    assert run["data"]["test"] == 8
    assert run["steps"] == 3  # batches of 16
    assert run["config"]["trainer"]["precision"] == "bf16-mixed"


def test_a_folder_that_holds_something_is_refused(archive: Path, tmp_path: Path) -> None:
    command = [str(archive), "--device", "cpu", "--shorten", "--out", str(tmp_path)]
    done = run_script("../benchmarks/gpu.py", *command)
    assert done.code == 1
    assert "is not empty" in done.err
    assert archive.exists()
