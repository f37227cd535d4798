"""Python searches for garbage as always from the moment a task begins."""

from __future__ import annotations

import subprocess
import sys

from tempo.paths import ROOT

BEFORE = f"import gc, sys; usual = gc.get_threshold(); sys.path.insert(0, {str(ROOT / 'src')!r})\n"


def run(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BEFORE + program, *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_task_finds_pythons_own_thresholds() -> None:
    said = run(
        "from tempo.command_line.script import script\n"
        "@script('train')\n"
        "def main(config): print(gc.get_threshold() == usual, gc.isenabled())\n"
        "main()\n",
        "preview=true",
        "hydra.output_subdir=null",
        "hydra/job_logging=none",
    )
    assert said.split() == ["True", "True"]


def test_what_is_imported_is_not_searched_again_and_garbage_of_later_is() -> None:
    said = run(
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
    assert said.split() == ["False", "True", "True", "True", "True", "True"]


def test_an_import_that_fails_leaves_the_search_on() -> None:
    said = run(
        "from tempo.command_line.start_up import importing\n"
        "try:\n"
        "    with importing('no_such_module'): import no_such_module\n"
        "except ImportError: print(gc.isenabled(), gc.get_freeze_count())\n"
    )
    assert said.split() == ["True", "0"]
