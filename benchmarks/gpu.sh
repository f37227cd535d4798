#!/usr/bin/env bash
# One GPU, no network, under 9 minutes:
#
#   benchmarks/gpu.sh cifar10-images.tar.xz [--out FOLDER] [--budget-seconds 510]
#
# The archive holds train/<class>/*.jpg and test/<class>/*.jpg. Python needs torch, torchvision and Lightning;
# hydra-core, omegaconf and antlr4-python3-runtime are taken from wheels/ beside this folder where it lacks them:
#
#   pip download --no-deps -d wheels hydra-core==1.3.8 omegaconf==2.3.1 antlr4-python3-runtime==4.9.3
#
# `--device cpu --shorten` takes the same path in half a minute on a small archive.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT

if ! "$python" -c 'import hydra' 2>/dev/null; then
  # Unpacked, not installed: pip would want to build the source archives, and to write where Python lives.
  "$python" - "$root/wheels" "$site" <<'PYTHON'
import sys, tarfile, zipfile
from pathlib import Path

wheels, site = map(Path, sys.argv[1:])
for wheel in wheels.glob("*.whl"):
    zipfile.ZipFile(wheel).extractall(site)
for archive in wheels.glob("*.tar.gz"):
    with tarfile.open(archive) as tar:
        for member in tar:
            _, _, inside = member.name.partition("/")
            if member.isfile() and inside.endswith(".py") and not inside.startswith(("setup", "test")):
                target = site / inside.removeprefix("src/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(tar.extractfile(member).read())
PYTHON
  export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
  "$python" -c 'import hydra' || { echo "gpu.sh: hydra-core is missing here and in $root/wheels" >&2; exit 1; }
fi
"$python" "$root/benchmarks/gpu.py" "$@"
