"""Build a run's training, validation and test sets, and the batches drawn from them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import pytorch_lightning as pl
import torch

from tempo.command_line.system_errors import enough_memory
from tempo.config.hydra_targets import instantiated
from tempo.config.schema import DataConfig, RunConfig
from tempo.data.augment import Augment
from tempo.data.batches import BatchPlan
from tempo.data.class_counts import check_learnable, counts_of_sets, missing_classes
from tempo.data.datasets_module import DatasetsModule, datasets_of
from tempo.data.image_files import ImageFiles
from tempo.data.images import ImageData
from tempo.data.loader_data_module import LoaderDataModule
from tempo.data.loader_settings import LoaderSettings
from tempo.data.random_seeds import global_generators_seeded
from tempo.data.run_data_module import ImageDataModule, RunDataModule
from tempo.data.split import split, stratified, unused_indices
from tempo.data.split_and_batch_sizes import check_no_folds
from tempo.data.transforms import ImageItems
from tempo.errors import UserError
from tempo.run.build_network import build_model
from tempo.run.build_transforms import build_transforms


def build_data(config: RunConfig) -> RunDataModule:
    """Build the data of conf/data: images in memory, or a user's datasets, data module or own loaders."""
    if config.data.source.is_own:
        return _loaders(config, _module_with_loaders(config))
    built = _read(config)
    if isinstance(built, pl.LightningDataModule):
        return _loaders(config, built)
    transforms = config.data.transform or config.data.eval_transform
    parts = tuple(built) if isinstance(built, (tuple, list)) else ()
    if parts and all(isinstance(part, ImageData) for part in parts):
        images = _images(config, parts)[0]
        return _items_of(config, images) if transforms else images
    datasets = datasets_of(built)
    if datasets is None:
        raise UserError(
            f"data._target_={config.data.source.target} returns a {type(built).__name__}; it must return a "
            "LightningDataModule, datasets (train, test) or (train, val, test), or two "
            "tempo.data.images.ImageData; choose another data=<option of conf/data>"
        )
    if isinstance(datasets["train"], ImageFiles) and not config.data.val_size:
        datasets.pop("val", None)
    module = _in_loaders(config, datasets)
    data = _loaders(config, module)
    data.name = getattr(datasets["train"], "name", config.data.source.name)
    return data


def _module_with_loaders(config: RunConfig) -> pl.LightningModule:
    """Build the LightningModule of conf/model, whose own loaders are the data."""
    module = build_model(config.model, config.seed, None, 0)
    assert isinstance(module, pl.LightningModule)  # a network is refused, because nothing says its shape
    return module


def _read(config: RunConfig) -> Any:
    source = config.data.source
    smaller = "set e.g. data.image_size=32, or " if "image_size" in source.arguments else ""
    with (
        enough_memory("the images", f"{smaller}use fewer images"),
        global_generators_seeded(config.data.split_seed),
    ):
        return instantiated("data", source.node)


def build_data_and_unused(config: RunConfig, most: int) -> tuple[ImageDataModule, ImageData]:
    """Return a run's images, and up to `most` training images that it neither trains nor validates on.

    Raises:
        UserError: the data are not images in memory.
    """
    built = _read(config)
    in_memory = isinstance(built, tuple) and isinstance(built[0], ImageData)
    if not in_memory or config.data.transform or config.data.eval_transform:
        raise UserError(
            f"data={config.data.source.name} has no images in memory that are used as they are; set "
            "tune.compare_seeds=0"
        )
    data, unused = _images(config, built, most)
    assert unused is not None
    return data, unused


def _images(
    config: RunConfig, parts: tuple[ImageData, ...], most_unused: int = 0
) -> tuple[ImageDataModule, ImageData | None]:
    node = config.data
    train, test, *own_val = parts
    if node.train_images not in (None, len(train)):
        raise UserError(
            f"data.train_images={node.train_images} is the size of a training set, and {train.name} has "
            f"{len(train)} images; leave data.train_images out and set data.train_size={node.train_images} "
            "to keep fewer"
        )
    if len(train.classes) < 2:
        raise UserError(
            f"data: {train.name} has only the class {', '.join(train.classes)!r}, so there is nothing to "
            "learn; choose another data=<option of conf/data>, or make one folder per class"
        )
    Augment(**asdict(node.augment)).check_fits(*train.shape[1:])
    sha256 = _fingerprint(train, test, *own_val)
    if own_val:
        check_no_folds(train.name, node.folds)
    cut = replace(node, val_size=0) if own_val else node
    official = len(train)
    # A copy, taken before the split, which reuses the memory of `train`.
    unused = _unused(train, cut, most_unused) if most_unused else None
    kept, val = split(
        train,
        val_size=cut.val_size,
        train_size=cut.train_size,
        split_seed=cut.split_seed,
        folds=cut.folds,
        fold=cut.fold,
    )
    left = official - len(kept) - (len(val) if val else 0)
    remarks = list(train.remarks)
    if own_val:
        val = own_val[0] if node.val_size else None
        remarks.append(_remark_on_own(own_val[0], node.val_size))
    counts = counts_of_sets(kept, val, test)
    remarks += missing_classes(train.classes, counts)
    if node.train_size is None:
        check_learnable(counts, config.objective)
    limit = config.trainer.limit_train_steps
    if limit is not None:
        kept = _some(kept, limit * node.total_batch_size, node.split_seed)
    limit = config.trainer.limit_eval_batches
    if limit is not None:
        images = limit * node.eval_batch_size
        val = _some(val, images, node.split_seed) if val else None
        test = _some(test, images, node.split_seed)
    data = ImageDataModule(
        kept, val, test, sha256, normalize=node.normalize, unused=left, remarks=tuple(remarks)
    )
    return data, unused


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
    chosen = stratified(train.strata[indices], min(most, len(indices)), node.split_seed)
    return train.take(indices[chosen])


