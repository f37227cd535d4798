"""MkDocs hooks: write the pages that follow from the code, and resolve links to files of the repository."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
GROUPS = {
    "data": "Data sets, and how they are split, batched and augmented.",
    "model": "Networks. A network or LightningModule of your own is one more file "
    "([extending](../extending.md)).",
    "loss": "Losses of tempo's classifier.",
    "optimizer": "Optimizers; `optimizer=own` is the one that your LightningModule brings.",
    "scheduler": "Schedules of the learning rate and the momentum, stepped at each optimizer step.",
    "trainer": "Devices, precision, and the length of a run.",
    "callbacks": "Callbacks of Lightning that are added to those of tempo.",
    "logger": "Loggers, in addition to `metrics.csv`.",
    "debug": "Small runs that find a fault.",
    "experiment": "One file per row and figure of a paper, and the project's own comparisons "
    "([experiments](../experiments.md)).",
    "hydra/sweeper": "How `-m` chooses the jobs of a sweep ([sweeps](../sweeps.md)).",
    "hydra/launcher": "Where the jobs of a sweep run ([clusters](../clusters.md)).",
}
"""Groups of `conf/`, each with the sentence at the head of its page."""
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\((?!https?:|#|mailto:)([^)\s]+)\)")
INTERPOLATION = "pattern"
"""Key that a schema has only for a string with an interpolation, which any key accepts."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add a page per room of the code to the navigation."""
    reference = next(part["Reference"] for part in config.nav or [] if "Reference" in part)
    reference.append({"Rooms of the code": [{room: f"reference/{room}.md"} for room in rooms()]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {
        "index.md": (ROOT / "README.md").read_text(encoding="utf-8"),
        "glossary.md": glossary(),
        "groups/index.md": keys(),
        "reference/tempo.md": "# From Python\n\n::: tempo.run.notebook\n\n::: tempo.run.load_run\n",
    }
    for room in rooms():
        pages[f"reference/{room}.md"] = f"# tempo.{room}\n\n::: tempo.{room}\n"
    pages |= {f"groups/{Path(group).name}.md": group_page(group) for group in GROUPS}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace links to files that are no pages, and the table of keys of lightning-hydra-template."""
    if "<!-- table of keys -->" in markdown:
        markdown = markdown.replace("<!-- table of keys -->", keys_elsewhere())
    folder = ROOT if page.file.src_uri == "index.md" else (ROOT / "docs" / page.file.src_uri).parent

    def resolved(found: re.Match[str]) -> str:
        image, text, (target, _, anchor) = found[1], found[2], found[3].partition("#")
        path = (folder / target).resolve()
        if not path.exists():
            return found[0]  # a link to a generated page, or a broken one, which MkDocs reports
        if (path / "README.md").is_file():
            path /= "README.md"
        inside = path.is_relative_to(ROOT / "docs") and path.relative_to(ROOT / "docs").as_posix()
        file = files.get_file_from_path(inside) if inside else None
        if file and file.inclusion.is_included():
            here = (ROOT / "docs" / page.file.src_uri).parent
            return f"{image}[{text}]({Path(*_up(here, path))}{'#' + anchor if anchor else ''})"
        if not config.repo_url:
            return text
        kind = "tree" if path.is_dir() else "blob"
        return f"[{text}]({config.repo_url.rstrip('/')}/{kind}/main/{path.relative_to(ROOT).as_posix()})"

    return LINK.sub(resolved, markdown)


def _up(folder: Path, path: Path) -> Iterator[str]:
    common = next(parent for parent in (folder, *folder.parents) if path.is_relative_to(parent))
    yield from [".."] * len(folder.relative_to(common).parts)
    yield from path.relative_to(common).parts


def glossary() -> str:
    """Return the page of the section Glossary of docs/design.md."""
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    return "# Glossary\n" + design.partition("## Glossary")[2].partition("\n## ")[0]


def keys() -> str:
    """Return the page of all keys of `conf/train.yaml`, with type, default and meaning."""
    schema = json.loads((ROOT / "docs" / "schema" / "run.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CONF / "train.yaml").read_text(encoding="utf-8"))
    lines = [
        "# Groups and keys",
        "",
        "A group is a folder of `conf/`, an option is a file in it: `model=mlp`. Other settings are keys: "
        "`trainer.epochs=3`. The tables follow from the files and their JSON Schema.",
        "",
        *(f"- [`{group}`]({Path(group).name}.md): {_plain(says)}" for group, says in GROUPS.items()),
        "",
    ]
    properties = {
        name: found for name, found in schema["properties"].items() if name not in ("defaults", "hydra")
    }
    single = {name: found for name, found in properties.items() if not found.get("properties")}
    lines += ["## Run", "", *_table("", single, values)]
    for section, value in values.items():
        found = properties.get(section, {})
        if found.get("properties"):
            lines += [f"## {section}", "", *_table(f"{section}.", found["properties"], value or {})]
    return "\n".join(lines)


def _plain(text: str) -> str:
    return re.sub(r" \(\[.*?\)\)", "", text)


def _table(prefix: str, found: dict[str, Any], values: dict[str, Any]) -> list[str]:
    rows = ["| key | values | default | meaning |", "|---|---|---|---|"]
    # In the order of conf/train.yaml, whose comments refer to the key above.
    for name, value in values.items():
        schema = found.get(name, {})
        if schema.get("properties") and isinstance(value, dict):
            rows += _table(f"{prefix}{name}.", schema["properties"], value)[2:-1]
            continue
        if not schema:
            continue
        cells = [f"`{prefix}{name}`", _kind(schema), f"`{json.dumps(value)}`"]
        rows.append("| " + " | ".join([*map(_cell, cells), _literal(schema.get("description", ""))]) + " |")
    return [*rows, ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _literal(text: str) -> str:
    """Return text in which no character means anything to Markdown or HTML."""
    return re.sub(r"[<>&*_{}\[\]`|\\]", lambda found: f"&#{ord(found[0])};", text)


def _kind(schema: dict[str, Any]) -> str:
    """Return the values that a schema accepts, in words."""
    parts = []
    for part in schema.get("anyOf", [schema]):
        if INTERPOLATION in part:
            continue
        if "enum" in part:
            parts += [f"`{value}`" for value in part["enum"]]
        elif "const" in part:
            parts.append(f"`{part['const']}`")
        elif part.get("type") == "array":
            parts.append("list of " + (_kind(part["items"]) if "items" in part else "values"))
        else:
            parts.append(
                {"null": "`null`", "object": "mapping"}.get(part.get("type"), part.get("type", "any"))
            )
            parts[-1] += _range(part)
    return ", ".join(dict.fromkeys(parts))


def _range(schema: dict[str, Any]) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [
        f"{sign} {schema[key]}" for key, sign in signs.items() if key in schema and schema[key] < 2**31 - 1
    ]
    return f" ({', '.join(limits)})" if limits else ""


def group_page(group: str) -> str:
    """Return the page of a group: its options, each with its file."""
    folder = CONF / group
    lines = [f"# {group}", "", GROUPS[group], ""]
    if group in ("data", "trainer", "optimizer", "model"):
        lines += [f"Keys of every option are in [groups and keys](index.md#{group}).", ""]
    for path in sorted(folder.rglob("*.yaml")):
        option = path.relative_to(folder).with_suffix("").as_posix()
        text = "\n".join(
            line
            for line in path.read_text(encoding="utf-8").splitlines()
            if "yaml-language-server" not in line
        )
        comment = re.match(r"(?:# @package.*\n)?((?:#.*\n?)*)", text)
        says = " ".join(line.lstrip("# ") for line in comment[1].splitlines()) if comment else ""
        body = text[comment.end() :].strip() if comment else text
        lines += [f"## `{group}={option}`", "", says, ""]
        if body:
            lines += ["```yaml", body, "```", ""]
    return "\n".join(lines)


def rooms() -> list[str]:
    """Return the names of the rooms of the code, in alphabetical order."""
    return sorted(path.parent.name for path in (ROOT / "src" / "tempo").glob("*/__init__.py"))


def keys_elsewhere() -> str:
    """Return the table of keys of lightning-hydra-template and Lightning with those of tempo."""
    sys.path.insert(0, str(ROOT / "src"))
    from tempo.config.keys_elsewhere import RENAMED

    rows = ["| there | here |", "|---|---|"]
    rows += [f"| `{there}` | `{here}` |" for there, (here, *_) in RENAMED.items()]
    return "\n".join(rows)
