"""What a run has trained is used: from Python, on image files, and in files for other programs."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

import tempo
from tempo.errors import UserError
from tempo.paths import ROOT
from tempo.record.run_json import RunRecord
from tempo.run.export import export
from tempo.run.predict import predict, predict_from_hydra
from tests.conftest import Trained
from tests.jobs import run_job

HEIGHT, WIDTH, CLASSES = 8, 10, ("bright", "dark, blue", "grün")


def draw(folder: Path, per_class: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = rng.integers(0, 160, (HEIGHT, WIDTH, 3))
            pixels[:, :, label] += 70
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")


@pytest.fixture(scope="module")
def photographed(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run on colour images that are no longer where they were; `tested` beside it has the test images."""
    base = tmp_path_factory.mktemp("photographed")
    draw(base / "photos" / "train", 20, seed=0)
    draw(base / "photos" / "test", 5, seed=1)
    threads = torch.get_num_threads()
    record = run_job(
        base / "run",
        [
            *("model=cnn3", "trainer=cpu", "trainer.threads=1", "trainer.epochs=3", "data=folder"),
            *(f"data.root={base / 'photos'}", f"data.cache={base / 'cache'}", "data.total_batch_size=16"),
            "optimizer=adam",
        ],
    )
    shutil.move(base / "photos" / "test", base / "tested")
    shutil.rmtree(base / "photos")
    shutil.rmtree(base / "cache")
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
    return Trained(base / "run", record)


