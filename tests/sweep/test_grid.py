"""From override strings to the jobs of a grid, and the names of their folders."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from tempo.errors import UserError
from tempo.sweep.grid import Grid, parse_grid, short_number
from tempo.sweep.job_names import LONGEST_SLUG, job_slugs, sweep_name


def grid(*arguments: str, params: dict[str, Any] | None = None, rows: list[str] | None = None) -> Grid:
    return parse_grid(OverridesParser.create(), arguments, params or {}, rows or [])


def swept(found: Grid) -> list[tuple[str, ...]]:
    return [combination.swept for combination in found.combinations]


def test_all_combinations_in_the_order_of_the_command() -> None:
    found = grid("model=mlp", "optimizer.wd=1e-4,1e-5", "trainer.epochs=3", "seed=range(3)")
    assert found.keys == ("optimizer.wd", "seed")
    assert found.fixed == ("model=mlp", "trainer.epochs=3")
    expected = [
        {"model=mlp", "trainer.epochs=3", f"optimizer.wd={wd}", f"seed={seed}"}
        for wd, seed in itertools.product(("1e-4", "1e-5"), (0, 1, 2))
    ]
    assert [set(combination.overrides) for combination in found.combinations] == expected


def test_values_that_hydra_understands() -> None:
    assert swept(grid("+a=choice('x,y',[1,2],2)")) == [("+a=x\\,y",), ("+a=[1,2]",), ("+a=2",)]


def test_axes_of_an_experiment_give_way_to_the_command_line() -> None:
    found = grid("seed=5,6", params={"seed": "0,1,2", "optimizer.lr": [0.1, 0.2]})
    assert set(found.keys) == {"seed", "optimizer.lr"}
    assert len(found.combinations) == 4
    assert all({"seed=5", "seed=6"} & set(overrides) for overrides in swept(found))


def test_rows_are_one_axis_and_replace_what_is_fixed() -> None:
    found = grid("experiment=table", "seed=0,1", rows=["experiment=a optimizer.wd=1", "experiment=b"])
    assert found.fixed == ()
    assert [combination.overrides for combination in found.combinations] == [
        ("experiment=a", "optimizer.wd=1", "seed=0"),
        ("experiment=a", "optimizer.wd=1", "seed=1"),
        ("experiment=b", "seed=0"),
        ("experiment=b", "seed=1"),
    ]


@pytest.mark.parametrize("argument", ["seed=range(3,3)", "optimizer.lr=interval(0,1)"])
def test_an_axis_without_values_is_refused(argument: str) -> None:
    with pytest.raises(UserError, match=r"seed=1,2|optimizer\.lr=1e-4"):
        grid(argument)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("0.0001", "1e-4"),
        ("1e-05", "1e-5"),
        ("0.1", "0.1"),
        ("0.05", "0.05"),
        ("1000000000.0", "1e9"),
        ("1.5e-05", "1.5e-5"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("-2.5", "-2.5"),
        ("0.0", "0.0"),
        ("10", "10"),
        ("10.0", "10.0"),
        ("nan", "nan"),
        ("1_0", "1_0"),
        ("resnet20", "resnet20"),
    ],
)
def test_numbers_are_short_and_keep_their_value(text: str, short: str) -> None:
    assert short_number(text) == short
    if text not in ("nan", "resnet20"):
        assert float(short) == float(text)


def test_folders_can_be_read() -> None:
    assert job_slugs(grid("optimizer.wd=1e-4,1e-5", "seed=0")) == ["wd=1e-4", "wd=1e-5"]
    assert job_slugs(grid("optimizer.wd=1e-4", "seed=0,1", "model=mlp,cnn3"))[0] == "seed=0,model=mlp"
    assert job_slugs(grid("a.lr=1,2", "b.lr=3,4"))[0] == "a.lr=1,b.lr=3"
    assert job_slugs(grid("experiment=x/a,x/b")) == ["experiment=x-a", "experiment=x-b"]


def test_folders_are_distinct_short_and_flat() -> None:
    long = ",".join("v" * 300 + str(number) for number in range(3))
    for values in (long, "a/b,a-b,a--b", "'x y','x/y'", "'[1,2]','[1,3]'", "[1,2],[1,3]", "'../..',.."):
        slugs = job_slugs(grid(f"+key=choice({values})"))
        assert len(set(slugs)) == len(slugs)
        assert all(len(slug) <= LONGEST_SLUG and "/" not in slug and "=" in slug for slug in slugs)


def test_a_grid_that_grows_keeps_its_folders() -> None:
    small = grid("model=mlp", "optimizer.wd=1e-4,1e-5", "seed=0,1")
    large = grid("seed=range(5)", "optimizer.wd=1e-4,1e-5,0", "model=mlp")
    assert sweep_name(small, "train") == sweep_name(large, "train").replace(
        "seed,optimizer.wd", "optimizer.wd,seed"
    )
    assert sweep_name(small, "train").startswith("optimizer.wd,seed__model=mlp__")


def test_another_sweep_has_another_folder() -> None:
    names = {
        sweep_name(grid("model=mlp", "seed=0,1"), "train"),
        sweep_name(grid("model=mlp", "seed=0,1"), "lr_range"),
        sweep_name(grid("model=cnn3", "seed=0,1"), "train"),
        sweep_name(grid("model=mlp", "optimizer.wd=0", "seed=0,1"), "train"),
        sweep_name(grid("model=mlp", "optimizer.wd=0,1", "seed=0,1"), "train"),
    }
    assert len(names) == 5
    assert max(map(len, names)) <= 100


def test_a_repeated_combination_is_left_out() -> None:
    found = grid("optimizer.lr=0.1,0.10", "seed=0,1,1")
    assert swept(found) == [
        ("optimizer.lr=0.1", "seed=0"),
        ("optimizer.lr=0.1", "seed=1"),
    ]
    assert found.n_repeated == 4
    assert job_slugs(found) == ["lr=0.1,seed=0", "lr=0.1,seed=1"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["seed=range(1,1000000000)"], ["999,999,999 jobs", "hydra.sweeper.max_jobs=999999999"]),
        (
            ["seed=range(0,40)", "optimizer.lr=1,2,3", "optimizer.wd=choice(1,2,3,4,5,6,7,8,9)"],
            ["1,080 jobs"],
        ),
    ],
)
def test_too_large_a_grid_is_refused(arguments: list[str], words: list[str]) -> None:
    """Refused by its size alone: counting a billion jobs would take the machine with it."""
    with pytest.raises(UserError) as caught:
        grid(*arguments)
    for word in words:
        assert word in str(caught.value)
