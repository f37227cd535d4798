"""Paths of the repository, of a project outside it and of data sets, independent of the working directory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from omegaconf import OmegaConf

from tempo.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
PROJECT = "TEMPO_PROJECT"
"""Environment variable: the folder of a project outside the repository, with its own package and conf/."""

LOCAL = "local"
"""Group of a machine's own settings, conf/local, which git ignores."""


def project() -> Path:
    """Return the folder that TEMPO_PROJECT names, or the repository: the home of logs/ and data/."""
    named = os.environ.get(PROJECT, "")
    return Path(named).expanduser().absolute() if named else ROOT


def use_project() -> None:
    """Let Python find the project's package, and processes that start in another folder find the project.

    Raises:
        UserError: TEMPO_PROJECT names no folder, or one without conf/.
    """
    folder = project()
    if folder == ROOT:
        return
    if not (folder / "conf").is_dir():
        raise UserError(
            f"{PROJECT}={os.environ[PROJECT]} has no folder conf/; set it to the folder of your project, or "
            f"unset {PROJECT}"
        )
    os.environ[PROJECT] = str(folder)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


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
