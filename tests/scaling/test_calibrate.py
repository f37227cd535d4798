"""Numbers of this machine for the cost model."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tempo.errors import UserError
from tempo.scaling import calibrate
from tempo.scaling.network_link import Link
from tempo.scaling.prediction import predict_points
from tests.scaling.points import Plan

MLP = (
    *("model=mlp", "model.hidden=[256,64]", "trainer=cpu", "optimizer.lr=0.01"),
    *("scaling.image_size=16", "scaling.classes=10"),
)
LINK = Link(bytes_per_second=1e9, message_seconds=1e-4, both_ways_bytes_per_second=0.9e9, backend="gloo")


def test_a_worker_is_measured_in_parts_that_can_be_predicted_from(plan: Plan) -> None:
    found = calibrate.calibrate(plan(*MLP)[0].config, 4, LINK)
    assert found.sizes == [3 * 16 * 16 * 256, 256, 256 * 64, 64, 64 * 10, 10]
    assert found.gradient_bytes == 4 * sum(found.sizes)
    assert min(found.forward_seconds, found.optimizer_seconds, found.apply_seconds) > 0
    assert found.step_seconds > found.forward_seconds + found.backward_seconds
    assert (found.bytes_per_second, found.message_seconds, found.duplex) == (1e9, 1e-4, 2)
    points = predict_points(found, workers=(1, 1024))
    assert all(point.device and point.backend == "gloo" for point in points)


@pytest.mark.parametrize(
    ("precision", "compress", "element_bytes"),
    [("32-true", None, 4), ("32-true", "bf16", 2), ("64-true", None, 8), ("bf16-true", None, 2)],
)
def test_gradients_have_the_bytes_of_their_type_on_the_wire(
    plan: Plan, precision: str, compress: str | None, element_bytes: int
) -> None:
    config = plan(*MLP, f"trainer.precision={precision}")[0].config.with_trainer(compress=compress)
    assert calibrate.calibrate(config, 4, LINK).element_bytes == element_bytes


def test_two_processes_measure_their_link() -> None:
    link = calibrate.link_of_this_machine("gloo")
    # A byte is cheaper than a message, and no memory is this fast.
    assert 1e6 < link.bytes_per_second < 1e12
    assert 1e-7 < link.message_seconds < 1
    assert link.backend == "gloo"


def test_a_link_that_cannot_be_measured_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = shutil.which("false")
    assert failing is not None
    monkeypatch.setattr(sys, "executable", failing)
    with pytest.raises(UserError, match=r"^the link over gloo could not be measured: exit code 1$"):
        calibrate.link_of_this_machine("gloo")


@pytest.mark.parametrize("text", ["# Readme", "[]", '{"backend": "gloo"}', "\udcff"])
def test_a_file_that_holds_no_link_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "link.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"link\.json is not a measured link; write one with torchrun -m"):
        Link.read(path)


@pytest.mark.parametrize(("both_ways", "duplex"), [(0.95e9, 2), (0.5e9, 1)])
def test_a_half_duplex_link_is_noticed(both_ways: float, duplex: int) -> None:
    link = Link(bytes_per_second=1e9, message_seconds=0, both_ways_bytes_per_second=both_ways, backend="gloo")
    assert link.duplex == duplex
