"""Count the functions and files of src/ that a run calls before its first training step.

    python benchmarks/calls_before_first_step.py              # both numbers, then functions per file
    python benchmarks/calls_before_first_step.py model=cnn3   # of another configuration

The run is `src/train.py model=mlp` in this process. A function counts once, however often it is called; the
bodies of modules and classes, lambdas and comprehensions do not count.
"""

from __future__ import annotations

import runpy
import sys
import tempfile
from inspect import CO_NEWLOCALS
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
SRC = str(ROOT / "src")
FIRST_STEP = torch.optim.Optimizer.step.__name__
SETTING = ("model=mlp", "trainer=cpu", "trainer.threads=1", "trainer.max_steps=1")


class FirstStepReached(BaseException):
    """Raised at the first step; no `except Exception` stops it."""


def called_functions(arguments: list[str]) -> set[CodeType]:
    """Run `src/train.py` up to the first step of an optimizer; return the functions that it called."""
    called: set[CodeType] = set()
    optimizers = str(Path(torch.optim.__file__).parent)

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call":
            return
        if code.co_name == FIRST_STEP and code.co_filename.startswith(optimizers):
            sys.setprofile(None)
            raise FirstStepReached
        # Bodies of modules and classes lack CO_NEWLOCALS; lambdas and comprehensions are called `<...>`.
        is_function = code.co_flags & CO_NEWLOCALS and not code.co_name.startswith("<")
        if is_function and code.co_filename.startswith(SRC):
            called.add(code)

    sys.path.insert(0, SRC)
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = [f"{SRC}/train.py", *SETTING, f"hydra.run.dir={folder}/run", *arguments]
        sys.setprofile(note)
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except FirstStepReached:
            return called
        finally:
            sys.setprofile(None)
    raise RuntimeError("src/train.py ended before its first step")


def main() -> None:
    """Print the number of functions and of files, then the files with the names of the functions."""
    files: dict[str, list[str]] = {}
    for code in called_functions(sys.argv[1:]):
        files.setdefault(str(Path(code.co_filename).relative_to(SRC)), []).append(code.co_qualname)
    print(f"{sum(map(len, files.values()))} functions in {len(files)} files")
    for path, names in sorted(files.items()):
        print(f"{len(names):4} {path}: {', '.join(sorted(names))}")


if __name__ == "__main__":
    main()
