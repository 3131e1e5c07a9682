"""Links that go down and packets that are sent again, by the port counters.

A total has no beginning, so it is only a warning unless it is absurd. Where an earlier recording of the same host is
given, what happened in between decides: a link that went down is a fault, and so are DELTA_RETRANSMISSIONS packets
sent again; fewer are a warning. A counter that fell was reset and says nothing.

Sources: Linux, Documentation/ABI/stable/sysfs-class-infiniband; Soft-RoCE's names: drivers/infiniband/sw/rxe.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from roofprobe.doctor.case import Case
from roofprobe.doctor.host import Host
from roofprobe.doctor.ports import LinkPort, link_ports
from roofprobe.finding import Finding

LINK = frozenset({"link_downed", "link_error_recovery"})
RETRANSMISSION = frozenset(
    {
        "out_of_sequence",
        "packet_seq_err",
        "local_ack_timeout_err",
        "implied_nak_seq_err",
        "rnr_nak_retry_err",
        "roce_adp_retrans",
        "out_of_seq_request",
        "rcvd_seq_err",
        "completer_retry_err",
        "retry_exceeded_err",
        "retry_rnr_exceeded_err",
    }
)
"""ConnectX's names, then Soft-RoCE's. Its duplicate_request is left out: 515 of 61079 packets were counted so in
healthy traffic of a slow virtual machine."""
ABSURD_LINK_TOTAL = 100
ABSURD_RETRANSMISSION_TOTAL = 1_000_000
DELTA_RETRANSMISSIONS = 100


@dataclass(frozen=True)
class Count:
    """One counter of one port: its total, or its growth where an earlier value is known."""

    path: str
    name: str
    value: int
    earlier: int | None

    @property
    def is_fault(self) -> bool:
        if self.name in LINK:
            return self.value > (ABSURD_LINK_TOTAL if self.earlier is None else 0)
        if self.earlier is None:
            return self.value > ABSURD_RETRANSMISSION_TOTAL
        return self.value >= DELTA_RETRANSMISSIONS

    def __str__(self) -> str:
        if self.earlier is None:
            return f"{self.path} reads {self.value}"
        return f"{self.path} grew by {self.value}, from {self.earlier} to {self.earlier + self.value}"


def flapping(case: Case) -> Iterator[Finding]:
    for host in case.hosts:
        counts = [count for count in _counts(host) if count.value > 0]
        faults = [count for count in counts if count.is_fault]
        if counts:
            told = sorted(counts, key=lambda count: not count.is_fault)
            yield Finding(
                id="link.flapping",
                severity="fault" if faults else "warning",
                host=host.name,
                evidence=f"{'; '.join(map(str, told))}; expected 0"
                + ("" if host.before is not None else " (totals, whose beginning is not known)"),
                remedy="Reseat the cable at both ends or change it, and look at dmesg for mlx5_core's link messages."
                if faults
                else "Record this host again after a run and give this recording as --before; if they grew, reseat the"
                " cable at both ends.",
            )


def _counts(host: Host) -> Iterator[Count]:
    before = None if host.before is None else {port.name: port for port in link_ports(host.before)}
    for port in link_ports(host.fabric):
        for path, name, value in _named(port):
            if before is None:
                yield Count(path, name, value, None)
                continue
            earlier = (
                next((v for p, _, v in _named(before[port.name]) if p == path), None) if port.name in before else None
            )
            if earlier is not None and value >= earlier:
                yield Count(path, name, value - earlier, earlier)


def _named(port: LinkPort) -> Iterator[tuple[str, str, int]]:
    """Path, name and value of the counters that speak of a bad link."""
    for folder, counters in (("counters", port.port.counters), ("hw_counters", port.port.hardware_counters)):
        for name, value in sorted(counters.items()):
            if name in LINK | RETRANSMISSION:
                yield f"{port.place}/{folder}/{name}", name, value
