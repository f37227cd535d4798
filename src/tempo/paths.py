"""Paths of the repository or the installed package, of a project outside it and of data sets."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from omegaconf import OmegaConf

from tempo.errors import UserError

_PACKAGE = Path(__file__).resolve().parent
IS_INSTALLED = (_PACKAGE / "conf").is_dir()
"""Whether the package comes from a wheel, which has conf/ and the scripts inside it."""
ROOT = Path.cwd() if IS_INSTALLED else _PACKAGE.parents[1]
"""The repository; for an installed package, which has none, the folder in which the process began."""
CONF = _PACKAGE / "conf" if IS_INSTALLED else ROOT / "conf"
SCRIPTS = _PACKAGE / "scripts" if IS_INSTALLED else ROOT / "src"
SOURCE = _PACKAGE.parent
"""Folder of the package."""
PROJECT = "TEMPO_PROJECT"
"""Environment variable: the folder of a project outside the repository, with its own package and conf/."""

LOCAL = "local"
"""Group of a machine's own settings, conf/local, which git ignores."""


def project() -> Path:
    """Return the folder that TEMPO_PROJECT names, or the repository: the home of logs/ and data/."""
    named = os.environ.get(PROJECT, "")
    return Path(named).expanduser().absolute() if named else ROOT


def has_project() -> bool:
    """Whether TEMPO_PROJECT names a folder other than the repository."""
    return bool(os.environ.get(PROJECT)) and (IS_INSTALLED or project() != ROOT)


def use_project() -> None:
    """Let Python find the project's package, and processes that start in another folder find the project.

    Raises:
        UserError: TEMPO_PROJECT names no folder, or one without conf/.
    """
    if not has_project():
        return
    folder = project()
    if not (folder / "conf").is_dir():
        raise UserError(
            f"{PROJECT}={os.environ[PROJECT]} has no folder conf/; set it to the folder of your project, or "
            f"unset {PROJECT}"
        )
    os.environ[PROJECT] = str(folder)
    for place in (folder / "src", folder):  # a project of `tempo new` has its package in src/
        if place.is_dir() and str(place) not in sys.path:
            sys.path.insert(0, str(place))


def find_project(start: Path) -> Path | None:
    """Return the nearest folder at or above `start` with pyproject.toml and conf/, but not the repository."""
    for folder in (start, *start.parents):
        if (folder / "conf").is_dir() and (folder / "pyproject.toml").is_file():
            return None if folder == ROOT and not IS_INSTALLED else folder
    return None


def python_path(inherited: str | None) -> str:
    """Return the PYTHONPATH by which a new process finds this package.

    An installed package is found by itself: its folder also holds packages that could hide Python's own.
    """
    return os.pathsep.join(filter(None, ["" if IS_INSTALLED else str(SOURCE), inherited]))


def as_typed(text: str) -> str:
    """Return a message with `tempo train` in place of `python src/train.py` if the package is installed."""
    if not IS_INSTALLED:
        return text
    return re.sub(r"(?:\bpython )?\bsrc/(\w+)\.py", lambda found: f"tempo {found[1].replace('_', '-')}", text)


def read_env_file() -> None:
    """Set the environment variables of the project's file `.env`; those that are set already stay.

    Raises:
        UserError: the file cannot be read.
    """
    file = project() / ".env"
    if not file.is_file():
        return
    try:
        from dotenv import load_dotenv  # python-dotenv; only a project with such a file pays for it

        load_dotenv(file)
    except ImportError as error:
        raise UserError(f"{file} needs python-dotenv; install python-dotenv, or remove the file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read ({error}); correct the file, or remove it") from error


def conf_folders() -> list[Path]:
    """Return the folders of configuration files; a file in the first hides one of its name in the next."""
    return list(dict.fromkeys([project() / "conf", CONF]))


def is_group(name: str) -> bool:
    """Whether a name is a group of options."""
    return bool(name) and any((folder / name).is_dir() for folder in conf_folders())


def option_files(group: str) -> list[Path]:
    """Return the files of a group's options, those in subfolders included."""
    return [path for folder in conf_folders() for path in sorted((folder / group).rglob("*.yaml"))]


def root(*parts: str) -> str:
    """Absolute path of `parts` below the project or the repository: `${root:logs}`."""
    return str(project().joinpath(*parts))


def data_root() -> str:
    """Folder of the data sets: the environment variable TEMPO_DATA, else `${root:data}`."""
    return os.environ.get("TEMPO_DATA") or root("data")


def register_resolvers() -> None:
    """Make `${root:..}`, `${data_root:}`, `${mul:a,b}` and `${smoke_suffix:scale}` known to OmegaConf."""
    OmegaConf.register_new_resolver("root", root, replace=True)
    OmegaConf.register_new_resolver("data_root", data_root, replace=True)
    OmegaConf.register_new_resolver("mul", lambda a, b: float(a) * float(b), replace=True)
    OmegaConf.register_new_resolver("smoke_suffix", lambda scale: "_smoke" * (scale == "smoke"), replace=True)
