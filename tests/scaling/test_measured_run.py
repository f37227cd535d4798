"""A point is an ordinary run: its numbers from the run's files, and runs that fail or take too long."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tempo.distributed.child_process import ChildProcess
from tempo.errors import UserError
from tempo.record.run_json import RunRecord
from tempo.scaling import benchmark
from tempo.scaling.measured_run import point_of_run, step_seconds, train_within
from tempo.scaling.plan import PlannedPoint
from tests.jobs import fork_server
from tests.scaling.points import Plan
from tests.script_process import fork_modules

TINY = (
    *("model=cnn3", "model.widths=[2,2,2]", "model.dropout=0", "trainer=cpu", "optimizer.lr=0.01"),
    *("scaling.images_per_worker=2", "scaling.image_size=8", "scaling.classes=3"),
    *("scaling.steps=9", "scaling.warmup_steps=3", "scaling.interval_steps=2"),
)
# 3x3 convolutions with bias from 3 to 2 and twice 2 to 2 channels, then 2 features (1x1) to 3 classes.
WEIGHTS = (3 * 9 * 2 + 2) + 2 * (2 * 9 * 2 + 2) + (2 * 3 + 3)


def curves(rows: list[tuple[int, float]]) -> dict[str, Any]:
    steps, seconds = zip(*rows, strict=True)
    return {"step": np.array(steps, float), "seconds": np.array(seconds), "train/loss": np.ones(len(rows))}


def test_the_warm_up_and_the_first_interval_of_an_epoch_are_left_out() -> None:
    """Intervals of 2 steps, epochs of 6: those that begin at 4 and 8 are measured, not 0 and 2, nor 6."""
    rows = [(2, 9.0), (4, 18.0), (6, 20.0), (8, 50.0), (10, 53.0)]
    assert step_seconds(curves(rows), warmup_steps=3, epoch_steps=6) == [1.0, 1.5]
    assert step_seconds(curves(rows), warmup_steps=10, epoch_steps=6) == []


def test_an_interval_after_a_checkpoint_is_better_than_none() -> None:
    assert step_seconds(curves([(2, 9.0), (4, 11.0)]), warmup_steps=2, epoch_steps=2) == [1.0]


@pytest.fixture(scope="module", autouse=True)
def processes_start_at_once() -> Iterator[None]:
    """Fork the processes of points from the server of the tests, which holds torch."""
    in_new_interpreter = ChildProcess.run_module
    fork_modules(fork_server())
    yield
    ChildProcess.run_module = in_new_interpreter  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def star(tmp_path_factory: pytest.TempPathFactory) -> tuple[PlannedPoint, Path]:
    """A run of two workers and a synchronous server."""
    folder = tmp_path_factory.mktemp("star")
    point = Plan(folder)(*TINY, "scaling.methods=[ps_sync]", "scaling.workers=[2]")[-1]
    train_within(point.config, point.run_folder, 120)
    return point, folder


def test_a_point_of_two_processes_and_a_server(star: tuple[PlannedPoint, Path]) -> None:
    """The star's bytes: a worker sends its gradients once and gets the parameters once, S each, both ways."""
    planned, _ = star
    found = point_of_run(planned.run_folder, warmup_steps=planned.warmup_steps, command="typed")
    assert (found.model, found.method, found.workers, found.servers) == ("cnn3", "ps_sync", 2, 1)
    assert (found.images_per_worker, found.image_size, found.source) == (2, 8, "measured")
    assert found.gradient_bytes == 4 * WEIGHTS
    assert found.sent_bytes_by_rank == found.received_bytes_by_rank == [4 * WEIGHTS]
    assert (found.bytes_are, found.backend, found.command) == ("counted", "gloo", "typed")
    assert found.images_per_second == pytest.approx(2 * 2 / found.step_seconds)
    record = json.loads((planned.run_folder / "run.json").read_text(encoding="utf-8"))
    # Two intervals of warm-up, as three steps do not fill one, and three measured.
    assert (found.steps, record["steps"], record["world_size"]) == (10, 10, 2)
    # The median may not be far from the whole: one interval of ten steps at the most is slow.
    assert found.step_seconds < record["seconds"]["train"] / 4


def test_a_finished_run_counts_though_its_processes_did_not_end_in_time(
    star: tuple[PlannedPoint, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is over before the process has begun, and the folder has the record of a whole run."""
    planned, _ = star
    train_within(planned.config, planned.run_folder, 0.0)


def test_a_run_that_takes_too_long_is_killed(plan: Plan) -> None:
    point = plan(*TINY)[0]
    with pytest.raises(
        UserError, match=r"not finished after 0\.002 minutes and killed; set scaling\.minutes="
    ):
        train_within(point.config, point.run_folder, 0.12)


def test_a_point_that_fails_stops_no_other(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The network refuses its images in the run's own process; what it says is one line, with the log."""
    wrong, right = plan(*TINY, "model.widths=[0,2,2]")[0], plan(*TINY)[0]
    bench = benchmark.Benchmark({"scale": "full"}, plan.settings, tmp_path)
    points, (failure,) = bench.measure([wrong, right])
    assert [point.model for point in points] == ["cnn3"]
    assert failure.startswith("cnn3, ring, 1 worker: ") and failure.endswith("/output.log]")
    assert "\n" not in failure
    assert points[0].efficiency == 1
    again, failures = bench.measure([right])
    assert (again, failures) == (points, [])
    assert capsys.readouterr().out.splitlines()[-1].startswith("kept      cnn3, ring, 1 worker: ")
    assert not (right.run_folder / "checkpoints").exists()
    right.path.unlink()
    bench.settings = dataclasses.replace(plan.settings, minutes=1e-3)
    # The record of its last run is still there, and says nothing of this one.
    points, (failure,) = bench.measure([right])
    assert (points, failure.partition(": ")[2][:12]) == ([], "not finished")


def test_a_gradient_that_the_server_dropped_is_no_trained_image(
    star: tuple[PlannedPoint, Path], tmp_path: Path
) -> None:
    """The star's run, as if its server had been asynchronous and dropped one gradient of six."""
    planned, _ = star
    synchronous = point_of_run(planned.run_folder, warmup_steps=planned.warmup_steps)
    folder = Path(shutil.copytree(planned.run_folder, tmp_path / "run"))
    record = RunRecord.read(folder)
    record.config["trainer"]["method"] = "ps_async"
    record.config["data"]["total_batch_size"] = 2  # of one worker
    record.exchange = {"staleness_mean": 0.5, "dropped": 2, "sent_bytes_per_step": 7.0}
    record.exchange["received_bytes_per_step"] = 9.0
    record.write(folder)
    found = point_of_run(folder, warmup_steps=planned.warmup_steps)
    assert (found.method, found.backend, found.images_per_worker) == ("ps_async", "ray", 2)
    assert (found.steps, found.sent_gradients, found.dropped_gradients, found.staleness) == (10, 12, 2, 0.5)
    # The server took a step as often as the star did, each with two images.
    assert found.images_per_second == pytest.approx(synchronous.images_per_second / 2)
    # Of 12 gradients each worker sent 6, in the time of 10 steps.
    assert found.step_seconds == pytest.approx(synchronous.step_seconds * 10 / 6)
    assert (found.sent_bytes_by_rank, found.received_bytes_by_rank) == ([9.0], [7.0]), "the worker's"
