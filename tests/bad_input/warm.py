"""Scripts as processes, by the hundred: a parent has imported what they need and forks one for each command.

What a command sees is what it would see alone (arguments, folder, environment, exit code), but for the second
or four that the imports take. As a program, `python -m tests.bad_input.warm <modules>`, it is that parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tempo.paths import ROOT

MOST_CPU_SECONDS = 5
"""What a wrong command may cost; of the processor, not by the clock, for the machine may be busy."""
HANGS_AFTER_SECONDS = 60
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_CAPABILITY_VERSION, _CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 0x20080522, 1 << 1, 1 << 2
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18


@dataclass(frozen=True)
class Done:
    """How a command ended; `left` is what lay in `look_in` at the end, where that was asked."""

    code: int
    out: str
    err: str
    cpu_seconds: float
    torch: bool
    left: list[str] = field(default_factory=list)


class Warm:
    """The parent, from the side of the tests."""

    def __init__(self, *modules: str) -> None:
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        environment = {
            **{key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"},
            "PYTHONPATH": path,
            "OMP_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bad_input.warm", *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=ROOT,
        )

    def call(
        self,
        script: str,
        *arguments: str,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        mounts: Sequence[tuple[str, Path, str]] = (),
        look_in: Path | None = None,
    ) -> Done:
        """Run `src/<script> <arguments>` in `folder`.

        `mounts`: (`"tmpfs"`, where, options) or (`"read-only"`, where, ""), seen by this command alone.
        """
        request = {
            "script": str(ROOT / "src" / script),
            "arguments": list(arguments),
            "folder": str(folder),
            "environment": dict(environment or {}),
            "mounts": [(kind, str(where), options) for kind, where, options in mounts],
            "look_in": None if look_in is None else str(look_in),
        }
        to, back = self._process.stdin, self._process.stdout
        assert to is not None
        assert back is not None
        to.write(json.dumps(request).encode() + b"\n")
        to.flush()
        if not select.select([back], [], [], 2 * HANGS_AFTER_SECONDS)[0]:
            self.stop()
            raise AssertionError(f"{script} {' '.join(arguments)} hangs")
        return Done(**json.loads(back.readline()))

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


def may_mount() -> bool:
    """Whether a process here may have a file system of its own."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(OSError):
            _mount([("tmpfs", tempfile.gettempdir(), "size=64k")])
            code = 0
        os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def _serve(modules: Sequence[str]) -> None:
    for name in modules:
        importlib.import_module(name)
    if "torch" not in sys.modules:
        sys.modules["torch"] = None  # type: ignore[assignment] - a command that asks for it fails at once
    for line in sys.stdin:
        print(json.dumps(_one(json.loads(line))), flush=True)


def _one(request: Mapping[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as notes:
        child = os.fork()
        if child == 0:
            _become(request, out, err, notes)
        _, status, usage = os.wait4(child, 0)
        texts = []
        for file in (out, err, notes):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return {
        "code": os.waitstatus_to_exitcode(status),
        "out": texts[0],
        "err": texts[1],
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        **json.loads(texts[2] or '{"torch": false}'),
    }


def _become(request: Mapping[str, Any], out: IO[bytes], err: IO[bytes], notes: IO[bytes]) -> None:
    """Be the script: never returns."""
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (2 * MOST_CPU_SECONDS, 2 * MOST_CPU_SECONDS))
        signal.alarm(HANGS_AFTER_SECONDS)
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a file descriptor is wanted
            for file, number in ((nothing, 0), (out, 1), (err, 2)):
                os.dup2(file.fileno(), number)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        _mount(request["mounts"])
        _heed_permissions()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        sys.argv = [request["script"], *request["arguments"]]
        sys.path[0] = str(Path(request["script"]).parent)
        code = _run(request["script"])
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            look_in = request["look_in"]
            left = sorted(str(path) for path in Path(look_in).rglob("*")) if look_in else []
            notes.write(json.dumps({"torch": sys.modules.get("torch") is not None, "left": left}).encode())
            notes.flush()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _run(script: str) -> int:
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    return 0


def _mount(mounts: Sequence[Sequence[str]]) -> None:
    """Change the file systems that this process sees, and no other."""
    if not mounts:
        return
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int) -> None:
        if result:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    user, group = os.getuid(), os.getgid()
    check(libc.unshare(_CLONE_NEWNS | (_CLONE_NEWUSER if user else 0)))
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    check(libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None))
    for kind, where, options in mounts:
        path = os.fsencode(where)
        if kind == "tmpfs":
            check(libc.mount(b"tempo-test", path, b"tmpfs", 0, options.encode()))
        else:
            check(libc.mount(path, path, None, _MS_BIND | _MS_REC, None))
            check(libc.mount(None, path, None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY, None))


def _heed_permissions() -> None:
    """Take from root the right to write where nobody may: a test of permissions means something then."""
    if os.geteuid() != 0:
        return
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice, 32 capabilities each
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capget(header, sets) == 0:
        for index in range(3):
            sets[index] &= ~(_CAP_DAC_OVERRIDE | _CAP_DAC_READ_SEARCH)
        libc.capset(header, sets)


if __name__ == "__main__":
    _serve(sys.argv[1:])
