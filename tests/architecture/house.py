"""The source tree, read with `ast`: what each file imports, and from where."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
OURS = ("tempo", "hydra_plugins")

ROOMS = {
    "data": 1,
    "model": 1,
    "optimizer": 1,
    "scheduler": 1,
    "record": 1,
    "distributed": 1,
    "project": 1,
    "config": 2,
    "task": 2,
    "command_line": 3,
    "report": 3,
    "trainer": 3,
    "run": 4,
    "sweep": 4,
    "scaling": 5,
    "tuning": 5,
}
"""Every folder of `tempo`, and its layer: a file imports from lower layers or from its own room."""
LOOSE_FILES = {"__init__", "errors", "paths"}
"""The files beside the rooms, on layer 0."""
LONGEST_CHAIN = 8
"""Rooms, loose files and scripts that may stand on each other."""
WITHOUT_TORCH = {"command_line", "config", "project", "record", "report", "scheduler", "sweep"}
"""Rooms that answer before torch is imported, but for WITH_TORCH."""
WITH_TORCH = {"tempo.scheduler.apply_to_optimizer"}
LIGHT_FILES = {
    "tempo.data.split_and_batch_sizes",
    "tempo.distributed.gradient_exchange",
    "tempo.distributed.process_group",
    "tempo.distributed.child_process",
    "tempo.distributed.interrupt_counter",
    "tempo.distributed.ray_cluster",
    "tempo.optimizer.knobs",
    "tempo.optimizer.capabilities",
    "tempo.run.async_group",
    "tempo.trainer.optuna_trial",
}
"""Files of other rooms that do not import torch either."""


@dataclass(frozen=True)
class Import:
    """One import statement: the module that is really loaded, and where the statement stands."""

    module: str
    line: int
    in_function: bool
    for_types_only: bool


@dataclass(frozen=True)
class Source:
    """One Python file below `src`."""

    path: Path

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"), filename=str(self.path))

    @cached_property
    def module(self) -> str:
        parts = self.path.relative_to(SRC).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def is_script(self) -> bool:
        return self.path.parent == SRC

    @cached_property
    def imports(self) -> list[Import]:
        return list(self._walk(self.tree, in_function=False, for_types_only=False))

    def _walk(self, node: ast.AST, *, in_function: bool, for_types_only: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                for module in self._modules(child):
                    yield Import(module, child.lineno, in_function, for_types_only)
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                for statement in child.body:
                    yield from self._walk(
                        ast.Module([statement], []), in_function=in_function, for_types_only=True
                    )
                for statement in child.orelse:
                    yield from self._walk(
                        ast.Module([statement], []), in_function=in_function, for_types_only=for_types_only
                    )
                continue
            inside = in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from self._walk(child, in_function=inside, for_types_only=for_types_only)

    def _modules(self, node: ast.Import | ast.ImportFrom) -> list[str]:
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        base = node.module or ""
        if node.level:
            package = self.module.split(".")
            if self.path.name != "__init__.py":
                package = package[:-1]
            package = package[: len(package) - (node.level - 1)]
            base = ".".join([*package, base] if base else package)
        # `from tempo.data import batches` loads the module tempo.data.batches, if there is one.
        return [f"{base}.{alias.name}" if is_module(f"{base}.{alias.name}") else base for alias in node.names]


def is_module(dotted: str) -> bool:
    """Is there a file or a folder of ours for this dotted name?"""
    path = SRC.joinpath(*dotted.split("."))
    return path.with_suffix(".py").exists() or path.is_dir()


def sources() -> list[Source]:
    """All files of the package, the plugins and the scripts."""
    return [Source(path) for path in sorted(SRC.rglob("*.py"))]


def layer(module: str) -> int:
    """Layer of a module of `tempo`; 0 for a loose file."""
    return ROOMS.get(room(module), 0)


def room(module: str) -> str:
    """Room of `tempo.a.b`: `a`, if it is a folder; the empty string for a loose file."""
    name = module.split(".")[1] if "." in module else ""
    return name if name and (SRC / "tempo" / name).is_dir() else ""
