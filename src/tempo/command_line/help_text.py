"""The text of `--help`: Hydra's, with the comments of conf/ behind the keys and experiments last."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from tempo.command_line.error_messages import ONE_RUN
from tempo.config.key_comments import key_comments

FILE_WIDTH = 110
_COMMENT_COLUMN = 34
_GROUPS, _CONFIG = "== Configuration groups ==", "== Config =="


def explained(text: str, config_name: str, arguments: Sequence[str]) -> str:
    """Return Hydra's help text for a script, wrapped to the terminal and with what each key means."""
    head, groups, config = _parts(text)
    width = shutil.get_terminal_size((FILE_WIDTH, 0)).columns
    names = [config_name] if config_name in ONE_RUN else ["train", "measuring", config_name]
    comments = key_comments(names, arguments)
    if config_name in ONE_RUN:  # they have no groups
        return "\n".join([*head[:-1], *_with_comments(config, comments, width)])
    first = [line for line in groups if not line.startswith("experiment")]
    papers = [line for line in groups if line.startswith("experiment")]
    lines = [*head, *_wrapped(first, width), *_with_comments(config, comments, width)]
    if papers:
        at = next((at for at, line in enumerate(lines) if line.startswith("Powered by")), len(lines))
        lines[at:at] = ["== Experiments (experiment=option) ==", "", *_wrapped(papers, width), ""]
    return "\n".join(lines)


def _parts(text: str) -> tuple[list[str], list[str], list[str]]:
    """Return the lines before the groups, those of the groups and those of the configuration."""
    head, _, rest = text.partition(_GROUPS)
    groups, _, config = rest.partition(_CONFIG)
    return [head.rstrip(), "", _GROUPS], groups.splitlines()[1:], [_CONFIG, *config.splitlines()[1:]]


def _wrapped(lines: Sequence[str], width: int) -> Iterator[str]:
    for line in lines:
        yield from textwrap.wrap(line, width, subsequent_indent="  ", break_long_words=False) or [""]


def _with_comments(lines: Sequence[str], comments: Mapping[str, str], width: int) -> Iterator[str]:
    parents: list[str] = []
    for line in lines:
        match = re.match(r"( *)(\w+):", line)
        if match is not None:
            parents[len(match[1]) // 2 :] = [match[2]]
        comment = comments.get(".".join(parents), "") if match else ""
        room = max(20, width - _COMMENT_COLUMN - 2)
        before = line
        if comment and len(line) >= _COMMENT_COLUMN:
            yield line
            before = ""
        for part in textwrap.wrap(comment, room) or [""]:
            yield f"{before:<{_COMMENT_COLUMN - 1}} # {part}" if part else before
            before = ""
