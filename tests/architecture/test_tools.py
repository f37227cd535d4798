"""The files of the tools agree with each other and with their published schemas."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from tests.architecture.house import ROOT

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
SYSTEMS = ("linux", "darwin", "win32")


def workflows() -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / ".github/workflows").glob("*.yml"))


def locked(python: str, system: str) -> dict[str, Version]:
    """What the lock installs on this Python and this system."""
    machine = "arm64" if system == "darwin" else "x86_64"
    names = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": system,
        "platform_system": names[system],
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }
    found: dict[str, Version] = {}
    for line in re.findall(r"^([a-z0-9][^\n\\]*)", LOCK, flags=re.MULTILINE):
        requirement = Requirement(line.strip())
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert requirement.name not in found, f"{requirement.name} is locked twice"
            (specifier,) = requirement.specifier
            found[requirement.name] = Version(specifier.version)
    return found


def schema_check(schema: str, file: str) -> subprocess.CompletedProcess[str]:
    """Check a file against the published schema that check-jsonschema ships, so without network."""
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, file],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("workflow", workflows())
def test_workflows_follow_the_published_schema(workflow: str) -> None:
    result = schema_check("vendor.github-workflows", workflow)
    assert result.returncode == 0, result.stdout


def test_dependabot_follows_the_published_schema() -> None:
    result = schema_check("vendor.dependabot", ".github/dependabot.yml")
    assert result.returncode == 0, result.stdout


def test_the_schema_check_would_notice() -> None:
    assert schema_check("vendor.github-workflows", ".pre-commit-config.yaml").returncode == 1


def test_workflows_are_frugal_with_trust() -> None:
    """Read-only tokens, a time limit, and actions pinned to a commit: a tag can be moved."""
    assert workflows()
    for file in workflows():
        workflow = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))
        assert workflow["permissions"] == {"contents": "read"}
        for job in workflow["jobs"].values():
            assert job["timeout-minutes"] <= 60
            for step in job["steps"]:
                assert re.search(r"@[0-9a-f]{40}$", step.get("uses", "@" + "0" * 40)), step


def test_the_audit_sees_every_version_of_the_lock() -> None:
    """Versions differ between Pythons; the auditor sees those of the one it runs on."""
    audit = yaml.safe_load((ROOT / ".github/workflows/audit.yml").read_text(encoding="utf-8"))
    audited = {
        package
        for python in audit["jobs"]["audit"]["strategy"]["matrix"]["python-version"]
        for package in locked(python, "linux").items()
    }
    installed = {package for python in PYTHONS for package in locked(python, "linux").items()}
    assert installed - audited == set()


def test_dependencies_are_bounded() -> None:
    """From below by what we use, from above by what we know: a new major version is our decision."""
    requirements = [*PROJECT["dependencies"]]
    for name, extra in PROJECT["optional-dependencies"].items():
        requirements += extra if name != "dev" else []
    for text in requirements:
        operators = {specifier.operator for specifier in Requirement(text).specifier}
        assert {">=", "<"} <= operators, text


def test_the_malicious_uploads_stay_out() -> None:
    (lightning,) = [
        Requirement(text) for text in PROJECT["dependencies"] if text.startswith("pytorch-lightning")
    ]
    assert not lightning.specifier.contains("2.6.2")
    assert not lightning.specifier.contains("2.6.3")


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_lock_satisfies_the_project(python: str, system: str) -> None:
    versions = locked(python, system)
    extras = PROJECT["optional-dependencies"]
    for text in [*PROJECT["dependencies"], *extras["models"], *extras["dev"]]:
        requirement = Requirement(text)
        assert versions[requirement.name.lower()] in requirement.specifier, f"{text}: run `make lock`"


def test_every_locked_version_has_hashes_and_no_address() -> None:
    entries = re.split(r"\n(?=[a-z0-9])", LOCK)[1:]
    assert len(entries) > 80
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert re.findall(r".*(?:://|--index|--extra-index|--find-links|^-e ).*", LOCK, flags=re.MULTILINE) == []


def test_the_small_lock_is_the_lock_without_cuda() -> None:
    def entries(text: str) -> dict[str, str]:
        return {
            found.split("==")[0]: found.strip()
            for found in re.split(r"\n(?=[a-z0-9])", text)
            if "==" in found
        }

    whole, small = entries(LOCK), entries((ROOT / "requirements-cpu.lock").read_text(encoding="utf-8"))
    left_out = set(whole) - set(small)
    assert {name: whole[name] for name in small} == small, "run `make lock`"
    assert {"torch", "torchvision"} <= left_out
    assert all(re.match(r"torch|torchvision|triton|nvidia-|cuda-", name) for name in left_out)
    pins = [whole[name].split()[0] for name in ("torch", "torchvision")]
    assert " ".join(pins) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_pre_commit_runs_the_locked_ruff() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    (revision,) = [repo["rev"] for repo in hooks if repo["repo"].endswith("/ruff-pre-commit")]
    assert revision == f"v{locked('3.13', 'linux')['ruff']}"
    assert all("rev" in repo for repo in hooks if repo["repo"] != "local")


def test_ci_is_a_script_that_stops_at_the_first_failure() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111, ".ci/run must be executable"
    assert "set -euo pipefail" in script.read_text(encoding="utf-8")
    assert subprocess.run(["bash", "-n", str(script)], timeout=20).returncode == 0


def test_the_lock_and_so_the_audit_has_every_extra_but_the_foreign_loggers() -> None:
    locked = set(re.findall(r"^([a-z0-9-]+)==", LOCK, flags=re.MULTILINE))
    missing = {
        extra
        for extra, packages in PROJECT["optional-dependencies"].items()
        if not {Requirement(each).name.lower() for each in packages} <= locked
    }
    assert missing == {"wandb", "mlflow"}
