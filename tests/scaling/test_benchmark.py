"""Real processes of the benchmark: a tiny star, a worker that refuses its job, one that is too slow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tempo.errors import UserError
from tempo.scaling import benchmark
from tempo.scaling.benchmark_job import BenchmarkJob
from tempo.scaling.group import run_group
from tempo.scaling.plan import Planned
from tempo.scaling.point import SUFFIX, ScalingPoint
from tempo.scaling.rank import measure
from tempo.scaling.settings import ScalingSettings
from tests.jobs import CONF
from tests.scaling.points import point


def job(folder: Path, **changes: Any) -> BenchmarkJob:
    values: dict[str, Any] = {
        "point_file": str(folder / f"made{SUFFIX}"),
        "method": "ps_sync",
        "model": "tiny",
        "network": {"_target_": "tempo.model.cnn3.CNN3", "widths": [2, 2, 2], "dropout": 0.0},
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.01, "momentum": 0.9, "wd": 0.0},
        "images_per_worker": 2,
        "image_size": 8,
        "classes": 3,
        "steps": 9,
        "warmup_steps": 3,
        "interval_steps": 2,
        "compute_steps": 2,
        "single_images_per_second": 1000.0,
    }
    return BenchmarkJob(**{**values, **changes})


def test_two_processes_and_a_server(tmp_path: Path) -> None:
    """The star's bytes: a worker sends its gradients once and gets the parameters once, S each, both ways."""
    run_group(job(tmp_path), 2, folder=tmp_path / "logs", limit_seconds=120)
    text = (tmp_path / f"made{SUFFIX}").read_text(encoding="utf-8")
    found = ScalingPoint.from_json(text, "made")
    # 3x3 convolutions with bias from 3 to 2 and twice 2 to 2 channels, then 2 features (1x1) to 3 classes.
    weights = (3 * 9 * 2 + 2) + 2 * (2 * 9 * 2 + 2) + (2 * 3 + 3)
    assert found.gradient_bytes == 4 * weights
    assert found.sent_bytes_by_rank == [4 * weights] * 2
    assert found.received_bytes_by_rank == [4 * weights] * 2
    assert (found.bytes_are, found.source, found.workers, found.servers) == ("counted", "measured", 2, 1)
    assert found.images_per_second == pytest.approx(2 * 2 / found.step_seconds, rel=0.5)
    assert found.efficiency == found.images_per_second / 2000
    assert found.exposed_seconds is not None
    assert found.staleness is None


def test_a_worker_that_refuses_its_job_is_one_line(tmp_path: Path) -> None:
    wrong = job(tmp_path, optimizer={"_target_": "torch.optim.SDG", "lr": 0.1}, method="ring")
    with pytest.raises(
        UserError, match=r"torch.optim.SDG is not an optimizer. Did you mean 'SGD'.*rank0.log"
    ):
        run_group(wrong, 1, folder=tmp_path / "logs", limit_seconds=120)


def test_a_point_that_was_written_counts_though_its_processes_did_not_end_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written_and_killed(job: BenchmarkJob, workers: int, *, folder: Path, **_: Any) -> None:
        folder.mkdir(parents=True)
        point(workers, rate=10.0).write(Path(job.point_file))
        raise UserError("not finished after 1 minutes, killed")

    monkeypatch.setattr(benchmark, "run_group", written_and_killed)
    values = yaml.safe_load((CONF / "measuring.yaml").read_text(encoding="utf-8"))["scaling"]
    bench = benchmark.Benchmark({}, ScalingSettings.of(values), tmp_path)
    assert bench._measure([Planned(job(tmp_path), 2)]) == ([point(2, rate=10.0)], [])


def test_a_point_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not finished after 0\.002 minutes, killed: scaling\.minutes="):
        run_group(job(tmp_path), 2, folder=tmp_path / "logs", limit_seconds=0.12)


def test_a_worker_without_a_meeting_place_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        UserError, match=r"needs RANK and MASTER_ADDR and MASTER_PORT in the environment.*torchrun"
    ):
        measure(job(tmp_path))
