"""Say what a run's network sees in image files, or in the batches of a LightningModule's own data."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor

from tempo.config.schema import RunConfig
from tempo.data.decode_image import Decoding, Range, UnreadableImageError, decode_image
from tempo.data.folder_names import read_suffixes, shown, suffix_of
from tempo.data.listed_images import decoding_of
from tempo.data.loader_data_module import LoaderDataModule
from tempo.errors import UserError
from tempo.record.atomic_write import write_atomically
from tempo.record.run_json import RunRecord
from tempo.run.build_data import build_data, build_plan
from tempo.run.build_module import build_task, connect_data
from tempo.run.check_own_module import overrides_hook
from tempo.run.load_run import ImageClassifier, load_module, recorded_run_config
from tempo.trainer.console import console
from tempo.trainer.process_settings import quiet

_MOST_LINES = 20
"""Predictions that are printed; the CSV file has all."""


@dataclass(frozen=True)
class Predictions:
    """A table: a row for each image or item; `unread` has the reason for each file that is no image."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    unread: Mapping[str, str] = field(default_factory=dict)

    def to_csv(self) -> str:
        """Return the table as the text of a CSV file."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.header, *self.rows])
        return text.getvalue()


def predict_from_hydra(config: DictConfig) -> None:
    """Predict as set in conf/predict.yaml and the overrides; print the first rows and write all of them."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    folder = Path(values["run"]).expanduser().absolute()
    found = predict(
        folder,
        None if values["input"] is None else str(values["input"]),
        checkpoint=str(values["checkpoint"]),
        accelerator=str(values["accelerator"]),
        batch_size=values["batch_size"],
    )
    for row in found.rows[:_MOST_LINES]:
        names = [
            f"{name} {'(none)' if cell == '' else cell}"
            for name, cell in zip(found.header[1:3], row[1:3], strict=True)
        ]
        console().print(f"{row[0]}: {', '.join(names)}", markup=False, highlight=False)
    for name, reason in found.unread.items():
        console().print(f"not an image: {name}: {reason}", markup=False, highlight=False)
    out = Path(values["out"]).expanduser() if values["out"] else folder / "predictions.csv"
    try:
        write_atomically(out, found.to_csv())
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}; set out=<file>") from error
    rows = "1 row" if len(found.rows) == 1 else f"{len(found.rows):,} rows"
    console().print(f"{rows} in {out}", markup=False, highlight=False)


def predict(
    folder: Path,
    source: str | None,
    *,
    checkpoint: str = "tested",
    accelerator: str = "auto",
    batch_size: int = 256,
) -> Predictions:
    """Return the classes and probabilities that a run's tested network gives images.

    Images are decoded and resized as for training, from one file or all image files below a folder; the
    training data is not needed. A LightningModule of your own predicts, by its `predict_step`, on the batches
    of its own data: `predict_dataloader`, or `test_dataloader` if there is none.

    Raises:
        UserError: there is no such run, image or checkpoint, or the module cannot predict.
    """
    quiet()
    device = _device(accelerator)
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise UserError(f"batch_size={batch_size} is not a whole number above 0; set batch_size=256")
    record = RunRecord.read(folder)
    config = recorded_run_config(folder, record)
    model = load_module(folder, record, config, checkpoint)
    if not isinstance(model, ImageClassifier):
        assert isinstance(model, pl.LightningModule)
        return _of_own_data(model, config, accelerator, source)
    if source is None:
        raise UserError("input= names the images; set input=<image or folder of images>")
    _check_takes_files(record, model)
    files, below = _image_files(Path(source).expanduser())
    how = decoding_of(
        None,
        model.input_shape[0],
        config.data.source.get("background", "white"),
        config.data.source.get("max_megapixels", 89),
    )
    recorded = record.data.get("reading", {}).get("values")
    values = (float(recorded[0]), float(recorded[1])) if recorded else None
    header = ["file", "class", "probability", *(f"p({name})" for name in model.class_names)]
    rows: list[list[Any]] = []
    unread: dict[str, str] = {}
    model.to(device)
    for start in range(0, len(files), batch_size):
        pixels: dict[str, Tensor] = {}
        for path in files[start : start + batch_size]:
            name = shown(str(path.relative_to(below)))
            try:
                pixels[name] = _pixels(path, how, values, model.input_shape)
            except UnreadableImageError as error:
                unread[name] = str(error)
        if pixels:
            found = model.probabilities(torch.stack(list(pixels.values())).to(device)).cpu()
            several = bool(record.data.get("label_sets"))
            rows += _rows(list(pixels), found, model.class_names, several=several)
    if not rows:
        name, reason = next(iter(unread.items()))
        raise UserError(f"input={source}: {name} is not an image that can be used: {reason}; name another")
    return Predictions(header, rows, unread)


