"""Several hosts on one machine, each with a link of a limited rate: `python benchmarks/hosts.py -- COMMAND`.

Makes `--hosts` network namespaces on a bridge, limits every link to `--rate` in both directions and runs
COMMAND once in each, over real sockets, with the variables that torchrun would set. In the command
`{rank}` is the number of the host and `{address}` its own address. What the ranks print is passed on with
their number in front; the exit code is the first that is not 0. After `--seconds`, or as soon as one rank
fails, all are ended.

Everything happens in namespaces of its own (unshare; root is not needed where unprivileged user
namespaces are allowed). The kernel takes them down with this process, however it ends: nothing of the
machine's own network is touched or left behind. Where it may not, one line says why and the exit code is
77, "skipped". Latency is that of the machine: delay (netem) is not in every kernel.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import NoReturn, TextIO

SKIPPED = 77
"""Exit code if the machine does not permit it; automake uses it for a skipped test."""
_INSIDE = "TEMPO_HOSTS_INSIDE"
_INTERFACE = "eth0"
_NETWORK = "10.77.0"
_PORT = 29500
_LAST_WORDS_SECONDS = 5.0


class NotPermittedError(Exception):
    """The machine does not permit it; the reason in one line."""


def enter() -> None:
    """Start this program again in namespaces of its own: network, mounts and processes.

    Raises:
        NotPermittedError: a tool is missing, or the machine does not permit it.
    """
    if os.environ.get(_INSIDE):
        return
    for tool, package in (
        ("ip", "iproute2"),
        ("tc", "iproute2"),
        ("unshare", "util-linux"),
        ("nsenter", "util-linux"),
    ):
        if shutil.which(tool) is None:
            raise NotPermittedError(f"`{tool}` is missing: apt-get install {package}")
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    # The first process of a process namespace takes all others with it, daemons too.
    unshare = ["unshare", *user, "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    probe = subprocess.run([*unshare, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        raise NotPermittedError(f"no namespaces here ({probe.stderr.strip()}): run it as root")
    os.environ[_INSIDE] = "1"
    os.execvp(unshare[0], [*unshare, sys.executable, *sys.orig_argv[1:]])


class Hosts:
    """Hosts 0..count-1, addresses 10.77.0.1 and on, one bridge between them; `rate` as tc writes it, "1gbit".

    Only inside `enter`.

    Raises:
        NotPermittedError: a step fails; above all tc, whose failure would leave a link without a limit.
    """

    def __init__(self, count: int, rate: str) -> None:
        self.count, self.rate = count, rate
        # `ip netns` keeps its names in /run/netns; this mount is seen by us alone.
        _do("mount", "-t", "tmpfs", "tmpfs", "/run")
        os.mkdir("/run/netns")  # noqa: PTH102
        _do("ip", "link", "add", "bridge0", "type", "bridge")
        _do("ip", "link", "set", "bridge0", "up")
        for host in range(count):
            self._add(host)

    def _add(self, host: int) -> None:
        name, port = f"host{host}", f"port{host}"
        _do("ip", "netns", "add", name)
        _do("ip", "link", "add", port, "type", "veth", "peer", "name", _INTERFACE, "netns", name)
        _do("ip", "link", "set", port, "master", "bridge0", "up")
        inside = self.enter(host)
        _do(*inside, "ip", "address", "add", f"{address(host)}/24", "dev", _INTERFACE)
        for interface in (_INTERFACE, "lo"):
            _do(*inside, "ip", "link", "set", interface, "up")
        limit = ("root", "tbf", "rate", self.rate, "burst", "256kb", "latency", "50ms")
        _do("tc", "qdisc", "replace", "dev", port, *limit)
        _do(*inside, "tc", "qdisc", "replace", "dev", _INTERFACE, *limit)

    def enter(self, host: int) -> list[str]:
        """Return what to put in front of a command to run it on a host."""
        return ["nsenter", f"--net=/run/netns/host{host}", "--"]

    def start(self, host: int, command: Sequence[str], ranks: int) -> subprocess.Popen[str]:
        """Start a command on a host as one of `ranks`; the caller reads its output."""
        filled = [part.replace("{rank}", str(host)).replace("{address}", address(host)) for part in command]
        environment = os.environ | {
            "RANK": str(host),
            "WORLD_SIZE": str(ranks),
            "LOCAL_RANK": "0",
            "LOCAL_WORLD_SIZE": "1",
            "MASTER_ADDR": address(0),
            "MASTER_PORT": str(_PORT),
            "GLOO_SOCKET_IFNAME": _INTERFACE,
            "OMP_NUM_THREADS": "1",
            # torch would warn that no name server behind these links knows the hosts.
            "TORCH_CPP_LOG_LEVEL": "ERROR",
        }
        return subprocess.Popen(
            [*self.enter(host), *filled],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(
        self, command: Sequence[str], seconds: float, ranks: int | None = None, output: TextIO = sys.stdout
    ) -> int:
        """Run a command on all hosts, or the first `ranks`; return the first exit code that is not 0.

        None of the processes outlives this call.
        """
        ranks = self.count if ranks is None else ranks
        processes = [self.start(host, command, ranks) for host in range(ranks)]
        readers = [
            threading.Thread(target=_pass_on, args=(host, process, output), daemon=True)
            for host, process in enumerate(processes)
        ]
        for reader in readers:
            reader.start()
        try:
            code = _first_failure(processes, time.monotonic() + seconds)
        finally:
            for process in processes:
                _end(process)
        for reader in readers:
            reader.join(_LAST_WORDS_SECONDS)
        return code


def checked_rate(text: str) -> str:
    """Return a rate of the command line; a mistyped one is an error, not a reason to skip."""
    if not re.fullmatch(r"\d+(\.\d+)?[mg]bit", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate: a number and mbit or gbit, e.g. 1gbit")
    return text


def address(host: int) -> str:
    """Return the IPv4 address of a host."""
    return f"{_NETWORK}.{host + 1}"


def _first_failure(processes: Sequence[subprocess.Popen[str]], end: float) -> int:
    while time.monotonic() < end:
        codes = [process.poll() for process in processes]
        if failed := [code for code in codes if code]:
            return failed[0]
        if None not in codes:
            return 0
        time.sleep(0.05)
    print("hosts: the time is up, all ranks are ended", file=sys.stderr)
    return 124


def _end(process: subprocess.Popen[str]) -> None:
    """End a rank and the processes it has started, which would keep its output open."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _pass_on(host: int, process: subprocess.Popen[str], output: TextIO) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        print(f"[{host}] {line.rstrip()}", file=output, flush=True)


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotPermittedError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")


def skip(reason: NotPermittedError) -> NoReturn:
    """Print the reason and end with the exit code of a skipped test."""
    print(f"skipped: {reason}", file=sys.stderr)
    raise SystemExit(SKIPPED)


def main() -> None:
    """Read the command line, make the hosts, run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--rate", type=checked_rate, default="1gbit")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    arguments = parser.parse_args()
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command or not 1 <= arguments.hosts <= 64:
        parser.error(
            f"--hosts={arguments.hosts} must be in [1, 64], and `-- COMMAND` is what each of them runs"
        )
    try:
        enter()
        hosts = Hosts(arguments.hosts, arguments.rate)
    except NotPermittedError as reason:
        skip(reason)
    raise SystemExit(hosts.run(command, arguments.seconds))


if __name__ == "__main__":
    main()
