"""`auto` bounds: from lr_range.json into the configuration, or one line that says why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tempo.config.check import check
from tempo.config.lr_range_bounds import FILE_NAME, KIND, SCHEMA_VERSION, essentials
from tempo.errors import UserError
from tests.jobs import compose_job

CYCLE = ["model=mlp", "scheduler=onecycle"]


def write_test(folder: Path, settings: dict[float, tuple[float, float] | None], *overrides: str) -> Path:
    """lr_range.json with a setting for each weight decay and its bounds."""
    entries: list[dict[str, Any]] = []
    for wd, bounds in settings.items():
        config, _ = compose_job(["model=mlp", f"optimizer.wd={wd}", *overrides])
        entry: dict[str, Any] = {
            "label": f"wd={wd}",
            "essentials": essentials(config),
            "go_on": "scheduler.max_lr=99",
        }
        entry["proposal"] = None if bounds is None else {"min_lr": bounds[0], "max_lr": bounds[1]}
        entries.append({**entry, "why_not": "no minimum"})
    path = folder / FILE_NAME
    content = {"kind": KIND, "schema_version": SCHEMA_VERSION, "settings": entries}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def auto(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The scheduler node of a 1cycle run with auto bounds."""

    def compose(*overrides: str) -> dict[str, Any]:
        auto = ["scheduler.max_lr=auto", f"scheduler.range_test={tmp_path}"]
        config, _ = compose_job([*CYCLE, *auto, *overrides])
        check(config)
        node: dict[str, Any] = config["scheduler"]
        return node

    return compose


def test_both_bounds_become_numbers(tmp_path: Path, auto: Callable[..., dict[str, Any]]) -> None:
    path = write_test(tmp_path, {1e-4: (0.04, 0.4)})
    node = auto()
    assert (node["min_lr"], node["max_lr"]) == (0.04, 0.4)
    assert node["range_test"] == str(path)
    assert auto(f"scheduler.range_test={path}") == node


@pytest.mark.parametrize(
    ("overrides", "bounds"),
    [
        (["scheduler.min_lr=0.2"], (0.2, 0.4)),  # the user's own stays
        (["scheduler.min_lr=0.1"], (0.1, 0.4)),  # even if it equals optimizer.lr
        (["scheduler.min_lr=auto", "scheduler.max_lr=3.0"], (0.04, 3.0)),
        (["optimizer.wd=0.01", "optimizer.momentum=0.8", "trainer.epochs=2"], (0.04, 0.4)),  # tuned later
        (["data.total_batch_size=32"], (0.04, 0.4)),
    ],
)
def test_what_may_differ_from_the_range_test(
    overrides: list[str], bounds: tuple[float, float], tmp_path: Path, auto: Callable[..., dict[str, Any]]
) -> None:
    write_test(tmp_path, {1e-4: (0.04, 0.4)})
    node = auto(*overrides)
    assert (node["min_lr"], node["max_lr"]) == bounds


def test_of_several_settings_the_one_of_this_run(tmp_path: Path, auto: Callable[..., dict[str, Any]]) -> None:
    write_test(tmp_path, {1e-4: (0.04, 0.4), 1e-2: (0.01, 0.1)})
    assert auto("optimizer.wd=1e-2")["max_lr"] == 0.1
    assert auto("optimizer.wd=1e-4")["max_lr"] == 0.4
    with pytest.raises(UserError, match=r"has wd=0.0001, wd=0.01, and none of them is .*optimizer.wd=0.5"):
        auto("optimizer.wd=0.5")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.hidden=[32]", r"another model: model.hidden is \[32\] here"),
        ("model=resnet20", "another model"),
        ("data=mnist", r"another data: data._target_ is 'tempo.data.mnist.mnist' here"),
        ("optimizer=adam", r"another optimizer: optimizer._target_ is 'torch.optim.Adam' here"),
    ],
)
def test_a_range_test_of_something_else(
    override: str, words: str, tmp_path: Path, auto: Callable[..., dict[str, Any]]
) -> None:
    write_test(tmp_path, {1e-4: (0.04, 0.4)})
    with pytest.raises(UserError, match=words):
        auto(override)


