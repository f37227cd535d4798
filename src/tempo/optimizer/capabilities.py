"""Capabilities of an optimizer class, read before torch is imported."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class OptimizerTraits:
    """Abilities and needs of an optimizer class; each is a class attribute of that name, False by default.

    Attributes:
        needs_closure: one step computes the loss of its batch several times, as a line search does. Without
            the attribute, a class has it if `step` has a required argument `closure`.
        takes_second_derivatives: the closure returns the loss with its graph and makes no backward pass; the
            optimizer differentiates it.
        averages_weights: it trains one set of weights and evaluates their average, which its `eval()` writes
            into the parameters and `train()` takes out. Without the attribute, a class with both has it.
        is_composed: it is made of other optimizers, each with its own state.
        fused_takes_shards: its fused kernel works on parameters that are split over processes.
    """

    needs_closure: bool = False
    takes_second_derivatives: bool = False
    averages_weights: bool = False
    is_composed: bool = False
    fused_takes_shards: bool = False


_FOREIGN = {
    "torch.optim.LBFGS": OptimizerTraits(needs_closure=True),
    "torch.optim.Adam": OptimizerTraits(fused_takes_shards=True),
    "torch.optim.AdamW": OptimizerTraits(fused_takes_shards=True),
    "schedulefree.AdamWScheduleFree": OptimizerTraits(averages_weights=True),
    "lion_pytorch.Lion": OptimizerTraits(),
}
"""Classes of conf/optimizer that other packages define: they cannot be asked without importing torch."""


def traits_of_class(optimizer_class: type) -> OptimizerTraits:
    """Return the traits of an imported class: its attributes, or what its methods show."""
    closure = inspect.signature(optimizer_class.step).parameters.get("closure")  # type: ignore[attr-defined]
    shown = OptimizerTraits(
        needs_closure=closure is not None and closure.default is closure.empty,
        averages_weights=all(callable(getattr(optimizer_class, name, None)) for name in ("train", "eval")),
    )
    return OptimizerTraits(
        **{name: bool(getattr(optimizer_class, name, value)) for name, value in asdict(shown).items()}
    )


@functools.cache
def traits_of(target: str) -> OptimizerTraits:
    """Return the traits of the class at a dotted path.

    Neither torch's own optimizers nor those of this package are imported for it: of the first, only those in
    the table above differ from the default; the source of the second is read. Any other class is imported. A
    path that leads to no class has the default traits: `build_optimizer` says what is wrong with it.
    """
    if target in _FOREIGN:
        return _FOREIGN[target]
    module, _, name = target.rpartition(".")
    package = module.partition(".")[0]
    if not package or package == "torch":
        return OptimizerTraits()
    if package == "tempo":
        return _traits_in_source(module, name)
    try:
        return traits_of_class(getattr(importlib.import_module(module), name))
    except (ImportError, AttributeError, TypeError, ValueError):
        return OptimizerTraits()


def _traits_in_source(module: str, name: str) -> OptimizerTraits:
    """Return what the class body in a module's source declares, on top of what its bases declare."""
    try:
        spec = find_spec(module)
    except ImportError:  # there is no such package
        spec = None
    body = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body if spec and spec.origin else []
    found = next((node for node in body if isinstance(node, ast.ClassDef) and node.name == name), None)
    if found is None:
        return OptimizerTraits()
    imported = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    traits = asdict(OptimizerTraits())
    for base in found.bases:
        path = ast.unparse(base)
        path = path if "." in path else imported.get(path, f"{module}.{path}")
        traits |= {trait: True for trait, value in asdict(traits_of(path)).items() if value}
    for statement in found.body:
        if isinstance(statement, ast.AnnAssign | ast.Assign) and isinstance(statement.value, ast.Constant):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            declared = {ast.unparse(target) for target in targets} & traits.keys()
            traits |= dict.fromkeys(declared, bool(statement.value.value))
    return OptimizerTraits(**traits)
