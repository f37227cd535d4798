"""Imports point down: a file imports from lower layers or from its own room, never in a circle."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.architecture import house
from tests.architecture.house import Source, layer, room, sources

SOURCES = sources()
PACKAGE = [source for source in SOURCES if source.module.split(".")[0] == "tempo"]
PLUGINS = [source for source in SOURCES if source.module.split(".")[0] == "hydra_plugins"]
SCRIPTS = [source for source in SOURCES if source.is_script]


def ours(source: Source) -> list[house.Import]:
    return [found for found in source.imports if found.module.split(".")[0] in house.OURS]


def place(source: Source, found: house.Import) -> str:
    return f"{source.module}, line {found.line}, imports {found.module}"


def wrong_way(source: Source) -> list[str]:
    """Imports of our own package that point up or into a neighbour's room."""
    return [
        f"{place(source, found)} (layer {layer(found.module)}, room {room(found.module)!r})"
        for found in ours(source)
        if not (
            found.module.startswith("tempo")
            and (layer(found.module) < layer(source.module) or room(found.module) == room(source.module))
        )
    ]


def test_every_room_is_listed_and_says_what_belongs_there() -> None:
    package = house.SRC / "tempo"
    folders = {path.parent for path in package.rglob("*.py")} - {package}
    assert {path.relative_to(package).parts[0] for path in folders} == set(house.ROOMS)
    assert {path.stem for path in package.glob("*.py")} == house.LOOSE_FILES
    for folder in folders:
        tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
        assert (ast.get_docstring(tree) or "").endswith("."), folder
        assert len(tree.body) == 1, f"{folder / '__init__.py'} holds more than its docstring"


def test_imports_point_down_between_rooms() -> None:
    assert PACKAGE, "no file of the package was found"
    wrong = [line for source in PACKAGE for line in wrong_way(source)]
    assert wrong == [], "the layers are listed in tests/architecture/house.py"


def test_the_longest_chain_of_rooms_is_short() -> None:
    below: dict[str, set[str]] = {}
    for source in [*PACKAGE, *SCRIPTS]:
        name = "script" if source.is_script else room(source.module)
        found = {room(found.module) for found in ours(source) if found.module.startswith("tempo")}
        below.setdefault(name, set()).update(found - {name})
    length: dict[str, int] = {}
    for name in TopologicalSorter(below).static_order():
        length[name] = 1 + max((length[other] for other in below.get(name, ())), default=0)
    assert max(length.values()) <= house.LONGEST_CHAIN, length


def test_plugins_name_what_the_sweep_room_holds_and_import_nothing_of_it() -> None:
    """Hydra imports them at each start, also for --help; every script has `tempo.paths` by then."""
    imported = [(source, found) for source in PLUGINS for found in ours(source)]
    assert [place(source, found) for source, found in imported if found.module != "tempo.paths"] == []


def test_nothing_imports_a_script() -> None:
    names = {source.module for source in SCRIPTS}
    wrong = [place(source, found) for source in SOURCES for found in source.imports if found.module in names]
    assert wrong == []


def test_no_cycles() -> None:
    graph = {
        source.module: {found.module for found in ours(source)} - {source.module}
        for source in PACKAGE + PLUGINS
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other in a circle: {' <- '.join(error.args[1])}")


def test_no_import_of_ours_hides_in_a_function() -> None:
    """Only the start-up scripts delay imports: they answer --help before torch is loaded."""
    wrong = [
        place(source, found) for source in PACKAGE + PLUGINS for found in ours(source) if found.in_function
    ]
    assert wrong == []


def light_sources() -> list[Source]:
    """Files that must load without torch."""
    return [
        source
        for source in PACKAGE
        if source.module in house.LIGHT_FILES
        or (room(source.module) in house.WITHOUT_TORCH | {""} and source.module not in house.WITH_TORCH)
    ]


def test_the_reader_of_imports_sees_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that finds nothing proves nothing: plant one of each and find them all."""
    monkeypatch.setattr(house, "SRC", tmp_path)
    folder = tmp_path / "tempo" / "data"
    folder.mkdir(parents=True)
    (folder / "split.py").touch()
    (tmp_path / "tempo" / "run").mkdir()
    (tmp_path / "tempo" / "run" / "train.py").touch()
    planted = folder / "planted.py"
    planted.write_text(
        "from typing import TYPE_CHECKING\n"
        "import tempo.run.train\n"
        "from tempo.run import train\n"
        "from . import split\n"
        "from ..run.train import something\n"
        "if TYPE_CHECKING:\n"
        "    import torch\n"
        "def function():\n"
        "    try:\n"
        "        from tempo.data.split import cut\n"
        "    finally:\n"
        "        pass\n",
        encoding="utf-8",
    )
    found = [(i.module, i.in_function, i.for_types_only) for i in Source(planted).imports]
    assert found == [
        ("typing", False, False),
        ("tempo.run.train", False, False),
        ("tempo.run.train", False, False),
        ("tempo.data.split", False, False),
        ("tempo.run.train", False, False),
        ("torch", False, True),
        ("tempo.data.split", True, False),
    ]
    assert len(wrong_way(Source(planted))) == 3
