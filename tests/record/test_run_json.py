"""run.json: what is written is read back, anything else is refused, and no reader sees half of a file."""

from __future__ import annotations

import json
import math
import multiprocessing
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tempo.errors import UserError
from tempo.record.atomic_write import write_atomically
from tempo.record.run_json import FILE_NAME, STATUSES, RunRecord, config_hash, flatten

NUMBERS = st.floats(allow_nan=False) | st.sampled_from([math.inf, -math.inf])
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
CONFIGS = st.dictionaries(
    st.text(),
    st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8),
    max_size=5,
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=4
) | st.sampled_from(["nan", "inf", "running", 2, -1, True])
METRICS = st.dictionaries(
    st.sampled_from(["train", "val", "test"]), st.dictionaries(st.sampled_from(["loss", "accuracy"]), NUMBERS)
)
RECORDS = st.builds(
    RunRecord,
    config=CONFIGS,
    config_hash=st.text(),
    overrides=st.lists(st.text()),
    seed=st.integers(0, 2**32 - 1),
    name=st.text(),
    choices=st.dictionaries(st.text(), st.text()),
    status=st.sampled_from(STATUSES),
    reason=st.text(),
    metrics=METRICS,
    seconds=st.dictionaries(st.text(), NUMBERS),
    steps=st.integers(0),
    epochs=NUMBERS,
    images_per_second=NUMBERS,
    objective=st.dictionaries(st.just("value"), NUMBERS),
)


def example(**values: Any) -> RunRecord:
    return RunRecord(**{"config": {"seed": 0}, "config_hash": "ab", "overrides": [], "seed": 0} | values)


@given(RECORDS)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_written_is_strict_json_and_is_read_back(record: RunRecord) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads(record.to_json(), parse_constant=refuse)
    assert RunRecord.from_json(record.to_json()) == record


def test_not_a_number_is_written_as_text_and_read_as_a_number() -> None:
    record = example(metrics={"train": {"loss": math.nan}}, objective={"value": math.nan, "name": "val/loss"})
    assert json.loads(record.to_json())["metrics"]["train"]["loss"] == "nan"
    again = RunRecord.from_json(record.to_json())
    assert math.isnan(again.metrics["train"]["loss"])
    assert math.isnan(again.objective["value"])
    assert again.objective["name"] == "val/loss"


def test_file_and_text_are_the_same(tmp_path: Path) -> None:
    record = example(name="größer")
    record.write(tmp_path)
    assert (tmp_path / FILE_NAME).read_text(encoding="utf-8") == record.to_json()
    assert RunRecord.read(tmp_path) == record
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v | {"colour": "red"}, "unknown keys ['colour']"),
        (lambda v: {k: v[k] for k in v if k != "config"}, "lacks ['config']"),
        *(
            (lambda v, version=version: v | {"schema_version": version}, "this version of tempo reads 2")
            for version in (1, 2.0, True, 3, "2")
        ),
        (lambda v: {k: v[k] for k in v if k != "schema_version"}, "schema_version None"),
        (lambda v: v | {"status": "happy"}, "status 'happy'"),
        (lambda v: v | {"seconds": {"train": "long"}}, "but Seconds belongs there"),
        (lambda v: v | {"selected": {"value": None, "step": "last"}}, "but Selected belongs there"),
        (lambda v: v | {"epochs": None}, "has epochs='None', but float belongs there"),
        (lambda v: v | {"epochs": "many"}, "has epochs='many', but float belongs there"),
        (lambda v: v | {"seed": True}, "has seed='True', but int belongs there"),
        (lambda v: v | {"overrides": None}, "has overrides='None', but list[str] belongs there"),
        (lambda v: v | {"overrides": [3]}, "has overrides='[3]', but list[str] belongs there"),
        (lambda v: v | {"sessions": ["x"]}, "but list[dict[str, Any]] belongs there"),
        (lambda v: v | {"objective": []}, "has objective='[]', but Objective belongs there"),
        (lambda v: v | {"metrics": {"val": 0.5}}, "but dict[str, dict[str, float]] belongs there"),
        (
            lambda v: v | {"metrics": {"val": {"loss": "low"}}},
            "but dict[str, dict[str, float]] belongs there",
        ),
        (lambda v: v | {"name": None}, "has name='None', but str belongs there"),
        (lambda v: [v], "schema_version None"),
        (lambda v: 3, "schema_version None"),
    ],
)
def test_what_is_not_a_record_is_refused(change: Any, words: str) -> None:
    with pytest.raises(UserError) as caught:
        RunRecord.from_json(json.dumps(change(json.loads(example().to_json()))), "there/run.json")
    assert words in str(caught.value)
    assert str(caught.value).startswith("there/run.json")
    assert "\n" not in str(caught.value)


@given(RECORDS, st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_change_of_a_record_gives_a_record_or_one_line(record: RunRecord, data: st.DataObject) -> None:
    """A change of up to three values, then a change of one byte."""
    values = json.loads(record.to_json())
    for key in data.draw(st.lists(st.sampled_from(sorted(values)), min_size=1, max_size=3)):
        values[key] = data.draw(JSON)
    content = bytearray(record.to_json().encode())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    for text in (json.dumps(values), content.decode(errors="replace")):
        try:
            again = RunRecord.from_json(text)
        except UserError as error:
            assert "\n" not in str(error)
        else:
            assert RunRecord.from_json(again.to_json()).to_json() == again.to_json()


def test_what_is_not_a_run_folder_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    for folder in (tmp_path, tmp_path / "absent", file):
        with pytest.raises(UserError, match=r"has no run\.json") as caught:
            RunRecord.read(folder)
        assert str(folder) in str(caught.value)
    whole = example().to_json().encode()
    for content, words in ((b"\xff\xfe\x00", "cannot be read"), (b"", "not JSON"), (whole[:-3], "not JSON")):
        (tmp_path / FILE_NAME).write_bytes(content)
        with pytest.raises(UserError, match=words):
            RunRecord.read(tmp_path)


def test_a_run_with_a_result_is_finished() -> None:
    assert {s for s in STATUSES if example(status=s).finished} == {"completed", "diverged", "pruned"}


def test_config_hash_does_not_depend_on_order_and_does_on_values() -> None:
    one = {"a": 1, "b": {"c": [1, 2], "d": 0.1}}
    other = {"b": {"d": 0.1, "c": [1, 2]}, "a": 1}
    assert config_hash(one) == config_hash(other)
    assert len(config_hash(one)) == 16
    for changed in ({"a": 2, "b": one["b"]}, {"a": 1, "b": {"c": [2, 1], "d": 0.1}}, {"a": 1}):
        assert config_hash(changed) != config_hash(one)
    assert config_hash({"a": (1, 2)}) == config_hash({"a": [1, 2]})


def test_flatten_has_a_dotted_key_for_each_leaf() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": None}}, "e": [1, 2]}) == {"a.b": 1, "a.c.d": None, "e": [1, 2]}


def _rewrite(path: str, times: int) -> None:
    for number in range(times):
        write_atomically(Path(path), json.dumps([number] * 20_000))


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    _rewrite(str(path), 1)
    writer = multiprocessing.get_context("spawn").Process(target=_rewrite, args=(str(path), 150))
    writer.start()
    seen = set()
    while writer.is_alive():
        values = json.loads(path.read_text(encoding="utf-8"))
        assert len(values) == 20_000
        assert len(set(values)) == 1
        seen.add(values[0])
    writer.join()
    assert writer.exitcode == 0
    assert len(seen) > 1
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text() == "old"
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(OSError, match="folder"):
        write_atomically(folder, "new")
    assert stat.S_ISDIR(folder.stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
