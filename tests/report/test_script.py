"""`python src/report.py`: where the report goes, what it refuses, and that it needs no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from report import default_out, main
from tempo.paths import ROOT
from tempo.report.html_page import announce_page
from tests.report.example_runs import weight_decay_sweep, write_run

SCRIPT = ROOT / "src/report.py"


def run_python(program: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    start = f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import report\n"
    command = [sys.executable, "-c", start + program]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def test_200_runs_make_a_report_without_torch(tmp_path: Path) -> None:
    decays = [1e-6 * 1.2**at for at in range(50)]
    values = {wd: {seed: 0.9 + 0.001 * seed for seed in range(4)} for wd in decays}
    weight_decay_sweep(tmp_path / "s", decays, range(4), values)
    program = (
        "report.main(['s'])\n"
        "heavy = {'torch', 'torchvision', 'pytorch_lightning', 'sklearn', 'matplotlib.pyplot'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = run_python(program, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "200 runs of 50 settings: 200 completed." in done.stdout
    assert done.stdout.splitlines()[-1] == "s/report/report.html"
    assert (tmp_path / "s/report/report.html").stat().st_size < 3_000_000


def test_help_and_mistakes_import_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "for arguments in (['--help'], ['absent'], ['.']):\n"
        "    try: report.main(arguments)\n"
        "    except SystemExit: pass\n"
        "heavy = {'torch', 'scipy', 'matplotlib', 'pandas', 'rich.console'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "report.main(['absent'])\n"
    )
    done = run_python(program, tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr


def test_a_report_inside_its_sweep_is_not_read_as_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "s/a")
    main([str(tmp_path / "s")])
    first = capsys.readouterr().out
    main([str(tmp_path / "s")])
    assert capsys.readouterr().out == first
    assert "1 run of 1 setting: 1 completed." in first


def test_several_folders_are_reported_in_a_folder_of_their_own(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a b", "c", "d", "e")]
    assert default_out(folders[:1]) == tmp_path / "a b/report"
    assert default_out(folders) == ROOT / "logs/reports/a_b_and_c_and_d_and_1_more"


def test_only_a_report_is_overwritten_also_an_unfinished_one(tmp_path: Path) -> None:
    write_run(tmp_path / "s/a")
    page = tmp_path / "s/report/report.html"
    page.parent.mkdir()
    page.write_text("<!doctype html><title>years of work</title>")
    with pytest.raises(SystemExit, match="has files that are not a tempo report"):
        main([str(tmp_path / "s")])
    assert [path.name for path in page.parent.iterdir()] == ["report.html"]
    assert "years of work" in page.read_text()
    page.unlink()
    announce_page(page)
    (page.parent / "results.csv").touch()
    main([str(tmp_path / "s")])
    assert "Unfinished" not in page.read_text()
    assert (page.parent / "results.csv").read_text()


@pytest.mark.parametrize(
    ("make", "arguments", "words"),
    [
        ("nothing", ["absent"], "absent is not a folder"),
        ("empty", ["s"], "no run under s"),
        ("half", ["s"], "none of the 1 runs found can be read; the first: "),
        ("run", ["s", "--metric", "val/acc"], "no run has the metric val/acc. Did you mean 'val/accuracy'?"),
        ("run", ["s", "--paper", "nobody1999"], "--paper nobody1999 names no experiment"),
        ("run", ["s", "--out", "s/a/run.json"], "choose another folder with --out"),
        ("run", ["s", "--out", "s/a"], "s/a has files that are not a tempo report; choose another folder"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: str, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if make != "nothing":
        Path("s").mkdir()
    if make == "half":
        Path("s/job").mkdir()
        Path("s/job/run.json").write_text('{"schema')
    if make == "run":
        write_run(Path("s/a"))
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    # Python prints a text as exit code on stderr and exits with 1.
    assert isinstance(stopped.value.code, str)
    assert words in stopped.value.code
    assert "\n" not in stopped.value.code
