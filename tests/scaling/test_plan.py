"""Which points a command means, what their runs are, and when a point is the same as a measured one."""

from __future__ import annotations

import pytest
import yaml

from tempo.errors import UserError
from tempo.scaling.benchmark import check_devices
from tempo.scaling.plan import PlannedPoint
from tempo.scaling.scale_settings import ScalingSettings
from tests.jobs import CONF
from tests.scaling.points import Plan, point


def names(planned: list[PlannedPoint]) -> list[tuple[str, str, int]]:
    return [(wanted.model, wanted.method, wanted.workers) for wanted in planned]


def test_one_worker_alone_comes_first_and_once(plan: Plan) -> None:
    """One worker exchanges nothing, whatever the method."""
    found = names(plan("model=cnn3", "scaling.methods=[ps_sync,ring,ps_async]", "scaling.workers=[2,1]"))
    assert found == [
        ("cnn3", "ring", 1),
        ("cnn3", "ps_sync", 2),
        ("cnn3", "ring", 2),
        ("cnn3", "ps_async", 2),
    ]
    assert names(plan("model=cnn3", "scaling.methods=[ps_sync]", "scaling.workers=[4]"))[0][1:] == ("ring", 1)


def test_a_run_has_the_steps_and_images_of_every_worker(plan: Plan) -> None:
    """25 steps after 12 of warm-up, in intervals of 10, are two intervals after two.

    An asynchronous step is one worker's, with its 4 images, so a run has three times as many.
    """
    every = ("scaling.methods=[ring,ps_async]", "scaling.workers=[3]", "scaling.images_per_worker=4")
    steps = ("scaling.steps=37", "scaling.warmup_steps=12", "scaling.interval_steps=10")
    _, ring, asynchronous = plan("model=cnn3", "trainer=cpu", *every, *steps)
    trainer, data = ring.config.trainer, ring.config.data
    assert (trainer.max_steps, trainer.log_every_n_steps, ring.warmup_steps) == (40, 10, 12)
    assert (data.total_batch_size, data.train_images, data.source.arguments["test_images"]) == (
        12,
        40 * 12,
        3,
    )
    trainer, data = asynchronous.config.trainer, asynchronous.config.data
    assert (trainer.max_steps, trainer.log_every_n_steps, asynchronous.warmup_steps) == (120, 30, 36)
    assert (data.total_batch_size, data.train_images) == (4, 120 * 4)


def test_large_images_are_seen_again_in_later_epochs_of_two_intervals_or_more(plan: Plan) -> None:
    many = ("scaling.image_size=256", "scaling.images_per_worker=64", "scaling.workers=[16]")
    last = plan("model=cnn3", "trainer=cpu", *many, "scaling.steps=500")[-1].config
    interval_bytes = 10 * 16 * 64 * 3 * 256 * 256
    assert interval_bytes > 1 << 30
    assert last.data.train_images == 2 * 10 * 16 * 64
    assert last.trainer.max_steps == 500


def test_a_grown_grid_keeps_its_points_and_other_steps_do_not(plan: Plan) -> None:
    few = {wanted.path for wanted in plan("model=cnn3", "scaling.workers=[1,2]")}
    more = {wanted.path for wanted in plan("model=cnn3", "scaling.workers=[1,2,4]", "scaling.minutes=9")}
    other = {wanted.path for wanted in plan("model=cnn3", "scaling.workers=[1,2]", "scaling.steps=60")}
    assert few < more
    assert not few & other


def test_servers_make_another_point_of_a_star_and_not_of_one_worker(plan: Plan) -> None:
    star = ("model=cnn3", "scaling.methods=[ps_sync]", "scaling.workers=[2]")
    one, two = ([wanted.path for wanted in plan(*star, *more)] for more in ((), ("server.count=2",)))
    assert one[0] == two[0]
    assert one[1] != two[1]


def test_each_method_gets_its_own_keys_of_the_server(plan: Plan) -> None:
    """Training refuses several servers of ps_async and a bound on staleness of the others."""
    both = ("server.count=2", "server.max_staleness=3", "scaling.methods=[ring,ps_sync,ps_async]")
    found = {
        wanted.method: (wanted.config.server.count, wanted.config.server.max_staleness)
        for wanted in plan("model=cnn3", "scaling.workers=[2]", *both)
        if wanted.workers == 2
    }
    assert found["ps_sync"] == (2, None)
    assert found["ps_async"] == (1, 3)
    assert found["ring"][1] is None


def test_a_point_is_done_if_its_record_can_be_read(plan: Plan) -> None:
    first = plan("model=cnn3")[0]
    assert first.done() is None
    point(1, rate=10.0).write(first.path)
    assert first.done() == point(1, rate=10.0)
    first.path.write_text("{")
    assert first.done() is None


def test_the_papers_experiment_and_its_smoke_form(plan: Plan) -> None:
    full = plan("experiment=distributed/scaling")
    assert list(dict.fromkeys(wanted.model for wanted in full)) == [
        *("vgg16", "vgg19", "resnet50", "resnet152", "inception_v4")
    ]
    assert {wanted.method for wanted in full} == {"ring", "ps_sync", "ps_async"}
    assert max(wanted.workers for wanted in full) == 16
    alone = full[0].config
    assert (alone.data.total_batch_size, alone.data.source.arguments["image_size"]) == (32, 256)
    assert (alone.trainer.max_steps, full[0].warmup_steps) == (500, 20)
    smoke = plan("experiment=distributed/scaling", "scale=smoke", "scaling.steps=30")
    assert {wanted.model for wanted in smoke} == {"cnn3"}
    assert {wanted.method for wanted in smoke} == {"ring", "ps_sync", "ps_async"}
    assert smoke[0].config.trainer.max_steps == 30  # a key of the command line keeps its value


def test_gradients_may_travel_compressed_though_one_worker_sends_none(plan: Plan) -> None:
    found = plan("model=cnn3", "scaling.workers=[1,2]", "scaling.methods=[ring]", "trainer.compress=bf16")
    assert [wanted.config.trainer.compress for wanted in found] == [None, "bf16"]


def test_the_file_of_keys_has_the_defaults() -> None:
    node = yaml.safe_load((CONF / "measuring.yaml").read_text(encoding="utf-8"))["scaling"]
    assert (
        ScalingSettings(**{key: value for key, value in node.items() if key != "smoke"}) == ScalingSettings()
    )


def test_more_workers_than_gpus_are_refused() -> None:
    with pytest.raises(UserError, match=r"512 workers need a GPU each, .* has \d+; .*trainer=cpu"):
        check_devices({"accelerator": "gpu", "backend": None}, ScalingSettings(workers=[1, 512]))
