"""Environment of a run: versions, lock file, git, environment variables, processor."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tempo.paths import IS_INSTALLED, ROOT, has_project, project

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "omegaconf", "numpy")
LOCK = ROOT / "requirements.lock"
DIFF_FILE = "git.diff"
LARGEST_DIFF = 1 << 20
"""Largest number of bytes of a diff kept next to the record; its SHA-256 covers the whole diff."""
_MOST_FILES = 50
_NO_CODE = {"logs", "data", "outputs", "node_modules"}
"""Folders of a project that hold no code of its runs."""
_SOURCES = ("src", "conf", "requirements.lock", "pyproject.toml")
# By name, never by prefix: other variables may hold secrets.
SWITCHES = (
    *("OMP_NUM_THREADS", "OMP_DYNAMIC", "OMP_SCHEDULE", "MKL_NUM_THREADS", "MKL_DYNAMIC", "MKL_CBWR"),
    *("MKL_ENABLE_INSTRUCTIONS", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE", "KMP_DETERMINISTIC_REDUCTION"),
    *("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE"),
    *("DNNL_DEFAULT_FPMATH_MODE", "CUBLAS_WORKSPACE_CONFIG", "CUBLASLT_WORKSPACE_SIZE"),
    *("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "TORCH_BLAS_PREFER_CUBLASLT"),
    *("TORCH_CUDNN_V8_API_DISABLED", "CUDA_LAUNCH_BLOCKING", "NCCL_ALGO", "NCCL_PROTO"),
    *("PYTORCH_ENABLE_MPS_FALLBACK", "PYTHONHASHSEED", "PYTHONOPTIMIZE"),
)
"""Environment variables that can change a result."""


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = ""
    return found


def surroundings() -> dict[str, Any]:
    """Return the platform, lock file and environment variables; details from torch are added later."""
    found = {
        "platform": f"{platform.system()} {platform.machine()}".strip(),
        "lock": lock_state(LOCK),
        "variables": switches(),
    }
    if IS_INSTALLED:  # a checkout has its commit in the record instead
        found["tempo"] = importlib.metadata.version("tempo-experiments")
    return {**found, "project": {"sources_sha256": sources_sha256(project())}} if has_project() else found


def sources_sha256(folder: Path) -> str:
    """Return a SHA-256 of the Python and YAML files of a project, without those of its runs and data."""
    digest = hashlib.sha256()
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if not name.startswith((".", "__")) and name not in _NO_CODE
        )
        for name in sorted(names):
            if name.endswith((".py", ".yaml", ".yml")):
                path = Path(place, name)
                digest.update(f"{path.relative_to(folder).as_posix()} {_file_sha256(path)}\n".encode())
    return digest.hexdigest()


def switches() -> dict[str, str]:
    """Return the environment variables that are set and can change a result."""
    return {name: os.environ[name][:200] for name in SWITCHES if name in os.environ}


def lock_state(lock: Path) -> dict[str, Any]:
    """Return `{"sha256", "other"}` of a lock file; `other` lists packages installed in another version.

    Locked packages that are not installed are skipped, since one lock file serves several systems.
    """
    try:
        content = lock.read_bytes()
    except OSError:
        return {}
    installed = _installed()
    pinned = re.findall(r"^([\w.-]+)==([^\s;\\]+)", content.decode("utf-8", "replace"), re.MULTILINE)
    other = {
        name: f"{installed[key]}, locked {version}"
        for name, version in pinned
        if (key := _normal(name)) in installed and installed[key].partition("+")[0] != version
    }
    return {"sha256": hashlib.sha256(content).hexdigest(), "other": other}


@functools.cache
def _installed() -> dict[str, str]:
    """Return package -> version, read from folder names; importlib.metadata would take 100 ms."""
    found: dict[str, str] = {}
    for entry in sys.path:
        try:
            names = [path.name for path in Path(entry or ".").glob("*.dist-info")]
        except OSError:
            continue
        for name in names:
            package, _, version = name.removesuffix(".dist-info").partition("-")
            found.setdefault(_normal(package), version)
    return found


def _normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def git_state() -> tuple[dict[str, Any], bytes]:
    """Return the state of the checkout and the diff of uncommitted changes; empty outside a checkout.

    The state is `{"commit", "dirty"}`, and `project_commit` for a project outside this checkout. A dirty
    checkout also has `diff_sha256`, `diff_bytes` and `untracked`: source files that git does not track, with
    their SHA-256. An installed package has no checkout.
    """
    if IS_INSTALLED:
        return _commit_of_project(), b""
    lines = _git("status", "--porcelain=v2", "--branch").decode("utf-8", "replace").splitlines()
    commit = next((line.split()[2] for line in lines if line.startswith("# branch.oid ")), "")
    of_project = _commit_of_project()
    if not commit or commit == "(initial)":
        return of_project, b""
    changes = [line for line in lines if not line.startswith("#")]
    state: dict[str, Any] = {"commit": commit, "dirty": bool(changes), **of_project}
    diff = b""
    if any(not line.startswith("?") for line in changes):
        diff = _git("diff", "--no-ext-diff", "--no-textconv", "--no-color", "--binary", "HEAD")
        state |= {"diff_sha256": hashlib.sha256(diff).hexdigest(), "diff_bytes": len(diff)}
    if any(line.startswith("?") for line in changes):
        names = _git("ls-files", "-z", "--others", "--exclude-standard", "--", *_SOURCES)
        found = [os.fsdecode(name) for name in names.split(b"\0") if name]
        if found:
            state["untracked"] = {name: _file_sha256(ROOT / name) for name in sorted(found)[:_MOST_FILES]}
    return state, diff


def _commit_of_project() -> dict[str, Any]:
    if not has_project() or not (commit := _git("rev-parse", "HEAD", folder=project()).decode().strip()):
        return {}
    return {"project_commit": commit}


def same_source(one: str, two: str) -> bool:
    """Whether two commits have the same source files and configuration; False if either is unknown here."""
    if not all(re.fullmatch(r"[0-9a-f]{40,64}", commit) for commit in (one, two)):
        return False
    trees = _git("rev-parse", *(f"{commit}:{folder}" for commit in (one, two) for folder in ("src", "conf")))
    found = trees.split()
    return len(found) == 4 and found[:2] == found[2:]


def _file_sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def cpu_name() -> str:
    """Return the name of the processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - a file of the system
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git(*arguments: str, folder: Path | None = None) -> bytes:
    if shutil.which("git") is None:
        return b""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder or ROOT, capture_output=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout if done.returncode == 0 else b""
