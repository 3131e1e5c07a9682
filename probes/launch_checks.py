"""Whether hosts can run one job together, and over which network they should meet: decided from their facts alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import ipaddress

from roofprobe.errors import BadInput, RoofprobeError
from roofprobe.probes.launch_protocol import Address, Facts

CLOCK_TOLERANCE_SECONDS = 1.0
"""Nothing that is measured compares clocks of different hosts; logs and file times do."""


@dataclass(frozen=True)
class Meeting:
    """The network that the ranks meet on."""

    network: str
    addresses: tuple[Address, ...]
    """One a host, in their order; rank 0's first."""

    @property
    def master(self) -> str:
        return self.addresses[0].address.partition("/")[0]


def require_same_software(facts: Mapping[str, Facts]) -> None:
    """Raises RoofprobeError naming the host that differs from most, what it has and what the others have."""
    for what in ("roofprobe", "python", "torch", "nccl"):
        found = {host: str(getattr(f, what)) for host, f in facts.items()}
        values = list(found.values())
        common = max(values, key=values.count)
        odd = [host for host, value in found.items() if value != common]
        if odd:
            raise RoofprobeError(
                f"{what} differs: {odd[0]} has {found[odd[0]]}, {next(h for h in found if h not in odd)} has {common};"
                " install the same on every host, or go on with --force"
            )


def ranks_per_host(facts: Mapping[str, Facts], asked: int | None) -> int:
    """One rank a GPU, or one on a host without any. Raises BadInput where the hosts differ and nothing was asked."""
    if asked is not None:
        return asked
    counts = {host: max(1, f.gpus) for host, f in facts.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{host} {count}" for host, count in counts.items())
        raise BadInput(f"the hosts have different numbers of GPUs ({listed}); give --nproc-per-node")
    return next(iter(counts.values()))


def meeting(facts: Mapping[str, Facts], wanted: str | None = None) -> Meeting:
    """The fastest network that every host is on, RDMA interfaces first; or `wanted`, such as ``192.168.100.0/24``.

    A network counts only where the hosts have different addresses on it: a container bridge has the same on each.
    Raises BadInput where there is none, with what each host has.
    """
    possible = [m for m in _common(list(facts.values())) if wanted in (None, m.network)]
    if not possible:
        listed = "; ".join(f"{host}: {_listed(f.addresses)}" for host, f in facts.items())
        which = "share no network" if wanted is None else f"are not all on {wanted}"
        raise BadInput(f"the hosts {which}; found {listed}")
    return max(possible, key=lambda m: (all(a.rdma for a in m.addresses), min(a.megabits_per_s for a in m.addresses)))


def _common(facts: Sequence[Facts]) -> list[Meeting]:
    networks = [{_network(a.address): a for a in reversed(f.addresses)} for f in facts]
    found = []
    for network in networks[0]:
        addresses = tuple(each[network] for each in networks if network in each)
        if len(addresses) == len(facts) == len({a.address for a in addresses}):
            found.append(Meeting(network, addresses))
    return found


def _network(address: str) -> str:
    return str(ipaddress.ip_interface(address).network)


def _listed(addresses: Sequence[Address]) -> str:
    return ", ".join(f"{a.address} on {a.interface}" for a in addresses) or "no address"


def clock_warnings(offsets: Mapping[str, tuple[float, float]]) -> list[str]:
    """A line for each host whose clock is surely off; offsets: host -> (seconds ahead of here, uncertainty)."""
    return [
        f"the clock of {host} is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this host's;"
        " logs of the two will not line up (chrony or systemd-timesyncd keeps them together)"
        for host, (ahead, uncertainty) in offsets.items()
        if abs(ahead) - uncertainty > CLOCK_TOLERANCE_SECONDS
    ]


def torchrun_arguments(
    node: int, nodes: int, per_node: int, where: Meeting, port: int, timeout_seconds: int
) -> tuple[str, ...]:
    """What torchrun gets on one host before the program that it is to run."""
    return (
        *("--nnodes", str(nodes), "--node-rank", str(node), "--nproc-per-node", str(per_node)),
        *("--master-addr", where.master, "--master-port", str(port)),
        # Without it a host whose torchrun never starts is waited for in silence for ten minutes.
        *("--rdzv-conf", f"timeout={timeout_seconds}"),
    )


def rank_environment(where: Meeting, node: int, asked: Mapping[str, str]) -> dict[str, str]:
    """The meeting's interface for NCCL's bootstrap and for gloo, unless asked otherwise; then what was asked."""
    interface = where.addresses[node].interface
    return {"NCCL_SOCKET_IFNAME": f"={interface}", "GLOO_SOCKET_IFNAME": interface, "OMP_NUM_THREADS": "1", **asked}
