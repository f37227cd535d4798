"""Fetch the chart libraries of reports from npm: `make charts`.

`versions.json` names package, version, file and the file's SHA-256. `npm pack` checks the archive against the
hash that its registry states, and this script the file against `versions.json`. To change a version, edit it
there and run `make charts ARGS=--accept`, which writes the new SHA-256. Needs Python and npm.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "src" / "tempo" / "report" / "chart_library"


def archive_of(package: str, version: str) -> tarfile.TarFile:
    """Return the package's archive."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", f"{package}@{version}", f"--pack-destination={folder}"]
        subprocess.run(command, check=True, capture_output=True)
        (path,) = Path(folder).iterdir()
        return tarfile.open(path)


def main() -> None:
    """Write each library and its license next to versions.json."""
    parser = argparse.ArgumentParser(description="Fetch the chart libraries of reports from npm.")
    parser.add_argument("--accept", action="store_true", help="write the SHA-256 of what was fetched")
    accept = parser.parse_args().accept
    versions = json.loads((FOLDER / "versions.json").read_text("utf-8"))
    for name, library in versions.items():
        archive = archive_of(library["package"], library["version"])
        for member, path in ((library["file"], f"{name}.min.js"), ("LICENSE", f"{name}.LICENSE")):
            file = archive.extractfile(f"package/{member}")
            assert file is not None
            content = file.read()
            if member == library["file"]:
                found = hashlib.sha256(content).hexdigest()
                if not accept and found != library["sha256"]:
                    sys.exit(f"{name} has SHA-256 {found}, versions.json says {library['sha256']}")
                library["sha256"] = found
            (FOLDER / path).write_bytes(content)
        print(f"{name} {library['version']}: {(FOLDER / f'{name}.min.js').stat().st_size} bytes")
    (FOLDER / "versions.json").write_text(json.dumps(versions, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
