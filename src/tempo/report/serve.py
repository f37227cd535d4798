"""Show all runs below folders in a browser on this machine, and follow those that are running.

One page asks for the data again every two seconds. The server listens on 127.0.0.1 only, answers GET requests
that name this host, and sends nothing but its page, the runs' data and a fixed list of files of known runs.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from tempo.errors import UserError, printable
from tempo.record.read_file import read_bytes
from tempo.report.chart_data import chart_data, json_block, test_images_of
from tempo.report.html_page import page_of, report_page
from tempo.report.load_runs import Collection, NoRunError, Run, RunCache, Sweep, load
from tempo.report.number_format import shown_path
from tempo.report.sections import CHARTS, IMAGES, RUNS, Live, Section, content_of
from tempo.report.statistics import summarise

HOST = "127.0.0.1"
FOLLOWING = Live("following", "The page needs JavaScript; `python src/report.py` writes tables without it.")
FILES = {
    "run.json": "application/json",
    "metrics.csv": "text/plain; charset=utf-8",
    "train.log": "text/plain; charset=utf-8",
    "curves.png": "image/png",
    "confusion.png": "image/png",
}
"""The files of a run that are sent, by their names; none can hold a script."""
SECONDS_BETWEEN_READS = 1.0
REQUEST_SECONDS = 20.0


@dataclass(frozen=True)
class Answer:
    """Content of an answer and its type."""

    content: bytes
    kind: str = "text/html; charset=utf-8"


@dataclass
class LiveRuns:
    """The runs below some folders, read again when their files have changed."""

    folders: Sequence[Path]
    metric: str | None = None
    _cache: RunCache = field(default_factory=dict)
    _found: Collection = field(default_factory=Collection)
    _read_at: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def found(self) -> Collection:
        """Return the runs as they are now, or as they were less than a second ago."""
        with self._lock:
            if time.monotonic() - self._read_at > SECONDS_BETWEEN_READS:
                try:
                    self._found = load(self.folders, self._cache)
                except NoRunError:
                    self._found = Collection()
                self._read_at = time.monotonic()
            return self._found

    def run_named(self, name: str) -> Run | None:
        """Return the run whose folder has this name on the page."""
        return next((run for run in self.found().runs if shown_path(run.folder) == name), None)

    def sweep_named(self, name: str) -> Sweep | None:
        """Return the sweep whose folder has this name on the page."""
        return next((sweep for sweep in self.found().sweeps if shown_path(sweep.folder) == name), None)

    def data(self) -> dict[str, Any]:
        """Return the values of the page; `digest` tells whether they have changed."""
        found = self.found()
        metric = self.metric if found.runs else None
        values = chart_data(summarise(found.runs, metric), _report_address, images=False)
        values["sweeps"] = [_sweep(sweep, found.runs) for sweep in found.sweeps]
        values["unreadable"] = [f"{shown_path(lost.folder)}: {lost.why}" for lost in found.unreadable]
        values["live"] = True
        values["digest"] = hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]
        return values


def _report_address(folder: Path) -> str:
    return f"report?folder={quote(shown_path(folder), safe='')}"


def _sweep(sweep: Sweep, runs: Sequence[Run]) -> dict[str, Any]:
    ends = [run.record for run in runs if run.sweep is not None and run.sweep.folder == sweep.folder]
    return {
        "name": sweep.folder.name,
        "jobs": len(sweep.jobs),
        "finished": sum(record.finished for record in ends),
        "running": sum(record.status == "running" for record in ends),
        "link": _report_address(sweep.folder),
    }


def answer_to(address: str, runs: LiveRuns) -> Answer | None:
    """Return the answer to a GET request for an address, or None if there is nothing there."""
    parts = urlsplit(address)
    asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
    if parts.path == "/":
        return Answer(_index(runs).encode())
    if parts.path == "/data.json":
        values = runs.data()
        unchanged = asked.get("digest") == values["digest"]
        return _json({"digest": values["digest"]} if unchanged else values)
    if parts.path == "/report":
        return _report(asked.get("folder", ""), runs)
    run = runs.run_named(asked.get("run", ""))
    if run is None:
        return None
    if parts.path == "/test_images.json":
        return _json(test_images_of(run))
    if parts.path == "/file" and asked.get("name") in FILES:
        return _file(run, asked["name"])
    return None


def _json(values: Any) -> Answer:
    return Answer(json_block(values).encode(), "application/json")


def _file(run: Run, name: str) -> Answer | None:
    path = run.folder / name
    try:
        # A link may lead out of the folder.
        return None if path.is_symlink() else Answer(read_bytes(path), FILES[name])
    except OSError:
        return None


def _index(runs: LiveRuns) -> str:
    title = ", ".join(folder.resolve().name for folder in runs.folders)
    shown = [
        Section("now", "Sweeps and running runs", [FOLLOWING]),
        Section("charts", "Charts", [CHARTS]),
        Section("runs", "All runs", [RUNS]),
        Section("images", "Confusion matrix and wrong images", [IMAGES]),
    ]
    return page_of(title, "", shown, None, smoke=False, data=runs.data())


def _report(name: str, runs: LiveRuns) -> Answer | None:
    """Return the report of a sweep or of a run, with its statistics and commands, without figures."""
    sweep, run = runs.sweep_named(name), runs.run_named(name)
    found_one = sweep or run
    if found_one is None:
        return None
    found = load([found_one.folder])
    content = content_of([found_one.folder], found)
    files = {file: f"file?run={quote(name, safe='')}&name={file}" for file in FILES} if run else {}
    return Answer(report_page(content, (), None, link=_report_address, files=files).encode())


class Handler(BaseHTTPRequestHandler):
    """Answers GET requests to this host; every other method is refused by the base class."""

    server_version, sys_version = "tempo", ""
    timeout = REQUEST_SECONDS
    runs: LiveRuns

    def do_GET(self) -> None:
        """Send the page, its data or a file of a known run."""
        assert isinstance(self.server, ThreadingHTTPServer)
        port = self.server.server_port
        # A page from elsewhere whose name was made to lead to this machine has its own name here.
        if self.headers.get("Host") not in (f"{HOST}:{port}", f"localhost:{port}"):
            self._send(HTTPStatus.MISDIRECTED_REQUEST, Answer(b"unknown host\n", "text/plain"))
            return
        try:
            answer = answer_to(self.path, self.runs)
        except (UserError, OSError) as error:
            content = f"{printable(str(error))}\n".encode()
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, Answer(content, "text/plain; charset=utf-8"))
            return
        if answer is None:
            self._send(HTTPStatus.NOT_FOUND, Answer(b"not found\n", "text/plain"))
        else:
            self._send(HTTPStatus.OK, answer)

    def _send(self, status: HTTPStatus, answer: Answer) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": answer.kind,
            "Content-Length": str(len(answer.content)),
            "Cache-Control": "no-store",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }
        if answer.kind.startswith("text/html"):
            headers["Content-Security-Policy"] = "frame-ancestors 'none'"  # the page has the rest
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing per request."""


def server_of(folders: Sequence[Path], port: int, metric: str | None = None) -> ThreadingHTTPServer:
    """Return the server of the runs below `folders`; port 0 takes a free one.

    Raises:
        UserError: a folder does not exist, no run has the metric, or the port cannot be used.
    """
    runs = LiveRuns(folders, metric)
    runs.data()
    handler = type("HandlerOfRuns", (Handler,), {"runs": runs})
    try:
        return ThreadingHTTPServer((HOST, port), handler)
    except OSError as error:
        raise UserError(
            f"port {port} cannot be used ({error.strerror}); choose another with --port"
        ) from error


def serve(folders: Sequence[Path], port: int, metric: str | None = None) -> None:
    """Serve until Ctrl-C."""
    with server_of(folders, port, metric) as server:
        print(f"http://{HOST}:{server.server_port}/  (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
