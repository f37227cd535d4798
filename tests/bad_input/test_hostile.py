"""Folders and files of a stranger: none of their code runs, nothing outside is written, one line is said."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tempo.errors import UserError
from tempo.record.foreign_folder import check_foreign_config
from tempo.report.write_report import build_report
from tests.bad_input.conftest import SMALL, Refused, Trap, assert_refused, edit
from tests.bad_input.warm import Warm
from tests.report.example_runs import screen_text, write_run


def trap_in(path: Path, canary: Path, form: str) -> None:
    content = {"state_dict": Trap(canary), "config_hash": "", "global_step": 1}
    if form == "zip":
        torch.save(content, path)
    elif form == "legacy":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_a_checkpoint_that_is_a_trap(
    form: str, run: Path, canary: Path, heavy: Warm, refused: Refused
) -> None:
    trap_in(run / "checkpoints" / "last.ckpt", canary, form)
    assert "is damaged or not a checkpoint" in refused(heavy, "evaluate.py", f"run={run}", "checkpoint=last")
    if form == "zip":
        given = [*SMALL, f"init_from={run}", "seed=1", f"hydra.run.dir={run.parent / 'new'}"]
        shutil.copy(run / "checkpoints" / "last.ckpt", run / "checkpoints" / "best.ckpt")
        refused(heavy, "train.py", *given)
    assert not canary.exists()


def test_a_resumed_run_passes_over_a_trap(run: Path, canary: Path, heavy: Warm, tmp_path: Path) -> None:
    for name in ("last", "previous", "best"):
        trap_in(run / "checkpoints" / f"{name}.ckpt", canary, "zip")
    edit(run, status="interrupted")
    done = heavy.call("train.py", f"resume={run}", folder=tmp_path)
    assert done.code == 0, done.err
    assert "is damaged or not a checkpoint" in done.out + done.err
    assert not canary.exists()


# A `_target_` and where it stands.
TARGETS: list[tuple[str, Any]] = [
    ("model", {"_target_": "os.system", "command": "true"}),
    ("model", {"_target_": "subprocess.Popen", "args": ["true"]}),
    ("model", {"_target_": "builtins.eval"}),
    ("model", {"_target_": "torch.load", "f": "x"}),
    ("model", {"_target_": "torch.hub.load"}),
    ("model", {"_target_": "tempo.run.process_launch.launch_group"}),
    ("model", {"_target_": "tempo.data.digits.digits"}),
    ("model", {"_target_": ["os.system"]}),
    ("model", {"_target_": {"_target_": "os.system"}}),
    ("model", {"_target_": "tempo.model.mlp.MLP", "hidden": [{"_target_": "os.system"}]}),
    ("model", {"_target_": "tempo.model.mlp.MLP", "hidden": [8], "x": {"y": {"_target_": "os.system"}}}),
    ("optimizer", {"_target_": "torch.optim.lr_scheduler.LambdaLR"}),
    ("optimizer", {"_target_": "torch.optim._functional.sgd"}),
    ("scheduler", {"_target_": "hydra.utils.get_method", "path": "os.system"}),
    ("logger", {"_target_": "os.system"}),
    ("trainer", {"_target_": "os.system"}),
    ("paper", {"_target_": "os.system"}),
]


@pytest.mark.parametrize(("group", "node"), TARGETS, ids=lambda value: str(value)[:60])
def test_a_target_that_conf_does_not_name(group: str, node: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="is not named in conf/"):
        check_foreign_config({"seed": 0, group: node})


def test_a_target_in_a_folder_is_refused_by_every_script(
    run: Path, canary: Path, heavy: Warm, light: Warm, refused: Refused
) -> None:
    record = json.loads((run / "run.json").read_text())
    evil = {"_target_": "os.mkdir", "path": str(canary)}
    edit(run, config={**record["config"], "model": evil}, status="interrupted")
    for script in ("evaluate.py", "reproduce.py"):
        assert "is not named in conf/model" in refused(heavy, script, f"run={run}")
    given = ["data=synthetic", "model=frugal", f"model.run={run}", f"hydra.run.dir={run.parent / 'new'}"]
    assert "is not named in conf/model" in refused(heavy, "train.py", *given)
    # The configuration is harmless, the overrides are not.
    overrides = [*SMALL, f"+model.x={{_target_: os.mkdir, path: '{canary}'}}"]
    edit(run, config=record["config"], overrides=overrides)
    for script in ("evaluate.py", "reproduce.py"):
        assert "os.mkdir is not named in conf/model" in refused(heavy, script, f"run={run}")
    assert "os.mkdir is not named in conf/model" in refused(light, "train.py", f"resume={run}")
    # A run that was killed before its first record is begun again from a file of Hydra's.
    (run / "run.json").unlink()
    for target in ("os.mkdir", "numpy.fromfile", "torch.hub.load"):
        (run / ".hydra" / "overrides.yaml").write_text(json.dumps([*SMALL, f"model._target_={target}"]))
        assert f"{target} is not named in conf/model" in refused(light, "train.py", f"resume={run}")
    assert not canary.exists()


def test_overrides_that_are_no_keys_of_a_run(run: Path, heavy: Warm, light: Warm, refused: Refused) -> None:
    """Through the scripts; tests/command_line/test_arguments.py has many more."""
    for override in ("hydra.callbacks.x._target_=os.mkdir", "--experimental-rerun=/tmp/x.pickle"):
        edit(run, overrides=[*SMALL, override], status="interrupted")
        assert "which no run records" in refused(light, "train.py", f"resume={run}")
        assert "which no run records" in refused(heavy, "evaluate.py", f"run={run}")


def test_a_record_without_its_metrics_is_evaluated(run: Path, heavy: Warm, tmp_path: Path) -> None:
    edit(run, metrics={"test": {}})
    done = heavy.call("evaluate.py", f"run={run}", folder=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert "the record has no test" in done.out


def test_yaml_tags_make_no_objects(run: Path, canary: Path, light: Warm, refused: Refused) -> None:
    (run / "run.json").unlink()
    for tag in ("!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir"):
        (run / ".hydra" / "overrides.yaml").write_text(f"- {tag} ['{canary}']\n")
        assert "cannot be read" in refused(light, "train.py", f"resume={run}")
    assert not canary.exists()


def test_a_resumed_run_writes_through_no_link(run: Path, light: Warm, refused: Refused) -> None:
    edit(run, status="interrupted")
    treasure = run.with_name(f"{run.name}_treasure")  # which begins as the folder does
    treasure.write_text("years of work")
    (run / "metrics.csv").unlink()
    (run / "metrics.csv").symlink_to(treasure)
    assert "is a link to itself or out of the run's folder" in refused(light, "train.py", f"resume={run}")
    (run / "metrics.csv").unlink()
    (run / "metrics.csv").symlink_to("metrics.csv")
    assert "is a link to itself or out of the run's folder" in refused(light, "train.py", f"resume={run}")


def an_endless_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


ENDLESS = {
    "metrics.csv": (os.mkfifo, an_endless_file, lambda path: path.symlink_to("/dev/zero")),
    "run.json": (os.mkfifo, an_endless_file),
    "checkpoints/best.ckpt": (os.mkfifo, an_endless_file),
    ".hydra/overrides.yaml": (os.mkfifo,),
    "../sweep.json": (os.mkfifo, an_endless_file),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_file_without_an_end(name: str, run: Path, heavy: Warm, light: Warm, tmp_path: Path) -> None:
    """A pipe, a device or a sparse file in the place of one that a script reads, or writes as it resumes."""
    edit(run, status="interrupted")
    if name == ".hydra/overrides.yaml":
        (run / "run.json").unlink()
    commands = [(light, "report.py", str(run.parent))]
    if not name.startswith(".."):
        commands += [(light, "train.py", f"resume={run}"), (heavy, "evaluate.py", str(run))]
    if name == "metrics.csv":
        commands += [(heavy, "reproduce.py", str(run), f"out={tmp_path / 'out'}")]
    for put_in_place in ENDLESS[name]:
        (run / name).unlink(missing_ok=True)
        put_in_place(run / name)
        for parent, script, *arguments in commands:
            if put_in_place is an_endless_file and name != "run.json" and "resume" in arguments[0]:
                continue  # damaged files of the run's own: tests/run
            done = parent.call(script, *arguments, folder=tmp_path)
            assert "Traceback" not in done.out + done.err, (name, script)
            assert done.code == 0 or len(done.err.splitlines()) == 1, done.err
            if arguments[0].startswith("resume="):
                assert done.code == 1


def test_a_report_writes_through_no_link(tmp_path: Path) -> None:
    treasure, elsewhere = tmp_path / "treasure", tmp_path / "elsewhere"
    treasure.write_text("years of work")
    elsewhere.mkdir()
    write_run(tmp_path / "run")
    out = tmp_path / "run" / "report"
    page = build_report([tmp_path / "run"], out)
    for name in ("results.csv", "report.md", "report.html", "figures/curves.png"):
        (out / name).unlink()
        (out / name).symlink_to(treasure)
    shutil.copy(build_report([tmp_path / "run"], tmp_path / "again"), elsewhere)
    (out / "report.html").unlink()
    shutil.copy(elsewhere / "report.html", out / "report.html")
    build_report([tmp_path / "run"], out)
    assert treasure.read_text() == "years of work"
    assert "<html" in page.read_text()
    shutil.rmtree(out)
    out.symlink_to(elsewhere)
    with pytest.raises(UserError, match=r"is a link to .*choose another folder with --out"):
        build_report([tmp_path / "run"], out)
    assert [path.name for path in elsewhere.iterdir()] == ["report.html"]


EVIL = "<script>alert(1)</script>[x](javascript:alert(1))![i](https://evil.example/i.png)`|\x1b[2J"


FORMULAS = (
    "=cmd|'/c calc'!A1",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    " =1",
    "\ufeff=1",
    "a;=1",
    "b\n@x",
    "\uff1d1",
)


def test_a_record_stays_text_in_every_output(tmp_path: Path) -> None:
    """The page has its own test, in tests/report; this is Markdown, CSV and the terminal."""
    for seed, formula in enumerate(FORMULAS):
        write_run(
            tmp_path / f"s/{seed}",
            seed=seed,
            name=EVIL,
            model__variant=formula,
            fields={
                "reason": formula,
                "device": EVIL,
                "versions": {EVIL: EVIL},
                "metrics": {formula: {formula: 0.5}, "test": {formula: 0.5}},
            },
            status="failed",
        )
    write_run(tmp_path / "s/good", model__variant=-0.5, name=EVIL)
    build_report([tmp_path / "s"], tmp_path / "out")

    markdown = re.sub(r"```.*?```", "", (tmp_path / "out" / "report.md").read_text(), flags=re.DOTALL)
    for raw in ("<script", "[x](", "![i]("):
        assert not re.search(rf"(?<!\\){re.escape(raw)}", markdown)
    text = (tmp_path / "out" / "results.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len(FORMULAS) + 1
    for row in (dict(zip(rows[0], rows[0], strict=True)), *rows):
        for cell in row.values():
            for part in re.split(r"[;\t\r\n]", cell):  # where a spreadsheet may split a line
                assert not re.match(
                    r"[=@\uff1d]|[+-](?![\d.]+$)", re.sub(r"^[\W_]*?(?=[=@\uff1d+'-])", "", part, count=1)
                )
    assert "-0.5" in {row["model.variant"] for row in rows}, "a negative number stays one"
    assert "'=cmd|'/c calc'!A1" in {row["model.variant"] for row in rows}
    assert "\x1b" not in screen_text(tmp_path / "s")


def test_names_that_are_mathematics(trained: Path, heavy: Warm, tmp_path: Path) -> None:
    """A run that trained well must not fail for the sake of its pictures."""
    given = [*SMALL, "name='$x^{$ %s <b>'", f"hydra.run.dir={tmp_path / 'run'}"]
    done = heavy.call("train.py", *given, folder=tmp_path)
    assert done.code == 0, done.err
    assert done.err == ""
    assert (tmp_path / "run" / "curves.png").exists()


def test_a_checkpoint_from_elsewhere_is_only_read(trained: Path, heavy: Warm, tmp_path: Path) -> None:
    """`checkpoint=<file>` may lie anywhere and be of anything: plain values, or one line."""
    torch.save([1, 2], tmp_path / "list.ckpt")
    done = heavy.call(
        "evaluate.py", f"run={trained}", f"checkpoint={tmp_path / 'list.ckpt'}", folder=tmp_path
    )
    assert_refused(done)
    assert "it has no state_dict" in done.err
