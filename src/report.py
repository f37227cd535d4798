"""Make a report of runs and sweeps: `python src/report.py logs/sweeps/<name> [more folders]`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tempo.command_line.start_up import importing
from tempo.errors import UserError
from tempo.paths import ROOT


class Parser(argparse.ArgumentParser):
    """argparse's, whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Say it and end."""
        sys.exit(f"{message}; --help shows what can be given")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = Parser(
        prog="report.py",
        description="Tables, figures and one HTML page of runs and sweeps; several folders are compared.",
    )
    made.add_argument(
        "folders", nargs="+", type=Path, help="folders of runs or sweeps, or any folder above them"
    )
    made.add_argument(
        "--out", type=Path, help="where to write (default: report/ in the folder; logs/reports/ for several)"
    )
    made.add_argument(
        "--metric", help="what ranks the settings, such as val/accuracy (default: the runs' objective)"
    )
    made.add_argument(
        "--paper",
        metavar="PAPER/ITEM",
        help="show all rows of a paper, run or not, such as radiuk2020/table1",
    )
    made.add_argument(
        "--target",
        metavar="METRIC=VALUE",
        help="what each setting took to get there, in steps and seconds, such as val/accuracy=0.5",
    )
    return made


def default_out(folders: Sequence[Path]) -> Path:
    """Inside the one folder; for several, a folder of its own named after them."""
    if len(folders) == 1:
        return folders[0] / "report"
    name = "_and_".join(re.sub(r"[^\w=.,-]", "_", each.resolve().name) for each in folders[:3])
    more = f"_and_{len(folders) - 3}_more" if len(folders) > 3 else ""
    return ROOT / "logs" / "reports" / (name[:120] + more)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, write, and say what was found."""
    asked = parser().parse_args(arguments)
    try:
        for each in asked.folders:
            if not each.is_dir():
                raise UserError(f"{each} is no folder; name the folder of a run or of a sweep")
        out = asked.out or default_out(asked.folders)
        report(asked.folders, out, asked.metric, asked.paper, asked.target)
    except UserError as error:
        sys.exit(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        sys.exit(f"{error.filename}: {error.strerror}; choose another folder with --out")


def report(
    folders: Sequence[Path], out: Path, metric: str | None, paper: str | None, target: str | None
) -> None:
    """Build the report in `out` and print its short form.

    Raises:
        UserError: no run, or none that can be read; a metric, a paper or a target that is not there.
    """
    # The folders are looked through before scipy and matplotlib take their second to import.
    from tempo.report.load_runs import load

    try:
        found = load(folders)
    except UserError:
        if not any(next(each.rglob("*.point.json"), None) for each in folders):
            raise
        from tempo.scaling.page import report_folders

        print(report_folders(folders, out), end="")
        return
    if not found.runs:
        first = found.unreadable[0]
        raise UserError(f"none of the {len(found.unreadable)} runs found can be read; the first: {first.why}")

    with importing("tempo.report.write_report"):
        from tempo.report.content import content_of
        from tempo.report.write_report import text_of, write_report

    content = content_of(folders, found, metric, paper, target)
    page = write_report(content, out)
    print(text_of(content), end="")
    print(page)


if __name__ == "__main__":
    main()
