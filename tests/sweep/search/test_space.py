"""From override strings to a space."""

from __future__ import annotations

from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from tempo.errors import UserError
from tempo.sweep.search.space import Choice, Numbers, Space, parse_space


def space(*arguments: str, **params: Any) -> Space:
    return parse_space(
        OverridesParser.create(), arguments, {k.replace("__", "."): v for k, v in params.items()}
    )


@pytest.mark.parametrize(
    ("argument", "axis"),
    [
        ("optimizer.lr=1e-2,1e-3", Choice("optimizer.lr", (0.01, 0.001), ("0.01", "1e-3"))),
        ("optimizer=adam,sgd", Choice("optimizer", ("adam", "sgd"), ("adam", "sgd"))),
        ("a=0.1,0.10,0.2", Choice("a", (0.1, 0.2), ("0.1", "0.2"))),
        ("a=0.1,auto", Choice("a", ("0.1", "auto"), ("0.1", "auto"))),
        ("a='x y',null,[1,2]", Choice("a", ("x y", "null", "[1,2]"), ("'x y'", "null", "[1,2]"))),
        ("a=true,false", Choice("a", ("True", "False"), ("True", "False"))),
        ("a=1,1.0", Choice("a", ("1", "1.0"), ("1", "1.0"))),
        ("+a=range(1,8,2)", Numbers("+a", 1, 7, 2)),
        ("a=range(5,1,-2)", Numbers("a", 3, 5, 2)),
        ("a=range(0.1,0.5,0.1)", Numbers("a", 0.1, 0.4, 0.1)),
        ("a=tag(log, range(1,10))", Numbers("a", 1, 9, 1, log=True)),
        ("a=int(interval(1,8))", Numbers("a", 1, 8, 1)),
        ("a=tag(log, int(interval(1,8)))", Numbers("a", 1, 8, 1, log=True)),
        ("a=interval(0,2)", Numbers("a", 0.0, 2.0)),
        ("a=tag(log, interval(1e-5, 1))", Numbers("a", 1e-5, 1.0, log=True)),
    ],
)
def test_hydras_own_grammar(argument: str, axis: Any) -> None:
    assert space(argument).axes == (axis,)


def test_an_experiment_brings_axes_that_the_command_line_replaces() -> None:
    found = space("a=5,6", "model=mlp", a="1,2", b=[0.1, 0.2], c="tag(log, interval(1, 2))")
    assert found.names == ("a", "b", "c")
    assert found.fixed == ("model=mlp",)
    assert found.axes[0] == Choice("a", (5, 6), ("5", "6"))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("model=mlp", "nothing to search"),
        ("a=choice(1)", "a space of one point"),
        ("a=interval(1,1)", "a space of one point"),
        ("a=range(1,1)", "has no value"),
        ("seed=0,1", "lucky one"),
        ("a=interval(2,1)", "lower end first"),
        ("a=interval(1,inf)", "from 1.0 to inf"),
        ("a=tag(log, interval(0, 1))", "begins above 0"),
        ("a=tag(log, range(1,9,2))", "step 1"),
        ("a=tag(log, choice(1,2))", "no log scale"),
        ("a=tag(lag, interval(1, 2))", "the tag lag is unknown"),
    ],
)
def test_what_cannot_be_searched_is_refused(argument: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        space(argument)
    assert "\n" not in str(caught.value)


def test_a_space_is_counted() -> None:
    assert space("a=1,2,3", "b=range(0,4)").size == 12
    assert space("a=1,2,3", "b=interval(0,1)").size is None


def test_overrides_of_a_point_can_be_read_and_keep_its_value() -> None:
    found = space(
        "+a=tag(log, interval(1e-5, 1))", "b=range(0.1,0.9,0.1)", "c='x y',z", "d=interval(0.9, 0.99)"
    )
    values = found.rounded({"a": 3.162277660168379e-4, "b": 0.30000000000000004, "c": "x y", "d": 0.94999999})
    assert values == {"a": 3.162e-4, "b": 0.3, "c": "x y", "d": 0.95}
    assert found.overrides(values) == ("+a=3.162e-4", "b=0.3", "c='x y'", "d=0.95")
    parsed = OverridesParser.create().parse_overrides(list(found.overrides(values)))
    assert [override.value() for override in parsed] == list(values.values())


def test_rounding_never_leaves_an_interval() -> None:
    found = space("a=interval(0.12345678, 0.87654321)", "b=tag(log, interval(0.00123456, 0.987654321))")
    a, b = found.axes
    assert isinstance(a, Numbers)
    assert isinstance(b, Numbers)
    for axis in (a, b):
        assert axis.rounded(axis.low) == pytest.approx(axis.low, rel=1e-3)
        assert axis.low <= axis.rounded(axis.low) < axis.rounded(axis.high) <= axis.high


def test_probes_meet_each_choice_and_both_ends() -> None:
    found = space("a=1,2,3", "b=interval(0,1)", "c=range(2,9)")
    probes = found.probes()
    assert {probe["a"] for probe in probes} == {1, 2, 3}
    assert {probe["b"] for probe in probes} == {0.0, 1.0}
    assert {probe["c"] for probe in probes} == {2, 8}
