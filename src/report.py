"""Make a report of runs and sweeps: `python src/report.py logs/sweeps/<name> [more folders]`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tempo.command_line.output_streams import keep_streams_open
from tempo.command_line.start_up import importing
from tempo.errors import UserError
from tempo.paths import read_env_file, root


class Parser(argparse.ArgumentParser):
    """An argument parser whose error messages are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit."""
        sys.exit(f"{message}; --help lists the options")


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = Parser(
        prog="report.py",
        description="Tables, figures and one HTML page of runs and sweeps; several folders are compared.",
    )
    option = parser.add_argument
    option("folders", nargs="+", type=_folder, help="folders of runs or sweeps, or any folder above them")
    option(
        "--out", type=Path, help="output folder (default: report/ in the folder; logs/reports/ for several)"
    )
    option("--metric", help="metric that ranks the settings, such as val/accuracy (default: the objective)")
    option("--paper", metavar="PAPER/ITEM", help="show all rows of a paper, run or not: radiuk2020/table1")
    option("--target", metavar="METRIC=VALUE", help="show steps and seconds to reach it: val/accuracy=0.5")
    option("--serve", action="store_true", help="show the runs in a browser on this machine and follow them")
    option("--port", type=_port, default=8008, help="port of --serve on 127.0.0.1 (default: 8008)")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; choose one of 1024 to 65535")
    return int(text)


def _folder(text: str) -> Path:
    if not text.strip():  # a shell variable that was not set; Path("") would be the current folder
        raise argparse.ArgumentTypeError(f"{text!r} does not name a folder; name the folder of a run")
    return Path(text)


def default_out(folders: Sequence[Path]) -> Path:
    """Return report/ inside a single folder; for several, a folder in logs/reports named after them."""
    if len(folders) == 1:
        return folders[0] / "report"
    name = "_and_".join(re.sub(r"[^\w=.,-]", "_", folder.resolve().name) for folder in folders[:3])
    more = f"_and_{len(folders) - 3}_more" if len(folders) > 3 else ""
    return Path(root("logs", "reports", name[:120] + more))


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and make the report."""
    keep_streams_open()
    asked = parser().parse_args(arguments)
    try:
        read_env_file()
        if asked.serve:
            serve(asked)
            return
        out = asked.out or default_out(asked.folders)
        report(asked.folders, out, asked.metric, asked.paper, asked.target)
    except UserError as error:
        sys.exit(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        sys.exit(f"{error.filename}: {error.strerror}; choose another folder with --out")


def serve(asked: argparse.Namespace) -> None:
    """Show the runs in a browser until Ctrl-C.

    Raises:
        UserError: a folder does not exist, no run has the metric, or the port or an option cannot be used.
    """
    for name in ("out", "paper", "target"):
        if getattr(asked, name) is not None:
            raise UserError(f"--{name} is for a report in files; leave it out, or leave out --serve")
    with importing("tempo.report.serve"):
        from tempo.report import serve as server
    server.serve(asked.folders, asked.port, asked.metric)


def report(
    folders: Sequence[Path], out: Path, metric: str | None, paper: str | None, target: str | None
) -> None:
    """Write the report into `out` and print its short form.

    Raises:
        UserError: no readable run, or an unknown metric, paper or target.
    """
    # scipy and matplotlib take a second to import, so the folders are checked first.
    from tempo.report.load_runs import load

    # A benchmark's folder also holds the runs that measured its points: look for points first.
    patterns = ("*.point.json", "points/*.point.json", "*/points/*.point.json")
    if any(next(folder.glob(pattern), None) for folder in folders for pattern in patterns):
        from tempo.scaling.points_report import report_folders

        print(report_folders(folders, out), end="")
        return
    found = load(folders)
    if not found.runs:
        first = found.unreadable[0]
        raise UserError(f"none of the {len(found.unreadable)} runs found can be read; the first: {first.why}")

    with importing("tempo.report.write_report"):
        from tempo.report.sections import content_of
        from tempo.report.write_report import text_of, write_report

    content = content_of(folders, found, metric, paper, target)
    page = write_report(content, out)
    print(text_of(content), end="")
    print(page)


if __name__ == "__main__":
    main()