def _items_of(config: RunConfig, images: ImageDataModule) -> LoaderDataModule:
    """Return images in memory as items of a loader, which changes them one by one."""
    sets = {"train": images.train, "val": images.val, "test": images.test}
    items = {name: ImageItems(part) for name, part in sets.items() if part is not None}
    source = _in_loaders(config, items)
    # The images are cut already: a validation set among them is used as it is.
    val_size = len(images.val) if images.val is not None else 0
    cut = replace(config.data, val_size=val_size, train_size=None, folds=None, fold=None)
    data = _loaders(replace(config, data=cut), source)
    data.images, data.name, data.note, data.unused = images, images.name, images.note, images.unused
    data.sha256, data.identity = images.sha256, images.identity
    data.remarks, data.reading = images.remarks, images.reading
    return data


def _loaders(config: RunConfig, source: pl.LightningDataModule | pl.LightningModule) -> LoaderDataModule:
    node, trainer = config.data, config.trainer
    if node.resume == "epoch" and (node.transform or node.eval_transform):
        raise UserError(
            "data.transform changes single items, but data.resume=epoch uses the loader as it is; set "
            "data.transform=null data.eval_transform=null, or data.resume=exact"
        )
    limit, eval_limit = trainer.limit_train_steps, trainer.limit_eval_batches
    settings = LoaderSettings(
        seed=config.seed,
        split_seed=node.split_seed,
        val_size=node.val_size,
        train_size=node.train_size,
        folds=node.folds,
        fold=node.fold,
        transform=build_transforms("data.transform", node.transform),
        eval_transform=build_transforms("data.eval_transform", node.eval_transform),
        normalize=node.normalize,
        num_workers=node.num_workers,
        resume=node.resume,
        max_train_items=None if limit is None else limit * node.total_batch_size,
        max_eval_items=None if eval_limit is None else eval_limit * node.eval_batch_size,
        max_train_batches=None if limit is None else limit * trainer.accumulate,
    )
    return LoaderDataModule(source, settings)


def _in_loaders(config: RunConfig, datasets: Mapping[str, Any]) -> DatasetsModule:
    per_step = math.prod(config.trainer.exchange.batch_layout) * config.trainer.accumulate
    data = config.data
    return DatasetsModule(datasets, data.total_batch_size // per_step, data.eval_batch_size, data.num_workers)


def _some(data: ImageData, images: int, split_seed: int) -> ImageData:
    if images >= len(data):
        return data
    return data.take(stratified(data.strata, images, split_seed))


def check_every_rank_has_images(data: RunDataModule, world_size: int) -> None:
    """Raise UserError if a set has fewer items than there are processes."""
    for name, size in data.sizes.items():
        if 0 < size < world_size:
            key, number = ("data.val_size", world_size) if name == "val" else ("trainer.devices", size)
            raise UserError(
                f"the {name} set has {size} items, but each of the {world_size} processes needs one; "
                f"set {key}={number}"
            )


def move_to_best_device(data: RunDataModule, device: torch.device) -> None:
    """Move training images to the training device if they take less than half of its free memory."""
    if device.type == "cuda" and isinstance(data, ImageDataModule):
        free, _ = torch.cuda.mem_get_info(device)
        if data.train.images.nbytes < free / 2:
            data.train = data.train.to(device)


def build_plan(config: RunConfig, data: RunDataModule, world_size: int, rank: int) -> BatchPlan:
    """Plan which items each step of this rank sees."""
    trainer = config.trainer
    if trainer.exchange.is_asynchronous:  # a batch belongs to one worker, and the server assigns it
        world_size, rank = 1, 0
    items, total = data.items, config.data.total_batch_size
    if isinstance(data, LoaderDataModule) and data.own is not None:  # batches as the user's loader makes them
        _check_own_order(config, data)
        total = (data.loader_batch_size or 1) * trainer.accumulate
        items = total * (data.items // trainer.accumulate)
    return BatchPlan(
        n=items,
        total_batch_size=total,
        seed=config.seed,
        world_size=world_size,
        rank=rank,
        accumulate=trainer.accumulate,
    )


def total_steps(config: RunConfig, steps_per_epoch: int) -> int:
    """Return the number of optimizer steps in the whole run."""
    steps = config.trainer.max_steps
    return steps if steps is not None else config.trainer.epochs * steps_per_epoch


def _check_own_order(config: RunConfig, data: LoaderDataModule) -> None:
    trainer, checkpoint = config.trainer, config.checkpoint
    if trainer.processes > 1:
        raise UserError(
            f"data: {trainer.processes} processes cannot share a loader that is used as it is; set "
            "trainer.devices=1"
        )
    if data.order == "own" and (checkpoint.every_n_steps or checkpoint.every_n_minutes):
        raise UserError(
            "data.resume=epoch saves at the end of each epoch only; set checkpoint.every_n_steps=null "
            "checkpoint.every_n_minutes=null"
        )
