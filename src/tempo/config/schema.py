"""Types, defaults and ranges of all keys in a run's configuration.

`conf/train.yaml` lists the same keys with the same defaults for people to read; a test compares the two. The
classes are plain dataclasses: importing pydantic would use up most of the 0.2 s allowed for a script's start.
The arguments of a `_target_`, whose types are read from source code, would need a separate checker anyway.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from tempo.config.value_types import MOST_COUNT, Range, check_types
from tempo.distributed.gradient_exchange import Exchange, exchange_of

OWN = "own"
"""The `_target_` of data, an optimizer or a scheduler that the LightningModule itself brings."""
T = TypeVar("T")


def key(
    default: T,
    *,
    at_least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    at_most: float = MOST_COUNT,
    note: str = "",
    example: float | None = None,
) -> T:
    """Declare a key of a section: its default and its range."""
    limits = Range(at_least=at_least, above=above, below=below, at_most=at_most, note=note, example=example)
    value: T = field(default=default, metadata={"range": limits})
    return value


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes to a training image: `data.augment`."""

    crop_padding: int = key(0, at_least=0)
    flip: bool | Literal["alternate"] = False
    cutout: int = key(0, at_least=0)


@dataclass(frozen=True)
class Target:
    """A class or function named by `_target_`, and the keyword arguments that the configuration gives it."""

    target: str
    arguments: Mapping[str, Any]

    @property
    def is_own(self) -> bool:
        """Whether the LightningModule brings its own: `data=own`, `optimizer=own`, `scheduler=own`."""
        return self.target == OWN

    @property
    def name(self) -> str:
        """Name of the class or function, without its module."""
        return self.target.rpartition(".")[2]

    def get(self, argument: str, default: Any = None) -> Any:
        """Return an argument, or the default if the configuration does not give it."""
        return self.arguments.get(argument, default)

    @property
    def node(self) -> dict[str, Any]:
        """The node as written in the configuration."""
        return {"_target_": self.target, **self.arguments}


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Target):
    """The network or LightningModule, and the keys common to all of them."""

    freeze: list[str] | None = None
    norm_scale: bool | None = None


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Keys common to all data sets; `source` is the data set itself with its own keys."""

    source: Target
    total_batch_size: int = key(128, at_least=1)
    eval_batch_size: int = key(1000, at_least=1)
    val_size: int | float = key(0.1, at_least=0, example=0.1)
    train_size: int | None = key(None, at_least=1, example=1000)
    split_seed: int = key(0, at_least=0, at_most=2**32 - 1, note=", the seeds of generators")
    normalize: Literal["channel", "unit"] = "channel"
    augment: AugmentConfig = AugmentConfig()
    train_images: int | None = None
    num_workers: int | None = key(None, at_least=0, at_most=1024)
    resume: Literal["exact", "epoch"] = "exact"
    folds: int | None = key(None, at_least=2, example=5)
    fold: int | None = key(None, at_least=0, example=0)
    transform: Sequence[Mapping[str, Any]] | None = None
    eval_transform: Sequence[Mapping[str, Any]] | None = None
    mixup: float | None = key(None, above=0, example=0.2)
    cutmix: float | None = key(None, above=0, example=1)
    low_resolution: int | None = key(None, at_least=1, example=24)
    low_resolution_until: float = key(0.5, above=0, at_most=1)

    @property
    def validates(self) -> bool:
        """Whether a validation split is cut from the training set."""
        return self.folds is not None or self.val_size != 0


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """Length, hardware, precision and distribution of training."""

    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: int = key(1, at_least=1)
    num_nodes: int = key(1, at_least=1)
    epochs: int = key(20, at_least=1)
    max_steps: int | None = key(None, at_least=1)
    accumulate: int = key(1, at_least=1)
    method: Literal["ring", "ps_sync", "ps_async"] = "ring"
    compress: Literal["fp16", "bf16"] | None = None
    shard: bool = False
    lr_scaling: Literal["none", "linear", "sqrt"] = "none"
    lr_reference_batch: int = key(256, at_least=1)
    precision: Literal["32-true", "16-mixed", "bf16-mixed", "bf16-true", "64-true"] = "32-true"
    gradient_clip: float | None = key(None, above=0)
    channels_last: bool = True
    deterministic: bool = True
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    compile: bool = False
    cuda_graph: bool | Literal["auto"] = "auto"
    threads: int | None = key(None, at_least=1, at_most=1024)
    val_every_n_epochs: int = key(1, at_least=1)
    test_every_n_epochs: int | None = key(None, at_least=1)
    log_every_n_steps: int = key(50, at_least=1)
    steps_per_call: int | Literal["auto"] = key("auto", at_least=1)
    backend: Literal["gloo", "nccl"] | None = None
    energy: bool = False
    wrong_images: int = key(24, at_least=0, at_most=1000)
    profiler: Literal["simple", "advanced", "pytorch"] | None = None
    limit_train_steps: int | None = key(None, at_least=1)
    limit_eval_batches: int | None = key(None, at_least=1)
    flags: Mapping[str, Any] | None = None

    @property
    def processes(self) -> int:
        """Number of processes that train together."""
        return self.devices * self.num_nodes

    @property
    def exchange(self) -> Exchange:
        """Exchange of gradients between the processes, and which of them share the batch of a step."""
        return exchange_of({"method": self.method, "devices": self.devices, "num_nodes": self.num_nodes})


@dataclass(frozen=True, kw_only=True)
class InitConfig:
    """First weights: which to take from `init_from`, and which convolutions start in a special way."""

    ignore: list[str] | None = None
    whiten: str | None = None
    dirac: bool = False


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """The parameter server: `max_staleness` belongs to ps_async, the other keys to ps_sync."""

    count: int = key(1, at_least=1)
    placement: Literal["round_robin", "by_size", "sharded"] = "by_size"
    reply: Literal["gradients", "parameters"] = "parameters"
    max_staleness: int | None = key(None, at_least=0, example=4)


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When the state is saved, and which state is tested."""

    select: Literal["best", "last"] = "best"
    keep_best: int = key(1, at_least=1)
    every_n_steps: int | None = key(None, at_least=1)
    every_n_minutes: float | None = key(None, above=0)


