"""What tests of several rooms need: real data, configurations, short runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tempo.paths import ROOT
from tests.jobs import SMALL, compose_job, run_job

REAL_DATA = Path(os.environ.get("TEMPO_TEST_DATA", ROOT.parent / "shared" / "data"))
LATEST = ROOT / "logs" / "latest"


@dataclass(frozen=True)
class Trained:
    """A run that is over."""

    folder: Path
    record: Any

    def checkpoint(self, name: str = "last") -> dict[str, Any]:
        """Content of checkpoints/<name>.ckpt."""
        import torch

        return torch.load(self.folder / "checkpoints" / f"{name}.ckpt", weights_only=True)

    def rows(self) -> list[dict[str, float]]:
        """metrics.csv with numbers; an empty cell is left out."""
        import csv

        text = (self.folder / "metrics.csv").read_text(encoding="utf-8")
        return [
            {key: float(value) for key, value in row.items() if value != ""}
            for row in csv.DictReader(text.splitlines())
        ]

    def curves(self) -> list[dict[str, float]]:
        """The rows without what a clock wrote."""
        return [{key: value for key, value in row.items() if key != "seconds"} for row in self.rows()]


Train = Callable[..., Trained]


@pytest.fixture
def real_data() -> Path:
    """Folder of data sets as their authors published them."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no data sets in {REAL_DATA}: set TEMPO_TEST_DATA to a folder that has MNIST/raw")
    return REAL_DATA


@pytest.fixture
def train_config() -> Callable[..., dict[str, Any]]:
    """conf/train.yaml with overrides, as plain values."""
    return lambda *overrides: compose_job(overrides)[0]


@pytest.fixture
def train(tmp_path: Path) -> Iterator[Train]:
    """Run a short job in this process: `train("optimizer=adam", folder="a")`; SMALL comes first."""
    import torch

    def run(
        *overrides: str, folder: str = "run", small: tuple[str, ...] = SMALL, pictures: bool = False
    ) -> Trained:
        path = tmp_path / folder
        return Trained(path, run_job(path, [*small, *overrides], pictures=pictures))

    threads = torch.get_num_threads()
    yield run
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def finished_runs() -> dict[tuple[str, ...], Path]:
    """Folders of the runs that `trained_once` has kept, by their overrides."""
    return {}


@pytest.fixture
def trained_once(
    train: Train,
    finished_runs: dict[tuple[str, ...], Path],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Train:
    """As `train`, but a copy of the run that an earlier test trained with the same overrides."""
    from tempo.record.run_json import RunRecord

    def run(*overrides: str, folder: str = "run") -> Trained:
        if overrides not in finished_runs:
            kept = tmp_path_factory.mktemp("trained_once") / "run"
            shutil.copytree(train(*overrides, folder=f"first_{folder}").folder, kept)
            finished_runs[overrides] = kept
        path = Path(shutil.copytree(finished_runs[overrides], tmp_path / folder))
        return Trained(path, RunRecord.read(path))

    return run


@pytest.fixture(scope="session", autouse=True)
def keep_latest() -> Iterator[None]:
    """Runs in temporary folders must not leave logs/latest pointing at nothing."""
    before = str(LATEST.readlink()) if LATEST.is_symlink() else None
    yield
    if LATEST.is_symlink() and str(LATEST.readlink()) != before:
        LATEST.unlink()
        if before is not None:
            LATEST.symlink_to(before)
