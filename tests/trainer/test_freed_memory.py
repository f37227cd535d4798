"""A step reuses the memory that the step before freed, without asking the kernel again."""

from __future__ import annotations

import mmap
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tempo.paths import ROOT
from tests.jobs import SMALL

HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
pytestmark = [
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not glibc's here"),
    pytest.mark.skipif(
        HUGE.exists() and "[always]" in HUGE.read_text(encoding="ascii"), reason="all pages are huge here"
    ),
]
PAGES = (64 << 20) // mmap.PAGESIZE
FAULTS = """
import resource
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(64 << 20)  # from malloc, as the memory of tensors is, and written to
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print("faults", min(faults() for _ in range({times})))
"""


def faults(program: str, times: int = 16, **variables: str) -> int:
    """Return the page faults of 64 MiB that were just freed, after `program`."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{FAULTS.format(times=times)}"],
        cwd=ROOT,
        env={**own, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), **variables},
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout.rpartition("faults ")[2])


def test_a_run_on_a_cpu_keeps_what_it_frees(tmp_path: Path) -> None:
    run = f"""
from pathlib import Path
from tests.jobs import run_job
run_job(Path({str(tmp_path)!r}), [*{SMALL!r}, "trainer.max_steps=1"])
"""
    assert faults(run) < PAGES // 10


def test_settings_of_malloc_by_the_user_are_kept() -> None:
    call = "from tempo.trainer.malloc_settings import keep_freed_memory\nassert keep_freed_memory() is {}"
    chosen = {"MALLOC_MMAP_THRESHOLD_": "65536", "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=65536"}
    for name, value in chosen.items():
        assert faults(call.format(False), **{name: value}) > PAGES // 2
    others = {"MALLOC_ARENA_MAX": "2", "GLIBC_TUNABLES": "glibc.pthread.rseq=0"}
    assert faults(call.format(True), **others) < PAGES // 10


@pytest.mark.parametrize(
    "give_back",
    [
        "from tempo.trainer.malloc_settings import give_back_freed_memory as give_back",
        "from tempo.sweep.launcher.in_process_launcher import free_memory as give_back",
    ],
    ids=["directly", "between the jobs of a sweep"],
)
def test_kept_memory_can_be_given_back(give_back: str) -> None:
    keep = "from tempo.trainer.malloc_settings import keep_freed_memory\nassert keep_freed_memory()"
    program = f"{keep}\n{FAULTS.format(times=16)}\n{give_back}\ngive_back()"
    assert faults(program, times=1) > PAGES // 2
