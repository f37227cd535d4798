"""The parameters of a `_target_` are read from its source, and plain values are compared with their types."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import pytest

from tempo.config.check import check
from tempo.config.hydra_targets import EXTRAS, signature_of
from tempo.config.value_types import check_types, fits
from tempo.errors import UserError
from tests.jobs import CONF, compose_job

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("annotation", "fitting", "others"),
    [
        ("int", [1], [True, 1.0, None]),
        ("float", [1, INFINITY], [True, NAN]),
        ("str", ["x"], [1]),
        ("int | None", [None], ["x"]),
        ("tuple[int, ...]", [[1, 2]], [[1, "2"], 1]),
        ("tuple[int, int, int]", [[1, 2, 3]], [[1, 2]]),
        ("Literal['a', 'b']", ["a"], ["c"]),
        ("Literal[1]", [1], [True]),
        ("int | Literal['auto']", ["auto"], ["x"]),
        ("dict[str, Any]", [{"a": 1}], [[]]),
        ("Mapping[str, int]", [{"a": 1}], [[]]),
    ],
)
def test_fits(annotation: str, fitting: list[Any], others: list[Any]) -> None:
    for value in fitting:
        assert fits(value, annotation), value
    for value in others:
        assert not fits(value, annotation), value


def test_signature_of_classes_functions_and_foreign_code() -> None:
    assert signature_of("tempo.model.mlp.MLP").keys() >= {"input_shape", "num_classes", "hidden"}
    assert signature_of("tempo.data.digits.digits") == {}
    onecycle = signature_of("tempo.scheduler.onecycle.OneCycle")
    assert onecycle["min_lr"] == "float"
    assert onecycle["min_momentum"] == "float | None"
    assert signature_of("torch.optim.SGD") is None
    with pytest.raises(UserError, match="defines no 'MPL'"):
        signature_of("tempo.model.mlp.MPL")


def test_the_signature_read_is_the_signature_that_runs() -> None:
    """Every target of conf/ that is ours: what `ast` reads equals what `inspect` sees."""
    seen = 0
    for path in sorted(CONF.rglob("*.yaml")):
        found = re.search(r"^_target_: (tempo\.\S+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        if found is None:
            continue
        module, _, name = found[1].rpartition(".")
        target = getattr(importlib.import_module(module), name)
        assert set(signature_of(found[1])) == set(inspect.signature(target).parameters), path
        seen += 1
    assert seen >= 20


def test_check_types_names_the_nearest_key() -> None:
    with pytest.raises(UserError, match="Did you mean 'depth'"):
        check_types("model", {"dept": 3}, {"depth": "int", "width": "int"})


def test_an_optimizer_of_an_extra_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    config, _ = compose_job(["optimizer=lion"])
    monkeypatch.setitem(EXTRAS, config["optimizer"]["_target_"], ("no_such_package", "optimizers"))
    with pytest.raises(UserError) as caught:
        check(config)
    assert str(caught.value) == (
        "the package no_such_package is not installed; run pip install -e '.[optimizers]'"
    )
