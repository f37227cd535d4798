"""Names of classes in any language and encoding, trained to the end by the script in an ASCII locale."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tempo.paths import ROOT

NAMES = (b"caf\xc3\xa9", b"caf\xe9", "猫".encode(), "🐶 [bold]$x$".encode())


def test_any_name_is_trained_to_the_end(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name in NAMES:
        folder = Path(os.fsdecode(os.fsencode(tmp_path / "pets") + b"/" + name))
        folder.mkdir(parents=True)
        for number in range(10):
            pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    words = "data=folder data.root=pets data.cache=cache data.total_batch_size=8 model=mlp trainer=cpu"
    ended = subprocess.run(
        [
            sys.executable,
            ROOT / "src" / "train.py",
            *words.split(),
            "trainer.max_steps=4",
            "hydra.run.dir=run",
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "LC_ALL": "C",
            "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0",
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
        timeout=240,
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    assert "Traceback" not in said
    assert "Glyph" not in said
    assert (tmp_path / "run" / "confusion.png").exists()
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert record["data"]["class_names"] == ["caf\\xe9", "café", "猫", "🐶 [bold]$x$"]
    # The folder of a record does not depend on where the command was given.
    assert record["config"]["data"]["root"] == str(tmp_path / "pets")
    assert record["config"]["data"]["cache"] == str(tmp_path / "cache")