def _device(accelerator: str) -> torch.device:
    has = {"cpu": True, "gpu": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if accelerator not in ("auto", *has):
        raise UserError(f"accelerator={accelerator} is unknown; choose from: auto, cpu, gpu, mps")
    chosen = accelerator if accelerator != "auto" else "gpu" if has["gpu"] else "cpu"
    if not has[chosen]:
        raise UserError(f"accelerator={accelerator}, but this machine has none; set accelerator=cpu")
    return torch.device({"gpu": "cuda"}.get(chosen, chosen))


def _check_takes_files(record: RunRecord, model: ImageClassifier) -> None:
    if len(model.input_shape) != 3 or model.input_shape[0] not in (1, 3):
        raise UserError(
            f"the run was trained on images of shape {list(model.input_shape)}, and files have 1 or 3 "
            "channels; use tempo.load(folder) on your own tensors"
        )
    if "reading" not in record.data and not any(model.mean) and set(model.std) == {1.0}:
        raise UserError(
            "the run's images came as floats, from a transform of their data set that this script does not "
            "know; use tempo.load(folder) on images that your transform has made"
        )


def _image_files(source: Path) -> tuple[list[Path], Path]:
    """Return the image files at or below a path, and the folder that their names are relative to."""
    if source.is_file():
        return [source], source.parent
    if not source.is_dir():
        raise UserError(f"input={source} does not exist; set input=<image or folder of images>")
    suffixes = read_suffixes()
    files = [
        path
        for path in sorted(source.rglob("*"))
        if suffix_of(path.name) in suffixes and path.is_file() and not path.name.startswith(".")
    ]
    if not files:
        raise UserError(f"input={source} has no image files; set input=<image or folder of images>")
    return files, source


def _pixels(path: Path, how: Decoding, values: Range | None, shape: tuple[int, ...]) -> Tensor:
    """Return an image file as uint8 `[C, H, W]` of this shape."""
    decoded = decode_image(path, how, values)
    if decoded.pixels is None:  # more than 8 bits, and the training images had none: its own range
        decoded = decode_image(path, how, decoded.values)
    pixels = decoded.pixels
    assert pixels is not None
    if pixels.shape != shape:
        image = Image.fromarray(pixels[0] if how.channels == 1 else pixels.transpose(1, 2, 0))
        resized = np.asarray(image.resize((shape[2], shape[1]), Image.Resampling.BILINEAR))
        pixels = resized.reshape(shape[1], shape[2], how.channels).transpose(2, 0, 1)
    return torch.tensor(pixels)


def _rows(
    names: Sequence[str], found: Tensor, classes: Sequence[str], *, several: bool
) -> Iterator[list[Any]]:
    """Yield a row per image; with `several`, its classes are those with a probability above 1/2."""
    for name, of_image in zip(names, found.tolist(), strict=True):
        best = max(range(len(of_image)), key=of_image.__getitem__)
        likely = [one for one, value in zip(classes, of_image, strict=True) if value > 0.5]
        said = "|".join(likely) if several else classes[best]
        yield [name, said, f"{of_image[best]:.6g}", *(f"{value:.6g}" for value in of_image)]


def _of_own_data(
    model: pl.LightningModule, config: RunConfig, accelerator: str, source: str | None
) -> Predictions:
    """Return what a user's module predicts on its own data."""
    name = type(model).__name__
    if source is not None:
        raise UserError(
            f"input={source}: {name} is a LightningModule, which predicts on the batches of its own data; "
            "leave input out, or use tempo.load(folder) on your own tensors"
        )
    if not overrides_hook(model, "predict_step"):
        raise UserError(
            f"{name} has no predict_step, so nothing says what it predicts of a batch; write one that "
            "returns a tensor [B] or [B, K], or a dict of them"
        )
    data = build_data(config)
    task = build_task(config, data, build_plan(config, data, world_size=1, rank=0))
    task.module.load_state_dict(model.state_dict())
    connect_data(config, data, task)
    loader: Any = None
    if isinstance(data, LoaderDataModule) and overrides_predict(data.source):
        data.source.setup("predict")
        loader = data.source.predict_dataloader()
    elif data.has_test:
        loader = data.test_dataloader()
    if loader is None:
        raise UserError(f"the data of {name} have neither predict_dataloader nor a test set; write one")
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    return _table(name, trainer.predict(task.module, dataloaders=loader) or [])


def overrides_predict(source: pl.LightningDataModule | pl.LightningModule) -> bool:
    """Whether a module has its own `predict_dataloader`."""
    return type(source).predict_dataloader is not pl.LightningDataModule.predict_dataloader


def _table(name: str, outputs: Sequence[Any]) -> Predictions:
    """Return the outputs of `predict_step`, batch by batch, as a table."""
    batches = [one for output in outputs for one in (output if isinstance(output, list) else [output])]
    columns: dict[str, list[Any]] = {}
    for batch in batches:
        parts = batch if isinstance(batch, Mapping) else {"prediction": batch}
        for key, value in parts.items():
            if not isinstance(value, Tensor) or value.ndim not in (1, 2):
                raise UserError(
                    f"predict_step of {name} returns {key} as a {type(value).__name__}, which is no column "
                    "of a table; return a tensor [B] or [B, K], or a dict of them"
                )
            by_column = value[:, None] if value.ndim == 1 else value
            for index, column in enumerate(by_column.unbind(1)):
                title = str(key) if value.ndim == 1 else f"{key}_{index}"
                columns.setdefault(title, []).extend(column.tolist())
    counts = set(map(len, columns.values()))
    if len(counts) > 1:
        raise UserError(f"predict_step of {name} returns columns of different lengths {sorted(counts)}")
    rows = [[number, *values] for number, values in enumerate(zip(*columns.values(), strict=True))]
    return Predictions(["item", *columns], rows)
