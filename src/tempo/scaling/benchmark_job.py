"""What a process of the benchmark is told: `python -m tempo.scaling.rank <job.json>`."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tempo.config.signature import check_present, check_types
from tempo.errors import UserError
from tempo.record.atomic_write import write_atomically
from tempo.scaling.cost_model import Method
from tempo.scaling.point import Source


@dataclass(frozen=True, kw_only=True)
class Sleep:
    """Stands in the place of a network: its variables, and how long its computing takes.

    `sizes`: elements of each variable in the network's order, float32. Forward and backward sleep an equal
    part for each variable, so that gradients become ready one by one and may travel meanwhile.
    """

    forward_seconds: float
    backward_seconds: float
    optimizer_seconds: float
    sizes: list[int]


@dataclass(frozen=True, kw_only=True)
class BenchmarkJob:
    """One point of the benchmark; every process of its group reads the same file.

    `network`: a node of conf/model, or None where `sleep` stands in its place. `optimizer`: a node of
    conf/optimizer. `servers`, `placement`, `reply`: of ps_sync and ps_async, as conf/train.yaml's `server`.
    `interval_steps`: steps between two looks at the clock. `compute_steps`: steps without exchange, which
    tell what the exchange adds. `bucket_mb`: size in which DDP sends gradients; larger than the network = no
    overlap. `single_images_per_second`: of one worker alone, where it is known.
    The fields from `source` on are copied into the point.
    """

    point_file: str
    method: Method
    model: str
    network: dict[str, Any] | None
    sleep: dict[str, Any] | None = None
    optimizer: dict[str, Any]
    images_per_worker: int = 32
    image_size: int = 256
    channels: int = 3
    classes: int = 1000
    steps: int = 500
    warmup_steps: int = 20
    interval_steps: int = 10
    compute_steps: int = 20
    bucket_mb: float = 25.0
    servers: int = 1
    placement: Literal["round_robin", "by_size", "sharded"] = "by_size"
    reply: Literal["gradients", "parameters"] = "parameters"
    max_staleness: int | None = None
    compress: Literal["fp16", "bf16"] | None = None
    accelerator: Literal["cpu", "gpu"] = "cpu"
    backend: Literal["gloo", "nccl"] = "gloo"
    precision: Literal["32-true", "16-mixed", "bf16-mixed", "bf16-true", "64-true"] = "32-true"
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    channels_last: bool = True
    threads: int = 1
    seed: int = 0
    single_images_per_second: float | None = None
    source: Source = "measured"
    link: str = ""
    bytes_per_second: float | None = None
    message_seconds: float | None = None
    command: str = ""
    note: str = ""

    def write(self, path: Path) -> None:
        """Write the file in one step."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(dataclasses.asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> BenchmarkJob:
        """Undo `write`; UserError for a file that is none."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is no job of the benchmark: {error}") from error
        if not isinstance(values, dict):
            raise UserError(f"{path} is no job of the benchmark: name its JSON file")
        fields = dataclasses.fields(cls)
        check_types("job", values, {each.name: str(each.type) for each in fields})
        without = (dataclasses.MISSING, dataclasses.MISSING)
        check_present(
            "job", values, [each.name for each in fields if (each.default, each.default_factory) == without]
        )
        return cls(**values)
