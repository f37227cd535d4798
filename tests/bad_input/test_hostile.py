"""Folders and files of a stranger: none of their code runs, nothing outside is written, one line is said."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import re
import shutil
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

from tempo.data import cifar
from tempo.data.folder import folder as image_folder
from tempo.errors import UserError
from tempo.report.build import build_report, summary_table
from tempo.targets import check_named_by_conf
from tests.bad_input.conftest import Refused, assert_refused
from tests.bad_input.warm import Warm
from tests.data.archives import md5
from tests.report.example_runs import write_run

SMALL = ("model=mlp", "trainer=cpu", "data.train_size=128", "trainer.threads=1", "trainer.max_steps=2")


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """What is there if a stranger's code has run; the trap itself works."""
    path = tmp_path / "canary"
    pickle.loads(pickle.dumps(Trap(path)))
    path.rmdir()
    return path


@pytest.fixture(scope="module")
def trained(heavy: Warm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    done = heavy.call("train.py", *SMALL, f"hydra.run.dir={folder / 'run'}", folder=folder)
    assert done.code == 0, done.err
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def edit(run: Path, **values: Any) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, **values}))


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
    assert "is damaged or no checkpoint" in refused(heavy, "evaluate.py", f"run={run}", "checkpoint=last")
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
    assert "is damaged or no checkpoint" in done.out + done.err
    assert not canary.exists()


# A `_target_` and where it stands.
TARGETS: list[tuple[str, Any]] = [
    ("model", {"_target_": "os.system", "command": "true"}),
    ("model", {"_target_": "subprocess.Popen", "args": ["true"]}),
    ("model", {"_target_": "builtins.eval"}),
    ("model", {"_target_": "torch.load", "f": "x"}),
    ("model", {"_target_": "torch.hub.load"}),
    ("model", {"_target_": "tempo.launch.launch_group"}),
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
    with pytest.raises(UserError, match="is named by no conf/"):
        check_named_by_conf({"seed": 0, group: node})


def test_a_target_in_a_folder_is_refused_by_every_script(
    run: Path, canary: Path, heavy: Warm, light: Warm, refused: Refused
) -> None:
    record = json.loads((run / "run.json").read_text())
    evil = {"_target_": "os.mkdir", "path": str(canary)}
    edit(run, config={**record["config"], "model": evil}, status="interrupted")
    for script in ("evaluate.py", "reproduce.py"):
        assert "is named by no conf/model" in refused(heavy, script, f"run={run}")
    given = ["data=synthetic", "model=frugal", f"model.run={run}", f"hydra.run.dir={run.parent / 'new'}"]
    assert "is named by no conf/model" in refused(heavy, "train.py", *given)
    # The configuration is harmless, the overrides are not.
    overrides = [*SMALL, f"+model.x={{_target_: os.mkdir, path: '{canary}'}}"]
    edit(run, config=record["config"], overrides=overrides)
    for script in ("evaluate.py", "reproduce.py"):
        assert "os.mkdir is named by no conf/model" in refused(heavy, script, f"run={run}")
    assert "os.mkdir is named by no conf/model" in refused(light, "train.py", f"resume={run}")
    # A run that was killed before its first record is begun again from a file of Hydra's.
    (run / "run.json").unlink()
    for target in ("os.mkdir", "numpy.fromfile", "torch.hub.load"):
        (run / ".hydra" / "overrides.yaml").write_text(json.dumps([*SMALL, f"model._target_={target}"]))
        assert f"{target} is named by no conf/model" in refused(light, "train.py", f"resume={run}")
    assert not canary.exists()


@pytest.mark.parametrize(
    "override",
    [
        "hydra.callbacks.x._target_=os.mkdir",
        "+hydra.callbacks.x={_target_: os.mkdir}",
        "hydra/launcher=evil",
        "hydra.searchpath=[file:///tmp]",
        "+model@hydra.callbacks.x=mlp",
        "--config-dir=/tmp",
        "--experimental-rerun=/tmp/x.pickle",
        "-cp=/tmp",
    ],
)
def test_overrides_that_are_no_keys_of_a_run(
    override: str, run: Path, heavy: Warm, light: Warm, refused: Refused
) -> None:
    edit(run, overrides=[*SMALL, override], status="interrupted")
    assert "which no run records" in refused(light, "train.py", f"resume={run}")
    assert "which no run records" in refused(heavy, "evaluate.py", f"run={run}")


def test_yaml_tags_make_no_objects(run: Path, canary: Path, light: Warm, refused: Refused) -> None:
    (run / "run.json").unlink()
    for tag in ("!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir"):
        (run / ".hydra" / "overrides.yaml").write_text(f"- {tag} ['{canary}']\n")
        assert "cannot be read" in refused(light, "train.py", f"resume={run}")
    assert not canary.exists()


def test_a_resumed_run_writes_through_no_link(
    run: Path, light: Warm, refused: Refused, tmp_path: Path
) -> None:
    edit(run, status="interrupted")
    treasure = tmp_path / "treasure"
    treasure.write_text("years of work")
    (run / "metrics.csv").unlink()
    (run / "metrics.csv").symlink_to(treasure)
    assert "is a link out of the run's folder" in refused(light, "train.py", f"resume={run}")


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
    assert [each.name for each in elsewhere.iterdir()] == ["report.html"]


EVIL = "<script>alert(1)</script>[x](javascript:alert(1))![i](https://evil.example/i.png)`|\x1b[2J"


def test_a_record_stays_text_in_every_output(tmp_path: Path) -> None:
    """The page has its own test, in tests/report; this is Markdown, CSV and the terminal."""
    for seed, formula in enumerate(("=cmd|'/c calc'!A1", "+1+1", "-2+3", "@SUM(A1)", "\t=1")):
        write_run(
            tmp_path / f"s/{seed}",
            seed=seed,
            name=EVIL,
            model__variant=formula,
            fields={"reason": formula, "device": EVIL, "versions": {EVIL: EVIL}},
            status="failed",
        )
    write_run(tmp_path / "s/good", model__variant=-0.5, name=EVIL)
    build_report([tmp_path / "s"], tmp_path / "out")

    markdown = re.sub(r"```.*?```", "", (tmp_path / "out" / "report.md").read_text(), flags=re.DOTALL)
    for raw in ("<script", "[x](", "![i]("):
        assert not re.search(rf"(?<!\\){re.escape(raw)}", markdown)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "results.csv").read_text())))
    assert len(rows) == 6
    for row in rows:
        for cell in row.values():
            assert not re.match(r"[=@\t\r]|[+-](?![\d.]+$)", cell)
    assert "-0.5" in {row["model.variant"] for row in rows}, "a negative number stays one"
    assert "'=cmd|'/c calc'!A1" in {row["model.variant"] for row in rows}
    assert "\x1b" not in summary_table([tmp_path / "s"])


