"""A run begins with weights from any file, trains a part of the network, and says so in its record."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tempo.errors import UserError
from tempo.run.start_weights import start_from
from tests.conftest import Train

SMALL_RESNET = ("trainer=cpu", "model=resnet20", "model.depth=8", "data.train_size=256", "trainer.threads=1")


class Net(nn.Module):
    """With a norm, so that its state has statistics and a counter."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
        self.fc = nn.Linear(4, classes)


def state(prefix: str = "", seed: int = 1) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {f"{prefix}{name}": value for name, value in Net().state_dict().items()}


@pytest.mark.parametrize(
    "content",
    [
        state(),
        state("module."),
        state("model.module."),
        {"state_dict": state("model."), "epoch": 3},
        {"model": state("_orig_mod."), "optimizer": {"state": {}}},
        {
            "state_dict": {
                **state("network.", seed=2),
                **state("averaged.module."),
                "sums.hits": torch.ones(1),
            }
        },
    ],
    ids=["plain", "ddp", "twice", "lightning", "timm", "averaged"],
)
def test_weights_of_any_file_are_found(content: dict[str, object], tmp_path: Path) -> None:
    path, network = tmp_path / "weights.pth", Net()
    torch.save(content, path)
    entry = start_from(network, str(path))
    for name, value in state().items():
        assert torch.equal(network.state_dict()[name], value), name
    assert entry["file_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_wrapper_of_the_network_and_an_old_or_a_safe_file(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "weights.safetensors")
    wrapper = nn.ModuleDict({"backbone": Net(), "head": nn.Linear(2, 2)})
    entry = start_from(wrapper, str(tmp_path / "weights.safetensors"), ["head"])
    assert torch.equal(wrapper["backbone"].fc.weight, state()["fc.weight"])
    assert entry["ignored"] == ["head.bias", "head.weight"]
    without_counter = {name: value for name, value in state().items() if "num_batches" not in name}
    torch.save(without_counter, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    start_from(Net(), str(tmp_path / "old.pth"))
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "weights.safetensors").read_bytes()[:100])
    with pytest.raises(UserError, match=r"cut\.safetensors is damaged"):
        start_from(Net(), str(tmp_path / "cut.safetensors"))


def test_another_number_of_classes_is_refused_with_the_remedy_that_works(tmp_path: Path) -> None:
    path, network = tmp_path / "weights.pth", Net(classes=5)
    torch.save(state(), path)
    first = network.fc.weight.clone()
    with pytest.raises(UserError, match=r"fc.bias is of shape \(3,\) there and .*init.ignore=\[fc\]$"):
        start_from(network, str(path))
    assert start_from(network, str(path), ["fc"])["ignored"] == ["fc.bias", "fc.weight"]
    assert torch.equal(network.fc.weight, first)
    assert torch.equal(network.stem[0].weight, state()["stem.0.weight"])
    with pytest.raises(UserError, match=r"init.ignore: 'fcc' .* Did you mean 'fc'"):
        start_from(network, str(path), ["fcc"])
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="has no state_dict"):
        start_from(network, str(path))


def test_frozen_blocks_keep_weights_and_statistics_and_the_record_tells_all(train: Train) -> None:
    first = train("trainer.max_steps=2", folder="first", small=SMALL_RESNET)
    names = [name.removeprefix("network.") for name in first.checkpoint()["state_dict"]]
    stem, head = names[0].partition(".")[0], names[-1].partition(".")[0]
    weights = first.folder / "checkpoints" / "last.ckpt"
    tuned = train(
        f"init_from={weights}",
        f"init.ignore=[{head}]",
        f"model.freeze=[{stem}]",
        "optimizer.layer_decay=0.7",
        "trainer.test_every_n_epochs=1",
        "trainer.epochs=2",
        folder="tuned",
        small=SMALL_RESNET,
    )
    begun, ended = (run.checkpoint()["state_dict"] for run in (first, tuned))
    moved = {name for name in begun if not torch.equal(begun[name], ended[name])}
    assert not {name for name in moved if name.startswith(f"network.{stem}.")}
    assert {name for name in moved if name.endswith("running_mean")}
    assert any(name.startswith(f"network.{head}.") for name in moved)
    record = tuned.record
    assert record.init_from["file_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert record.init_from["ignored"] == [f"{head}.bias", f"{head}.weight"]
    groups = record.parameters["groups"]
    assert groups[-1]["lr_scale"] == 1
    assert groups[-2]["lr_scale"] == 0.7
    assert sum(group["total"] for group in groups) == record.parameters["trainable"]
    assert record.parameters["trainable"] < record.parameters["total"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.freeze=[hiden]", r"model.freeze: 'hiden' .* Did you mean 'hidden'"),
        ("model.freeze=[hidden,output]", r"all are frozen.* model.freeze=null"),
        ("model.freeze=hidden", r"model.freeze='hidden' is not"),
        ("init.ignore=[output]", r"init.ignore=\['output'\] has no effect without init_from"),
        ("optimizer.layer_decay=2", r"optimizer.layer_decay=2 must be in \(0, 1\], or null"),
        ("optimizer.lr_of={hidden: 0}", r"factor above 0; .*model.freeze=\[hidden\]"),
        ("optimizer.lr_of={hiden: 0.1}", r"optimizer.lr_of: 'hiden' .* Did you mean 'hidden'"),
    ],
)
def test_mistakes_are_one_line(override: str, words: str, train: Train) -> None:
    with pytest.raises(UserError, match=words):
        train(override, "trainer.max_steps=1", folder="refused")
