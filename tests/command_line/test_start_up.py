"""Garbage collection is off only while modules are imported."""

from __future__ import annotations

import subprocess
import sys

from tempo.paths import ROOT

BEFORE = f"import gc, sys; sys.path.insert(0, {str(ROOT / 'src')!r})\n"


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BEFORE + program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_imported_is_not_searched_again_and_garbage_of_later_is() -> None:
    output = run(
        "from tempo.command_line.start_up import importing\n"
        "with importing('xml.dom.minidom'):\n"
        "    import xml.dom.minidom\n"
        "    print(gc.isenabled())\n"
        "kept = gc.get_freeze_count()\n"
        "print(gc.isenabled(), kept > 1000)\n"
        "class Node: pass\n"
        "import weakref\n"
        "node = Node(); node.itself = node; watch = weakref.ref(node); del node\n"
        "gc.collect()\n"
        "print(watch() is None)\n"
        "with importing('xml.dom.minidom'): print(gc.isenabled())\n"
        "print(gc.get_freeze_count() == kept)\n"
    )
    assert output.split() == ["False", "True", "True", "True", "True", "True"]


def test_an_import_that_fails_leaves_the_search_on() -> None:
    output = run(
        "from tempo.command_line.start_up import importing\n"
        "try:\n"
        "    with importing('no_such_module'): import no_such_module\n"
        "except ImportError: print(gc.isenabled(), gc.get_freeze_count())\n"
    )
    assert output.split() == ["True", "0"]
