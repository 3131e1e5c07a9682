"""Which devices and interfaces a person chose for NCCL, by the rules that NCCL itself has.

NCCL_IB_HCA and NCCL_SOCKET_IFNAME are lists of name prefixes, each with an optional ``:port``; ``=`` in front of the
list makes the names whole, and ``^`` in front of that leaves out what matches. Source: NCCL user guide, Environment
Variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import re

from roofprobe.doctor.case import Case
from roofprobe.doctor.host import Host
from roofprobe.doctor.ports import LinkPort, link_ports


@dataclass(frozen=True)
class Names:
    """One such list."""

    text: str
    """As it was written."""
    exclude: bool
    exact: bool
    entries: tuple[tuple[str, int | None], ...]
    """Prefix or name, and the port where one was given."""

    def select(self, name: str, port: int | None = None) -> bool:
        """Whether NCCL would take this device or interface; a list without names takes everything."""
        listed = not self.entries or any(self.matches(entry, name, port) for entry in self.entries)
        return listed != self.exclude

    def matches(self, entry: tuple[str, int | None], name: str, port: int | None = None) -> bool:
        wanted, number = entry
        named = name == wanted if self.exact else name.startswith(wanted)
        return named and (number is None or port is None or number == port)


def parse_names(text: str | None) -> Names | None:
    """The list; None where nothing was set."""
    if not text:
        return None
    exclude = text.startswith("^")
    rest = text[exclude:]
    exact = rest.startswith("=")
    entries = []
    for part in rest[exact:].split(","):
        name, colon, port = part.partition(":")
        if name:
            number = re.match(r"[0-9]{1,4}", port)
            # NCCL reads the port with atoi, to which anything else is 0: no port has that number.
            entries.append((name, (int(number[0]) if number else 0) if colon else None))
    return Names(text=text, exclude=exclude, exact=exact, entries=tuple(entries))


def nccl_environment(case: Case, host: Host) -> Mapping[str, str]:
    """The host's own, under what its processes' logs say was set; a lone host and a lone log belong together."""
    hosts = {process.host for process in case.processes}
    alone = len(case.hosts) == 1 and len(hosts) == 1
    found = dict(host.nccl_environment)
    for process in case.processes:
        if alone or process.host == host.name:
            found |= process.environment
    return found


def chosen_devices(case: Case, host: Host) -> Names | None:
    """NCCL_IB_HCA."""
    return parse_names(nccl_environment(case, host).get("NCCL_IB_HCA"))


def chosen_interfaces(case: Case, host: Host) -> Names | None:
    """NCCL_SOCKET_IFNAME; NCCL takes a value of one character for none."""
    text = nccl_environment(case, host).get("NCCL_SOCKET_IFNAME", "")
    return parse_names(text) if len(text) > 1 else None


def used_ports(case: Case, host: Host) -> tuple[LinkPort, ...]:
    """The ports that are up and that NCCL_IB_HCA does not leave out: those that NCCL would use."""
    chosen = chosen_devices(case, host)
    return tuple(port for port in link_ports(host.fabric) if port.up and takes(chosen, port))


def takes(chosen: Names | None, port: LinkPort) -> bool:
    """Whether NCCL_IB_HCA leaves a port in."""
    return chosen is None or chosen.select(port.device.name, port.port.number)
