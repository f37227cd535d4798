"""The record of a run: `run.json` in its folder."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tempo.errors import UserError
from tempo.record.atomic_write import write_atomically
from tempo.record.foreign_folder import check_plain

SCHEMA_VERSION = 2
"""1 had no `environment`, `n_evaluated` and `init_from`: such a record is read, and they are empty."""
FILE_NAME = "run.json"
SWEEP_FILE = "sweep.json"
"""In the folder of a sweep: its jobs, the swept keys and the command."""
_DEEPEST = 40
"""Levels of a record; the configuration's own has seven."""
STATUSES = ("running", "completed", "diverged", "pruned", "interrupted", "failed")


@dataclass(kw_only=True)
class RunRecord:
    """Everything that is known of one run, as plain values.

    `metrics` is `{"train" | "val" | "test": {"loss", "accuracy"}}` with accuracies in [0, 1]; `seconds` has
    "startup", "train", "test", "total" and, where a network was compiled, "compile"; `images_per_second` is
    that of training alone, without validation and compilation: an image counts in each of the `evaluations`,
    and one whose gradient an asynchronous server has dropped not in that pass.
    `world_size` is the number of processes that really trained together. `n_evaluated` counts the test images
    that were really looked at, over all of them.
    """

    config: dict[str, Any]
    config_hash: str
    overrides: list[str]
    seed: int
    name: str = ""
    choices: dict[str, str] = field(default_factory=dict)
    """Group -> option: `{"model": "densenet40", ..}`."""
    status: str = "running"
    reason: str = ""
    """Why the run ended as it did, where the status alone does not say it."""
    started_at: str = ""
    """UTC, ISO 8601."""
    argv: list[str] = field(default_factory=list)
    objective: dict[str, Any] = field(default_factory=dict)
    """`{"name": "val/accuracy", "mode": "max", "value": 0.97}`: what a sweep is told."""
    selected: dict[str, Any] = field(default_factory=dict)
    """Which state was tested: `{"by": "val/accuracy", "value": 0.97, "step": 1200}`, or by "last"."""
    sessions: list[dict[str, Any]] = field(default_factory=list)
    """Start, command, versions and git of each process that worked on the run; one more each resume."""
    exchange: dict[str, Any] = field(default_factory=dict)
    """Of a parameter server: bytes that it (of trainer.method=ps_sync rank 0, a server) sends and receives a
    step. Of ps_async besides: `staleness_mean`, `staleness_max`, `staleness` as counts `{"0": 53, "1": 298}`
    of steps, `dropped` gradients, `steps_of_workers`, `lost_workers` that died on the way."""
    energy: dict[str, Any] = field(default_factory=dict)
    """`{"joules", "cpu", "gpu", "source"}` of training, where trainer.energy asked for it."""
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    steps: int = 0
    evaluations: int = 0
    """Passes over a batch that were stepped: one a step; with a line search, each loss and each
    Hessian-vector product."""
    epochs: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    images_per_second: float = 0.0
    parameters: dict[str, int] = field(default_factory=dict)
    batch: dict[str, int] = field(default_factory=dict)
    world_size: int = 1
    device: str = ""
    weights_sha256: str = ""
    n_evaluated: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    git: dict[str, Any] = field(default_factory=dict)
    """Commit, and of a dirty checkout the SHA-256 of its diff, which lies beside the record."""
    environment: dict[str, Any] = field(default_factory=dict)
    """Lock, switches, threads, precision and libraries: what else a number may depend on."""
    init_from: dict[str, str] = field(default_factory=dict)
    """Of a run that began with another one's weights: `{"path", "weights_sha256"}`."""
    schema_version: int = SCHEMA_VERSION

    @property
    def script(self) -> str:
        """That runs its overrides alone, as one types it; studies and sweeps start what src/train.py can."""
        began = Path(self.argv[0]).name if self.argv else ""
        return "src/lr_range.py" if began == "lr_range.py" else "src/train.py"

    @property
    def finished(self) -> bool:
        """Whether the run came to a result (a diverged run is one, so is one that its search gave up)."""
        return self.status in ("completed", "diverged", "pruned")

    def to_json(self) -> str:
        """Strict JSON: a value that is not finite is written as a string (`"nan"`, `"inf"`)."""
        return json.dumps(_plain(dataclasses.asdict(self)), indent=2, allow_nan=False) + "\n"

    def write(self, folder: Path) -> None:
        """Replace `folder/run.json` in one step: a reader sees the old record or the new one."""
        write_atomically(folder / FILE_NAME, self.to_json())

    @classmethod
    def from_json(cls, text: str, where: str = FILE_NAME) -> RunRecord:
        """Inverse of `to_json`; UserError where the text is no record of a version known here."""
        values = _parsed(text, where)
        version = values.get("schema_version") if isinstance(values, dict) else None
        if version not in range(1, SCHEMA_VERSION + 1) or isinstance(version, (bool, float)):
            raise UserError(
                f"{where} has schema_version {version!r}; this checkout reads 1 to {SCHEMA_VERSION}"
            )
        values["schema_version"] = SCHEMA_VERSION
        known = {each.name: each for each in dataclasses.fields(cls)}
        required = {name for name, each in known.items() if _has_no_default(each)}
        if strange := sorted(set(values) - set(known)):
            raise UserError(f"{where} has unknown keys {strange}: it is no run record of tempo")
        if absent := sorted(required - set(values)):
            raise UserError(f"{where} lacks {absent}: it is no run record of tempo")
        if values.get("status") not in STATUSES:
            raise UserError(f"{where} has status {values.get('status')!r}; known are {', '.join(STATUSES)}")
        for name in set(values) & {"metrics", "seconds", "objective", "epochs", "images_per_second"}:
            values[name] = _numbers(values[name])
        for name, value in values.items():
            if not _fits(value, str(known[name].type)):
                raise UserError(
                    f"{where} has {name}={str(value)[:80]!r} where {known[name].type} belongs: the record is "
                    "damaged; run it again"
                )
        check_plain(f"{where}: config", values["config"])
        for name in set(values) & {"epochs", "images_per_second"}:
            values[name] = float(values[name])
        return cls(**values)

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """The record of a run's folder; UserError naming the folder where there is none."""
        path = folder / FILE_NAME
        try:
            if path.exists() and not path.is_file():  # a pipe would be waited for
                raise UserError(f"{path} is no file: {folder} is not the folder of a run")
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{folder} holds no {FILE_NAME}: it is not the folder of a run") from None
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read: {error}") from error
        return cls.from_json(text, str(path))


