"""Keys that change nothing in a run are named, each with the key that it needs; the others are not."""

from __future__ import annotations

import pytest

from tempo.config.keys_without_effect import keys_without_effect
from tempo.config.run_length import planned_epochs, planned_steps
from tests.jobs import checked_job

SERVERS = "trainer=ddp_cpu trainer.method=ps_sync data.total_batch_size=64"
# (overrides, what one line has; nothing: no line). The digits have 1,294 images for training: 20 steps of 64.
CASES = [
    ("server.count=2", "server.count=2 has no effect without trainer.method=ps_sync"),
    ("trainer=ddp_cpu server.reply=gradients", "server.reply=gradients has no effect"),
    (f"{SERVERS} server.count=2", ""),
    ("trainer.lr_reference_batch=128", "without trainer.lr_scaling=linear or sqrt"),
    ("trainer.lr_reference_batch=128 trainer.lr_scaling=linear", ""),
    ("early_stopping.min_delta=0.1", "has no effect without early_stopping.patience"),
    ("early_stopping.min_delta=0.1 early_stopping.patience=3", ""),
    ("early_stopping.patience=20", "the run ends after 400 steps, 20 epochs, with 20 validations"),
    ("early_stopping.patience=19", ""),
    ("trainer.backend=gloo", "trainer.backend=gloo has no effect on one device"),
    ("trainer=ddp_cpu", ""),
    ("checkpoint.every_n_steps=401", "checkpoint.every_n_steps=401 has no effect: the run ends after 400"),
    ("checkpoint.every_n_steps=400", ""),
    ("trainer.test_every_n_epochs=21", "trainer.test_every_n_epochs=21 has no effect"),
    ("trainer.test_every_n_epochs=20", ""),
    ("trainer.test_every_n_epochs=3 trainer.max_steps=41", ""),
    ("trainer.test_every_n_epochs=3 trainer.max_steps=40", "the run ends after 40 steps, 2 epochs"),
    ("trainer.val_every_n_epochs=21", "trainer.val_every_n_epochs=21 has no effect"),
    ("data.split_seed=3", ""),
    ("data.split_seed=3 data.val_size=0 objective=test/loss checkpoint.select=last", "nothing is drawn"),
    ("scheduler=triangular debug=fast_dev_run", "the whole curve needs 9 steps"),
    ("scheduler=triangular", ""),
]


@pytest.mark.parametrize(("overrides", "words"), CASES, ids=[case[0] for case in CASES])
def test_a_line_for_each_key_without_effect(overrides: str, words: str) -> None:
    config, _ = checked_job(overrides.split())
    lines = keys_without_effect(config, planned_steps(config), planned_epochs(config))
    assert len(lines) == bool(words), lines
    assert all(words in line for line in lines)


def test_intervals_are_not_judged_before_the_size_of_the_data_is_known() -> None:
    config, _ = checked_job(["data=folder", "checkpoint.every_n_steps=100000", "server.count=2"])
    lines = keys_without_effect(config, planned_steps(config), planned_epochs(config))
    assert [line.partition("=")[0] for line in lines] == ["server.count"]
