"""A finished run is tested again: the same numbers, or one line that says why not."""

from __future__ import annotations

import json

import pytest
from omegaconf import OmegaConf

from tempo.errors import UserError
from tempo.record.run_json import RunRecord, config_hash
from tempo.run.evaluate import evaluate, evaluate_from_hydra
from tests.conftest import Train, Trained


@pytest.fixture
def tested(trained_once: Train) -> Trained:
    return trained_once("trainer.epochs=2", "ema.decay=0.9")


def test_evaluate_gives_the_numbers_of_the_record(tested: Trained) -> None:
    again = evaluate(tested.folder)
    assert again.against_record == "the record's numbers"
    assert again.metrics["loss"] == tested.record.metrics["test"]["loss"]
    assert again.metrics["accuracy"] == tested.record.metrics["test"]["accuracy"]
    assert again.images == 359
    assert again.weights_sha256 == tested.record.weights_sha256
    by_name = evaluate(tested.folder, checkpoint=str(tested.folder / "checkpoints" / "best.ckpt"))
    assert by_name.against_record == "the record's numbers"
    previous = evaluate(tested.folder, checkpoint=str(tested.folder / "checkpoints" / "previous.ckpt"))
    assert previous.weights_sha256 != tested.record.weights_sha256
    _refusals_of_evaluate(tested)


def test_evaluate_on_a_machine_without_the_gpu_that_trained(tested: Trained) -> None:
    record = RunRecord.read(tested.folder)
    record.config["trainer"] |= {"accelerator": "gpu", "cuda_graph": True, "compile": True}
    record.config_hash = config_hash(record.config)
    record.write(tested.folder)
    checkpoint = str(tested.folder / "checkpoints" / "best.ckpt")
    assert evaluate(tested.folder, checkpoint=checkpoint, accelerator="cpu").images == 359


def test_evaluate_where_nothing_can_be_written(tested: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder in the place of the file refuses it to everybody; permissions do not bind root."""
    (tested.folder / "evaluation.json").mkdir()
    evaluate_from_hydra(
        OmegaConf.create(
            {"run": str(tested.folder), "checkpoint": "tested", "accelerator": "auto", "data": {"root": None}}
        )
    )
    result, complaint = capsys.readouterr().out.splitlines()[-2:]
    assert "the record's numbers" in result
    assert complaint.startswith(f"not written: {tested.folder / 'evaluation.json'}: ")


def _refusals_of_evaluate(tested: Trained) -> None:
    """Same run, what a stranger or an accident could have done to it."""
    folder = tested.folder
    original = (folder / "run.json").read_text(encoding="utf-8")

    def refused(*words: str, **arguments: str) -> None:
        with pytest.raises(UserError) as caught:
            evaluate(folder, **arguments)
        for word in words:
            assert word in str(caught.value)

    refused("accelerator=abacus", accelerator="abacus")
    refused("checkpoint=bset", "Did you mean 'best'", checkpoint="bset")
    for where, target in (
        ("model", "os.system"),
        ("model", "subprocess.Popen"),
        ("data", "builtins.eval"),
        ("optimizer", "tempo_evil.SGD"),
        ("scheduler", "torch.hub.load"),
        ("model", "tempo.run.process_launch.os.system"),
        ("model", "tempo.run.process_launch.subprocess.run"),
        ("data", "tempo.record.atomic_write.write_atomically"),
        ("model", "tempo.data.digits.digits"),
        ("optimizer", "torch.optim.lr_scheduler.StepLR"),
        ("data", "tempo.data.folder.Path.write_text"),
        ("model", ["os.system"]),
    ):
        values = json.loads(original)
        values["config"][where] = {"_target_": target, "command": "touch /tmp/x"}
        (folder / "run.json").write_text(json.dumps(values), encoding="utf-8")
        refused("_target_")
    values = json.loads(original)
    values["config"]["model"]["hidden"] = [{"_target_": "os.getcwd"}]
    (folder / "run.json").write_text(json.dumps(values), encoding="utf-8")
    refused("_target_=os.getcwd")
    values = json.loads(original)
    values["config"]["model"]["hidden"] = [128, 64, 31]
    (folder / "run.json").write_text(json.dumps(values), encoding="utf-8")
    refused("does not fit")
    values = json.loads(original)
    values["data"]["sha256"] = "0" * 64
    (folder / "run.json").write_text(json.dumps(values), encoding="utf-8")
    refused("not those of the run")
    for broken in ({"config": {}}, {"config": {"trainer": 3}}):
        (folder / "run.json").write_text(json.dumps(json.loads(original) | broken), encoding="utf-8")
        refused(".<key>=")
    (folder / "run.json").write_text(original, encoding="utf-8")
    best = folder / "checkpoints" / "best.ckpt"
    content = best.read_bytes()
    best.unlink()
    best.write_bytes(content[: len(content) // 2])
    refused("best.ckpt is damaged")
