"""Interpolations and places to write in a stranger's folder: refused in one line, and nothing is resolved."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tempo.config.hydra_targets import instantiated
from tempo.errors import UserError
from tempo.record.foreign_folder import check_foreign_config, foreign_overrides
from tempo.record.run_json import RunRecord
from tests.bad_input.conftest import SMALL, Refused, edit
from tests.bad_input.warm import Warm

# Where in the configuration a node stands that is made of a text; CALL stands for it.
CALL = "${oc.create:{_target_: os.mkdir, path: '%s'}}"
VARIANTS: list[tuple[str, Any]] = [
    ("data.root", CALL),
    ("data.augment.flip", CALL),
    ("model.hidden", CALL),
    ("model.hidden", [CALL]),
    ("model.hidden", {"a": [{"b": CALL}]}),
    ("optimizer.momentum", CALL),
    ("scheduler.lr", CALL),
    ("model", CALL),
    ("logger", {"name": CALL}),
    ("data", {CALL: 1}),
    ("name", "${oc.env:HOME}"),
    ("model.hidden", ["${oc.decode:'[8]'}"]),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def with_canary(value: Any, canary: Path) -> Any:
    return json.loads(json.dumps(value).replace("%s", str(canary)))


def changed(config: dict[str, Any], where: str, value: Any) -> dict[str, Any]:
    config = json.loads(json.dumps(config))
    *parents, leaf = where.split(".")
    node = config
    for parent in parents:
        node = node[parent]
    node[leaf] = value
    return config


def assert_interpolation_refused(line: str, canary: Path) -> None:
    assert "has an interpolation, which could read secrets or run code" in line
    assert "write the value itself in its place" in line
    assert not canary.exists()


@pytest.mark.parametrize(("where", "value"), VARIANTS, ids=lambda value: str(value)[:40])
def test_an_interpolation_in_a_recorded_configuration(
    where: str, value: Any, run: Path, canary: Path, light: Warm, refused: Refused
) -> None:
    record = json.loads((run / "run.json").read_text())
    edit(run, config=changed(record["config"], where, with_canary(value, canary)), status="interrupted")
    assert_interpolation_refused(refused(light, "train.py", f"resume={run}"), canary)


def test_every_reader_of_a_record_refuses_an_interpolation(
    run: Path, canary: Path, heavy: Warm, refused: Refused
) -> None:
    where, value = VARIANTS[0]
    record = json.loads((run / "run.json").read_text())
    edit(run, config=changed(record["config"], where, with_canary(value, canary)), status="interrupted")
    new = [*SMALL, f"hydra.run.dir={run.parent / 'new'}"]
    stem = ["data=synthetic", "model=frugal", f"model.run={run}", f"hydra.run.dir={run.parent / 'new'}"]
    for script, *arguments in (
        ("evaluate.py", str(run)),
        ("reproduce.py", str(run)),
        ("train.py", *stem),
        ("train.py", *new, f"init_from={run}"),
    ):
        assert_interpolation_refused(refused(heavy, script, *arguments), canary)


@pytest.mark.parametrize(
    "override",
    [
        "data.root='${oc.create:{_target_: os.mkdir, path: x}}'",
        "name='${oc.env:PATH}'",
        r"name=$\{oc.env:PATH\}",
        r"name='\${oc.env:PATH}'",
        "+model.x=[a,{b: '${oc.env:PATH}'}]",
        r"+model.x={$\{oc.env:PATH\}: 1}",
        "model=${oc.env:PATH}",
    ],
)
def test_an_interpolation_in_recorded_overrides(
    override: str, run: Path, heavy: Warm, light: Warm, refused: Refused
) -> None:
    edit(run, overrides=[*SMALL, override], status="interrupted")
    (run / ".hydra" / "overrides.yaml").write_text(json.dumps([*SMALL, override]))
    lines = [refused(heavy, script, str(run)) for script in ("evaluate.py", "reproduce.py")]
    lines.append(refused(light, "train.py", f"resume={run}"))
    (run / "run.json").unlink()
    lines.append(refused(light, "train.py", f"resume={run}"))
    for line in lines:
        assert "an interpolation, which could read secrets" in line
        assert os.environ["PATH"] not in line


def test_ones_own_interpolation_goes_on_as_the_line_says(
    run: Path, heavy: Warm, light: Warm, refused: Refused, tmp_path: Path
) -> None:
    root = json.loads((run / "run.json").read_text())["config"]["name"]
    own = "name='${oc.env:RUN_NAME}'"
    edit(run, overrides=[*SMALL, own], status="interrupted")
    remedy = refused(light, "train.py", f"resume={run}").rpartition("in its place there: ")[2]
    assert remedy == f'name="{root}"'
    for given_again in (own, remedy):
        done = heavy.call(
            "train.py", f"resume={run}", given_again, folder=tmp_path, environment={"RUN_NAME": root}
        )
        assert done.code == 0, done.err
        edit(run, overrides=[*SMALL, own], status="interrupted")
    edit(run, overrides=[*SMALL, remedy], status="completed")
    assert heavy.call("evaluate.py", str(run), folder=tmp_path).code == 0


@pytest.mark.parametrize("override", ["model=../../../evil", "model=/tmp/evil", "experiment=../../evil"])
def test_an_option_that_leads_out_of_conf(override: str, run: Path, light: Warm, refused: Refused) -> None:
    edit(run, overrides=[*SMALL, override], status="interrupted")
    assert "which no run records" in refused(light, "train.py", f"resume={run}")


@pytest.mark.parametrize(
    "overrides",
    [
        "data=folder data.root={here} data.cache={here}/elsewhere",
        "+logger.csv.save_dir={here}/elsewhere",
        "+logger.mlflow.tracking_uri=http://elsewhere.example",
        "data=cifar10 data.root={here}/elsewhere",
    ],
)
def test_a_recorded_place_to_write(overrides: str, run: Path, light: Warm, refused: Refused) -> None:
    asked = shlex.split(overrides.format(here=run.parent))
    edit(run, overrides=[*SMALL, *asked], status="interrupted")
    line = refused(light, "train.py", f"resume={run}")
    assert "which may not choose where to" in line
    remedy = line.rpartition("after resume=: ")[2]
    assert remedy.partition("=")[0] in asked[-1]
    # What is typed again is the user's word: only the comparison with the record is left to refuse it.
    line = refused(light, "train.py", f"resume={run}", remedy)
    assert "when the run began" in line or "is not a key; choose loggers by" in line


def holds_interpolation(value: Any) -> bool:
    return "${" in json.dumps(value, ensure_ascii=False)


@settings(deadline=None)
@given(VALUES, st.text(), st.text(), st.lists(st.sampled_from(["list", "value", "key"]), max_size=6))
def test_no_nesting_hides_an_interpolation(value: Any, before: str, after: str, path: list[str]) -> None:
    node: Any = f"{before}${{{after}"
    for step in path:
        node = {"list": [value, node], "value": {"a": value, "b": node}, "key": {str(node): value}}[step]
    with pytest.raises(UserError, match=r"has an interpolation|is not named in conf/"):
        check_foreign_config({"model": node})
    with pytest.raises(UserError, match="has an interpolation"):
        instantiated("model", {"_target_": "builtins.dict", "x": node})


@settings(deadline=None)
@given(VALUES)
def test_what_passes_resolves_to_itself(value: Any) -> None:
    try:
        check_foreign_config({"model": value})
    except UserError:
        assert holds_interpolation(value) or "_target_" in json.dumps(value)
        return
    config = OmegaConf.create({"model": value})
    assert OmegaConf.to_container(config, resolve=True) == OmegaConf.to_container(config, resolve=False)


@settings(deadline=None)
@given(st.text(alphabet="ab$\\{}[]'\",:= ", max_size=14))
def test_no_spelling_hides_an_interpolation_in_an_override(text: str) -> None:
    try:
        kept = foreign_overrides([f"+x={text}"], Path("run.json"))
    except UserError as error:
        assert not re.search(r"[\r\n]", str(error))
        return
    assert kept == [f"+x={text}"]
    assert "${" not in text


def test_a_record_with_an_interpolation_is_not_read(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    edit(run, config={**record["config"], "name": "${oc.env:HOME}"})
    with pytest.raises(UserError, match="has an interpolation"):
        RunRecord.read(run)
