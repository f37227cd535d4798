"""Names that would hide another module, rooms without tests, files and functions that grew too long."""

from __future__ import annotations

import ast
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from tests.architecture.house import ROOT, SRC

LONGEST_FILE = 320
LONGEST_FUNCTION = 60  # without its docstring
SAYS_NOTHING = {"util", "utils", "helper", "helpers", "common", "misc"}
CODE = sorted(path for folder in ("src", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
# Test folders that are not rooms of the package.
OTHER_TESTS = {
    "bad_input",
    "architecture",
    "conf",
    "examples",
    "experiment",
    "hydra_plugins",
    "readme",
    "scripts",
}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_name_hides_another_module() -> None:
    """`python src/train.py` puts src/ first on the path: a src/profile.py would break the interpreter."""
    names = {
        path.stem if path.is_file() else path.name for path in SRC.iterdir() if path.suffix in {".py", ""}
    }
    names -= {"__pycache__", "hydra_plugins"}  # the folder that hydra shares between all plugins
    assert "tempo" in names
    installed = {
        name for name, owners in packages_distributions().items() if set(owners) != {"tempo-experiments"}
    }
    assert sorted(names & set(sys.stdlib_module_names)) == []
    assert sorted(names & installed) == []


def test_the_plugin_folder_stays_open_for_other_plugins() -> None:
    assert not (SRC / "hydra_plugins" / "__init__.py").exists()


def test_no_name_says_nothing() -> None:
    wrong = [relative(path) for path in CODE if SAYS_NOTHING & {path.stem, *path.relative_to(ROOT).parts}]
    assert wrong == []


def test_tests_mirror_the_rooms() -> None:
    rooms = {
        path.name: [file for file in path.rglob("*.py") if file.name != "__init__.py"]
        for path in (SRC / "tempo").iterdir()
        if path.is_dir() and path.name != "__pycache__"
    }
    tests = {
        path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.rglob("test_*.py"))
    }
    assert sorted(name for name, files in rooms.items() if files and name not in tests) == []
    assert sorted(tests - set(rooms) - OTHER_TESTS) == []


def test_files_are_short() -> None:
    scripts = (SRC / "tempo" / "report" / "page").iterdir()
    lengths = {
        relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in (*CODE, *scripts)
    }
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end; the docstring is free."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        lines -= (docstring.end_lineno or 0) - docstring.lineno + 1
    return lines


def test_functions_are_short() -> None:
    lengths = {
        f"{relative(path)}:{node.lineno} {node.name}": length(node)
        for path in CODE
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION} == {}
