"""The peak that the memory benchmark tells is the process's own."""

from __future__ import annotations

import subprocess
import sys

from tempo.paths import ROOT

PROGRAM = """
import memory
before = memory.peak_bytes("pass")
held = b"1" * (300 << 20)
print(memory.peak_bytes("pass") - before, memory.peak_bytes('held = b"1" * (100 << 20)') - before)
"""


def test_a_large_parent_is_not_in_it() -> None:
    program = f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r})\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    of_parent, of_its_own = map(int, done.stdout.split())
    assert abs(of_parent) < 20 << 20
    assert 80 << 20 < of_its_own < 120 << 20
