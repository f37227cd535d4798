"""What users of Hydra expect: its sweeper, patterns, coloured logs, folders and files of their own."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tempo.command_line.error_messages import options_of
from tempo.command_line.help_text import explained
from tempo.command_line.run_folder_name import register_all_resolvers
from tempo.config.recorded_config import experiment_config, hydra_on_conf
from tempo.config.resolve_interpolations import chosen_options
from tempo.errors import UserError
from tempo.paths import PROJECT, read_env_file
from tempo.sweep.grid import parse_grid


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


def test_another_sweeper_has_one_folder_named_after_the_time() -> None:
    register_all_resolvers()
    with hydra_on_conf():
        overrides = ["hydra/sweeper=basic", "hydra/launcher=basic"]
        made = compose("train", overrides, return_hydra_config=True)
        again = compose("train", overrides, return_hydra_config=True)
    assert made.hydra.sweeper._target_.endswith("BasicSweeper")
    assert "/sweeps/2" in made.hydra.sweep.dir
    assert made.hydra.sweep.dir == again.hydra.sweep.dir


def test_a_pattern_reaches_the_options_in_folders() -> None:
    with hydra_on_conf():
        loader = GlobalHydra.instance().config_loader()
        parser = OverridesParser.create(config_loader=loader)
        steps = parse_grid(parser, ["experiment=glob(superconvergence/s*)"], {}, [])
        networks = parse_grid(parser, ["model=glob(resnet?0,exclude=*3*)"], {}, [])
    assert [one.swept for one in steps.combinations] == [
        ("experiment=superconvergence/step",),
        ("experiment=superconvergence/step_4x",),
    ]
    assert [one.swept for one in networks.combinations] == [("model=resnet20",)]


def test_colours_of_log_lines() -> None:
    with hydra_on_conf():
        made = compose(
            "train", ["hydra/job_logging=colorlog", "hydra/hydra_logging=colorlog"], return_hydra_config=True
        )
    record = logging.LogRecord("tempo", logging.WARNING, "file", 1, "lost", None, None)
    for node in (made.hydra.job_logging, made.hydra.hydra_logging):
        formatter = node.formatters.colorlog
        made_of = instantiate({"_target_": formatter["()"], "fmt": formatter.format})
        assert "\x1b[" in made_of.format(record)
        assert set(node.root.handlers) == set(node.handlers)


def test_the_settings_of_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = (
        "# @package _global_\ndefaults:\n  - override /trainer: cpu\n  - override /hydra/launcher: local\n"
    )
    write(tmp_path, "conf/local/default.yaml", f"{local}trainer:\n  threads: 3\n")
    write(tmp_path, "conf/local/evaluate.yaml", "# @package _global_\naccelerator: cpu\n")
    write(tmp_path, "conf/experiment/mine.yaml", "# @package _global_\ntrainer:\n  threads: 2\n  epochs: 7\n")
    monkeypatch.setenv(PROJECT, str(tmp_path))
    register_all_resolvers()
    with hydra_on_conf():
        for script in ("train", "lr_range", "tune"):
            made = compose(script, ["experiment=mine"], return_hydra_config=True)
            assert (made.trainer.threads, made.trainer.epochs) == (3, 7), script
            assert "local" not in chosen_options(made.hydra)
        assert made.hydra.launcher._target_.endswith("InProcessLauncher")  # its points share no machine
        assert compose("train", return_hydra_config=True).hydra.launcher.n_jobs == 2
        assert compose("evaluate", ["run=x"]).accelerator == "cpu"
        assert compose("predict", ["run=x"]).accelerator == "auto"
    found = experiment_config("mine")  # what any machine would run
    assert found is not None
    assert found[0]["trainer"]["threads"] == 2


def test_without_settings_of_a_machine() -> None:
    with hydra_on_conf():
        made = compose("train", return_hydra_config=True)
    assert "local" not in made
    assert "local" not in chosen_options(made.hydra)


def test_options_of_folders_that_the_command_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "model/mine.yaml", "depth: 1\n")
    for words in (["--config-dir", str(tmp_path)], [f"hydra.searchpath=[file://{tmp_path}]"]):
        monkeypatch.setattr("sys.argv", ["train.py", *words])
        assert {"mine", "mlp"} <= {*options_of("model")}


def test_the_environment_of_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dotenv")
    monkeypatch.setenv(PROJECT, str(tmp_path))
    monkeypatch.setenv("TEMPO_SET", "before")
    monkeypatch.setattr(os, "environ", os.environ.copy())
    read_env_file()  # no file
    write(tmp_path, ".env", "# keys\nTEMPO_SET=after\nTEMPO_READ='a b'\n")
    read_env_file()
    assert (os.environ["TEMPO_SET"], os.environ["TEMPO_READ"]) == ("before", "a b")
    (tmp_path / ".env").write_bytes(b"\xff\xfe=1")
    with pytest.raises(UserError, match=r"\.env cannot be read"):
        read_env_file()
    assert OmegaConf.create({"a": "${oc.env:TEMPO_READ}"}).a == "a b"


HYDRAS = """train is powered by Hydra.

== Configuration groups ==
Compose your configuration from those groups (group=option)

experiment/mine: a, b
trainer: auto, cpu

== Config ==
Override anything in the config (foo.bar=value)

name: ${hydra:runtime.choices.model}_${hydra:runtime.choices.data}
trainer:
  epochs: 20
  max_steps: null
optimizer:
  beta2: 0.999
  decay_norm_and_bias: true

Powered by Hydra (https://hydra.cc)
"""


def test_help_says_what_the_keys_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    text = explained(HYDRAS, "train", ["optimizer=adam"])
    assert all(len(line) <= 70 for line in text.splitlines())
    assert "  max_steps: null                 # optimizer steps instead of epochs" in text
    assert "# false: no weight decay for" in text  # of conf/optimizer/adam.yaml
    for first, second in (("trainer: auto", "max_steps"), ("beta2", "experiment/mine"), ("mine", "Powered")):
        assert text.index(first) < text.index(second)
    assert set(HYDRAS.split()) <= set(text.split())
