"""`report.py --serve`: what it sends, to whom, and that a browser follows a run while it trains."""

from __future__ import annotations

import http.client
import json
import os
import re
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from report import main
from tempo.errors import UserError
from tempo.report import serve
from tempo.report.serve import LiveRuns, answer_to, server_of
from tests.report.chromium import Chromium
from tests.report.example_runs import HEADER, weight_decay_sweep, write_run

HOSTILE = "<img src=x onerror=document.title=1>"


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    weight_decay_sweep(tmp_path / "logs/sweeps/wd", [0.0, 1e-4], [0], {0.0: {0: 0.8}, 1e-4: {0: 0.9}})
    write_run(tmp_path / "logs/runs/one", status="running", name=HOSTILE, model__variant=HOSTILE)
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "logs/secret.txt").write_text("secret")
    return tmp_path / "logs"


@pytest.fixture
def server(logs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setattr(serve, "SECONDS_BETWEEN_READS", 0.0)
    with server_of([logs], 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(
    server: ThreadingHTTPServer, address: str, method: str = "GET", host: str | None = None
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    headers = {} if host is None else {"Host": host}
    connection.request(method, address, headers=headers)
    answer = connection.getresponse()
    found = answer.status, answer.read(), dict(answer.headers)
    connection.close()
    return found


def test_it_sends_the_page_its_data_reports_and_the_files_of_runs(
    server: ThreadingHTTPServer, logs: Path
) -> None:
    status, page, headers = ask(server, "/")
    assert status == 200
    assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")
    assert b"connect-src 'self'" in page
    data = json.loads(ask(server, "/data.json")[1])
    assert len(data["runs"]) == 3
    assert [(sweep["name"], sweep["jobs"], sweep["finished"]) for sweep in data["sweeps"]] == [("wd", 2, 2)]
    unchanged = json.loads(ask(server, f"/data.json?digest={data['digest']}")[1])
    assert unchanged == {"digest": data["digest"]}
    run = quote(str(logs / "runs/one"), safe="")
    assert json.loads(ask(server, f"/file?run={run}&name=run.json")[1])["name"] == HOSTILE
    assert ask(server, f"/file?run={run}&name=metrics.csv")[1].decode().startswith(HEADER)
    assert ask(server, f"/test_images.json?run={run}")[1] == b"null"
    for folder in (run, quote(str(logs / "sweeps/wd"), safe="")):
        status, page, _ = ask(server, f"/report?folder={folder}")
        assert status == 200
        assert b"Environment" in page
        assert b"connect-src" not in page
        assert b"<img" not in page


def test_nothing_else_is_sent(server: ThreadingHTTPServer, logs: Path) -> None:
    run = quote(str(logs / "runs/one"), safe="")
    outside = quote(str(logs.parent), safe="")
    (logs / "runs/one/curves.png").symlink_to(logs.parent / "secret.txt")
    (logs / "runs/one/confusion.png").mkdir()
    os.mkfifo(logs / "runs/one/train.log")
    for address in (
        f"/file?run={run}&name=curves.png",
        f"/file?run={run}&name=confusion.png",
        f"/file?run={run}&name=train.log",
        f"/file?run={run}&name=../../secret.txt",
        f"/file?run={run}&name=checkpoints/best.ckpt",
        f"/file?run={outside}&name=run.json",
        f"/report?folder={outside}",
        "/secret.txt",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "//etc/passwd",
        "/file",
    ):
        status, content, _ = ask(server, address)
        assert (address, status) == (address, 404)
        assert b"secret" not in content
    for method in ("POST", "PUT", "HEAD", "OPTIONS", "DELETE"):
        assert ask(server, "/", method)[0] == 501
    for host in ("evil.example", f"evil.example:{server.server_port}", "127.0.0.1", "127.0.0.1:1", ""):
        assert ask(server, "/data.json", host=host)[0] == 421
    assert ask(server, "/data.json", host=f"localhost:{server.server_port}")[0] == 200
    assert server.server_address[0] == "127.0.0.1"


def test_a_folder_without_runs_waits_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "SECONDS_BETWEEN_READS", 0.0)
    runs = LiveRuns([tmp_path])
    first = runs.data()
    assert first["runs"] == []
    assert answer_to("/", runs) is not None
    write_run(tmp_path / "a")
    assert [run["status"] for run in runs.data()["runs"]] == ["completed"]
    assert runs.data()["digest"] != first["digest"]


def test_a_mistake_is_one_line(logs: Path, server: ThreadingHTTPServer) -> None:
    for arguments, words in (
        (["absent"], "absent is not a folder"),
        ([str(logs), "--metric", "val/acc"], "Did you mean 'val/accuracy'"),
        ([str(logs), "--port", str(server.server_port)], "choose another with --port"),
        ([str(logs), "--port", "70000"], "is not a port"),
        ([str(logs), "--out", "x"], "leave out --serve"),
    ):
        with pytest.raises(SystemExit, match=re.escape(words)):
            main(["--serve", *arguments])
    with pytest.raises(UserError, match="is not a folder"):
        server_of([Path("absent")], 0)


def wait_for(browser: Chromium, condition: str) -> None:
    assert browser.value(f"new Promise(done => setInterval(() => {condition} && done(true), 50))") is True
    browser.settle()


def test_a_browser_follows_a_running_run(chromium: Chromium, server: ThreadingHTTPServer, logs: Path) -> None:
    chromium.size(1280, 1000)
    chromium.open(f"http://127.0.0.1:{server.server_port}/")
    assert chromium.value("document.title") == "logs"
    assert chromium.value("document.querySelectorAll('#all-runs tbody tr').length") == 3
    assert "2 of 2 jobs finished" in chromium.value("document.querySelector('#sweeps').textContent")
    assert HOSTILE in chromium.value("document.querySelector('#running').textContent")
    chromium.value("page.setFilter('status == running')")
    chromium.settle()
    chromium.value("document.querySelector('#columns').open = true")
    with (logs / "runs/one/metrics.csv").open("a") as file:
        file.write("520,5.2,21,,,,,0.125,0.75\n")
    curves = "page.data.runs.find(run => run.status === 'running').curves"
    wait_for(chromium, f"{curves}.find(rows => rows.y['val/loss']).y['val/loss'].at(-1) === 0.125")
    assert chromium.value("page.filter") == "status == running"
    assert chromium.value("document.querySelectorAll('#all-runs tbody tr').length") == 1
    weight_decay_sweep(logs / "sweeps/more", [1e-5], [0], {1e-5: {0: 0.7}})
    wait_for(chromium, "page.data.runs.length === 4")
    assert chromium.value("document.querySelectorAll('#sweeps li').length") == 2
    assert chromium.console == []
