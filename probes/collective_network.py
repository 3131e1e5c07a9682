"""Looks at the network before it is measured: what carries the bytes, and what the link gives by itself."""

from __future__ import annotations

from dataclasses import dataclass
import os

from roofprobe.collectives.link_baseline import LinkBaseline, measure_links
from roofprobe.collectives.link_ends import HostEnd, host_end
from roofprobe.collectives.nccl_debug import NcclDebug
from roofprobe.collectives.pairwise import Pair, measure_pairs
from roofprobe.collectives.process_group import Group
from roofprobe.collectives.proving_exchange import first_of_host
from roofprobe.collectives.transport import prove_transport
from roofprobe.collectives.transport_records import TransportProof
from roofprobe.errors import FAILED, OK
from roofprobe.fabric import read_fabric
from roofprobe.tree import this_machine


@dataclass(frozen=True)
class Network:
    """What all ranks found out together."""

    proof: TransportProof
    links: tuple[LinkBaseline, ...]
    pairs: tuple[Pair, ...]
    """Where that was asked for."""

    @property
    def exit_status(self) -> int:
        return FAILED if any(fault.severity == "fault" for fault in self.proof.faults) else OK


def look_at_network(group: Group, link_baseline: bool, pairwise: bool, debug: NcclDebug) -> Network:
    """Proves the transport and, between hosts and if asked, measures the raw link, and if asked each two ranks alone.

    Every rank has to call it.
    """
    debug.restore()
    group.watch.enter("proving the transport")
    proof = prove_transport(group, debug.read, this_machine(), os.environ)
    links: tuple[LinkBaseline, ...] = ()
    if link_baseline and len({rank.network for rank in group.ranks}) > 1:
        links = _measure_links(group, proof)
    return Network(proof, links, measure_pairs(group) if pairwise else ())


def _measure_links(group: Group, proof: TransportProof) -> tuple[LinkBaseline, ...]:
    from torch.distributed.distributed_c10d import _get_default_store

    own = HostEnd(address=None, interface=None, rdma=())
    if first_of_host(group):
        over = [name for pair in proof.pairs if group.rank in pair.ranks for name in pair.over]
        own = host_end(read_fabric(this_machine()), over, group.ranks[group.rank].address)
    return measure_links(group, _get_default_store(), this_machine(), own)