def config_hash(config: Mapping[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of the configuration as sorted JSON.

    `resume` is left out: a run that goes on is the same run.
    """
    values = {key: value for key, value in _plain(config).items() if key != "resume"}
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`; lists and empty nodes stay values."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _parsed(text: str, where: str) -> Any:
    """JSON that can be written again; UserError for any other text."""
    try:
        values = json.loads(text)
        json.dumps(values, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # 5,000 digits, brackets without an end, half a character
        raise UserError(f"{where} is no JSON ({error}): the record is damaged; run it again") from error
    nodes: list[Any] = [[values]]
    for _ in range(_DEEPEST):
        inner = itertools.chain(*(each.values() if isinstance(each, dict) else each for each in nodes))
        nodes = [each for each in inner if isinstance(each, (dict, list))]
        if not nodes:
            return values
    raise UserError(f"{where} is nested more than {_DEEPEST} levels deep: it is no run record of tempo")


def _has_no_default(each: dataclasses.Field[Any]) -> bool:
    return each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING


def _fits(value: Any, annotation: str) -> bool:
    """Whether a value read from JSON agrees with the annotation of a field."""
    outer, _, inner = annotation.removesuffix("]").partition("[")
    if outer == "list":
        return isinstance(value, list) and all(_fits(each, inner) for each in value)
    if outer == "dict":
        of = inner.partition(", ")[2]
        return isinstance(value, dict) and all(_fits(each, of) for each in value.values())
    if outer in ("int", "float"):
        kind = int if outer == "int" else (int, float)
        return isinstance(value, kind) and not isinstance(value, bool)
    return outer == "Any" or isinstance(value, str)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _numbers(value: Any) -> Any:
    """Undo `_plain` for the numbers of a metric: `"nan"` is a number again."""
    if isinstance(value, dict):
        return {key: _numbers(each) for key, each in value.items()}
    return float(value) if value in ("nan", "inf", "-inf") else value
