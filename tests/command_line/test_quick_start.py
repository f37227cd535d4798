"""What is spared Hydra changes no answer: each is compared with that of Hydra left alone."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import omegaconf._utils
import pytest
import yaml
from omegaconf import OmegaConf

from tempo.command_line.quick_start import parse_yaml_in_c, replace, spare_hydra
from tempo.paths import ROOT

CONF = ROOT / "conf"
# Hydra's own main function on our configuration, with and without what tempo spares it; counts the times
# that a configuration is composed.
APP = """
import sys
sys.path.insert(0, {src!r})
import hydra
from hydra._internal.hydra import Hydra
from tempo.paths import register_resolvers
from tempo.command_line.quick_start import spare_hydra
register_resolvers()
if {spared}:
    spare_hydra({conf})
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


@pytest.mark.parametrize("arguments", [["--help"], ["--info=defaults-tree"], ["model=resnet56", "--cfg=job"]])
def test_the_answer_is_hydras_own(arguments: list[str]) -> None:
    assert answer(*arguments, spared=True) == answer(*arguments, spared=False)


@pytest.mark.parametrize("arguments", [["--help"], ["b=y", "--cfg=job"]])
def test_files_behind_links_and_choices_that_follow_others_are_found(
    tmp_path: Path, arguments: list[str]
) -> None:
    """`a` follows what is chosen for `b`, and its folder is a link to one elsewhere."""
    conf, elsewhere = tmp_path / "conf", tmp_path / "elsewhere"
    for folder in (conf / "b", elsewhere):
        folder.mkdir(parents=True)
        for name in ("x", "y"):
            (folder / f"{name}.yaml").write_text(f"value: {folder.name}_{name}\n")
    (conf / "a").symlink_to(elsewhere)
    (conf / "b" / "lost.yaml").symlink_to(tmp_path / "nowhere.yaml")
    (conf / "b" / "y").mkdir()  # a group of the same name as an option
    (conf / "b" / "y" / "inner.yaml").write_text("value: 1\n")
    (conf / "app.yaml").write_text("defaults:\n  - b: x\n  - a: ${b}\n  - _self_\n")
    said = answer(*arguments, spared=True, conf=conf, name="app")
    assert said == answer(*arguments, spared=False, conf=conf, name="app")
    assert ("elsewhere_y" if "b=y" in arguments else "elsewhere_x") in said


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


PRIVATE = [
    ("hydra._internal.config_loader_impl", "ConfigLoaderImpl", "get_group_options"),
    ("hydra._internal.hydra", "Hydra", "get_mode"),
    ("hydra._internal.core_plugins.file_config_source", "FileConfigSource", "is_group"),
    ("hydra._internal.core_plugins.file_config_source", "FileConfigSource", "is_config"),
    ("hydra._internal.defaults_list", None, "_create_interpolation_map"),
    ("omegaconf._utils", None, "get_yaml_loader"),
]


def owner_of(module: str, outer: str | None) -> Any:
    found = importlib.import_module(module)
    return found if outer is None else getattr(found, outer)


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Hydra as it was installed, during a test and after it."""
    for module, outer, name in PRIVATE:
        function = getattr(owner_of(module, outer), name)
        monkeypatch.setattr(owner_of(module, outer), name, getattr(function, "__wrapped__", function))
    return monkeypatch


@pytest.mark.parametrize(("module", "outer", "name"), PRIVATE)
def test_a_private_function_is_replaced_only_as_it_is_known(
    untouched: pytest.MonkeyPatch, module: str, outer: str | None, name: str
) -> None:
    owner = owner_of(module, outer)
    installed = getattr(owner, name)
    spare_hydra(CONF)
    assert getattr(owner, name) is not installed

    def of_another_version(self: Any, something_else: int) -> None:
        """Hydra may do this in another way one day."""

    untouched.setattr(owner, name, of_another_version)
    spare_hydra(CONF)
    assert getattr(owner, name) is of_another_version
    untouched.delattr(owner, name)
    spare_hydra(CONF)
    assert name not in vars(owner)


def test_a_private_module_may_be_gone(untouched: pytest.MonkeyPatch) -> None:
    for module, _, _ in PRIVATE:
        if module != "omegaconf._utils":  # which OmegaConf's public functions need
            untouched.setitem(sys.modules, module, None)  # type: ignore[arg-type]
    spare_hydra(CONF)


def test_what_misses_something_at_work_leaves_the_answer_to_the_original(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = ModuleType("library")
    library.double = lambda number: 2 * number  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "library", library)
    asked = []

    def quick(original: Any) -> Any:
        def double(number: int) -> Any:
            asked.append(number)
            return number.renamed_in_the_next_version  # type: ignore[attr-defined]

        return double

    replace("library:double", ["number"], quick)
    assert library.double(4) == 8
    assert asked == [4]
    replaced = library.double
    replace("library:double", ["number"], quick)
    assert library.double is replaced, "replaced once is enough"
