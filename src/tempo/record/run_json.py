"""Write and read `run.json`, the record of a run; this file declares every key."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, get_type_hints

from tempo.errors import UserError
from tempo.record.atomic_write import write_atomically
from tempo.record.foreign_folder import check_plain
from tempo.record.json_values import fits, levels, numbers, plain
from tempo.record.newer_keys import without_newer_keys
from tempo.record.read_file import read_text

SCHEMA_VERSION = 2
FILE_NAME = "run.json"
SWEEP_FILE = "sweep.json"
"""Jobs, swept keys and command of a sweep, in the folder of the sweep."""
RUN_ID = "run_id"
"""Key of a run's random text, in its first session and in its checkpoints."""
STATUSES = ("running", "completed", "diverged", "pruned", "interrupted", "failed")
_MOST_LEVELS = 40
"""Depth limit: a record nested deeper was not written by tempo, whose records have seven levels."""


class RecordLostError(UserError):
    """A record does not exist or is not JSON, e.g. cut by a power failure: its run may go on without it."""


class Objective(TypedDict, total=False):
    """The metric that selects the checkpoint and is returned to sweeps; `mode` is "min" or "max"."""

    name: str
    mode: str
    value: float


class Selected(TypedDict, total=False):
    """The state that was tested: the best one `by` a metric, or the "last" one, which has no value."""

    by: str
    value: float | None
    step: int


class Seconds(TypedDict, total=False):
    """Wall-clock time of the phases; `train` excludes validation and compilation."""

    startup: float
    compile: float
    train: float
    test: float
    total: float


class Batch(TypedDict, total=False):
    """The total batch size and its factors: per_device x devices x accumulate."""

    total: int
    per_device: int
    accumulate: int


class Parameters(TypedDict, total=False):
    """Number of parameters of the network; `groups` if their learning rates differ by a factor `lr_scale`."""

    total: int
    trainable: int
    groups: list[dict[str, float]]


class Data(TypedDict, total=False):
    """The data set: SHA-256 over its images, the number of images per split, the shape of one image.

    `note` is for readers of the results. `class_names` are in the order of the outputs, `class_counts` the
    number of images per split and class; `label_sets`: whether an image may have several. `mean` and `std` of
    each channel, in [0, 1], normalize the input. `remarks` say what was left out, lost or doubled on reading;
    `reading` has the same as plain values. Own loaders may not say shape and classes; `identity` is what the
    SHA-256 covers ("whole", "sampled", "declared", "none"); `batches`: "exact" if resumed runs repeat them.
    """

    name: str
    note: str
    sha256: str
    train: int
    val: int
    test: int
    shape: list[int]
    classes: int
    class_names: list[str]
    class_counts: dict[str, list[int]]
    label_sets: bool
    mean: list[float]
    std: list[float]
    remarks: list[str]
    reading: dict[str, Any]
    identity: str
    batches: str


