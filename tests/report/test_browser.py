"""The page in a real browser: it renders, sorts, filters and logs no error."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tempo.report.write_report import build_report
from tests.report.example_runs import weight_decay_sweep, write_run

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=5000",
]
DECAYS = [0.0, 1e-5, 1e-4, 1e-3, 1e-2]

# Presses heads and types as a person would; the outcome goes into the page, where --dump-dom shows it.
PROBE = """
const box = document.querySelector('#runs .sortable');
const heads = [...box.querySelectorAll('th')];
const column = (name) => heads.findIndex((item) => item.textContent.startsWith(name));
const cells = (at) => [...box.querySelectorAll('tbody tr')].map((row) => row.cells[at].textContent);
const press = (name) => box.querySelectorAll('th')[column(name)].querySelector('button').click();
const seen = {};
press('validation accuracy'); seen.up = cells(column('validation accuracy'));
seen.aria = box.querySelectorAll('th')[column('validation accuracy')].getAttribute('aria-sort');
press('validation accuracy'); seen.down = cells(column('validation accuracy'));
press('wd'); seen.wd = cells(column('wd'));
press('status'); seen.status = cells(column('status'));
const filter = box.querySelector('input');
filter.value = 'DIVERGED'; filter.dispatchEvent(new Event('input'));
seen.left = [...box.querySelectorAll('tbody tr')].filter((row) => !row.hidden).length;
seen.images = [...document.images].map((item) => item.naturalWidth);
seen.wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
const out = document.createElement('pre'); out.id = 'seen'; out.textContent = JSON.stringify(seen);
document.body.append(out);
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    accuracies = {
        wd: {seed: 0.8 + 0.02 * at + 0.001 * seed for seed in range(3)} for at, wd in enumerate(DECAYS)
    }
    weight_decay_sweep(folder / "s", DECAYS, range(3), accuracies)
    write_run(
        folder / "s/bad", optimizer__wd=1.0, status="diverged", fields={"metrics": {}, "reason": "<script>x"}
    )
    return build_report([folder / "s"], folder / "out")


@pytest.fixture(scope="module")
def browser() -> str:
    """The first that starts: some systems have a stand-in that only says how to install it."""
    for name in NAMES:
        if (found := shutil.which(name)) and _starts(found):
            return found
    pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed (.ci/browser installs one)")


def _starts(program: str) -> bool:
    return subprocess.run([program, "--version"], capture_output=True, timeout=60).returncode == 0


def dump(browser: str, page: Path, profile: Path) -> tuple[str, list[str]]:
    """The page's DOM after its scripts, and the lines that its console got."""
    command = [browser, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", page.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_it_renders_and_its_own_script_runs(browser: str, page: Path, tmp_path: Path) -> None:
    dom, console = dump(browser, page, tmp_path / "profile")
    assert console == []
    assert dom.count('aria-sort="none"') > 20  # set by the script: the policy let it run
    assert "15 completed, 1 diverged" in dom


def test_the_table_sorts_and_filters(browser: str, page: Path, tmp_path: Path) -> None:
    # The probe is a script of the test's own: its copy of the page goes without the policy.
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    probed = page.with_name("probed.html")
    probed.write_text(text.replace("</body>", f"<script>onload = () => {{{PROBE}}}</script></body>"))
    dom, console = dump(browser, probed, tmp_path / "profile")
    assert console == []
    (found,) = re.findall(r'<pre id="seen">(.*?)</pre>', dom)
    seen = json.loads(found)
    numbers = [float(text) for text in seen["up"][:-1]]
    assert numbers == sorted(numbers)
    assert len(numbers) == 15
    assert seen["aria"] == "ascending"
    assert [float(text) for text in seen["down"][:-1]] == numbers[::-1]
    assert seen["up"][-1] == seen["down"][-1] == "—"  # the run without the metric stays last
    assert seen["wd"] == ["0"] * 3 + ["1e-5"] * 3 + ["1e-4"] * 3 + ["1e-3"] * 3 + ["0.01"] * 3 + ["1"]
    assert seen["status"][-1] == "diverged"
    assert seen["left"] == 1
    assert seen["images"]
    assert min(seen["images"]) > 300
    assert not seen["wide"]  # wide tables scroll in their own box
