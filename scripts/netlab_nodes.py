"""A lab: nodes with an address, a host name and a shaped link each, on one machine.

    node1 eth0 10.77.0.1 ---- port1 |
    node2 eth0 10.77.0.2 ---- port2 | a bridge, or with a delay a switch in user space
    ...                             |

Each node is a network namespace and the switch is one more, so nothing appears in the machine's own network. A node's
link is shaped by tbf in both directions, at eth0 and at its port. What a lab is made of is read back from the kernel,
never from files: a namespace's name says which lab and which node it is. netlab_build makes labs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
import json
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
from time import monotonic, sleep
from typing import Any

from netlab_access import close_access, find_access, is_permitted_directly, run

from roofprobe.errors import BadInput, RoofprobeError

PREFIX = "roofprobe"
INTERFACE = "eth0"
SWITCH = Path(__file__).resolve().parent / "netlab_switch.py"
QUEUE = "50ms"
"""How long a byte may wait in tbf before it is dropped: at 1 Gb/s 6 MB, more than a TCP window."""
BURST_SECONDS = 1e-3
LEAST_BURST_BYTES = 80 << 10
"""Room for what TCP hands over at once, 64 KiB and headers. With less, tbf cuts it into frames, which costs so much
that four nodes at 500 Mb/s on two busy cores got 70 % of their rate."""
END_SECONDS = 5.0
BECOME = """
hostname "$1"
mount -t tmpfs hosts /tmp && printf "%s" "$2" >/tmp/hosts && mount --bind /tmp/hosts /etc/hosts && umount /tmp
shift 2 && exec "$@"
"""
"""In the namespaces that the command gets to itself: its node's name, and the names of the others."""


@dataclass(frozen=True)
class Counters:
    """What eth0 has sent and received. What TCP hands over at once, up to 64 KiB under one header, is one packet."""

    tx_bytes: int
    tx_packets: int
    rx_bytes: int
    rx_packets: int


