"""A SLURM of two nodes on this machine, from Debian's `slurm-wlm` and `munge`, in a folder of its own.

`python tests/sweep/slurm_cluster.py <command>` runs a command on it, e.g. `bash`.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
NODES = ("node1", "node2")
_PLACES = ("/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/opt/slurm/sbin", "/opt/slurm/bin")
_START_SECONDS = 30.0

CONFIGURATION = """
ClusterName=tempo
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,batch_sched_delay=1,bf_interval=1,sched_min_interval=100000
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
ReturnToService=2
KillWait=10
{nodes}
PartitionName=all Nodes={names} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def why_not() -> str:
    """Return why no cluster can be started here, or ""."""
    if sys.platform != "linux":
        return "SLURM runs on Linux"
    missing = [name for name in PROGRAMS if _program(name) is None]
    return f"no {', '.join(missing)}: apt-get install slurm-wlm munge" if missing else ""


@contextmanager
def cluster() -> Iterator[dict[str, str]]:
    """Start a cluster and end it, whatever happens; yield the environment for its commands.

    Raises:
        RuntimeError: it does not come up; the message has the logs of its daemons.
    """
    with ExitStack() as stack:
        # A socket's path must be short, and munged trusts no folder that others can write to.
        folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        environment = _environment(folder)
        _write_files(folder)
        state = ["--socket", folder / "munge.socket", "--pid-file", folder / "munge.pid"]
        state += ["--log-file", folder / "munge.log", "--seed-file", folder / "munge.seed"]
        _start(stack, ["munged", "--foreground", "--force", "--key-file", folder / "munge.key", *state])
        _wait_until((folder / "munge.socket").exists, folder)
        _start(stack, ["slurmctld", "-D", "-i"], environment)
        for name in NODES:
            _start(stack, ["slurmd", "-D", "-N", name], environment)
        stack.callback(_cancel_all, environment)
        _wait_until(lambda: _idle_nodes(environment) == len(NODES), folder)
        yield environment


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(_PLACES))


def _environment(folder: Path) -> dict[str, str]:
    """Put the programs into a folder of their own, which comes first on the path."""
    (folder / "bin").mkdir()
    for name in PROGRAMS:
        (folder / "bin" / name).symlink_to(str(_program(name)))
    path = os.pathsep.join([str(folder / "bin"), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}


def _write_files(folder: Path) -> None:
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    (folder / "state").mkdir()
    ctld_port, *ports = _free_ports(1 + len(NODES))
    here = f"NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN"
    nodes = [f"NodeName={name} {here} Port={port}" for name, port in zip(NODES, ports, strict=True)]
    for name in NODES:
        (folder / f"spool-{name}").mkdir()
    text = CONFIGURATION.format(
        folder=folder,
        user=pwd.getpwuid(os.getuid()).pw_name,
        ctld_port=ctld_port,
        nodes="\n".join(nodes),
        names=",".join(NODES),
    )
    (folder / "slurm.conf").write_text(text, encoding="utf-8")


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def _start(
    stack: ExitStack, command: Sequence[str | Path], environment: dict[str, str] | None = None
) -> None:
    """Start a daemon in the foreground, which is ended with the stack."""
    program = _program(str(command[0]))
    process = subprocess.Popen(
        [str(program), *map(str, command[1:])],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def end() -> None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(end)


def _idle_nodes(environment: dict[str, str]) -> int:
    command = ["sinfo", "--noheader", "--Node", "--format=%T"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20)
    return done.stdout.split().count("idle")


def _cancel_all(environment: dict[str, str]) -> None:
    subprocess.run(["scancel", "--me", "--signal=KILL"], env=environment, capture_output=True, timeout=20)
    subprocess.run(["scancel", "--me"], env=environment, capture_output=True, timeout=20)
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        command = ["squeue", "--noheader", "--me"]
        if not subprocess.run(command, env=environment, capture_output=True, timeout=20).stdout:
            return
        time.sleep(0.2)


def _wait_until(holds: object, folder: Path) -> None:
    assert callable(holds)
    deadline = time.monotonic() + _START_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            logs = [
                f"{path.name}: {path.read_text(errors='replace')[-600:]}" for path in folder.glob("*.log")
            ]
            raise RuntimeError("SLURM does not come up: " + "\n".join(logs))
        time.sleep(0.1)


if __name__ == "__main__":
    if reason := why_not():
        sys.exit(reason)
    with cluster() as found:
        sys.exit(subprocess.run(sys.argv[1:] or ["bash"], env=found).returncode)
