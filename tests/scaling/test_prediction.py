"""Predictions against the committed points of emulated hosts, torch's own buckets and published figures."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import distributed

from tempo.scaling.measured_point import SUFFIX, ScalingPoint
from tempo.scaling.prediction import WORKERS, Calibration, fullest_share, predict_points, predicted_point

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
VGG16_LINEAR_LAST = [
    *(1728, 64, 36864, 64, 73728, 128, 147456, 128, 294912, 256, 589824, 256, 589824, 256),
    *(1179648, 512, 2359296, 512, 2359296, 512, 2359296, 512, 2359296, 512, 2359296, 512),
    *(102760448, 4096, 16777216, 4096, 4096000, 1000),
]


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module("scaling_tables")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def emulated(name: str) -> ScalingPoint:
    path = RESULTS / "scaling_emulated" / f"{name}{SUFFIX}"
    return ScalingPoint.from_json(path.read_text(encoding="utf-8"), name)


def calibration(**changes: object) -> Calibration:
    values = {
        "model": "net",
        "images_per_worker": 32,
        "forward_seconds": 0.2,
        "backward_seconds": 0.4,
        "optimizer_seconds": 0.05,
        "apply_seconds": 0.08,
        "sizes": [1_000_000, 500, 2_000_000],
        "bytes_per_second": 1e8,
        "message_seconds": 1e-4,
    }
    return Calibration(**{**values, **changes})


@pytest.mark.parametrize("network", ["resnet50", "vgg16"])
@pytest.mark.parametrize("variant", ["ring", "ps_sync"])
@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_within_ten_percent_of_emulated_hosts(
    tables: ModuleType, network: str, variant: str, workers: int
) -> None:
    if workers == 1 and variant != "ring":
        pytest.skip("one worker exchanges nothing: its point stands under ring")
    point = emulated(f"{network}_{variant}_{workers}")
    link = tables.Link.read(RESULTS / "scaling_emulated" / "link.json")
    model = tables.predicted_for(point, tables.VARIANTS[variant], link)
    assert model.step_seconds == pytest.approx(point.step_seconds, rel=0.10)


def test_emulated_points_have_the_papers_shape() -> None:
    """Ring near linear for the ResNet, the server far behind, VGG16 worse than the ResNet."""
    ring, star = emulated("resnet50_ring_8"), emulated("resnet50_ps_sync_8")
    assert ring.efficiency > 0.75
    assert star.efficiency < 0.6 * ring.efficiency
    assert emulated("vgg16_ring_8").efficiency < ring.efficiency - 0.15
    assert emulated("vgg16_ps_sync_8").efficiency < star.efficiency
    for point in (ring, star):
        assert (point.source, point.compute) == ("emulated", "sleep")
        assert 0.85e9 < 8 * point.bytes_per_second <= 1e9  # the link was limited, and was measured


def test_the_server_is_the_bottleneck_on_the_wire() -> None:
    """A star: the server sends (N-1) S, counted by the rank itself."""
    point = emulated("vgg16_ps_sync_8")
    assert point.sent_bytes_by_rank == [7 * point.gradient_bytes] + 7 * [point.gradient_bytes]


def test_committed_tables_are_those_of_the_points(tables: ModuleType) -> None:
    record = json.loads((RESULTS / "scaling_emulated" / "record.json").read_text(encoding="utf-8"))
    assert record["points"] == tables.beside_emulated()
    record = json.loads((RESULTS / "scaling_published" / "record.json").read_text(encoding="utf-8"))
    assert record["rows"] == {name: tables.beside_published(row) for name, row in tables.PUBLISHED.items()}


def test_published_efficiency_of_many_k80_is_met_within_ten_percent(tables: ModuleType) -> None:
    for network in ("resnet50", "inception_v3", "resnet152"):
        found = tables.beside_published(tables.PUBLISHED[f"tensorflow_64_{network}"])
        assert float(found["plain_ratio"]) == pytest.approx(1, abs=0.10), network


def test_published_efficiency_of_horovod_lies_between_no_overlap_and_a_perfect_one(
    tables: ModuleType,
) -> None:
    for network in ("inception_v3", "resnet101", "vgg16"):
        found = tables.beside_published(tables.PUBLISHED[f"horovod_{network}"])
        assert float(found["plain_ratio"]) < 1 < float(found["overlapped_ratio"]), network


def test_buckets_are_torchs_own() -> None:
    for limit_mb in (1.0, 25.0, 1e5):
        tensors = [torch.empty(size, device="meta") for size in reversed(VGG16_LINEAR_LAST)]
        limit = int(limit_mb * 2**20)
        expected, _ = distributed._compute_bucket_assignment_by_size(tensors, [limit])
        found = calibration(sizes=VGG16_LINEAR_LAST, bucket_mb=limit_mb).buckets
        assert found == len(expected)


def test_the_largest_variable_of_vgg16_keeps_one_server_full() -> None:
    assert sum(VGG16_LINEAR_LAST) == 138_357_544
    for placement in ("round_robin", "by_size"):
        assert fullest_share(VGG16_LINEAR_LAST, 8, placement) >= 102_760_448 / 138_357_544
    assert fullest_share(VGG16_LINEAR_LAST, 8, "sharded") == 1 / 8


def test_points_are_labelled_and_go_to_a_thousand_workers() -> None:
    points = predict_points(calibration())
    assert {point.source for point in points} == {"predicted"}
    assert max(point.workers for point in points) == WORKERS[-1] == 1024
    for method in ("ring", "ps_sync", "ps_async"):
        of_method = [point for point in points if point.method == method]
        assert of_method[0].efficiency == pytest.approx(1)
        assert {point.overlap for point in of_method} == ({False} if method == "ps_async" else {False, True})
    with_overlap = {point.workers: point for point in points if point.method == "ring" and point.overlap}
    for point in points:
        if point.method == "ring" and not point.overlap and point.workers > 1:
            assert with_overlap[point.workers].step_seconds <= point.step_seconds


def test_a_server_steps_in_the_workers_place() -> None:
    """T = T_f + T_b + 2a + 2 (N-1) S / B + t_apply: the workers' own optimizer is not in it."""
    point = predicted_point(calibration(), "ps_sync", 3)
    size = 4 * 3_000_500
    assert point.step_seconds == pytest.approx(0.6 + 2e-4 + 2 * 2 * size / 1e8 + 0.08)
    assert point.efficiency == pytest.approx(0.65 / point.step_seconds)


def test_a_try_out_leaves_the_published_points_alone(tables: ModuleType) -> None:
    folder = sys.modules["emulated"].command_line().parse_args([]).folder
    assert folder.is_relative_to(ROOT / "logs")  # which git ignores
