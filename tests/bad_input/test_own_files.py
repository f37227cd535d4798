"""Files of one's own in --config-dir: what is wrong in them is one line, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bad_input.conftest import Refused, assert_refused, assert_says
from tests.bad_input.warm import Warm

# What somebody may have written into a file of their own, and what the line must name.
FILES: list[tuple[str, bytes, list[str]]] = [
    ("brackets that stay open", b"a: [1\nb: }", ["mine.yaml", "line 1"]),
    ("a tab", b"a:\n\tb: 1\n", ["mine.yaml", "line 2"]),
    ("no package", b"seed: 3\n", ["experiment=<option>", "'# @package _global_'"]),
    ("an unknown key", b"# @package _global_\nsede: 3\n", ["sede is not a key", "'seed'"]),
    ("a list", b"# @package _global_\n- 1\n", ["experiment/mine"]),
    ("no text", b"\xff\xfe\x00\x01", ["utf-8"]),
    ("itself", b"# @package _global_\ndefaults:\n  - /experiment/mine\n", ["leads back to its own file"]),
    ("brackets without an end", b"x: " + b"[" * 3000 + b"]" * 3000, ["nested too deeply"]),
    ("an option that is none", b"# @package _global_\ndefaults:\n  - override /model: x\n", ["model=x"]),
    ("a group that is none", b"# @package _global_\ndefaults:\n  - override /mode: x\n", ["'mode'"]),
    ("defaults of another kind", b"# @package _global_\ndefaults: 3\n", ["defaults must be a list"]),
    ("an object", b"# @package _global_\nseed: !!python/object/apply:os.getcwd []\n", ["mine.yaml"]),
    ("a key that is not there", b"# @package _global_\nseed: ${nothing.there}\n", ["'nothing.there'"]),
    ("a group that is null", b"# @package _global_\nmodel: null\n", ["model=<option of conf/model>"]),
    ("a group that is a number", b"# @package _global_\nmodel: 3\n", ["model=<option of conf/model>"]),
    ("a key of Hydra's that is a number", b"# @package _global_\nhydra: 3\n", ["experiment/mine"]),
]


@pytest.mark.parametrize(("what", "content", "words"), FILES, ids=[case[0] for case in FILES])
def test_a_file_of_ones_own(
    what: str, content: bytes, words: list[str], light: Warm, refused: Refused, tmp_path: Path
) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_bytes(content)
    given = [f"hydra.run.dir={tmp_path / 'made'}", "experiment=mine", "--config-dir", str(tmp_path / "conf")]
    assert_says(refused(light, "train.py", *given), words)


def test_a_file_of_ones_own_that_is_closed(light: Warm, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    path = tmp_path / "conf" / "experiment" / "mine.yaml"
    path.write_text("seed: 1")
    path.chmod(0)
    given = [f"hydra.run.dir={tmp_path / 'made'}", "experiment=mine", "--config-dir", str(tmp_path / "conf")]
    done = light.call("train.py", *given, folder=tmp_path)
    assert_refused(done)
    assert "Permission denied" in done.err
    assert not (tmp_path / "made").exists()
