"""README.md does what it prints.

Every ```bash block stands under one HTML comment that says who runs it:

    <!-- runs in CI -->              here, with `pytest -m readme`, as printed, one block after the other
    <!-- run by .ci/run -->          .ci/run has the same lines
    <!-- not run: the reason -->     nobody; for example a download, a GPU, hours
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8") if (ROOT / "README.md").exists() else ""
IN_CI, BY_SCRIPT, NOT_RUN = "runs in CI", "run by .ci/run", "not run: "
BLOCK_SECONDS = 300
# Of the first level only: conf/data and src/tempo/data are code.
NOT_COPIED = {".git", ".venv", ".venv-lock", "data", "logs", "outputs", "multirun"}


@dataclass(frozen=True)
class Block:
    """A fenced block: the comment above it, its language, its text."""

    marker: str
    language: str
    text: str

    def __str__(self) -> str:
        return self.text.split("\n")[0]

    def commands(self) -> list[str]:
        """The command lines, continued ones joined, without comments."""
        joined = self.text.replace("\\\n", " ")
        lines = [re.sub(r"\s+#\s.*$", "", line).strip() for line in joined.split("\n")]
        return [line for line in lines if line and not line.startswith("#")]


def blocks(markdown: str) -> list[Block]:
    """All fenced blocks, in order."""
    found: list[Block] = []
    marker, fence, language, indent = "", "", "", 0
    text: list[str] = []
    for line in markdown.splitlines():
        stripped = line.strip()
        if fence:
            if stripped == fence:
                found.append(Block(marker, language, "\n".join(text)))
                fence, marker = "", ""
            else:
                text.append(line.removeprefix(" " * indent))
        elif opening := re.match(r"( *)(`{3,})\s*(\w*)", line):
            indent, fence, language, text = len(opening[1]), opening[2], opening[3], []
        elif comment := re.fullmatch(r"<!--\s*(.*?)\s*-->", stripped):
            marker = comment[1]
        elif stripped:
            marker = ""
    return found


SHELL = [block for block in blocks(README) if block.language == "bash"]


def test_every_command_block_says_who_runs_it() -> None:
    assert SHELL, "README.md has no command"
    known = (IN_CI, BY_SCRIPT)
    wrong = [
        str(block)
        for block in SHELL
        if block.marker not in known and not re.match(re.escape(NOT_RUN) + r"\S+", block.marker)
    ]
    assert wrong == [], "these blocks need one of the comments that tests/readme/test_readme.py explains"


def test_no_command_hides_in_another_kind_of_block() -> None:
    languages = {block.language for block in blocks(README)}
    assert languages & {"", "sh", "shell", "console", "zsh"} == set(), "use ```bash or ```text"


def test_ci_runs_what_it_is_said_to_run() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    said = [command for block in SHELL if block.marker == BY_SCRIPT for command in block.commands()]
    assert [command for command in said if command not in script] == []
    assert "make test" in said
    assert "make demo" in said


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {
        target for block in SHELL for target in re.findall(r"\bmake ([a-z]+)", "\n".join(block.commands()))
    }
    assert named - set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE)) == set()


def test_links_lead_somewhere() -> None:
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose)
    missing = [link for link in targets if "://" not in link and not (ROOT / link).exists()]
    assert missing == []


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the working tree, so that the commands' runs do not end up in the user's logs/."""
    copy = tmp_path_factory.mktemp("readme") / "tempo"

    def left_out(folder: str, names: list[str]) -> set[str]:
        first_level = Path(folder) == ROOT
        return {name for name in names if name == "__pycache__" or (first_level and name in NOT_COPIED)}

    shutil.copytree(ROOT, copy, ignore=left_out)
    (copy / ".venv").symlink_to(sys.prefix)
    return copy


@pytest.mark.readme
@pytest.mark.parametrize("block", [block for block in SHELL if block.marker == IN_CI], ids=str)
def test_commands_run_as_printed(block: Block, checkout: Path) -> None:
    """In bash, with this interpreter as `python`, as after `source .venv/bin/activate`."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=checkout,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BLOCK_SECONDS,
    )
    assert result.returncode == 0, f"{block.text}\n\nended with {result.returncode}:\n{result.stdout[-6000:]}"
    assert "Traceback (most recent call last)" not in result.stdout, result.stdout[-6000:]


def test_the_reader_of_blocks() -> None:
    page = (
        "<!-- runs in CI -->\n\n```bash\npython a.py \\\n  b=1  # a comment\n```\n\n"
        "1. item\n   <!-- not run: a GPU -->\n   ```bash\n   python c.py\n   ```\n"
        "<!-- runs in CI -->\nprose\n```bash\nd\n```\n````markdown\n```bash\ninner\n```\n````\n"
    )
    found = blocks(page)
    assert [(block.marker, block.language) for block in found] == [
        ("runs in CI", "bash"),
        ("not run: a GPU", "bash"),
        ("", "bash"),
        ("", "markdown"),
    ]
    assert found[0].commands() == ["python a.py    b=1"]
    assert found[1].text == "python c.py"