@dataclass(kw_only=True)
class RunRecord:
    """Everything recorded about one run, as plain values."""

    config: dict[str, Any]
    config_hash: str
    overrides: list[str]
    seed: int
    name: str = ""
    choices: dict[str, str] = field(default_factory=dict)
    """Configuration group -> option: `{"model": "densenet40", ..}`."""
    status: str = "running"
    reason: str = ""
    """Why the run ended, if the status alone does not say it."""
    started_at: str = ""
    """Start in UTC, as ISO 8601."""
    argv: list[str] = field(default_factory=list)
    objective: Objective = field(default_factory=Objective)
    selected: Selected = field(default_factory=Selected)
    sessions: list[dict[str, Any]] = field(default_factory=list)
    """Start, command, versions and git of each process that worked on the run; each resume adds one."""
    exchange: dict[str, Any] = field(default_factory=dict)
    """With a parameter server: bytes sent and received per step by the server (by rank 0 with ps_sync).
    With ps_async also `staleness_mean`, `staleness_max`, `staleness` as counts of steps `{"0": 53, ..}`,
    `dropped` gradients, `steps_of_workers`, and `lost_workers` that died during the run."""
    energy: dict[str, Any] = field(default_factory=dict)
    """`{"joules", "cpu", "gpu", "source"}` of training, if trainer.energy asked for it."""
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    """Split -> metric -> value: `{"val": {"loss": 0.1, "accuracy": 0.97}, ..}`; accuracies are in [0, 1]."""
    steps: int = 0
    evaluations: int = 0
    """Passes over a batch: one per step; with a line search, one per loss and per Hessian-vector product."""
    epochs: float = 0.0
    seconds: Seconds = field(default_factory=Seconds)
    images_per_second: float = 0.0
    """Training speed. An image counts once per evaluation; a pass whose gradient an asynchronous server
    dropped does not count."""
    parameters: Parameters = field(default_factory=Parameters)
    batch: Batch = field(default_factory=Batch)
    world_size: int = 1
    """Number of processes that trained together."""
    device: str = ""
    weights_sha256: str = ""
    n_evaluated: int = 0
    """Number of test images evaluated by all processes."""
    data: Data = field(default_factory=Data)
    versions: dict[str, str] = field(default_factory=dict)
    git: dict[str, Any] = field(default_factory=dict)
    """Commit; for a dirty checkout also the SHA-256 of its diff, which is kept next to the record."""
    environment: dict[str, Any] = field(default_factory=dict)
    """Lock file, environment variables, threads, precision and libraries, which may change results."""
    init_from: dict[str, Any] = field(default_factory=dict)
    """Weights that a run started from, if `init_from` was set: `path`, `file_sha256` of the file,
    `weights_sha256` of the network at its start, and `ignored`, the names that were not loaded."""
    schema_version: int = SCHEMA_VERSION

    @property
    def script(self) -> str:
        """The script that runs these overrides; jobs of sweeps and of the procedure run src/train.py."""
        return "src/lr_range.py" if Path(*self.argv[:1]).name == "lr_range.py" else "src/train.py"

    @property
    def run_id(self) -> str:
        """Random text that all sessions and checkpoints of the run have; empty in older records."""
        return str(self.sessions[0].get(RUN_ID, "")) if self.sessions else ""

    @property
    def finished(self) -> bool:
        """Whether the run has a result: completed, diverged or pruned."""
        return self.status in ("completed", "diverged", "pruned")

    def to_json(self) -> str:
        """Return strict JSON: a number that is not finite is written as a string (`"nan"`, `"inf"`)."""
        return json.dumps(plain(dataclasses.asdict(self)), indent=2, allow_nan=False) + "\n"

    def write(self, folder: Path) -> None:
        """Replace `folder/run.json` atomically."""
        write_atomically(folder / FILE_NAME, self.to_json())

    @classmethod
    def from_json(cls, text: str, where: str = FILE_NAME) -> RunRecord:
        """Return the record that `to_json` wrote.

        Raises:
            RecordLostError: the text is not JSON.
            UserError: it is not a record, or has another version or values of a wrong type.
        """
        values = _parsed(text, where)
        version = values.get("schema_version") if isinstance(values, dict) else None
        if version != SCHEMA_VERSION or isinstance(version, (bool, float)):
            raise UserError(
                f"{where} has schema_version {version!r}; this version of tempo reads {SCHEMA_VERSION}"
            )
        required = ("config", "config_hash", "overrides", "seed")
        if unknown := sorted(set(values) - set(_types())):
            raise UserError(f"{where} has unknown keys {unknown}: it is not a tempo run record")
        if missing := [name for name in required if name not in values]:
            raise UserError(f"{where} lacks {missing}: it is not a tempo run record")
        if values.get("status") not in STATUSES:
            raise UserError(
                f"{where} has status {values.get('status')!r}, which is not one of {', '.join(STATUSES)}"
            )
        for name in set(values) & {"metrics", "seconds", "objective", "epochs", "images_per_second"}:
            values[name] = numbers(values[name])
        for name, value in values.items():
            if not fits(value, _types()[name]):
                expected = cls.__dataclass_fields__[name].type
                raise UserError(
                    f"{where} has {name}={str(value)[:80]!r}, but {expected} belongs there: the record is "
                    "damaged; train the run again"
                )
        check_plain(f"{where}: config", values["config"])
        for name in set(values) & {"epochs", "images_per_second"}:
            values[name] = float(values[name])
        return cls(**values)

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """Return the record in a run's folder; raise UserError with the folder's name if there is none."""
        path = folder / FILE_NAME
        try:
            text = read_text(path)
        except (FileNotFoundError, NotADirectoryError):
            raise RecordLostError(f"{folder} has no {FILE_NAME}; name the folder of a run") from None
        except UnicodeDecodeError as error:
            raise RecordLostError(f"{path} cannot be read: {error}") from error
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        return cls.from_json(text, str(path))


def config_hash(config: Mapping[str, Any]) -> str:
    """Return the first 16 hex digits of the SHA-256 of the configuration as sorted JSON.

    `resume` is left out: a resumed run is the same run. So are newer keys at their old meaning.
    """
    values = {key: value for key, value in plain(without_newer_keys(config)).items() if key != "resume"}
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{"a": {"b": 1}}` as `{"a.b": 1}`; lists and empty nodes stay values."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


@functools.cache
def _types() -> dict[str, Any]:
    return get_type_hints(RunRecord)


def _parsed(text: str, where: str) -> Any:
    """Return the value of a JSON text, checked to be writable again."""
    try:
        values = json.loads(text)
        json.dumps(values, ensure_ascii=False).encode()
        depth = levels(values)
    except (ValueError, RecursionError) as error:  # also a number of 5,000 digits, or half a surrogate pair
        raise RecordLostError(
            f"{where} is not JSON ({error}): the record is damaged; train the run again"
        ) from error
    if depth > _MOST_LEVELS:
        raise UserError(
            f"{where} is nested more than {_MOST_LEVELS} levels deep: it is not a tempo run record"
        )
    return values
