"""Starts a probe on several hosts through ssh: one torchrun a host, over the fastest network that they share.

    roofprobe launch --hosts spark-1,spark-2 -- allreduce -b 8 -e 64M

The first host has rank 0, whose output is printed as it is; lines of the others carry their host and ranks. A host may
be this one, which then needs no ssh. roofprobe has to be at the same path on each (--python says where else), with the
same versions of itself, Python, torch and NCCL. Ctrl-C ends the ranks on every host, and so does whatever ends this.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
import re
import shlex
import sys
from time import monotonic, sleep

from roofprobe.arguments import parser, positive_int
from roofprobe.errors import FAILED, OK, BadInput, run_command
from roofprobe.probes.launch_checks import (
    Meeting,
    clock_warnings,
    meeting,
    rank_environment,
    ranks_per_host,
    require_same_software,
    torchrun_arguments,
)
from roofprobe.probes.launch_host import Host, default_python
from roofprobe.probes.launch_protocol import Facts

NAME = "roofprobe launch"
PROBES = {
    "allreduce": "roofprobe.probes.allreduce",
    "collectives": "roofprobe.probes.collectives",
    "accept": "roofprobe.probes.accept",
}
SSH = "ssh -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=5 -o ServerAliveCountMax=3"
"""No questions, and a connection that has died is noticed within 15 s."""
GRACE_SECONDS = 15.0
"""How long the other hosts may take to end by themselves once one has failed: their ranks say who is missing."""


def main(argv: list[str] | None = None) -> int:
    """Runs ``roofprobe launch``; returns the exit status: the first host's that failed, else 0."""
    top = parser(NAME, __doc__)
    top.add_argument("--hosts", required=True, metavar="A,B,…", help="as ssh knows them; the first has rank 0")
    top.add_argument("--nproc-per-node", type=positive_int, metavar="N", help="ranks a host (default: one a GPU, or 1)")
    top.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="set for every rank; repeatable")
    top.add_argument("--network", metavar="A.B.C.D/N", help="meet on this network (default: the fastest they share)")
    top.add_argument("--port", type=positive_int, default=29500, help="rank 0's port on it (default 29500)")
    top.add_argument("--python", default=default_python(), metavar="PATH", help="the hosts' (default: this one's path)")
    top.add_argument("--ssh", default=SSH, metavar="COMMAND", help=f"default: {SSH}")
    top.add_argument("--timeout", type=positive_int, default=60, metavar="SECONDS", help="for reaching every host")
    top.add_argument("--force", action="store_true", help="go on although the hosts' software differs")
    top.add_argument("probe", choices=PROBES, help="what to run, then its own flags, after --")
    top.add_argument("arguments", nargs=argparse.REMAINDER, metavar="FLAG", help=argparse.SUPPRESS)
    arguments = top.parse_args(argv)
    return run_command(lambda: _launch(arguments), NAME)


def _launch(arguments: argparse.Namespace) -> int:
    names = arguments.hosts.split(",")
    if "" in names or len(set(names)) != len(names) or any(name.startswith("-") for name in names):
        raise BadInput(f"--hosts {arguments.hosts}: expected different names between commas, such as spark-1,spark-2")
    asked = _variables(arguments.env)
    ssh = shlex.split(arguments.ssh)
    with ExitStack() as connections:
        hosts = []
        for name in names:
            hosts.append(Host(name, ssh, arguments.python, arguments.timeout))
            connections.callback(hosts[-1].end)
        facts = _facts(hosts)
        if not arguments.force:
            require_same_software(facts)
        for warning in clock_warnings({host.name: host.clock() for host in hosts}):
            _say(f"# {NAME}: warning: {warning}")
        per_host = ranks_per_host(facts, arguments.nproc_per_node)
        where = meeting(facts, arguments.network)
        _say(f"# {NAME}: {len(hosts) * per_host} ranks on {', '.join(names)}, meeting over {_described(where)}")
        for node, host in enumerate(hosts):
            rendezvous = torchrun_arguments(node, len(hosts), per_host, where, arguments.port, arguments.timeout)
            words = (*rendezvous, "-m", PROBES[arguments.probe], *arguments.arguments)
            tag = _tag(host.name, node, per_host)
            environment = rank_environment(where, node, asked)
            host.start(words, environment, _printer(tag if node else ""), _printer(tag, error=True))
        return _wait(hosts)


def _variables(words: Sequence[str]) -> dict[str, str]:
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise BadInput(f"--env {word}: expected NAME=VALUE")
        found[name] = value
    return found


def _facts(hosts: Sequence[Host]) -> dict[str, Facts]:
    """All at once, since each takes seconds; the first failure in the hosts' order is raised."""
    with ThreadPoolExecutor(len(hosts)) as pool:
        try:
            return dict(zip([host.name for host in hosts], pool.map(Host.facts, hosts)))
        except BaseException:
            for host in hosts:  # or leaving the pool would wait for the slowest
                host.end()
            raise


def _described(where: Meeting) -> str:
    speed = min(a.megabits_per_s for a in where.addresses)
    rate = f"{speed / 1000:g} Gb/s" if speed > 0 else "speed unknown"
    return f"{where.network} ({', '.join(a.interface for a in where.addresses)}; {rate})"


def _tag(name: str, node: int, per_host: int) -> str:
    first = node * per_host
    ranks = f"rank {first}" if per_host == 1 else f"ranks {first}-{first + per_host - 1}"
    return f"[{name}, {ranks}] "


def _printer(tag: str, *, error: bool = False) -> Callable[[str], None]:
    """Prints a host's lines, each in one write, since another host's may come at the same time."""

    def on_line(text: str) -> None:
        stream = sys.stderr if error else sys.stdout
        stream.write(f"{tag}{text}\n")
        stream.flush()

    return on_line


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _wait(hosts: Sequence[Host]) -> int:
    """Until every host has ended, or one has failed and the others have had their time."""
    failed: dict[str, int] = {}
    deadline = None
    while True:
        running = [host for host in hosts if host.poll() is None]
        for host in hosts:
            status = host.poll()
            if status and host.name not in failed:
                failed[host.name] = status
                how = "lost the connection" if status == 255 else f"ended with status {status}"
                _say(f"{NAME}: {host.name} {how}")
        if failed and deadline is None:
            deadline = monotonic() + GRACE_SECONDS
        if not running or (deadline is not None and monotonic() > deadline):
            for host in running:
                _say(f"{NAME}: {host.name} is still running after {GRACE_SECONDS:g} s; ending it")
            first = next(iter(failed.values()), OK)
            return first if 0 <= first <= 3 else FAILED
        sleep(0.05)


if __name__ == "__main__":
    raise SystemExit(main())
