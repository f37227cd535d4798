"""The page is one file that fetches nothing, runs no foreign script and shows text of records as text."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

from tempo.paths import ROOT
from tempo.report.html_page import CHART_SCRIPTS, PLAIN_SCRIPTS, write_page
from tempo.report.load_runs import load
from tempo.report.sections import content_of
from tempo.report.write_report import build_report
from tests.report.example_runs import write_run

EVIL = "<script>alert('x')</script>"


class Tags(HTMLParser):
    """Count tags, and collect text and the addresses that a page would fetch."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        self.fetched: list[str] = []
        self.text = ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        for name, value in attrs:
            if name in ("src", "srcset", "data", "action") or (name == "href" and tag != "a"):
                self.fetched.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"


def page_of(folder: Path, out: Path) -> str:
    """The page without its figures."""
    out.mkdir(exist_ok=True)
    return write_page(content_of([folder], load([folder])), [], out / "report.html").read_text("utf-8")


def test_the_page_is_utf_8_in_any_locale(tmp_path: Path) -> None:
    write_run(tmp_path / "s/a", fields={"name": "größer"}, name="größer")
    code = (
        "import sys; from pathlib import Path; from tempo.report.sections import content_of; "
        "from tempo.report.load_runs import load; from tempo.report.html_page import write_page; "
        "folder, out = map(Path, sys.argv[1:]); write_page(content_of([folder], load([folder])), [], out)"
    )
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", code, str(tmp_path / "s"), str(tmp_path / "report.html")]
    subprocess.run(command, check=True, env={**os.environ, **plain})
    assert "größer" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_page_holds_everything_itself(tmp_path: Path) -> None:
    for wd in (0.0, 1e-4):
        for seed in (0, 1):
            write_run(tmp_path / f"s/{wd}-{seed}", seed=seed, optimizer__wd=wd)
    page = build_report([tmp_path / "s"], tmp_path / "out")
    tags = Tags(page)
    assert tags.counts["img"] == 4  # finals, final value, cost, trade-off; curves and schedule are charts
    assert all(address.startswith("data:") for address in tags.fetched)
    own = re.sub(r'src="data:[^"]*"', "", page.read_text())
    for library in CHART_SCRIPTS[:2]:  # they hold the names of XML's name spaces
        own = own.replace((ROOT / "src/tempo/report" / library).read_text(), "")
    assert set(re.findall(r"https?://[\w.]*", own)) == {"http://www.w3.org"}  # the name of SVG
    assert "@import" not in page.read_text()
    for part in ("c0ffee", "2.11.0", "a test device", "optimizer.momentum", "272474"):
        assert part in tags.text


def test_names_from_records_stay_text(tmp_path: Path) -> None:
    write_run(
        tmp_path / f"s/{EVIL.replace('/', '')}",
        status="failed",
        name=EVIL,
        overrides=[f"name={EVIL}"],
        model__variant=f"</td>{EVIL}",
        paper={"source": EVIL, "item": EVIL, "mean": None, "says": EVIL},
        fields={"reason": EVIL, "device": EVIL, "git": {"commit": EVIL}, "versions": {EVIL: EVIL}},
    )
    write_run(tmp_path / "s/b", model__variant='"><img src=x onerror=alert(1)>')
    tags = Tags(build_report([tmp_path / "s"], tmp_path / "out"))
    assert tags.counts["script"] == len(PLAIN_SCRIPTS) + len(CHART_SCRIPTS) + 1  # and the data
    assert all(address.startswith("data:") for address in tags.fetched)
    assert EVIL in tags.text


def test_links_lead_to_runs_and_the_policy_allows_only_the_pages_own_script(tmp_path: Path) -> None:
    write_run(tmp_path / "s/a b%20#c,seed=0")
    text = page_of(tmp_path / "s", tmp_path / "s/report")
    assert '"link":"../a%20b%2520%23c%2Cseed%3D0/"' in text
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none'")
    own = len(PLAIN_SCRIPTS) + len(CHART_SCRIPTS)
    assert re.search(rf"script-src( 'sha256-[\w+/]{{43}}='){{{own}}}$", policy)


def test_keys_that_differ_are_shown_side_by_side(tmp_path: Path) -> None:
    write_run(tmp_path / "s/a", optimizer__lr=0.1, scheduler__lr=0.1)
    write_run(tmp_path / "s/b", optimizer__lr=0.5, scheduler__lr=0.5, overrides=["optimizer.lr=0.5"])
    (section,) = re.findall(
        r'<section id="differs">(.*?)</section>', page_of(tmp_path / "s", tmp_path / "out")
    )
    assert re.findall(r"<tr><td>(.*?)</td>", section) == ["optimizer.lr", "scheduler.lr"]
    assert len(re.findall(r'data-sort="0.5"', section)) == 2