def write_tests_of(folder: Path, tests: dict[str, float]) -> None:
    """lr_range.json with a setting, and its max_lr, for each override."""
    entries: list[dict[str, Any]] = []
    for override, max_lr in tests.items():
        config, _ = compose_job(["model=mlp", override])
        bounds = {"min_lr": max_lr / 10, "max_lr": max_lr}
        made = {"label": override, "essentials": essentials(config), "proposal": bounds, "go_on": ""}
        entries.append(made)
    content = {"kind": KIND, "schema_version": SCHEMA_VERSION, "settings": entries}
    (folder / FILE_NAME).write_text(json.dumps(content), encoding="utf-8")


def test_of_several_models_each_has_its_own(tmp_path: Path, auto: Callable[..., dict[str, Any]]) -> None:
    write_tests_of(tmp_path, {"model.hidden=[16]": 0.3, "model.hidden=[32]": 0.2, "model=resnet20": 0.7})
    assert auto("model.hidden=[16]")["max_lr"] == 0.3
    assert auto("model.hidden=[32]")["max_lr"] == 0.2
    assert auto("model=resnet20")["max_lr"] == 0.7
    with pytest.raises(UserError, match="none of them is this run's"):
        auto("model.hidden=[8]")
    with pytest.raises(UserError, match=r"another optimizer: optimizer._target_"):
        auto("model=resnet20", "optimizer=adam")


def test_of_several_optimizers_each_has_its_own(tmp_path: Path, auto: Callable[..., dict[str, Any]]) -> None:
    write_tests_of(tmp_path, {"optimizer=momentum": 0.3, "optimizer=adam": 0.02})
    assert auto("optimizer=momentum")["max_lr"] == 0.3
    assert auto("optimizer=adam")["max_lr"] == 0.02
    with pytest.raises(UserError, match="none of them is this run's"):
        auto("optimizer=adagrad")


def test_the_place_of_downloaded_data_does_not_matter(tmp_path: Path) -> None:
    write_test(tmp_path, {1e-4: (0.04, 0.4)}, "data=mnist", "data.root=/here")
    auto = ["scheduler.max_lr=auto", f"scheduler.range_test={tmp_path}"]
    config, _ = compose_job([*CYCLE, *auto, "data=mnist", "data.root=/there"])
    assert config["scheduler"]["max_lr"] == 0.4


def test_the_folder_of_ones_own_images_does(tmp_path: Path) -> None:
    write_test(tmp_path, {1e-4: (0.04, 0.4)}, "data=folder", "data.root=/here")
    auto = ["scheduler.max_lr=auto", f"scheduler.range_test={tmp_path}"]
    with pytest.raises(UserError, match=r"another data: data.root is '/there' here and '/here' there"):
        compose_job([*CYCLE, *auto, "data=folder", "data.root=/there"])


def test_without_a_proposal(tmp_path: Path, auto: Callable[..., dict[str, Any]]) -> None:
    write_test(tmp_path, {1e-4: None})
    with pytest.raises(UserError, match=r"no minimum; run src/lr_range.py again with scheduler.max_lr=99"):
        auto()


def test_without_a_file(auto: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(UserError, match=r"No such file or directory; run src/lr_range.py and set"):
        auto("scheduler.range_test=/no/such/folder")
    with pytest.raises(UserError, match=r"name its folder with scheduler\.range_test="):
        auto("scheduler.range_test=null")


def test_auto_is_a_word_of_these_bounds_only(tmp_path: Path) -> None:
    config, _ = compose_job(["scheduler=constant", "scheduler.lr=auto"])
    with pytest.raises(UserError, match=r"scheduler\.lr='auto' is not a number"):
        check(config)
