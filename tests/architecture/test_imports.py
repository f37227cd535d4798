"""Imports point down: a file imports from lower floors or from its own room, never in a circle."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.architecture import house
from tests.architecture.house import Source, floor, room, sources

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
        f"{place(source, found)} (floor {floor(found.module)}, room {room(found.module)})"
        for found in ours(source)
        if not (
            found.module.startswith("tempo")
            and (floor(found.module) < floor(source.module) or room(found.module) == room(source.module))
        )
    ]


def test_imports_point_down_between_floors() -> None:
    assert PACKAGE, "no file of the package was found"
    wrong = [line for source in PACKAGE for line in wrong_way(source)]
    assert wrong == [], "a new module above the ground floor is listed in tests/architecture/house.py"


def test_plugins_import_from_the_two_lowest_floors_only() -> None:
    wrong = [
        place(source, found)
        for source in PLUGINS
        for found in ours(source)
        if found.module.startswith("tempo") and floor(found.module) > 1
    ]
    assert wrong == []


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


def test_files_that_must_load_without_torch_do_not_name_it() -> None:
    heavy = {"torch", "torchvision", "pytorch_lightning", "lightning", "torchmetrics", "timm"}
    wrong = [
        place(source, found)
        for source in light_sources()
        for found in source.imports
        if found.module.split(".")[0] in heavy and not found.for_types_only
    ]
    assert wrong == []


def light_sources() -> list[Source]:
    """Ground floor, report, and the schedules but for their adapter."""
    return [
        source
        for source in PACKAGE
        if room(source.module) in {"modules of floor 0", "report", "scheduler"}
        and source.module != "tempo.scheduler.adapter"
    ]


def test_the_reader_of_imports_sees_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that finds nothing proves nothing: plant one of each and find them all."""
    monkeypatch.setattr(house, "SRC", tmp_path)
    folder = tmp_path / "tempo" / "data"
    folder.mkdir(parents=True)
    (folder / "split.py").touch()
    (tmp_path / "tempo" / "run.py").touch()
    planted = folder / "planted.py"
    planted.write_text(
        "from typing import TYPE_CHECKING\n"
        "import tempo.run\n"
        "from tempo import run\n"
        "from . import split\n"
        "from ..run import something\n"
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
        ("tempo.run", False, False),
        ("tempo.run", False, False),
        ("tempo.data.split", False, False),
        ("tempo.run", False, False),
        ("torch", False, True),
        ("tempo.data.split", True, False),
    ]
    assert len(wrong_way(Source(planted))) == 3
