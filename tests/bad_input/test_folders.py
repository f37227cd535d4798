"""Folders that are broken, taken, full or not to be written: records, checkpoints, sweeps, range tests."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tempo.errors import UserError, printable
from tempo.record.run_json import RunRecord
from tests.bad_input.conftest import Refused, assert_refused
from tests.bad_input.warm import Warm


def write(text: str | bytes) -> Callable[[Path], None]:
    data = text.encode() if isinstance(text, str) else text
    return lambda path: path.write_bytes(data) and None  # type: ignore[return-value]


def changed(**values: Any) -> Callable[[Path], None]:
    """Replace entries of a JSON file; `a__b` is b of a, None removes it."""

    def change(path: Path) -> None:
        content = json.loads(path.read_text())
        for key, value in values.items():
            *parents, leaf = key.split("__")
            node = content
            for parent in parents:
                node = node[parent]
            if value is None:
                del node[leaf]
            else:
                node[leaf] = value
        path.write_text(json.dumps(content))

    return change


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def removed(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def not_readable(path: Path) -> None:
    path.chmod(0)


# (what is done to run.json, what the line must name)
RECORDS: list[tuple[str, Callable[[Path], None], str]] = [
    ("empty", write(""), "is not JSON"),
    ("cut short", cut, "is not JSON"),
    ("binary", write(b"\xff\xfe\x00\x80"), "cannot be read"),
    ("a list", write("[]"), "schema_version None"),
    ("null", write("null"), "schema_version None"),
    ("brackets without an end", write("[" * 200_000), "is not JSON"),
    ("a number of 5,000 digits", write('{"schema_version": ' + "9" * 5000 + "}"), "is not JSON"),
    ("not a number", write("NaN"), "schema_version None"),
    ("of the future", changed(schema_version=99), "schema_version 99"),
    ("a version that is text", changed(schema_version="1"), "schema_version '1'"),
    ("an unknown key", changed(colour="red"), "unknown keys ['colour']"),
    ("no configuration", changed(config=None), "lacks ['config']"),
    ("configuration a list", changed(config=[1]), "has config='[1]', but dict[str, Any] belongs there"),
    ("overrides that are none", changed(overrides={"a": 1}), "but list[str] belongs"),
    ("seed that is text", changed(seed="zero"), "but int belongs"),
    ("unknown status", changed(status="happy"), "status 'happy'"),
    ("metrics that are text", changed(metrics={"test": {"loss": "low"}}), "train the run again"),
    ("half a character", changed(name="\ud800"), "is not JSON"),
    ("a list in a list in a list", changed(config__model__hidden=json.loads("[" * 400 + "]" * 400)), "deep"),
    ("infinite steps", changed(steps=float("inf")), "but int belongs"),
    ("an escape sequence", changed(status="\x1b[2J\x07"), "\\x1b[2J"),
    ("a name without an end", changed(**{"x" * 100_000: 1}), "unknown keys"),
    ("removed", removed, "has no run.json"),
    ("a folder", a_folder, "run.json cannot be read: it is not a regular file"),
    ("a pipe", a_pipe, "run.json cannot be read: it is not a regular file"),
    ("a link to itself", a_link_to_itself, "run.json"),
    ("not readable", not_readable, "Permission denied"),
]


@pytest.mark.parametrize(("name", "damage", "words"), RECORDS[:-1], ids=[case[0] for case in RECORDS[:-1]])
def test_a_broken_record_is_not_read(
    name: str, damage: Callable[[Path], None], words: str, run: Path
) -> None:
    damage(run / "run.json")
    with pytest.raises(UserError) as caught:
        RunRecord.read(run)
    line = printable(str(caught.value))
    assert words in line
    assert len(line) < 3000


BOTH = [
    (name, script, *rest)
    for name, *rest in RECORDS[::4] + RECORDS[-1:]
    for script in ("evaluate.py", "train.py")
]


@pytest.mark.parametrize(
    ("name", "script", "damage", "words"), BOTH, ids=[" ".join(case[:2]) for case in BOTH]
)
def test_a_broken_record(
    name: str, script: str, damage: Callable[[Path], None], words: str, run: Path, light: Warm, tmp_path: Path
) -> None:
    damage(run / "run.json")
    (run / ".hydra" / "overrides.yaml").unlink()  # what a run is begun again from, where it has no record
    before = sorted(run.rglob("*"))
    key = "run" if script == "evaluate.py" else "resume"
    done = light.call(script, f"{key}={run}", folder=tmp_path)
    assert_refused(done)
    assert words in done.err
    assert done.err.isprintable() or done.err.strip().isprintable()
    assert len(done.err) < 3000
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize(("name", "damage", "words"), RECORDS[:6:3] + RECORDS[8:9] + RECORDS[-4:-2])
def test_a_report_of_a_broken_record(
    name: str, damage: Callable[[Path], None], words: str, run: Path, light: Warm, tmp_path: Path
) -> None:
    damage(run / "run.json")
    done = light.call("report.py", str(run), folder=tmp_path)
    assert_refused(done)
    assert "none of the 1 runs found can be read" in done.err
    assert words.rsplit("has ", maxsplit=1)[-1] in done.err
    assert not (run / "report").exists()


# (what is done to the record's configuration, what the line must name)
CONFIGURATIONS: list[tuple[Callable[[Path], None], str]] = [
    (changed(config={}), "data=None must be a group of keys"),
    (changed(config__model=None), "model=None"),
    (changed(config__trainer=3), "trainer=3"),
    (changed(config__model___target_=None), "model"),
    (changed(config__model__hidden="many"), "model.hidden='many'"),
    (changed(config__seed=-1), "seed=-1"),
    (changed(config__data__augment="none"), "data.augment='none'"),
    (changed(config__model__hidden=[32, 32]), "the checkpoint does not fit model"),
    (changed(data__sha256="0" * 64), "the data are not those of the run"),
    (changed(overrides=["model=mlp", "\x1b[2J=1"]), "which no run records"),
]


@pytest.mark.parametrize(("damage", "words"), CONFIGURATIONS, ids=[case[1] for case in CONFIGURATIONS])
def test_a_record_of_something_else(
    damage: Callable[[Path], None], words: str, run: Path, heavy: Warm, refused: Refused
) -> None:
    damage(run / "run.json")
    assert words in refused(heavy, "evaluate.py", f"run={run}")


CHECKPOINTS: list[tuple[str, Callable[[Path], None], str]] = [
    ("empty", write(""), "is damaged or not a checkpoint"),
    ("cut short", cut, "is damaged or not a checkpoint"),
    ("a flipped bit", flipped, "is damaged: its SHA-256"),
    ("text", write("no checkpoint at all"), "is damaged or not a checkpoint"),
    ("a folder", a_folder, "is not a file"),
    ("a pipe", a_pipe, "is not a file"),
    ("removed", removed, "the run has saved no such checkpoint"),
    ("not readable", not_readable, "Permission denied"),
]


@pytest.mark.parametrize(("name", "damage", "words"), CHECKPOINTS, ids=[case[0] for case in CHECKPOINTS])
def test_a_broken_checkpoint(
    name: str, damage: Callable[[Path], None], words: str, run: Path, heavy: Warm, tmp_path: Path
) -> None:
    damage(run / "checkpoints" / "last.ckpt")
    done = heavy.call("evaluate.py", f"run={run}", "checkpoint=last", folder=tmp_path)
    assert_refused(done)
    assert words in done.err
    assert not (run / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["checkpoint=/nowhere"], "is not a file; choose tested, best, last"),
        (["checkpoint=lst"], "Did you mean 'last'?"),
        (["checkpoint=/dev/zero"], "is not a file"),
        (["accelerator=abacus"], "is unknown; choose from: auto, cpu, gpu, mps"),
        (["accelerator=gpu"], "accelerator"),
    ],
)
def test_an_evaluation_of_something_else(
    arguments: list[str], words: str, run: Path, heavy: Warm, refused: Refused
) -> None:
    assert words in refused(heavy, "evaluate.py", f"run={run}", *arguments)


@pytest.mark.parametrize(
    ("damage", "arguments", "words"),
    [
        (changed(), [], "is completed after 2 steps"),
        (changed(status="diverged"), [], "diverged after 2 steps and cannot be resumed"),
        (changed(status="interrupted"), ["optimizer.lr=0.5"], "leave optimizer.lr out"),
        (changed(status="interrupted"), ["model=cnn3"], "a resumed run keeps its configuration"),
        (changed(status="interrupted", overrides=["model=mlp"]), [], "a resumed run keeps its configuration"),
        (changed(status="interrupted", overrides=["seed=["]), [], "which no run records"),
        (changed(status="interrupted", overrides=["sede=1"]), [], "sede"),
    ],
)
def test_a_run_that_cannot_be_resumed(
    damage: Callable[[Path], None], arguments: list[str], words: str, run: Path, light: Warm, refused: Refused
) -> None:
    damage(run / "run.json")
    assert words in refused(light, "train.py", f"resume={run}", *arguments)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"[",
        b"{a: 1}",
        b"just text",
        b"[1, {a: 1}]",
        b"- !!python/object/apply:os.getcwd []\n",
        b"- &a [x, x, x, x, x, x, x, x]\n"
        + b"".join(b"- &%c [%s]\n" % (c, b", ".join([b"*%c" % (c - 1)] * 8)) for c in range(98, 110)),
        b"- " + b"[" * 3000 + b"]" * 3000,
        b"",
    ],
)
def test_overrides_that_cannot_be_begun_again_from(
    content: bytes, run: Path, light: Warm, refused: Refused
) -> None:
    (run / "run.json").unlink()
    (run / ".hydra" / "overrides.yaml").write_bytes(content)
    refused(light, "train.py", f"resume={run}")


# (content of lr_range.json, what the line must name)
RANGE_TESTS = [
    "",
    "{",
    "[]",
    "null",
    "3",
    '{"kind": "lr_range"}',
    '{"kind": "x", "schema_version": 1}',
    '{"kind": "lr_range", "schema_version": 9}',
    "[" * 200_000,
]
RANGE_TESTS += [
    json.dumps({"kind": "lr_range", "schema_version": 1, "settings": settings})
    for settings in (
        [],
        [3],
        [{}],
        [{"essentials": {"model._target_": "x"}, "label": "", "go_on": "", "proposal": None}],
        *(
            [{"essentials": {}, "label": "", "go_on": "", "proposal": proposal}]
            for proposal in (
                {"min_lr": 0, "max_lr": 1},
                {"min_lr": "low", "max_lr": "high"},
                {"min_lr": 0.1},
                {},
                [],
                3,
            )
        ),
    )
]


@pytest.mark.parametrize("content", RANGE_TESTS, ids=lambda text: text[:70])
def test_a_broken_range_test(content: str, light: Warm, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "lr_range.json").write_text(content)
    given = ["scheduler=onecycle", "scheduler.max_lr=auto", f"scheduler.range_test={tmp_path}"]
    line = refused(light, "train.py", "model=mlp", *given, f"hydra.run.dir={tmp_path / 'run'}")
    assert "scheduler.range_test=" in line
    assert "src/lr_range.py" in line


def test_garbage_beside_a_run_does_not_stop_its_report(run: Path, light: Warm, tmp_path: Path) -> None:
    """A curve, a sweep's file: what is lost is lost, the record still counts."""
    (run / "metrics.csv").write_bytes(os.urandom(5000) + b"\n\x00,,,\n" + b"\xff" * 100)
    (tmp_path / "sweep.json").write_text("[" * 200_000)
    done = light.call("report.py", str(tmp_path), folder=tmp_path)
    assert done.code == 0, done.err
    assert done.err == ""
    assert (tmp_path / "report" / "report.html").exists()
