"""A report from hand-made records."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from tempo.errors import UserError
from tempo.paths import ROOT
from tempo.scaling.measured_point import SUFFIX
from tempo.scaling.model_table import ModelSize
from tempo.scaling.points_report import ScalingReport, report_folders, text_of, write_scaling_report
from tests.scaling.points import point

POINTS = [
    point(1, rate=10.0),
    point(2, rate=19.0),
    point(4, rate=36.0, cores=2),
    point(2, rate=12.0, method="ps_sync", servers=1, sent_bytes_by_rank=[8e6, 4e6], bytes_are="counted"),
    point(2, rate=11.0, method="ps_async", servers=1, staleness=0.75),
    point(8, rate=60.0, source="emulated", link="1 Gbit/s <a host>"),
    point(1024, rate=5000.0, source="predicted", compute="formula"),
]


def test_the_page_says_what_was_measured_and_what_was_not(tmp_path: Path) -> None:
    report = ScalingReport(
        title="Scaling: <net>",
        points=POINTS,
        sizes=[ModelSize("vgg16", 138_357_544, 4 * 138_357_544, 224, 30_940_528_640, 30_940_528_640)],
        failures=["net, ring, 16 workers: <killed>"],
    )
    page = write_scaling_report(report, tmp_path / "report").read_text(encoding="utf-8")
    for words in (
        "7 points: 5 measured, 1 emulated, 1 predicted, 1 failed.",
        "Scaling: &lt;net&gt;",
        "&lt;killed&gt;",
        "1 Gbit/s &lt;a host&gt;",
        "workers share cores: contention, not a network",
        "ring all-reduce",
        "parameter server, asynchronous",
        ">95.0<",  # 19 images/s of 2 x 10
        ">30.9<",
    ):
        assert words in page
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "| net | ps\\_sync | 2 | measured | 12 | 60.0 |" in text
    names = {path.stem for path in (tmp_path / "report" / "figures").glob("*.svg")}
    assert names == {"method_ring", "method_ps_sync", "method_ps_async", "network_net"}


def test_more_than_n_times_one_worker_is_explained() -> None:
    usual = ScalingReport(title="t", points=[*POINTS, point(2, rate=20.9)])
    assert "scaling above" not in text_of(usual)
    odd = ScalingReport(title="t", points=[*POINTS, point(2, rate=23.0), point(4, rate=43.0)])
    assert "scaling above 105 %: 2 points, up to 115.0 %" in text_of(odd)


def test_the_csv_has_every_field_of_every_point(tmp_path: Path) -> None:
    write_scaling_report(ScalingReport(title="t", points=POINTS), tmp_path / "report")
    with (tmp_path / "report" / "scaling.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(POINTS)
    found = next(row for row in rows if row["method"] == "ps_sync")
    assert float(found["efficiency"]) == 0.6
    assert found["sent_bytes_by_rank"] == "[8000000.0, 4000000.0]"


def test_a_smoke_says_so_on_every_figure_and_page(tmp_path: Path) -> None:
    page = write_scaling_report(ScalingReport(title="t", points=POINTS[:2], smoke=True), tmp_path / "report")
    assert page.read_text(encoding="utf-8").count("SMOKE: not comparable") >= 2


def test_the_report_script_takes_a_folder_of_points_and_no_torch(tmp_path: Path) -> None:
    for at, made in enumerate(POINTS):
        made.write(tmp_path / f"{at}{SUFFIX}")
    code = (
        "import sys, runpy; sys.argv = ['report.py', *sys.argv[1:]]; "
        f"runpy.run_path({str(ROOT / 'src' / 'report.py')!r}, run_name='__main__')\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=ROOT / "src"
    )
    assert done.returncode == 0, done.stderr
    assert "5 measured, 1 emulated, 1 predicted" in done.stdout
    assert (tmp_path / "report" / "report.html").is_file()


def test_points_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    (tmp_path / f"x{SUFFIX}").write_text("[]")
    with pytest.raises(UserError, match="none of the 1 points can be read"):
        report_folders([tmp_path], tmp_path / "report")
