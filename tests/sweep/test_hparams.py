"""A sweep in TensorBoard's HParams tab, read by the code behind the tab."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, get_experiment, list_session_groups
from tensorboard.plugins.hparams.backend_context import Context

from tempo.record.run_json import RunRecord
from tests.conftest import Train

METRICS = [f"final/{split}_{name}" for split in ("test", "train", "val") for name in ("accuracy", "loss")]


def tab_of(folder: Path) -> tuple[Any, Any]:
    """Return the experiment, and one group of sessions per run."""
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(folder))
    context = Context(base_plugin.TBContext(data_provider=provider))
    request = RequestContext()
    experiment = get_experiment.Handler(request, context, "", api_pb2.GetExperimentRequest()).run()
    wanted = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=100,
        allowed_statuses=api_pb2.Status.values(),
        col_params=[api_pb2.ColParams(metric=info.name) for info in experiment.metric_infos],
    )
    groups = list_session_groups.Handler(request, context, "", wanted).run()
    return experiment, groups.session_groups


def test_a_sweep_shows_differing_settings_and_results(train: Train, tmp_path: Path) -> None:
    grid = list(itertools.product((0.1, 0.01), (0, 1)))
    for lr, seed in grid:
        settings = (f"optimizer.lr={lr}", f"seed={seed}", "trainer.max_steps=4")
        train(*settings, folder=f"sweep/lr={lr},seed={seed}")
    records = {
        (record.config["optimizer"]["lr"], record.seed): record
        for record in map(RunRecord.read, sorted((tmp_path / "sweep").iterdir()))
    }
    assert sorted(records) == sorted(grid)

    experiment, groups = tab_of(tmp_path / "sweep")
    assert set(METRICS) <= {info.name.tag for info in experiment.metric_infos}
    differing = {info.name for info in experiment.hparam_infos if info.differs}
    assert differing == {"optimizer.lr", "scheduler.lr", "seed"}
    assert {"model._target_", "trainer.max_steps"} <= {info.name for info in experiment.hparam_infos}
    shown = {}
    for group in groups:
        settings = {key: group.hparams[key].number_value for key in ("optimizer.lr", "seed")}
        values = {metric.name.tag: metric.value for metric in group.metric_values}
        shown[settings["optimizer.lr"], int(settings["seed"])] = {tag: values[tag] for tag in METRICS}
    assert shown == {
        key: {
            f"final/{split}_{name}": pytest.approx(value, rel=1e-6)  # TensorBoard keeps 32 bits
            for split, values in record.metrics.items()
            for name, value in values.items()
        }
        for key, record in records.items()
    }
    assert len({values["final/test_loss"] for values in shown.values()}) == 4
