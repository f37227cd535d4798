"""Runs on the user's own images: sets, classes, folders that move."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from tempo.command_line.arguments import resumed
from tempo.errors import UserError
from tempo.record.run_json import RunRecord
from tempo.run.build_data import build_data
from tempo.run.evaluate import evaluate, evaluate_from_hydra
from tempo.run.reproduce import reproduce_from_hydra
from tests.conftest import Train, Trained
from tests.jobs import CONF, checked_job

RNG = np.random.default_rng(4)
JOB = ("model=mlp", "trainer=cpu", "trainer.threads=1", "data=folder", "data.total_batch_size=4")


def save(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{number}.png")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """20 cats and 10 dogs."""
    save(tmp_path / "here" / "pets" / "cat", 20)
    save(tmp_path / "here" / "pets" / "dog", 10)
    return tmp_path / "here" / "pets"


def trained(train: Train, pets: Path, *more: str) -> Trained:
    places = (f"data.root={pets}", f"data.cache={pets.parent / 'cache'}")
    return train("trainer.max_steps=6", *places, *more, small=JOB)


def test_classes_and_their_sizes_are_shown_recorded_and_saved(
    pets: Path, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    (pets / "cat" / "notes.txt").write_text("?")
    run = trained(train, pets)
    said = capsys.readouterr().out
    assert "cat (15), dog (7); 7 to 15 training images per class, 2.14 times as many" in said
    assert "files left out: 1 (1 .txt)" in said
    for found in (
        run.record.data,
        run.checkpoint()["data"],
        json.loads((run.folder / "run.json").read_text())["data"],
    ):
        assert found["class_names"] == ["cat", "dog"]
        assert found["class_counts"] == {"train": [15, 7], "val": [1, 1], "test": [4, 2]}
        assert found["remarks"] == ["files left out: 1 (1 .txt)"]
        assert found["reading"]["left_out"] == {".txt": 1}
        assert len(found["mean"]) == len(found["std"]) == 3


def test_images_that_have_moved_are_named_to_evaluate(pets: Path, train: Train, tmp_path: Path) -> None:
    run = trained(train, pets)
    shutil.move(pets, tmp_path / "there")
    with pytest.raises(UserError, match="is not a folder"):
        evaluate(run.folder)
    again = evaluate(run.folder, data_root=str(tmp_path / "there"))
    assert again.against_record == "the record's numbers"


def test_a_relative_folder_is_recorded_and_resumed_absolute(
    pets: Path, train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(pets.parent)
    run = train("trainer.max_steps=6", "data.root=pets", "data.cache=cache", small=JOB)
    assert run.record.config["data"]["root"] == str(pets)
    assert run.record.config["data"]["cache"] == str(pets.parent / "cache")
    monkeypatch.chdir(tmp_path)
    assert evaluate(run.folder).against_record == "the record's numbers"
    arguments = resumed([f"resume={run.folder}"])
    assert f"data.root='{pets}'" in arguments
    assert "data.root=pets" not in arguments


def test_a_folder_in_the_home_stays_relative_to_it() -> None:
    config, _ = checked_job([*JOB, "data.root='~/pets'"])
    assert config.values["data"]["root"] == "~/pets"


def test_a_validation_folder_takes_the_place_of_the_split(pets: Path, tmp_path: Path) -> None:
    for part, count in (("train", 10), ("valid", 4), ("test", 5)):
        for name in ("cat", "dog"):
            save(tmp_path / "split" / part / name, count)
    given = (*JOB, f"data.root={tmp_path / 'split'}", f"data.cache={tmp_path / 'cache'}")
    data = build_data(checked_job(given)[0])
    assert data.sizes == {"train": 20, "val": 8, "test": 10}
    assert any("data.val_size=0.1 is not used" in line for line in data.remarks)
    without = ("data.val_size=0", "objective=test/accuracy", "checkpoint.select=last")
    assert build_data(checked_job([*given, *without])[0]).sizes["val"] == 0
    save(tmp_path / "split" / "valid" / "cat", 4)  # other pixels, so another data set
    assert build_data(checked_job(given)[0]).sha256 != data.sha256


def test_one_image_per_class_is_refused(tmp_path: Path) -> None:
    for number in range(10):
        save(tmp_path / "pets" / f"class{number}", 1)
    given = (*JOB, f"data.root={tmp_path / 'pets'}", f"data.cache={tmp_path / 'cache'}")
    with pytest.raises(UserError, match="none of the 1 val images is of a class with training images"):
        build_data(checked_job(given)[0])


def test_classes_without_training_or_test_images_are_said(tmp_path: Path) -> None:
    for name, count in (("cat", 10), ("dog", 10), ("fox", 1)):
        save(tmp_path / "pets" / name, count)
    given = (*JOB, f"data.root={tmp_path / 'pets'}", f"data.cache={tmp_path / 'cache'}", "data.val_size=2")
    lines = build_data(checked_job(given)[0]).remarks
    assert "1 of 3 classes have no test images: fox" in lines


def test_a_short_run_forgets_its_first_weights(train: Train) -> None:
    """60 steps with a decay of 0.999: without warm-up the average is close to the first step's weights."""
    job = (
        "model=mlp",
        "trainer=cpu",
        "trainer.threads=1",
        "optimizer=adam",
        "trainer.max_steps=60",
        "ema.decay=0.999",
    )
    warm = train(*job, small=(), folder="warm").record
    cold = train(*job, "ema.warmup=false", small=(), folder="cold").record
    assert warm.config["ema"] == {"decay": 0.999, "warmup": True}
    assert warm.metrics["test"]["accuracy"] > 0.8
    assert cold.metrics["test"]["accuracy"] < 0.5


def test_a_record_from_before_the_warm_up_has_none(train: Train, tmp_path: Path) -> None:
    run = train("trainer.max_steps=6", "ema.decay=0.9", "ema.warmup=false")
    record = RunRecord.read(run.folder)
    before = record.config_hash
    del record.config["ema"]["warmup"]
    record.overrides.remove("ema.warmup=false")
    record.write(run.folder)
    assert record.config_hash == before
    assert "ema.warmup=false" in resumed([f"resume={run.folder}"])
    assert evaluate(run.folder).against_record == "the record's numbers"


def test_both_scripts_take_the_folder_by_the_key_that_errors_name(
    pets: Path, train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(train, pets)
    shutil.move(pets, tmp_path / "there")
    for script, more in (("evaluate", []), ("reproduce", [f"out={tmp_path / 'again'}"])):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose(script, [f"run={run.folder}", f"data.root={tmp_path / 'there'}", *more])
        (evaluate_from_hydra if script == "evaluate" else reproduce_from_hydra)(config)
    said = capsys.readouterr().out
    assert "the record's numbers" in said
    assert "verdict   identical" in said
