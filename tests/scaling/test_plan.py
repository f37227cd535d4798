"""Which points a command means, and when a point is the same as one that was measured before."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from tempo.config.resolve import composed
from tempo.errors import UserError
from tempo.paths import register_resolvers
from tempo.scaling.benchmark import accelerator_of
from tempo.scaling.plan import Planned, networks_of, plan_of
from tempo.scaling.settings import (
    ScalingSettings,
    check_points,
    check_port,
    settings_of,
    without_scaling,
)
from tests.jobs import CONF
from tests.scaling.points import point

Plan = Callable[..., list[Planned]]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """The points of `src/scale.py <overrides>`."""

    def planned(*overrides: str) -> list[Planned]:
        register_resolvers()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("scaling", overrides=list(overrides), return_hydra_config=True)
            settings = settings_of(config, overrides)
            values = composed(without_scaling(config))
            check_points(values, settings)
            networks = networks_of(values, settings, config.hydra.runtime.choices["model"])
        return plan_of(values, settings, networks, folder=tmp_path, accelerator="cpu", command="x")

    return planned


def names(planned: list[Planned]) -> list[tuple[str, str, int]]:
    return [(each.job.model, each.job.method, each.workers) for each in planned]


def test_one_worker_alone_comes_first_and_once(plan: Plan) -> None:
    """Ring and synchronous server exchange nothing there; an asynchronous server has one worker to serve."""
    found = names(plan("model=cnn3", "scaling.methods=[ps_sync,ring,ps_async]", "scaling.workers=[2,1]"))
    assert found == [
        ("cnn3", "ring", 1),
        ("cnn3", "ps_sync", 2),
        ("cnn3", "ring", 2),
        ("cnn3", "ps_async", 1),
        ("cnn3", "ps_async", 2),
    ]
    assert names(plan("model=cnn3", "scaling.methods=[ps_sync]", "scaling.workers=[4]"))[0][1:] == ("ring", 1)


def test_a_grown_grid_keeps_its_points_and_other_steps_do_not(plan: Plan) -> None:
    few = {each.path for each in plan("model=cnn3", "scaling.workers=[1,2]")}
    more = {each.path for each in plan("model=cnn3", "scaling.workers=[1,2,4]", "scaling.minutes=9")}
    other = {each.path for each in plan("model=cnn3", "scaling.workers=[1,2]", "scaling.steps=60")}
    assert few < more
    assert not few & other


def test_servers_make_another_point_of_a_star_and_not_of_one_worker(plan: Plan) -> None:
    star = ("model=cnn3", "scaling.methods=[ps_sync]", "scaling.workers=[2]")
    one, two = ([each.path for each in plan(*star, *more)] for more in ((), ("server.count=2",)))
    assert one[0] == two[0]
    assert one[1] != two[1]


def test_each_method_gets_its_own_keys_of_the_server(plan: Plan) -> None:
    """Training refuses several servers of ps_async and a bound on staleness of the others."""
    both = ("server.count=2", "server.max_staleness=3", "scaling.methods=[ring,ps_sync,ps_async]")
    found = {
        each.job.method: (each.job.servers, each.job.max_staleness)
        for each in plan("model=cnn3", "scaling.workers=[2]", *both)
        if each.workers == 2
    }
    assert found["ps_sync"] == (2, None)
    assert found["ps_async"] == (1, 3)
    assert found["ring"][1] is None


def test_a_point_is_done_where_its_record_can_be_read(plan: Plan) -> None:
    first = plan("model=cnn3")[0]
    assert first.done() is None
    point(1, rate=10.0).write(first.path)
    assert first.done() == point(1, rate=10.0)
    first.path.write_text("{")
    assert first.done() is None


def test_the_papers_experiment_and_its_smoke_form(plan: Plan) -> None:
    paper = ["vgg16", "vgg19", "resnet50", "resnet152", "inception_v4"]
    full = plan("experiment=distributed/scaling")
    assert list(dict.fromkeys(each.job.model for each in full)) == paper
    assert {each.job.method for each in full} == {"ring", "ps_sync", "ps_async"}
    assert max(each.workers for each in full) == 16
    job = full[0].job
    assert (job.images_per_worker, job.image_size, job.steps, job.warmup_steps) == (32, 256, 500, 20)
    smoke = plan("experiment=distributed/scaling", "scale=smoke", "scaling.steps=30")
    assert {each.job.model for each in smoke} == {"cnn3"}
    assert {each.job.method for each in smoke} == {"ring", "ps_sync", "ps_async"}
    assert smoke[0].job.steps == 30  # what the command line says is said by no smoke


def test_gradients_may_travel_compressed_though_one_worker_sends_none(plan: Plan) -> None:
    found = plan("model=cnn3", "scaling.workers=[1,2]", "trainer.compress=bf16")
    assert [(each.workers, each.job.compress) for each in found][-1] == (2, "bf16")


def test_a_port_in_use_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        with pytest.raises(UserError, match=f"scaling.port={taken.getsockname()[1]} cannot be used"):
            check_port(taken.getsockname()[1])


def test_more_workers_than_gpus_are_refused() -> None:
    settings = ScalingSettings.of(
        yaml.safe_load((CONF / "measuring.yaml").read_text(encoding="utf-8"))["scaling"]
        | {"workers": [1, 512], "smoke": None}
    )
    trainer = {"accelerator": "gpu", "backend": None}
    with pytest.raises(UserError, match=r"512 workers, and this machine has \d+ GPUs: .*trainer=cpu"):
        accelerator_of({"trainer": trainer}, settings)
