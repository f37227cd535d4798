"""Look up the class or function that a `_target_` names, read its parameters and call it."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from tempo.config.schema import OWN
from tempo.config.unified_lightning import use_one_lightning
from tempo.errors import UserError, nearest
from tempo.paths import SOURCE, option_files, use_project
from tempo.record.foreign_folder import check_plain

EXTRAS = {
    "tempo.trainer.trackers.Wandb": ("wandb", "wandb"),
    "tempo.trainer.trackers.MLflow": ("mlflow", "mlflow"),
    "tempo.model.timm_model.timm_model": ("timm", "models"),
    "tempo.data.huggingface.huggingface": ("datasets", "huggingface"),
    "lion_pytorch.Lion": ("lion_pytorch", "optimizers"),
    "schedulefree.AdamWScheduleFree": ("schedulefree", "optimizers"),
}
"""Targets that need an optional package: the package, and the extra that installs it."""


_SLOW_TO_IMPORT = ("torch", "pytorch_lightning", "lightning", "torchmetrics", "torchvision")


def check_target(group: str, target: Any, where: str = "") -> None:
    """Look up a target: in the source if it belongs to this project or is slow to import, else by importing.

    `where` is the dotted key of its node, if that is not the group.

    Raises:
        UserError: no class or function has that name, or it belongs to Python's standard library.
    """
    if target == OWN and group in ("data", "optimizer", "scheduler"):
        return
    where = f"{where or group}._target_={target}"
    remedy = (
        f"leave {group}._target_ out and set {group}=<option of conf/{group}>, or give the full name of a "
        "class or function"
    )
    module, _, name = target.rpartition(".") if isinstance(target, str) else ("", "", "")
    if not module or not name:
        raise UserError(f"{where} is not a dotted name; {remedy}")
    check_installed(target)
    # torch's optimizers are looked up when they are built: the check must not import torch.
    if signature_of(target) is not None or group == "optimizer":
        return
    package = module.partition(".")[0]
    if package in _SLOW_TO_IMPORT and group in ("loss", "callbacks"):
        names = _names_in_source(module)
        if names is not None and name not in names:
            raise UserError(f"{where} cannot be found.{nearest(name, names)} To mend it, {remedy}")
        return
    if package in sys.stdlib_module_names:
        raise UserError(f"{where} belongs to Python itself and builds no {group}; {remedy}")
    if package == "tempo":
        raise UserError(f"{where} cannot be found: there is no module {module}; {remedy}")
    try:
        found = _find(target)
    except (ImportError, ValueError) as error:
        raise UserError(f"{where} cannot be found: {error}; {remedy}") from error
    if not callable(found):
        raise UserError(f"{where} is a {type(found).__name__}, not a class or function; {remedy}")


def check_installed(target: Any) -> None:
    """Raise UserError if a target needs an extra that is not installed."""
    package, extra = EXTRAS.get(str(target), ("sys", ""))
    if importlib.util.find_spec(package) is None:
        raise UserError(f"the package {package} is not installed; run pip install -e '.[{extra}]'")


def instantiated(group: str, node: Mapping[str, Any], **arguments: Any) -> Any:
    """Build the object of a node; errors from its constructor become one line."""
    _prepare_imports()
    check_plain(group, node)  # Hydra would resolve an interpolation and could then call anything
    try:
        built = instantiate(dict(node), **arguments, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, ValueError):
            raise UserError(f"{group}: {cause}") from error
        if isinstance(cause, (TypeError, ImportError)):
            raise UserError(f"{group}: {cause}; choose {group}=<option of conf/{group}>") from error
        if cause is None:
            raise UserError(f"{group}: {error}") from error
        raise cause from error
    return built


def signature_of(target: str) -> dict[str, str] | None:
    """Return the keyword parameters of a class or function of this project, with their annotations as text.

    The source is parsed, so nothing is imported. Return None for a target of another package, and for one
    whose source does not list all parameters: it takes `**kwargs`, or inherits its `__init__`.

    Raises:
        UserError: the module is one of ours but neither defines nor imports the name.
    """
    found = _parameters_of(target)
    return None if found is None else found[0]


def parameters_of(target: str) -> dict[str, str]:
    """Return the keyword parameters of any class or function; one of another package is imported for it."""
    ours = signature_of(target)
    if ours is not None:
        return ours
    try:
        parameters = inspect.signature(_find(target)).parameters
    except (TypeError, ValueError):  # a class of a compiled module has no signature
        return {}
    return {name: str(parameter.annotation) for name, parameter in parameters.items()}


def option_values(group: str, target: str) -> dict[str, Any]:
    """Return the values of the first option of `conf/<group>` that has this target; none if no option has."""
    for path in option_files(group):
        node = OmegaConf.load(path)
        if isinstance(node, DictConfig) and node.get("_target_") == target:
            return {str(key): node[key] for key in node if not OmegaConf.is_interpolation(node, str(key))}
    return {}


def required_by(target: str) -> frozenset[str]:
    """Return the parameters in `signature_of` that have no default."""
    found = _parameters_of(target)
    return frozenset() if found is None else found[1]


def _prepare_imports() -> None:
    use_project()
    use_one_lightning()


def _find(target: str) -> Any:
    """Import what a dotted name stands for."""
    _prepare_imports()
    first, *others = target.split(".")
    found, path = importlib.import_module(first), first
    for name in others:
        path = f"{path}.{name}"
        if not hasattr(found, name):
            importlib.import_module(path)
        found = getattr(found, name)
    return found


def _names_in_source(module: str) -> set[str] | None:
    """Return the names that a module of another package defines, or None if the source alone does not say.

    Nothing is imported. A module that does not exist defines no names.
    """
    first, *others = module.split(".")
    found = importlib.util.find_spec(first)
    if found is None or not found.submodule_search_locations:
        return set()
    base = Path(found.submodule_search_locations[0], *others)
    path = next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)
    if path is None:
        return set()
    names = set[str]()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.ImportFrom, ast.Import)):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            names |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return None if names & {"*", "__getattr__"} else names


@functools.cache
def _parameters_of(target: str) -> tuple[dict[str, str], frozenset[str]] | None:
    if target == OWN:  # the LightningModule has them
        return {}, frozenset()
    module, _, name = target.rpartition(".")
    base = SOURCE / Path(*module.split("."))
    path = next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)
    if path is None:
        return None
    body = ast.parse(path.read_text(encoding="utf-8")).body
    classes = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _parameters(node)
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _class_parameters(node, classes)
        if isinstance(node, ast.ImportFrom) and name in (alias.asname or alias.name for alias in node.names):
            return None
    raise UserError(
        f"_target_ {target}: {path.name} defines no '{name}'; leave it out, or name a class or function there"
    )


def _parameters(node: ast.FunctionDef) -> tuple[dict[str, str], frozenset[str]] | None:
    if node.args.kwarg is not None:
        return None
    ordered, named = node.args.args, node.args.kwonlyargs
    without_default = [
        *ordered[: len(ordered) - len(node.args.defaults)],
        *(arg for arg, default in zip(named, node.args.kw_defaults, strict=True) if default is None),
    ]
    annotations = {
        arg.arg: ast.unparse(arg.annotation) if arg.annotation else "Any"
        for arg in (*ordered, *named)
        if arg.arg != "self"
    }
    return annotations, frozenset(arg.arg for arg in without_default) - {"self"}


def _class_parameters(
    node: ast.ClassDef, classes: Mapping[str, ast.ClassDef]
) -> tuple[dict[str, str], frozenset[str]] | None:
    """Return the parameters of `__init__`, or the fields of a dataclass.

    An inherited `__init__` is looked up in `classes`, those of the same file; None if it is not there.
    """
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            return _parameters(statement)
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        bases = (classes.get(ast.unparse(base)) for base in node.bases)
        return next((_class_parameters(base, classes) for base in bases if base is not None), None)
    fields = {
        statement.target.id: statement
        for statement in node.body
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and "ClassVar" not in ast.unparse(statement.annotation)
    }
    annotations = {name: ast.unparse(field.annotation) for name, field in fields.items()}
    return annotations, frozenset(name for name, field in fields.items() if field.value is None)
