"""Proof of which network each pair of ranks used: from NCCL's own log, and from counters around a known exchange.

Ranks of one network namespace that use gloo talk over loopback, whatever interface was named: the kernel's local
routes leave no other way. Everything else has to be shown. Where neither the log nor a counter shows it, the pair is
said to be unproven, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import msgspec

from roofprobe.collectives.host_facts import HostFacts, host_facts
from roofprobe.collectives.process_group import Group
from roofprobe.collectives.proving_exchange import proving_exchange
from roofprobe.collectives.results import RankInfo
from roofprobe.collectives.share import tell_everyone
from roofprobe.collectives.transport_faults import find_faults
from roofprobe.collectives.transport_records import NCCL_LOG, PROVEN_FROM, HostTraffic, Pair, TransportProof, in_words
from roofprobe.nccl_log_summary import ProcessLog
from roofprobe.tree import Tree


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """What one rank's NCCL log says of its connections to another rank."""

    ranks: tuple[int, int]
    """Lower first."""
    network: str
    over: tuple[str, ...]
    gpu_direct: bool


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What every rank tells the others for the proof."""

    links: tuple[Link, ...]
    facts: HostFacts


def prove_transport(
    group: Group, read_log: Callable[[], ProcessLog | None], tree: Tree, environment: Mapping[str, str]
) -> TransportProof:
    """Exchanges for a second or two and looks what was used; every rank has to call it, and gets the same.

    `read_log` gives this process' part of NCCL's log; it is called after the exchange, since NCCL connects two ranks
    when they first send to each other.
    """
    traffic: tuple[HostTraffic, ...] = ()
    if group.backend == "nccl" or len({rank.network for rank in group.ranks}) > 1:
        traffic = proving_exchange(group, tree) if group.world_size > 1 else ()
    mine = Told(links=links_of(read_log()), facts=host_facts(tree, environment))
    told = tell_everyone(group, mine, Told)
    return assemble(group.backend, group.ranks, told, traffic)


def assemble(
    backend: str, ranks: Sequence[RankInfo], told: Sequence[Told], traffic: Sequence[HostTraffic]
) -> TransportProof:
    """Puts together what all ranks told and what the hosts' counters saw; no communication."""
    networks = list(dict.fromkeys(rank.network for rank in ranks))
    by_network = dict(zip(networks, traffic))
    if backend == "nccl":
        pairs = _nccl_pairs(ranks, told, by_network)
    else:
        pairs = [
            _loopback(a, b) if a.network == b.network else _gloo(a, b, by_network, told[a.rank].facts)
            for a, b in combinations(ranks, 2)
        ]
    return TransportProof(
        summary=_summary(backend, ranks, pairs),
        pairs=tuple(pairs),
        traffic=tuple(traffic),
        faults=tuple(find_faults(ranks, pairs, [each.facts for each in told])),
    )


def links_of(log: ProcessLog | None) -> tuple[Link, ...]:
    """A log's connections, as many as there are different ones between two ranks."""
    found: dict[tuple[tuple[int, int], str], tuple[dict[str, None], bool]] = {}
    for each in log.connections if log else ():
        over: tuple[str, ...] = ()
        if each.kind == "NET" and each.nic is not None and log is not None:
            plugin = "IB" if each.detail.startswith("IB") else each.detail
            network = {"IB": log.layer or "IB", "Socket": "sockets"}.get(plugin, each.detail)
            over = log.nic_devices(plugin, each.nic)
        elif each.kind == "P2P":
            network, over = "P2P", (each.detail,)
        else:
            network = "shared memory"
        ranks = min(each.sender, each.receiver), max(each.sender, each.receiver)
        devices, direct = found.setdefault((ranks, network), ({}, False))
        devices.update(dict.fromkeys(over))
        found[ranks, network] = devices, direct or each.gpu_direct
    return tuple(
        Link(ranks=ranks, network=network, over=tuple(sorted(devices, key=str.lower)), gpu_direct=direct)
        for (ranks, network), (devices, direct) in sorted(found.items())
    )


def _loopback(a: RankInfo, b: RankInfo) -> Pair:
    return _pair(a, b, "loopback", (), None, ("one network namespace",))


def _gloo(a: RankInfo, b: RankInfo, traffic: Mapping[str, HostTraffic], facts: HostFacts) -> Pair:
    found = _by_interfaces([traffic[rank.network] for rank in (a, b)])
    if found is None:
        named = (facts.gloo_interface,) if facts.gloo_interface else ()
        return _pair(a, b, "gloo", named, None, ())
    return _pair(a, b, "gloo", found[0], None, found[1])


def carriers(traffic: HostTraffic) -> tuple[tuple[str, ...], float] | None:
    """The interfaces that sent the exchange's bytes, and their share of what was expected; None where none did.

    The busiest first, and only as many as it takes: a bond and its members, or a bridge and its ports, count the same
    bytes again.
    """
    others = {name: sent for name, sent in traffic.interfaces.items() if name != "lo"}
    names: list[str] = []
    share = 0.0
    for name in sorted(others, key=lambda name: -others[name]):
        names.append(name)
        share += others[name] / max(traffic.expected_bytes, 1)
        if share >= PROVEN_FROM:
            return tuple(sorted(names, key=str.lower)), share
    return None


