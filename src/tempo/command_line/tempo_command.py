"""The command `tempo <task>` of an installed package: it runs the script of the task."""

from __future__ import annotations

import argparse
import ast
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tempo.errors import UserError, nearest
from tempo.paths import PROJECT, SCRIPTS, find_project
from tempo.project.new_project import new_project

TASKS = {
    "train": ("train", ()),
    "sweep": ("train", ("-m",)),
    "lr-range": ("lr_range", ()),
    "tune": ("tune", ()),
    "report": ("report", ()),
    "evaluate": ("evaluate", ()),
    "reproduce": ("reproduce", ()),
    "predict": ("predict", ()),
    "export": ("export", ()),
    "scale": ("scale", ()),
}
"""Task -> its script and the arguments that come first."""
NEW = "new"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the task that the first argument names, in the project of the current folder.

    The project is the folder that TEMPO_PROJECT names, else the nearest one at or above the current folder
    with pyproject.toml and conf/.
    """
    task, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if task in ("-h", "--help"):
        print(_help())
    elif task == NEW:
        _new(rest)
    elif task in TASKS:
        _run(task, rest)
    else:
        names = [*TASKS, NEW]
        sys.exit(f"{task} is not a task.{nearest(task, names)} Choose one of: {' '.join(names)}")


def _run(task: str, arguments: Sequence[str]) -> None:
    if not os.environ.get(PROJECT) and (found := find_project(Path.cwd())):
        os.environ[PROJECT] = str(found)
    name, first = TASKS[task]
    script = SCRIPTS / f"{name}.py"
    sys.argv = [f"src/{name}.py", *first, *arguments]  # as in a checkout: records name the script so
    runpy.run_path(str(script), run_name="__main__")


def _help() -> str:
    lines = ["tempo <task> [arguments]; tempo <task> --help shows those of the task", ""]
    for task, (name, first) in TASKS.items():
        text = ast.get_docstring(ast.parse((SCRIPTS / f"{name}.py").read_text(encoding="utf-8"))) or ""
        says = "Run many trainings: `tempo train -m`" if first else text.partition(": `")[0]
        lines.append(f"  {task:<10} {says}")
    return "\n".join(
        [*lines, f"  {NEW:<10} Write a project of your own: `tempo new <folder> --package <name>`"]
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.exit(f"{message}; write: tempo new <folder> --package <name>")


def _new(arguments: Sequence[str]) -> None:
    parser = _Parser(prog="tempo new", description="Write a small project: a module, data, a test, CI.")
    parser.add_argument("folder", type=Path, help="a folder that does not exist yet, or is empty")
    parser.add_argument("--package", help="name of its package (default: the name of the folder)")
    asked = parser.parse_args(arguments)
    folder = asked.folder.expanduser()
    try:
        written = new_project(folder, asked.package or folder.resolve().name)
    except UserError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}; name another folder")
    for path in written:
        print(folder / path)
    print(f"next      cd {folder} && make demo && make test")
