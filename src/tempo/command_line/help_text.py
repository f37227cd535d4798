"""The text of `--help`: Hydra's, with the comments of conf/ behind the keys and experiments last."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from yaml import YAMLError, safe_load

from tempo.command_line.error_messages import ONE_RUN
from tempo.config.json_schema import comments_of
from tempo.paths import conf_folders

FILE_WIDTH = 110
_COMMENT_COLUMN = 34
_GROUPS, _CONFIG = "== Configuration groups ==", "== Config =="


def explained(text: str, config_name: str, arguments: Sequence[str]) -> str:
    """Return Hydra's help text for a script, wrapped to the terminal and with what each key means."""
    head, groups, config = _parts(text)
    width = shutil.get_terminal_size((FILE_WIDTH, 0)).columns
    comments = key_comments(config_name, arguments)
    if config_name in ONE_RUN:  # they have no groups
        return "\n".join([*head[:-1], *_with_comments(config, comments, width)])
    first = [line for line in groups if not line.startswith("experiment")]
    papers = [line for line in groups if line.startswith("experiment")]
    lines = [*head, *_wrapped(first, width), *_with_comments(config, comments, width)]
    if papers:
        at = next((at for at, line in enumerate(lines) if line.startswith("Powered by")), len(lines))
        lines[at:at] = ["== Experiments (experiment=option) ==", "", *_wrapped(papers, width), ""]
    return "\n".join(lines)


def key_comments(config_name: str, arguments: Sequence[str]) -> dict[str, str]:
    """Return the comment behind each key, from the files that a script composes; the script's own win."""
    found: dict[str, str] = {}
    for name in (config_name,) if config_name in ONE_RUN else ("train", "measuring", config_name):
        text = _text_of(f"{name}.yaml")
        for group, option in {**_default_options(text), **_pairs(arguments)}.items():
            options = comments_of(_text_of(f"{group}/{option}.yaml"))
            found |= {f"{group}.{key}": comment for key, comment in options.items()}
        found |= comments_of(text)
    return found


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


def _text_of(name: str) -> str:
    files = [folder / name for folder in conf_folders()]
    file = next((file for file in files if file.is_file()), None)
    return Path(file).read_text(encoding="utf-8") if file else ""


def _default_options(text: str) -> dict[str, str]:
    try:
        defaults = (safe_load(text) or {}).get("defaults", [])
    except YAMLError:
        return {}
    chosen = [pair for entry in defaults if isinstance(entry, dict) for pair in entry.items()]
    return {str(group).split()[-1].lstrip("/"): str(option) for group, option in chosen}


def _pairs(arguments: Sequence[str]) -> dict[str, str]:
    words = [argument.partition("=") for argument in arguments]
    return {group: option for group, equals, option in words if equals and "." not in group}
