"""Write the network that a run tested to a file for other programs, and check what the file computes."""

from __future__ import annotations

import copy
import importlib.util
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from tempo.config.schema import RunConfig
from tempo.data.augment import Preprocess
from tempo.errors import UserError, nearest
from tempo.record.atomic_write import write_atomically
from tempo.record.run_json import RunRecord
from tempo.run.load_run import ImageClassifier, load_module, recorded_run_config
from tempo.trainer.checkpoint_file import weights_sha256
from tempo.trainer.console import console
from tempo.trainer.process_settings import quiet

_SUFFIXES = {"state_dict": ".pt", "torch_export": ".pt2", "onnx": ".onnx"}
_TOLERANCES = {"state_dict": 1e-6, "torch_export": 1e-6, "onnx": 1e-5}
"""Largest difference between two logits, relative to the largest logit if that is above 1; kernels of other
programs add up in another order."""
_CHECKED_IMAGES = 8


@dataclass(frozen=True)
class Export:
    """A written file; `largest_difference` of its outputs from the run's, None if nothing could run it."""

    path: Path
    largest_difference: float | None
    note: str = ""


def export_from_hydra(config: DictConfig) -> None:
    """Export as set in conf/export.yaml and the overrides, and print what was written."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    written = export(
        Path(values["run"]).expanduser().absolute(),
        str(values["format"]),
        None if values["out"] is None else Path(str(values["out"])).expanduser(),
        checkpoint=str(values["checkpoint"]),
    )
    difference = written.largest_difference
    checked = written.note if difference is None else f"largest difference from the run {difference:.1e}"
    console().print(f"{written.path} ({checked})", markup=False, highlight=False)


def export(folder: Path, form: str, out: Path | None = None, *, checkpoint: str = "tested") -> Export:
    """Write a run's tested network, with a JSON file of its classes and normalization next to it.

    `state_dict` holds the weights under the network's own names. The programs of `torch_export` and `onnx`
    take uint8 images [B, C, H, W], normalize them and return logits [B, classes].

    Raises:
        UserError: there is no such run, format or checkpoint, the network cannot be exported, or the file
            does not compute what the run computed.
    """
    quiet()
    if form not in _SUFFIXES:
        raise UserError(f"format={form} is unknown.{nearest(form, _SUFFIXES)} Choose: {', '.join(_SUFFIXES)}")
    record = RunRecord.read(folder)
    config = recorded_run_config(folder, record)
    model = load_module(folder, record, config, checkpoint)
    path = out or folder / f"model{_SUFFIXES[form]}"
    facts: dict[str, Any] = {"run": record.name, "target": config.model.target}
    try:
        if not isinstance(model, ImageClassifier):
            if form != "state_dict":
                raise UserError(
                    f"format={form}: {type(model).__name__} is a LightningModule, and nothing says what its "
                    "inputs are; set format=state_dict"
                )
            _write_weights(model, path)
            written = Export(path, None, "weights only; a LightningModule is not run to check them")
        else:
            facts |= {
                "class_names": list(model.class_names),
                "input_shape": list(model.input_shape),
                "mean": list(model.mean),
                "std": list(model.std),
                "weights_sha256": weights_sha256(model.network),
            }
            if record.data.get("label_sets"):
                facts["label_sets"] = True
            written = _written(model, config, form, path)
        write_atomically(path.with_name(f"{path.name}.json"), json.dumps(facts, indent=2) + "\n")
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) or "does not exist" in str(error):
            raise UserError(f"{path} cannot be written: {error}; set out=<file>") from error
        raise
    return written


def _written(model: ImageClassifier, config: RunConfig, form: str, path: Path) -> Export:
    images = torch.randint(
        256,
        (_CHECKED_IMAGES, *model.input_shape),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(0),
    )
    expected = _outputs_of_the_run(model, config, images)
    if form == "state_dict":
        _write_weights(model.network, path)
        found: Tensor | None = _of_weights(model, path)(images)
    elif form == "torch_export":
        found = _torch_export(model, images, path)
    else:
        found = _onnx(model, images, path)
    if found is None:
        return Export(path, None, "not checked: pip install onnxruntime, and export again")
    difference = float((found - expected).abs().max() / expected.abs().max().clamp(min=1))
    if not difference <= _TOLERANCES[form]:
        path.unlink()
        raise UserError(
            f"format={form}: the file computes other outputs than the run, by {difference:.1e} of the "
            "largest logit, so it was removed; set format=state_dict"
        )
    return Export(path, difference)


@torch.no_grad()
def _outputs_of_the_run(model: ImageClassifier, config: RunConfig, images: Tensor) -> Tensor:
    """Return the logits as the run's own test computes them, in float32."""
    preprocess = Preprocess(None, model.mean, model.std, channels_last=config.trainer.channels_last)
    weights = next(model.network.parameters(), images)
    return model.network(preprocess(images).to(weights.dtype)).float()


def _write_weights(network: nn.Module, path: Path) -> None:
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    if path.suffix != ".safetensors":
        torch.save(weights, path)
        return
    if importlib.util.find_spec("safetensors") is None:
        raise UserError("a .safetensors file needs the package safetensors; set out=model.pt")
    from safetensors.torch import save_file

    save_file(weights, path)


def _of_weights(model: ImageClassifier, path: Path) -> nn.Module:
    """Return the model with the weights that were written."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        weights = load_file(path)
    else:
        weights = torch.load(path, weights_only=True)
    again = copy.deepcopy(model)
    for value in again.network.state_dict().values():
        value.zero_()
    again.network.load_state_dict(weights)
    return again


def _torch_export(model: ImageClassifier, images: Tensor, path: Path) -> Tensor:
    batch = torch.export.Dim("batch")
    try:
        program = torch.export.export(model, (images[:2],), dynamic_shapes=({0: batch},))
    except Exception as error:  # torch.export has no base class for its errors
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        raise UserError(
            f"format=torch_export: torch cannot export {type(model.network).__name__} ({reason}); set "
            "format=state_dict"
        ) from error
    with warnings.catch_warnings():
        # torch asks whether weights in channels_last are parts of others; they are not, and are on the CPU.
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")
        torch.export.save(program, path, extra_files={"class_names.json": json.dumps(model.class_names)})
    return torch.export.load(path).module()(images)


def _onnx(model: ImageClassifier, images: Tensor, path: Path) -> Tensor | None:
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"format=onnx needs the package {package}; run pip install onnx onnxscript onnxruntime, or "
                "set format=torch_export"
            )
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (images[:2],),
            str(path),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: batch},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