def test_images_are_predicted_where_the_training_data_is_gone(
    photographed: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    images = photographed.folder.parent / "tested"
    (images / "notes.png").write_text("no image")
    given = {"run": str(photographed.folder), "input": str(images), "out": None, "checkpoint": "tested"}
    predict_from_hydra(OmegaConf.create({**given, "accelerator": "cpu", "batch_size": 4}))
    (images / "notes.png").unlink()
    assert "not an image: notes.png" in capsys.readouterr().out
    text = (photographed.folder / "predictions.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == 15
    hits = sum(row["file"].rpartition("/")[0] == row["class"] for row in rows)
    assert hits / 15 == photographed.record.metrics["test"]["accuracy"]
    assert all(row["probability"] == max((row[f"p({name})"] for name in CLASSES), key=float) for row in rows)


def test_the_network_is_loaded_with_its_normalization_and_class_names(
    photographed: Trained, tmp_path: Path
) -> None:
    classifier = tempo.load(photographed.folder)
    assert classifier.class_names == CLASSES
    assert classifier.input_shape == (3, HEIGHT, WIDTH)
    assert not any(part.training for part in classifier.modules())
    pixels = np.random.default_rng(3).integers(0, 256, (2 * HEIGHT, 3 * WIDTH), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    resized = Image.fromarray(pixels).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    mean, std = (np.array(photographed.record.data[key]) for key in ("mean", "std"))
    normalized = torch.tensor((np.asarray(resized) / 255 - mean) / std, dtype=torch.float32)
    expected = classifier.network(normalized.permute(2, 0, 1)[None]).softmax(1)[0]
    row = predict(photographed.folder, str(tmp_path / "grey.png"), accelerator="cpu").rows[0]
    assert row[0] == "grey.png"
    assert [float(value) for value in row[3:]] == pytest.approx(expected.tolist(), rel=1e-4)


@pytest.mark.parametrize(("form", "name"), [("state_dict", "model.pt"), ("torch_export", "program.pt2")])
def test_an_exported_file_computes_the_same(
    form: str, name: str, photographed: Trained, tmp_path: Path
) -> None:
    written = export(photographed.folder, form, tmp_path / name)
    assert written.largest_difference is not None
    assert written.largest_difference <= 1e-6
    facts = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    assert facts["class_names"] == list(CLASSES)
    assert facts["weights_sha256"] == photographed.record.weights_sha256
    if form == "state_dict":
        weights = torch.load(tmp_path / name, weights_only=True)
        assert weights.keys() == tempo.load(photographed.folder).network.state_dict().keys()
        return
    images = torch.randint(256, (5, 3, HEIGHT, WIDTH), dtype=torch.uint8)
    program = torch.export.load(tmp_path / name).module()
    torch.testing.assert_close(program(images), tempo.load(photographed.folder)(images), rtol=1e-6, atol=1e-6)


def test_what_cannot_be_used_is_one_line(photographed: Trained, tmp_path: Path) -> None:
    def refused(words: str, call: Any, *arguments: Any, **named: Any) -> None:
        with pytest.raises(UserError, match=words):
            call(photographed.folder, *arguments, **named)

    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("text")
    refused("input= names the images", predict, None)
    refused("nowhere does not exist", predict, str(tmp_path / "nowhere"))
    refused("has no image files", predict, str(tmp_path / "empty"))
    refused(r"text\.png is not an image that can be used", predict, str(tmp_path / "text.png"))
    refused("accelerator=abacus", predict, str(tmp_path), accelerator="abacus")
    refused("format=onxx is unknown. Did you mean 'onnx'", export, "onxx")
    refused("checkpoint=bset", export, "state_dict", checkpoint="bset")
    refused("nowhere/x.pt cannot be written", export, "state_dict", tmp_path / "nowhere" / "x.pt")


def test_code_from_a_foreign_folder_is_refused(photographed: Trained, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(photographed.folder, tmp_path / "foreign"))
    record = RunRecord.read(folder)
    record.config["model"] = {"_target_": "os.system", "command": "touch /tmp/x"}
    record.write(folder)
    for use in (tempo.load, lambda path: predict(path, "x.png"), lambda path: export(path, "state_dict")):
        with pytest.raises(UserError, match=r"_target_=os.system is not named in conf/model"):
            use(folder)


@pytest.mark.parametrize("loss", ["cross_entropy", "bce", "mse"])
def test_probabilities_are_those_of_the_loss(loss: str, photographed: Trained, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(photographed.folder, tmp_path / "run"))
    record = RunRecord.read(folder)
    record.config["loss"] = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "loss" / f"{loss}.yaml"))
    record.write(folder)
    classifier = tempo.load(folder)
    images = torch.randint(256, (4, 3, HEIGHT, WIDTH), dtype=torch.uint8)
    logits = classifier(images)
    exponentials = logits.exp()
    expected = {
        "cross_entropy": exponentials / exponentials.sum(1, keepdim=True),
        "bce": 1 / (1 + 1 / exponentials),
        "mse": logits.minimum(torch.ones(())).maximum(torch.zeros(())),
    }
    torch.testing.assert_close(classifier.probabilities(images), expected[loss])


def test_a_run_is_trained_from_python(tmp_path: Path) -> None:
    small = ["model=mlp", "trainer=cpu", "trainer.threads=1", "data.train_size=128", "trainer.max_steps=2"]
    record, folder = tempo.train([*small, f"hydra.run.dir={tmp_path / 'run'}"])
    assert (record.status, record.steps, folder) == ("completed", 2, tmp_path / "run")
    assert RunRecord.read(folder).weights_sha256 == record.weights_sha256
    assert tempo.load(folder).class_names == tuple("0123456789")
    half = RunRecord.read(folder)
    half.status = "interrupted"
    half.write(folder)
    resumed = tempo.train([f"resume={folder}"])
    assert (resumed.record.status, resumed.record.weights_sha256) == ("completed", record.weights_sha256)
    for overrides, words in (
        ([f"hydra.run.dir={folder}"], "already contains a completed run"),
        (["seed=0,1"], "seed=0,1 has several values, and tempo.train trains one run"),
        (["-m"], "-m is a flag"),
        (["modl=mlp"], "modl"),
        (["trainer.epochs=0"], "must be at least 1"),
        (["preview=true"], "preview=true trains nothing"),
        ("model=mlp", r"give a list: tempo.train\(\['model=mlp'\]\)"),
    ):
        with pytest.raises(UserError, match=words):
            tempo.train(overrides)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        tempo.trian  # noqa: B018