@dataclass(frozen=True)
class Lab:
    """A lab that is up. Nodes are numbered from 1, as their addresses are; a node's rank is one less."""

    name: str
    count: int
    access: tuple[str, ...] = ()
    """The words that come before every command (see netlab_access)."""

    @property
    def nodes(self) -> range:
        return range(1, self.count + 1)

    def address(self, node: int) -> str:
        return f"10.77.0.{node}"

    def host(self, node: int) -> str:
        return f"node{node}"

    def namespace(self, what: int | str) -> str:
        """A node's, or that of the "switch"."""
        return f"{PREFIX}-{self.name}-{what}"

    def ip(self, what: int | str, *words: str) -> str:
        """What ``ip WORDS`` prints in the namespace of a node or of the "switch"."""
        return run([*self.access, "ip", "-n", self.namespace(what), *words])

    def inside(self, what: int | str) -> list[str]:
        """The words that run a command in the namespace of a node or of the "switch"."""
        return [*self.access, "ip", "netns", "exec", self.namespace(what)]

    def command(self, node: int, command: Sequence[str], *, first: bool = False) -> list[str]:
        """The words that run `command` on the node. Each of them becomes the next, so the process is the command's own.

        `first`: before every ordinary process of the machine, where that is permitted. Otherwise a rank that waits for
        a frame waits for the scheduler, and between two nodes on two busy cores alpha is 0.3 to 4 ms, not 0.09.
        """
        self.require(node)
        hosts = "".join(f"{self.address(other)} {self.host(other)}\n" for other in self.nodes)
        entered = [*self.inside(node), "unshare", "--uts", "sh", "-c", BECOME, "sh", self.host(node)]
        return [*entered, f"127.0.0.1 localhost\n{hosts}", *(self._before_others if first else ()), *command]

    def start(
        self, node: int, command: Sequence[str], environment: Mapping[str, str] | None = None, **pipes: Any
    ) -> subprocess.Popen[str]:
        """Starts `command` on the node, first of all processes, in a session of its own: Ctrl-C does not reach it.

        `environment` is added to this process's; `pipes` are Popen's.
        """
        return subprocess.Popen(
            self.command(node, command, first=True),
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            **pipes,
        )

    def shape(self, node: int, *, rate: str | None = None, delay_seconds: float | None = None) -> None:
        """Limits the node's link to `rate` (tc's words: 1gbit; none for no limit), or holds its frames for that long.

        A frame between two nodes is held for the longer of their times. Raises BadInput for a rate that is none, and
        for a delay in a lab that was made without.
        """
        self.require(node)
        if rate is not None:
            limit = None if rate == "none" else ["rate", rate, "burst", f"{burst_bytes(rate)}b", "latency", QUEUE]
            for inside, device in ((self.inside(node), INTERFACE), (self.inside("switch"), f"port{node}")):
                qdisc = [*inside, "tc", "qdisc"]
                if limit is not None:
                    run([*qdisc, "replace", "dev", device, "root", "tbf", *limit])
                elif "tbf" in run([*qdisc, "show", "dev", device]):
                    run([*qdisc, "del", "dev", device, "root"])
        if delay_seconds is not None:
            if not self.has_switch:
                raise BadInput("this lab has a bridge, which delays nothing; make it with `netlab up N --delay TIME`")
            self.ask_switch(f"port{node}", repr(delay_seconds))

    def link(self, node: int, up: bool) -> None:
        """Pulls the node's cable at the switch, or plugs it in again: eth0 keeps its address and loses its carrier."""
        self.require(node)
        self.ip("switch", "link", "set", "dev", f"port{node}", "up" if up else "down")

    def counters(self, node: int) -> Counters:
        """The kernel's counters of the node's eth0."""
        found = json.loads(self.ip(node, "-s", "-j", "link", "show", INTERFACE))[0]["stats64"]
        return Counters(found["tx"]["bytes"], found["tx"]["packets"], found["rx"]["bytes"], found["rx"]["packets"])

    def describe(self) -> list[str]:
        """A line for each node."""
        delays = dict(line.split() for line in self.ask_switch().splitlines()) if self.has_switch else {}
        lines = []
        for node in self.nodes:
            rate = re.search(r"\brate (\S+)", run([*self.inside(node), "tc", "qdisc", "show", "dev", INTERFACE]))
            carrier = "LOWER_UP" in self.ip(node, "link", "show", INTERFACE)
            delay = f", delay {float(delays[f'port{node}']) * 1e3:g} ms" if delays else ""
            sent = self.counters(node)
            lines.append(
                f"{self.host(node)} {self.address(node)} {INTERFACE} {'up' if carrier else 'DOWN'},"
                f" {rate[1] if rate else 'no limit'}{delay}, sent {sent.tx_bytes} B, received {sent.rx_bytes} B"
            )
        return lines

    @cached_property
    def has_switch(self) -> bool:
        """Whether frames go through the switch in user space, which alone can delay them."""
        return not self.ip("switch", "-br", "link", "show", "type", "bridge").strip()

    def ask_switch(self, *words: str) -> str:
        """The answer of the switch in user space (see netlab_switch)."""
        return run([*self.inside("switch"), sys.executable, "-P", str(SWITCH), "ask", *words])

    def require(self, node: int) -> None:
        """Raises BadInput where the lab has no such node."""
        if node not in self.nodes:
            raise BadInput(f"there is no node {node}; expected 1 to {self.count}")

    @cached_property
    def _before_others(self) -> tuple[str, ...]:
        words = ("chrt", "--rr", "1")
        may = subprocess.run([*self.access, *words, "true"], capture_output=True).returncode == 0
        return words if may else ()


def burst_bytes(rate: str) -> int:
    """What tbf lets through at once after a pause: a millisecond's worth.

    Raises BadInput where `rate` is not in bits a second as tc writes them.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kmg]?)bit", rate)
    if match is None or float(match[1]) == 0:
        raise BadInput(f"'{rate}' is not a rate; expected bits a second as tc writes them, such as 1gbit or 250mbit")
    bits_per_second = float(match[1]) * {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}[match[2]]
    return max(LEAST_BURST_BYTES, round(bits_per_second / 8 * BURST_SECONDS))


def find(name: str) -> Lab | None:
    """The lab of this name that is up, or None."""
    access = find_access(name)
    found = _namespaces(name, access)
    return Lab(name, len(found) - 1, access) if found else None


def down(name: str) -> None:
    """Ends every process of the lab and takes it down; nothing happens for what is gone already.

    Raises RoofprobeError for processes that stay.
    """
    access = find_access(name)
    names = _namespaces(name, access)
    deadline = monotonic() + END_SECONDS
    while pids := [int(pid) for found in names for pid in run([*access, "ip", "netns", "pids", found]).split()]:
        if monotonic() > deadline:
            raise RoofprobeError(f"processes {', '.join(map(str, pids))} of lab {name} don't end; end them by hand")
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        sleep(0.02)
    for found in names:
        run([*access, "ip", "netns", "del", found])
    close_access(name)


def _namespaces(name: str, access: tuple[str, ...]) -> list[str]:
    if not access and not is_permitted_directly():
        return []
    listed = (line.split()[0] for line in run([*access, "ip", "netns", "list"]).splitlines() if line)
    return [found for found in listed if found.startswith(f"{PREFIX}-{name}-")]