def test_names_that_are_mathematics(trained: Path, heavy: Warm, tmp_path: Path) -> None:
    """A run that trained well must not fail for the sake of its pictures."""
    given = [*SMALL, "name='$x^{$ %s <b>'", f"hydra.run.dir={tmp_path / 'run'}"]
    done = heavy.call("train.py", *given, folder=tmp_path)
    assert done.code == 0, done.err
    assert done.err == ""
    assert (tmp_path / "run" / "curves.png").exists()


def png(width: int, height: int) -> bytes:
    """An image that says it is so large, in a hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def images(root: Path) -> dict[str, Any]:
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(root / name / f"{number}.png")
    settings = {"channels": 3, "test_size": 2, "test_seed": 0, "cache": str(root.parent / "cache")}
    return {"root": str(root), "image_size": None, **settings}


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (12_000, 12_000), (2_000_000_000, 1)])
def test_an_image_that_would_fill_the_memory(width: int, height: int, tmp_path: Path) -> None:
    given = images(tmp_path / "images")
    (tmp_path / "images" / "a" / "bomb.png").write_bytes(png(width, height))
    with pytest.raises(UserError, match=r"bomb\.png cannot be read as an image"):
        image_folder(**given)


def test_what_is_no_file_is_passed_over(tmp_path: Path) -> None:
    """Pipes and devices would be read for ever."""
    given = images(tmp_path / "images")
    os.mkfifo(tmp_path / "images" / "a" / "pipe.png")
    (tmp_path / "images" / "a" / "zero.png").symlink_to("/dev/zero")
    train, test = image_folder(**given)
    assert len(train) + len(test) == 8


def test_a_cache_that_is_a_trap_is_decoded_again(canary: Path, tmp_path: Path) -> None:
    given = images(tmp_path / "images")
    expected, _ = image_folder(**given)
    (cached,) = (tmp_path / "cache").glob("*.npy")
    np.save(cached, np.array([Trap(canary)], dtype=object), allow_pickle=True)
    again, _ = image_folder(**given)
    assert torch.equal(again.images, expected.images)
    assert not canary.exists()


def test_an_archive_leaves_its_folder_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even one with the right checksum: members are read in memory, and none is written anywhere."""
    root = tmp_path / "data"
    root.mkdir()
    packed = root / CIFAR10.filename
    with tarfile.open(packed, "w:gz") as archive:
        for name in ("../escaped", "/tmp/tempo_escaped", "cifar-10-batches-py/../../escaped", "batches.meta"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"evil"))
        for kind, target in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "../escaped")):
            member = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
            member.type, member.linkname = kind, target
            archive.addfile(member)
        member = tarfile.TarInfo("cifar-10-batches-py/test_batch")
        member.type, member.devmajor, member.devminor = tarfile.CHRTYPE, 1, 5
        archive.addfile(member)
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(packed.read_bytes()))
    with pytest.raises(UserError, match="is truncated or corrupt"):
        cifar.cifar10(root=str(root), download=False)
    assert sorted(each.name for each in tmp_path.rglob("*")) == [CIFAR10.filename, "data"]
    assert not Path("/tmp/tempo_escaped").exists()


@pytest.mark.parametrize("what", ["huge", "a pipe"])
def test_an_archive_that_is_none(what: str, tmp_path: Path) -> None:
    """Two gigabytes of nothing cost no memory, a pipe is not waited for."""
    packed = tmp_path / CIFAR10.filename
    if what == "huge":
        packed.touch()
        os.truncate(packed, 2 << 30)
    else:
        os.mkfifo(packed)
    with pytest.raises(UserError, match="no file of at most 1024 MiB"):
        cifar.cifar10(root=str(tmp_path), download=False)


def test_a_checkpoint_from_elsewhere_is_only_read(trained: Path, heavy: Warm, tmp_path: Path) -> None:
    """`checkpoint=<file>` may lie anywhere and be of anything: plain values, or one line."""
    torch.save([1, 2], tmp_path / "list.ckpt")
    done = heavy.call(
        "evaluate.py", f"run={trained}", f"checkpoint={tmp_path / 'list.ckpt'}", folder=tmp_path
    )
    assert_refused(done)
    assert "it has no state_dict" in done.err