@dataclass(frozen=True, kw_only=True)
class EarlyStoppingConfig:
    """When a run stops because the objective no longer improves."""

    patience: int | None = key(None, at_least=1)
    min_delta: float = key(0.0, at_least=0)


@dataclass(frozen=True, kw_only=True)
class EmaConfig:
    """Exponential moving average of the weights."""

    decay: float | None = key(None, above=0, below=1, example=0.999)
    warmup: bool = True


@dataclass(frozen=True, kw_only=True)
class DivergenceConfig:
    """The loss at which a run ends as diverged."""

    factor: float | None = key(10.0, above=1)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The checked configuration of a run."""

    seed: int = key(0, at_least=0, at_most=2**32 - 1, note=", the seeds of generators")
    name: str
    tags: list[str] | None = None
    objective: str = "val/accuracy"
    objective_mode: Literal["auto", "min", "max"] = "auto"
    metrics: list[str] | None = None
    resume: str | None = None
    init_from: str | None = None
    preview: bool = False
    scale: Literal["full", "smoke"] = "full"
    paper: Mapping[str, Any] | None = None
    callbacks: Mapping[str, Any] | list[Any] | None = None
    data: DataConfig
    model: ModelConfig
    loss: Target
    optimizer: Target
    scheduler: Target
    loggers: Mapping[str, Target] = field(default_factory=dict)
    init: InitConfig = InitConfig()
    trainer: TrainerConfig = TrainerConfig()
    server: ServerConfig = ServerConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    ema: EmaConfig = EmaConfig()
    divergence: DivergenceConfig = DivergenceConfig()
    values: Mapping[str, Any] = field(repr=False)
    """The same configuration as plain values, for records and their hashes."""

    def with_trainer(self, **changes: Any) -> RunConfig:
        """Return the configuration with some trainer keys changed."""
        values = {**self.values, "trainer": {**self.values["trainer"], **changes}}
        return dataclasses.replace(self, trainer=dataclasses.replace(self.trainer, **changes), values=values)


SECTIONS: dict[str, type] = {
    "init": InitConfig,
    "trainer": TrainerConfig,
    "server": ServerConfig,
    "checkpoint": CheckpointConfig,
    "early_stopping": EarlyStoppingConfig,
    "ema": EmaConfig,
    "divergence": DivergenceConfig,
}
"""Root nodes whose keys are all declared in this file."""
SMOKE = "SMOKE: not comparable"
"""Label of everything that a run with `scale=smoke` prints, draws or writes."""
GROUPS = ("data", "model", "loss", "optimizer", "scheduler")
"""Groups that every run chooses one option from."""
COMMON_DATA_KEYS = frozenset(key.name for key in dataclasses.fields(DataConfig)) - {"source"}
"""Keys of the data node that do not belong to the data set itself."""
COMMON_MODEL_KEYS = frozenset(key.name for key in dataclasses.fields(ModelConfig)) - {"target", "arguments"}
"""Keys of the model's node that do not belong to its class."""
_BUILT = {*SECTIONS, *GROUPS, "loggers", "values"}
ROOT_KEYS = frozenset(key.name for key in dataclasses.fields(RunConfig)) - _BUILT
"""Root keys that hold a value, not a node."""


def with_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain values with the default of each key that is missing, of the root and of each section.

    An old record lacks newer keys, and a user may delete one with `~`; hashes and records need equal values.
    """
    result = dict(values)
    if "objective" in values:
        result.setdefault("objective_mode", "auto")
    for name, section in SECTIONS.items():
        result[name] = _completed(values.get(name, {}), section)
    if isinstance(data := values.get("data"), Mapping) and "augment" in data:
        augment = _completed(data["augment"], AugmentConfig)
        result["data"] = {**_completed(data, DataConfig), "augment": augment}
    return result


def _completed(node: Any, section: type[Any]) -> Any:
    if not isinstance(node, Mapping):
        return node
    return {**node, **{key: value for key, value in defaults_of(section).items() if key not in node}}


def defaults_of(section: type[Any]) -> dict[str, Any]:
    """Return the default of each key of a section that has one."""
    declared = [key for key in dataclasses.fields(section) if key.default is not dataclasses.MISSING]
    return {key.name: key.default for key in declared}


def field_types(section: type[Any]) -> dict[str, str]:
    """Return the annotation of each key of a section, as text."""
    return {name: str(annotation) for name, annotation in section.__annotations__.items()}


def read_section(section: type[T], where: str, node: Mapping[str, Any], **built: Any) -> T:
    """Check the node of a section and return it as an object; a missing key takes its default.

    `where` is the section's dotted key, empty for the root. `built` holds fields that are already objects.

    Raises:
        UserError: an unknown key, a value of the wrong type, or a number out of range.
    """
    types = field_types(section)
    known = {name: kind for name, kind in types.items() if name not in built}
    check_types(where, node, known, lambda: defaults_of(section))
    for declared in dataclasses.fields(section):  # type: ignore[arg-type]
        limits = declared.metadata.get("range")
        if limits is not None and declared.name in node:
            limits.check(node[declared.name], f"{where}.{declared.name}" if where else declared.name)
    return section(**node, **built)
