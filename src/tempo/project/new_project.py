"""Write a small project of one's own, with a module, data, tests and CI."""

from __future__ import annotations

import importlib.metadata
import json
import keyword
import re
import sys
from pathlib import Path

from tempo.errors import UserError
from tempo.paths import IS_INSTALLED, ROOT

TEMPLATE = Path(__file__).parent / "template"
DISTRIBUTION = "tempo-experiments"


def new_project(folder: Path, package: str) -> list[Path]:
    """Write the project and return its files, relative to its folder.

    Names in the template: a file's suffix `.template` goes, `PACKAGE` becomes the package, `REQUIREMENT` the
    line that installs tempo.

    Raises:
        UserError: the name cannot be that of a package, or the folder has files.
    """
    _check_name(package)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder; name a new one: tempo new <folder>")
    known = {"PACKAGE": package, "REQUIREMENT": requirement()}
    written = []
    for source in sorted(path for path in TEMPLATE.rglob("*.template")):
        name = source.relative_to(TEMPLATE).as_posix().removesuffix(".template")
        target = folder / name.replace("PACKAGE", package)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = source.read_text(encoding="utf-8")
        target.write_text(re.sub("|".join(known), lambda found: known[found[0]], text), encoding="utf-8")
        written.append(target.relative_to(folder))
    return written


def _check_name(package: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", package) or keyword.iskeyword(package):
        raise UserError(
            f"--package={package} is not a name of a package; use small letters, digits and _: --package lab"
        )
    if package in {*sys.stdlib_module_names, "tempo", "tests", "conf", "train"}:
        raise UserError(
            f"--package={package} would hide another package of that name; choose another: --package lab"
        )


def requirement() -> str:
    """Return the requirement that installs tempo as it is here, by its address if it has one."""
    if not IS_INSTALLED:
        return f"{DISTRIBUTION} @ {ROOT.as_uri()}"
    found = importlib.metadata.distribution(DISTRIBUTION)
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    if not (url := origin.get("url")):
        return f"{DISTRIBUTION}>={found.version}"
    of_git = origin.get("vcs_info")
    return f"{DISTRIBUTION} @ git+{url}@{of_git['commit_id']}" if of_git else f"{DISTRIBUTION} @ {url}"