def _by_interfaces(traffic: Sequence[HostTraffic]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The interfaces that carried the exchange on both hosts, and the evidence."""
    found = [each for host in traffic if (each := carriers(host)) is not None]
    if len(found) < len(traffic):
        return None
    over = tuple(dict.fromkeys(name for names, _ in found for name in names))
    return over, (f"interface counters {min(share for _, share in found):.2f} of expected",)


def _nccl_pairs(ranks: Sequence[RankInfo], told: Sequence[Told], traffic: Mapping[str, HostTraffic]) -> list[Pair]:
    found: dict[tuple[tuple[int, int], str], Link] = {}
    for each in (link for rank in told for link in rank.links):
        before = found.get((each.ranks, each.network))
        found[each.ranks, each.network] = each if before is None else _merged(before, each)
    links = [link for link in found.values() if link.ranks[1] < len(ranks)]
    if not links:
        return [_by_counters(a, b, traffic, told) for a, b in combinations(ranks, 2)]
    # A host's bytes may leave by one port to one peer and by another to the next: its links count together.
    used: dict[str, set[str]] = {}
    for link in links:
        for rank in link.ranks:
            used.setdefault(ranks[rank].network, set()).update(link.over)
    pairs = []
    for link in links:
        a, b = (ranks[rank] for rank in link.ranks)
        counted = () if a.network == b.network else _counted(link.network, (a, b), traffic, used)
        pairs.append(_pair(a, b, link.network, link.over, link.gpu_direct, (NCCL_LOG, *counted)))
    return pairs


def _merged(a: Link, b: Link) -> Link:
    over = tuple(sorted({*a.over, *b.over}, key=str.lower))
    return Link(ranks=a.ranks, network=a.network, over=over, gpu_direct=a.gpu_direct or b.gpu_direct)


def _counted(
    network: str, pair: Sequence[RankInfo], traffic: Mapping[str, HostTraffic], used: Mapping[str, set[str]]
) -> tuple[str, ...]:
    """What the two hosts' counters say of the devices that the log names."""
    shares = []
    for rank in pair:
        host, names = traffic[rank.network], used[rank.network]
        if not names:
            return ()
        if network == "sockets":
            sent = sum(sent for name, sent in host.interfaces.items() if name in names)
        elif host.ports:
            sent = sum(sent for name, sent in host.ports.items() if name.rpartition("/")[0] in names)
        else:
            return ("the ports have no counters",)
        shares.append(sent / max(host.expected_bytes, 1))
    what = "interface counters" if network == "sockets" else "port counters"
    return (f"{what} {min(shares):.2f} of expected",)


def _by_counters(a: RankInfo, b: RankInfo, traffic: Mapping[str, HostTraffic], told: Sequence[Told]) -> Pair:
    """For want of a log: RDMA ports, or an interface, that sent what had to be sent on both hosts."""
    both = [traffic[rank.network] for rank in (a, b)]
    # Soft-RoCE's ports count nothing, and its bytes go through the interface as sockets' do.
    uncounted = any(told[rank.rank].facts.devices and not traffic[rank.network].ports for rank in (a, b))
    if a.network == b.network or uncounted:
        return _pair(a, b, "unknown", (), None, ())
    shares = [sum(each.ports.values()) / max(each.expected_bytes, 1) for each in both]
    if min(shares) >= PROVEN_FROM:
        used = [name for each in both for name, sent in each.ports.items() if sent >= 0.05 * each.expected_bytes]
        over = tuple(dict.fromkeys(name.rpartition("/")[0] for name in used))
        return _pair(a, b, "RDMA", over, None, (f"port counters {min(shares):.2f} of expected",))
    found = _by_interfaces(both)
    return _pair(a, b, "unknown", (), None, ()) if found is None else _pair(a, b, "sockets", found[0], None, found[1])


def _pair(
    a: RankInfo, b: RankInfo, network: str, over: tuple[str, ...], gpu_direct: bool | None, evidence: tuple[str, ...]
) -> Pair:
    return Pair(
        ranks=(a.rank, b.rank),
        hosts=(a.host, b.host),
        network=network,
        over=over,
        gpu_direct=gpu_direct,
        evidence=evidence,
    )


def _summary(backend: str, ranks: Sequence[RankInfo], pairs: Sequence[Pair]) -> str:
    """The networks between hosts, or within the one host, and how many ranks: never a measured figure."""
    n = len(ranks)
    networks = len({rank.network for rank in ranks})
    where = f"{n} rank{'' if n == 1 else 's'} {'on this host' if networks == 1 else f'on {networks} hosts'}"
    if backend == "gloo" and networks == 1:
        return f"gloo over loopback, {where}"
    across = [p for p in pairs if networks == 1 or ranks[p.ranks[0]].network != ranks[p.ranks[1]].network]
    words = list(dict.fromkeys(pair.words for pair in across))
    unproven = ", path not proven" if any(not pair.evidence for pair in across) else ""
    if backend == "gloo":
        return f"{in_words(words)}, {where}{unproven}"
    return f"NCCL, {in_words(words)}, {where}{unproven}" if words else f"NCCL, {where}"
