"""Read the comments behind the keys of conf/, for --help and for the schemas of editors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from yaml import YAMLError, safe_load

from tempo.paths import conf_folders


def key_comments(names: Sequence[str], arguments: Sequence[str]) -> dict[str, str]:
    """Return the comment behind each key of conf/<name>.yaml and of its options; the last name wins."""
    found: dict[str, str] = {}
    for name in names:
        text = _text_of(f"{name}.yaml")
        for group, option in {**_default_options(text), **_pairs(arguments)}.items():
            options = comments_of(_text_of(f"{group}/{option}.yaml"))
            found |= {f"{group}.{key}": comment for key, comment in options.items()}
        found |= comments_of(text)
    return found


def comments_of(text: str) -> dict[str, str]:
    """Return the comment behind each key of a YAML file, by dotted key."""
    found, parents = {}, list[str]()
    for line in text.splitlines():
        if (match := re.match(r"( *)(\w+):[^#]*(?:#\s*(.*))?$", line)) is None:
            continue
        indent, name, comment = match.groups()
        parents[len(indent) // 2 :] = [name]
        if comment:
            found[".".join(parents)] = comment
    return found


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
