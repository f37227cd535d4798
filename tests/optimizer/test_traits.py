"""What an optimizer can do is known from its class: ours, torch's, and a user's own."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import replace
from importlib import import_module

import pytest
import torch

from tempo.config.check import check
from tempo.errors import UserError
from tempo.optimizer.capabilities import OptimizerTraits, traits_of, traits_of_class
from tempo.paths import ROOT
from tests.conftest import Train
from tests.optimizer.options import OPTIONS, settings

OURS = sorted((ROOT / "src" / "tempo" / "optimizer").glob("[!_]*.py"))
USERS = "tests.optimizer.users_optimizers"


def targets() -> list[str]:
    """Every class of conf/optimizer, of torch.optim and of this package that is an optimizer."""
    modules = [torch.optim, *(import_module(f"tempo.optimizer.{path.stem}") for path in OURS)]
    found = {
        f"{module.__name__}.{name}"
        for module in modules
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer)
        if module is torch.optim or value.__module__ == module.__name__
    }
    return sorted((found | {settings(option)["_target_"] for option in OPTIONS}) - {"torch.optim.Optimizer"})


@pytest.mark.parametrize("target", targets())
def test_what_is_known_before_torch_is_what_the_class_says(target: str) -> None:
    module, _, name = target.rpartition(".")
    pytest.importorskip(module)
    # A kernel cannot be asked what it works on: tests/distributed/test_sharded.py trains with it.
    known = replace(traits_of(target), fused_takes_shards=False)
    assert known == traits_of_class(getattr(import_module(module), name))


@pytest.mark.parametrize(
    "target", ["", "SGD", "torch.optim.SDG", "tempo.nothing.at.All", "tempo.optimizer.bfgs.GFSB", "nothing.X"]
)
def test_a_path_to_no_class_has_no_traits(target: str) -> None:
    assert traits_of(target) == OptimizerTraits()


def test_the_traits_of_our_options() -> None:
    needing = {option for option in OPTIONS if traits_of(settings(option)["_target_"]).needs_closure}
    assert needing == {"lbfgs", "bfgs", "newton_cg"}
    assert traits_of("tempo.optimizer.newton_cg.NewtonCG").takes_second_derivatives
    assert traits_of("tempo.optimizer.muon.MuonWithAdamW").is_composed
    assert traits_of("schedulefree.AdamWScheduleFree").averages_weights
    assert traits_of("torch.optim.AdamW").fused_takes_shards


def test_reading_them_imports_no_torch() -> None:
    named = [settings(option)["_target_"] for option in OPTIONS]
    code = f"import sys; from tempo.optimizer.capabilities import traits_of; [traits_of(t) for t in {named}]"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; sys.exit('torch' in sys.modules)"], cwd=ROOT / "src"
    )
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("name", "traits"),
    [
        ("Midpoint", OptimizerTraits(needs_closure=True)),
        ("Undeclared", OptimizerTraits(needs_closure=True)),
        ("Mean", OptimizerTraits(averages_weights=True)),
        ("Newton", OptimizerTraits(needs_closure=True, takes_second_derivatives=True)),
        ("Pair", OptimizerTraits(is_composed=True)),
        ("Missing", OptimizerTraits()),
    ],
)
def test_a_users_class_is_asked(name: str, traits: OptimizerTraits) -> None:
    assert traits_of(f"{USERS}.{name}") == traits


def test_a_class_of_ours_inherits_from_its_bases(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom tempo.optimizer.newton_cg import NewtonCG\n"
        "class Mine(NewtonCG):\n    takes_second_derivatives = False\n"
        "class Twice(Mine): ...\nclass Torchs(torch.optim.LBFGS): ...\n",
        encoding="utf-8",
    )
    package = import_module("tempo.optimizer")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    for name in ("Mine", "Twice", "Torchs"):
        assert traits_of(f"tempo.optimizer.mine.{name}") == OptimizerTraits(needs_closure=True)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("Midpoint", ["trainer.gradient_clip=1"], "gives Midpoint a gradient that is not the slope"),
        ("Newton", ["trainer.compile=true"], "Newton takes second derivatives"),
        ("Mean", ["ema.decay=0.9"], "averages its weights itself"),
        ("Pair", ["trainer=fsdp2", "trainer.devices=2"], "that Pair is made of"),
    ],
)
def test_the_rules_hold_for_a_users_class(
    train_config, name: str, overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check(train_config(f"optimizer._target_={USERS}.{name}", *overrides))


def test_a_users_class_gets_its_closures(train: Train) -> None:
    given = [f"optimizer._target_={USERS}.Midpoint", "optimizer.lr=0.1", "optimizer.wd=0"]
    trained = train("optimizer=sgd", *given, "trainer.max_steps=5")
    assert trained.record.evaluations == 2 * trained.record.steps == 10


def test_a_users_class_gets_its_average_tested(train: Train) -> None:
    """Against the weights that plain SGD has after one, two and three steps."""
    given = ["optimizer.lr=0.1", "optimizer.wd=0", "checkpoint.select=last", "scheduler=constant"]
    after = [
        train("optimizer=sgd", *given, f"trainer.max_steps={steps}", folder=f"{steps}").checkpoint()
        for steps in (1, 2, 3)
    ]
    mean = train(
        "optimizer=sgd", f"optimizer._target_={USERS}.Mean", *given, "trainer.max_steps=3"
    ).checkpoint()
    for name, value in after[-1]["state_dict"].items():
        if name.startswith("network."):
            assert torch.equal(mean["state_dict"][name], value)
            expected = torch.stack([state["state_dict"][name] for state in after]).mean(0)
            found = mean["state_dict"][name.replace("network.", "averaged.module.", 1)]
            torch.testing.assert_close(found, expected)
