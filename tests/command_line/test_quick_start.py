"""What is spared Hydra changes no answer: each is compared with that of Hydra left alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import omegaconf._utils
import pytest
import yaml
from omegaconf import OmegaConf

from tempo.paths import ROOT
from tempo.quick_start import parse_yaml_in_c

CONF = ROOT / "conf"
# Hydra's own main function on our configuration, with and without what tempo spares it; counts the times
# that a configuration is composed.
APP = """
import sys
sys.path.insert(0, {src!r})
import hydra
from hydra._internal.hydra import Hydra
from tempo.paths import register_resolvers
from tempo.quick_start import compose_once, list_options_once, parse_yaml_in_c
register_resolvers()
if {spared}:
    compose_once({conf}), list_options_once(), parse_yaml_in_c()
compose, composed = Hydra.compose_config, []
Hydra.compose_config = lambda self, *a, **k: composed.append(1) or compose(self, *a, **k)
from pathlib import Path
@hydra.main(version_base="1.3", config_path={path!r}, config_name={name!r})
def main(config):
    print(config.get("x"), len(composed))
main()
"""


def answer(*arguments: str, spared: bool, conf: Path = CONF, name: str = "train") -> str:
    program = APP.format(
        src=str(ROOT / "src"), spared=spared, conf=f"__import__('pathlib').Path({str(conf)!r})",
        path=str(conf), name=name,
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("flag", ["--help", "--info=defaults-tree"])
def test_the_answer_is_hydras_own(flag: str) -> None:
    assert answer(flag, spared=True) == answer(flag, spared=False)


@pytest.mark.parametrize(
    ("text", "arguments", "times"),
    [("", [], 1), ("", ["hydra.mode=RUN"], 2), ("hydra:\n  mode: RUN\n", [], 2)],
)
def test_a_run_is_composed_once_unless_something_may_set_the_mode(
    tmp_path: Path, text: str, arguments: list[str], times: int
) -> None:
    (tmp_path / "app.yaml").write_text(f"x: 3\n{text}")
    quiet = (f"hydra.run.dir={tmp_path / 'run'}", "hydra/job_logging=none", "hydra.output_subdir=null")
    for spared, expected in ((False, 2), (True, times)):
        said = answer(*arguments, *quiet, spared=spared, conf=tmp_path, name="app")
        assert said.split() == ["3", str(expected)]


def test_libyaml_reads_what_pyyaml_reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_python = omegaconf._utils.get_yaml_loader
    monkeypatch.setattr(omegaconf._utils, "get_yaml_loader", in_python)
    files = sorted(CONF.rglob("*.yaml"))
    expected = [yaml.load(path.read_text(encoding="utf-8"), in_python()) for path in files]
    odd = "a: 1e-3\nb: 2024-01-01\nc: 1_000\nd: .inf\ne: 0x1f\nf: on\ng: 12:30\nh: '1'\ni: 1.5e3\nj: ~\n"
    expected.append(yaml.load(odd, in_python()))
    parse_yaml_in_c()
    in_c = omegaconf._utils.get_yaml_loader()
    assert not yaml.__with_libyaml__ or issubclass(in_c, yaml.CSafeLoader)
    assert repr([yaml.load(each, in_c) for each in [*(p.read_bytes() for p in files), odd]]) == repr(expected)
    twice = tmp_path / "twice.yaml"
    twice.write_text("a: 1\na: 2\n")
    with pytest.raises(yaml.constructor.ConstructorError, match="duplicate key a"):
        OmegaConf.load(twice)
