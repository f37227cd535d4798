"""Files from elsewhere: a pipe, a device, a folder or a file without an end is an error at once."""

from __future__ import annotations

import ast
import os
import socket
from pathlib import Path

import pytest

from tempo.record.read_file import read_bytes, read_text
from tests.architecture.house import SRC

# Files that read only what belongs to tempo, to the system or to the data set, each with its own limits.
READ_OTHER_FILES = {
    "command_line/tempo_command.py",  # the scripts
    "config/hydra_targets.py",  # the sources of a class
    "config/json_schema.py",  # conf/
    "config/key_comments.py",  # conf/
    "data/archive.py",
    "data/cifar.py",
    "data/decode_image.py",
    "data/deep_tiff.py",
    "data/free_space.py",  # /proc and the container's limits
    "data/huggingface.py",
    "data/image_cache.py",
    "data/mapped_images.py",  # the cache's own table
    "data/table_rows.py",
    "distributed/child_process.py",  # the log of a process that has just ended
    "optimizer/capabilities.py",  # the sources of a class
    "project/new_project.py",  # its own templates
    "record/environment.py",  # the lock file, conf/ and /proc
    "record/foreign_folder.py",  # conf/
    "record/read_file.py",
    "report/html_page.py",  # its own style and figures
    "report/published_numbers.py",  # conf/
    "scaling/calibrate.py",  # the log of a process that has just ended
    "run/worker.py",  # the job that its parent has just written
    "trainer/checkpoint_file.py",
}


@pytest.mark.parametrize("kind", ["pipe", "device", "link to a device", "folder", "socket", "sparse file"])
def test_what_is_not_a_regular_file_below_the_limit(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path = Path("/dev/zero")
        elif kind == "link to a device":
            path.symlink_to("/dev/zero")
        elif kind == "folder":
            path.mkdir()
        elif kind == "socket":
            listener.bind(str(path))
        else:
            with path.open("wb") as file:
                file.truncate(1 << 40)
        with pytest.raises(OSError, match=r"not a regular file|has more than 64 MiB|No such device"):
            read_bytes(path)


def test_a_file_at_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(b"a\r\nb\n\xc3\xa4")
    assert read_bytes(path, 7) == b"a\r\nb\n\xc3\xa4"
    assert read_text(path) == path.read_text(encoding="utf-8") == "a\nb\nä"
    with pytest.raises(OSError, match="has more than"):
        read_bytes(path, 6)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "none")
    if Path("/proc/version").exists():
        assert b"Linux" in read_bytes(Path("/proc/version"))


def test_every_file_of_a_run_folder_is_read_by_this_reader() -> None:
    others = set()
    for path in (SRC / "tempo").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and (
                    node.func.attr in {"read_text", "read_bytes"}
                    or (
                        node.func.attr == "open" and not node.args and ast.unparse(node.func.value) != "Image"
                    )
                )
            ):
                others.add(path.relative_to(SRC / "tempo").as_posix())
    assert others <= READ_OTHER_FILES
