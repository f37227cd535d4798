"""Wrong commands of the scaling benchmark."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.bad_input.conftest import Refused, assert_says
from tests.bad_input.warm import Warm

# (script and arguments, what the line must name)
WRONG: list[tuple[str, list[str]]] = [
    ("scale.py scaling.steps=20", ["no step is left after the 20 of the warm-up", "scaling.steps=30"]),
    ("scale.py scaling.steps=25", ["scaling.interval_steps=5"]),
    ("scale.py scaling.workers=[]", ["scaling.workers=[] has nothing to measure"]),
    ("scale.py scaling.workers=[0]", ["0 must be in [1, 1024]"]),
    ("scale.py scaling.workers=2,4", ["write scaling.workers=[2,4] for a list"]),
    ("scale.py scaling.methods=[gossip]", ["scaling.methods=['gossip']"]),
    ("scale.py scaling.method=[ring]", ["scaling.method is not a key. Did you mean 'methods'?"]),
    (
        "scale.py scaling.networks=[resnet21]",
        ["resnet21 is not an option of conf/model. Did you mean 'resnet"],
    ),
    ("scale.py scaling.beside=[/nowhere]", ["/nowhere is not a folder"]),
    ("scale.py scaling.link=/nowhere", ["scaling.link=/nowhere is not a file"]),
    ("scale.py scaling.images_per_worker=0", ["scaling.images_per_worker=1"]),
    ("scale.py scaling.methods=[ps_sync] server.count=4", ["server.count=1"]),
    ("scale.py trainer=fsdp2 scaling.workers=[2]", ["trainer.shard=true is not a method of the benchmark"]),
    ("scale.py trainer.num_nodes=2", ["leave it out", "docs/scaling.md"]),
    ("scale.py trainer.devices=2", ["the benchmark sets it itself; use scaling.workers"]),
    ("scale.py trainer.precision=16-mixed", ["trainer.precision=16-mixed adapts the loss"]),
    ("scale.py data=cifar10", ["does not use it; the images are scaling.image_size"]),
    ("scale.py trainer=cpu trainer.backend=nccl", ["trainer.backend=gloo"]),
    ("scale.py model=mlp,cnn3 -m", ["leave -m out"]),
    ("scale.py ~scaling", ["scaling=None must be a group of keys"]),
    ("train.py experiment=distributed/scaling", ["python src/scale.py"]),
]


@pytest.mark.parametrize(("command", "words"), WRONG, ids=[case[0][:60] for case in WRONG])
def test_it_is_refused(command: str, words: list[str], light: Warm, refused: Refused, tmp_path: Path) -> None:
    script, *arguments = shlex.split(command)
    assert_says(refused(light, script, f"hydra.run.dir={tmp_path / 'made' / 'run'}", *arguments), words)
