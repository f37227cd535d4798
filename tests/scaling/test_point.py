"""The record of a point: its arithmetic, and what is read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tempo.errors import UserError
from tempo.scaling.measured_point import SUFFIX, ScalingPoint, read_points, with_single
from tests.scaling.points import point


def test_efficiency_and_exposed_communication() -> None:
    """15 images/s of two workers where one makes 10 are 75 %; 16 at 15/s take 1.0667 s, 0.8 without."""
    found = point(2, rate=15.0)
    assert found.efficiency == 0.75
    assert found.exposed_seconds == pytest.approx(16 / 15 - 0.8)
    assert point(2, single_images_per_second=None).efficiency is None
    assert point(2, compute_seconds=9.0).exposed_seconds == 0


def test_a_point_comes_back_whole() -> None:
    whole = point(4, sent_bytes_by_rank=[3.0, 1.0], versions={"torch": "2"}, staleness=0.5, overlap=True)
    assert ScalingPoint.from_json(whole.to_json(), "here") == whole
    assert json.loads(whole.to_json())["efficiency"] == 15 / 40


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"workers": 0}, "not a tempo scaling point"),
        ({"step_seconds": -1.0}, "above 0"),
        ({"method": "gossip"}, "method='gossip'"),
        ({"schema_version": 99}, "schema_version 99"),
        ({"sent_bytes_by_rank": ["x"]}, "sent_bytes_by_rank"),
    ],
)
def test_a_file_that_is_not_a_point_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        ScalingPoint.from_json(json.dumps(json.loads(point().to_json()) | change), "there")


def test_points_below_a_folder_are_read_and_a_broken_file_is_named(tmp_path: Path) -> None:
    point(2).write(tmp_path / "a" / f"two{SUFFIX}")
    (tmp_path / f"broken{SUFFIX}").write_text("{")
    points, refused = read_points([tmp_path])
    assert points == [point(2)]
    assert len(refused) == 1
    assert "broken" in refused[0]


def test_workers_share_cores_where_there_are_fewer() -> None:
    assert not point(2, cores=2).share_cores
    assert point(4, cores=2).share_cores
    assert point(2, cores=2, threads=2).share_cores
    assert point(2, cores=2, method="ps_async").share_cores  # the server is a process of its own
    assert not point(4, cores=2, source="emulated", compute="sleep").share_cores
    assert not point(4, cores=2, accelerator="gpu").share_cores


def test_the_worker_alone_is_found_among_the_points() -> None:
    alone = point(1, rate=12.0, single_images_per_second=12.0)
    elsewhere = point(1, rate=99.0, device="another CPU")
    (found,) = [
        found_point
        for found_point in with_single([alone, elsewhere, point(2, rate=18.0, single_images_per_second=None)])
        if found_point.workers == 2
    ]
    assert found.efficiency == 0.75


def test_how_a_method_was_used_is_said_where_it_is_not_the_default() -> None:
    assert point(4, overlap=True).label == "ring"
    assert point(4, overlap=False).label == "ring"  # a network too small for two buckets
    assert point(4, overlap=False, source="emulated").label == "ring, not overlapped"
    assert point(4, method="ps_sync", servers=1, overlap=False).label == "ps_sync"
    assert point(4, method="ps_sync", servers=2, placement="sharded").label == "ps_sync, 2 servers, sharded"
    assert (
        point(4, method="ps_sync", servers=4, placement="by_size").label
        == "ps_sync, as many servers, by_size"
    )
