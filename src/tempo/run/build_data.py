"""Build a run's training, validation and test sets, and the batches drawn from them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass, replace

import torch

from tempo.config.hydra_targets import instantiated
from tempo.config.schema import DataConfig, RunConfig
from tempo.data.augment import Augment
from tempo.data.batches import BatchPlan, EvalBatches, TrainBatches
from tempo.data.class_counts import check_learnable, images_per_class, missing_classes
from tempo.data.images import ImageData
from tempo.data.split import split, stratified, unused_indices
from tempo.errors import UserError
from tempo.task.classifier import Classifier

# A chunk of steps is one call of Lightning's loop and one tensor of preprocessed images. It is long enough to
# make the call cheap compared with the steps, and short enough to keep the tensor small and to notice a
# signal soon. Parameters x images is a poor measure of a step's work, but it tells an MLP from a ResNet.
_CHUNK_STEPS, _CHUNK_VALUES, _CHUNK_WORK = 64, 1 << 22, 250_000_000
_GPU_FACTOR = 32
"""Factor for both limits on a GPU, which would wait for Python between short chunks."""


@dataclass(frozen=True)
class Data:
    """The three sets of a run; `sha256` covers the source's images before they are split.

    `unused` is the number of official training images that are neither in `train` nor in `val`. `remarks` are
    lines about the images for the screen and the record.
    """

    train: ImageData
    val: ImageData | None
    test: ImageData
    sha256: str
    unused: int = 0
    remarks: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images in each set."""
        return {"train": len(self.train), "val": len(self.val) if self.val else 0, "test": len(self.test)}

    @property
    def class_counts(self) -> dict[str, list[int]]:
        """Number of images of each class in each set."""
        sets = {"train": self.train, "val": self.val, "test": self.test}
        return {name: images_per_class(part) for name, part in sets.items() if part is not None}


def build_data(config: RunConfig) -> Data:
    """Read the data source, then split validation images off its training images if it has none."""
    return _build(config, most_unused=0)[0]


def build_data_and_unused(config: RunConfig, most: int) -> tuple[Data, ImageData]:
    """Return a run's data, and up to `most` training images that it neither trains nor validates on."""
    data, unused = _build(config, most_unused=most)
    assert unused is not None
    return data, unused


def _build(config: RunConfig, most_unused: int) -> tuple[Data, ImageData | None]:
    node = config.data
    train, test, *own_val = instantiated("data", node.source.node)
    if len(train.classes) < 2:
        raise UserError(
            f"data: {train.name} has only the class {', '.join(train.classes)!r}, so there is nothing to "
            "learn; choose another data=<option of conf/data>, or make one folder per class"
        )
    Augment(**asdict(node.augment)).check_fits(*train.shape[1:])
    sha256 = _fingerprint(train, test, *own_val)
    cut = replace(node, val_size=0) if own_val else node
    official = len(train)
    # A copy, taken before the split, which reuses the memory of `train`.
    unused = _unused(train, cut, most_unused) if most_unused else None
    kept, val = split(train, val_size=cut.val_size, train_size=cut.train_size, split_seed=cut.split_seed)
    left = official - len(kept) - (len(val) if val else 0)
    remarks = list(train.remarks)
    if own_val:
        val = own_val[0] if node.val_size else None
        remarks.append(_remark_on_own(own_val[0], node.val_size))
    data = Data(kept, val, test, sha256, left)
    remarks += missing_classes(train.classes, data.class_counts)
    if node.train_size is None:
        check_learnable(data.class_counts, config.objective)
    limit = config.trainer.limit_train_steps
    if limit is not None:
        kept = _some(kept, limit * node.total_batch_size, node.split_seed)
    limit = config.trainer.limit_eval_batches
    if limit is not None:
        images = limit * node.eval_batch_size
        val = _some(val, images, node.split_seed) if val else None
        test = _some(test, images, node.split_seed)
    return Data(kept, val, test, sha256, left, tuple(remarks)), unused


def _fingerprint(train: ImageData, test: ImageData, val: ImageData | None = None) -> str:
    """Return a SHA-256 of the images: half of it of training and validation, half of the test."""
    first = train.sha256()
    if val is not None:
        first = hashlib.sha256(f"{first}{val.sha256()}".encode()).hexdigest()
    return f"{first[:32]}{test.sha256()[:32]}"


def _remark_on_own(val: ImageData, val_size: float) -> str:
    if val_size:
        return f"validation has {len(val)} images of its own; data.val_size={val_size} is not used"
    return f"{len(val)} images in a folder for validation are not used, because data.val_size=0"


def _unused(train: ImageData, node: DataConfig, most: int) -> ImageData:
    indices = unused_indices(
        train, val_size=node.val_size, train_size=node.train_size, split_seed=node.split_seed
    )
    chosen = stratified(train.labels[indices].numpy(), min(most, len(indices)), node.split_seed)
    return train.take(indices[chosen])


def _some(data: ImageData, images: int, split_seed: int) -> ImageData:
    if images >= len(data):
        return data
    return data.take(stratified(data.labels.cpu().numpy(), images, split_seed))


def check_every_rank_has_images(data: Data, world_size: int) -> None:
    """Raise UserError if a set has fewer images than there are processes."""
    for name, size in data.sizes.items():
        if 0 < size < world_size:
            key, number = ("data.val_size", world_size) if name == "val" else ("trainer.devices", size)
            raise UserError(
                f"the {name} set has {size} images, but each of the {world_size} processes needs one; "
                f"set {key}={number}"
            )


def on_best_device(data: ImageData, device: torch.device) -> ImageData:
    """Move images to the training device if they take less than half of its free memory."""
    if device.type != "cuda":
        return data
    free, _ = torch.cuda.mem_get_info(device)
    return data.to(device) if data.images.nbytes < free / 2 else data


def build_plan(config: RunConfig, train_images: int, world_size: int, rank: int) -> BatchPlan:
    """Plan which images each step of this rank sees."""
    trainer = config.trainer
    if trainer.exchange.is_asynchronous:  # a batch belongs to one worker, and the server assigns it
        world_size, rank = 1, 0
    return BatchPlan(
        n=train_images,
        total_batch_size=config.data.total_batch_size,
        seed=config.seed,
        world_size=world_size,
        rank=rank,
        accumulate=trainer.accumulate,
    )


def total_steps(config: RunConfig, steps_per_epoch: int) -> int:
    """Return the number of optimizer steps in the whole run."""
    steps = config.trainer.max_steps
    return steps if steps is not None else config.trainer.epochs * steps_per_epoch


def build_train_batches(config: RunConfig, data: Data, module: Classifier) -> TrainBatches:
    """Build chunks of training steps, starting at the trainer's current step."""
    asked = config.trainer.steps_per_call
    steps = _steps_per_chunk(data.train, module) if asked == "auto" else asked
    if config.checkpoint.every_n_steps is not None:
        steps = min(steps, config.checkpoint.every_n_steps)
    return TrainBatches(
        data=data.train,
        plan=module.plan,
        augment=Augment(**asdict(config.data.augment)),
        steps_per_chunk=steps,
        next_step=lambda: module.trainer.global_step,
        last_step=module.total_steps,
    )


def _steps_per_chunk(train: ImageData, module: Classifier) -> int:
    images = module.plan.per_device * module.plan.accumulate
    values = images * math.prod(train.shape)
    work = images * sum(parameter.numel() for parameter in module.network.parameters())
    factor = _GPU_FACTOR if train.images.device.type == "cuda" else 1
    return max(1, min(_CHUNK_STEPS, factor * _CHUNK_VALUES // values, factor * _CHUNK_WORK // work))


def build_eval_batches(config: RunConfig, data: ImageData, plan: BatchPlan) -> EvalBatches:
    """Build batches that contain every image exactly once over all ranks."""
    size = config.data.eval_batch_size
    return EvalBatches(data=data, batch_size=size, world_size=plan.world_size, rank=plan.rank)
