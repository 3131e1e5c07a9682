"""How fast the link between two hosts is without NCCL or gloo, so that their share of a loss is told from the NIC's.

Each two hosts that follow each other in the ring are tested, by their first ranks, the earlier host as the server.
ib_write_bw and ib_write_lat do it where both have perftest and active ports that face each other, all ports at once
(GB10's two halves: the sum is the link's rate); else TCP does, with one stream and with four. Disjoint pairs go at
once, so that three hosts take three rounds and four take two, each of a few seconds.

The two ends meet through the store, not in a collective: a rank that only waits leaves its cores and links idle, and
the collectives' deadline does not run. Every wait is bounded, and every failure is a record with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from roofprobe.collectives import perftest
from roofprobe.collectives.link_ends import HostEnd
from roofprobe.collectives.link_meeting import MEET_SECONDS, Meeting
from roofprobe.collectives.process_group import Group
from roofprobe.collectives.share import tell_everyone
from roofprobe.collectives.transport_records import in_words
from roofprobe.tree import Tree
from roofprobe.units import percent

if TYPE_CHECKING:
    from torch.distributed import Store

ROUND_SECONDS = 2 * MEET_SECONDS + 2 * perftest.TIMEOUT_SECONDS
"""The longest that one pair can take, whatever goes wrong."""


class LinkBaseline(msgspec.Struct, frozen=True, kw_only=True):
    """One pair of hosts."""

    ranks: tuple[int, int]
    hosts: tuple[str, str]
    tool: str
    """``ib_write_bw`` or ``TCP``."""
    over: tuple[str, ...]
    gbit_per_s: dict[str, float]
    """By device, at once, for RDMA; by ``1 stream`` and ``4 streams`` for TCP. Payload, one way."""
    half_round_trip_us: float | None
    problem: str | None
    """Why something was not measured, in one line."""
    note: str | None = None
    """Why RDMA was not what was measured, though there is any."""

    @property
    def raw_gbit_per_s(self) -> float | None:
        """What the link gave: the devices' sum, or the better number of streams."""
        if not self.gbit_per_s:
            return None
        return (sum if self.tool == perftest.BANDWIDTH else max)(self.gbit_per_s.values())


def pairs_in_rounds(hosts: int) -> list[list[tuple[int, int]]]:
    """The pairs (server, client) of hosts that follow each other in a ring, no host twice in a round."""
    edges = [(i, i + 1) for i in range(hosts - 1)] + ([(0, hosts - 1)] if hosts > 2 else [])
    rounds: list[list[tuple[int, int]]] = []
    for edge in edges:
        free = (each for each in rounds if not any(set(edge) & set(known) for known in each))
        chosen = next(free, None)
        if chosen is None:
            rounds.append([edge])
        else:
            chosen.append(edge)
    return rounds


def measure_links(group: Group, store: Store, tree: Tree, own: HostEnd) -> tuple[LinkBaseline, ...]:
    """Every pair's figures, the same on every rank; every rank has to call it. Empty for a single host."""
    networks = list(dict.fromkeys(rank.network for rank in group.ranks))
    first = [next(rank for rank in group.ranks if rank.network == network) for network in networks]
    ends = tell_everyone(group, own, HostEnd)
    group.watch.enter("testing the raw link", alone=True)
    found: list[LinkBaseline] = []
    for turn, round_of_pairs in enumerate(pairs_in_rounds(len(first))):
        for a, b in round_of_pairs:
            ranks = first[a].rank, first[b].rank
            if group.rank in ranks:
                meeting = Meeting(store, f"link/{turn}/{a}-{b}", group.rank == ranks[0], tree)
                figures = meeting.measure(ends[ranks[0]], ends[ranks[1]])
                # Each end adds what it saw; both are put together below.
                found.append(LinkBaseline(ranks=ranks, hosts=(first[a].host, first[b].host), **figures._asdict()))
        _wait_for_round(store, turn, group, [first[i].rank for pair in round_of_pairs for i in pair])
    group.watch.enter("gathering the raw links")
    everyone = tell_everyone(group, tuple(found), tuple[LinkBaseline, ...])
    return put_together([each for told in everyone for each in told])


def _wait_for_round(store: Store, turn: int, group: Group, busy: Sequence[int]) -> None:
    """Until the round's pairs are done, or can't be any more; a rank that died is found by the next collective."""
    if group.rank in busy:
        store.set(f"link/{turn}/done/{group.rank}", "1")
    with suppress(RuntimeError):
        store.wait([f"link/{turn}/done/{rank}" for rank in busy], timedelta(seconds=ROUND_SECONDS))


def put_together(halves: Sequence[LinkBaseline]) -> tuple[LinkBaseline, ...]:
    """What both ends of each pair saw, as one record a pair, in order of ranks."""
    found: dict[tuple[int, int], LinkBaseline] = {}
    for each in halves:
        other = found.get(each.ranks)
        if other is not None:
            each = msgspec.structs.replace(
                other,
                gbit_per_s={**other.gbit_per_s, **each.gbit_per_s},
                half_round_trip_us=other.half_round_trip_us or each.half_round_trip_us,
                problem="; ".join(filter(None, (other.problem, each.problem))) or None,
            )
        found[each.ranks] = each
    return tuple(found[ranks] for ranks in sorted(found))


def baseline_lines(baselines: Sequence[LinkBaseline]) -> list[str]:
    """For the preamble, without the leading ``#``: a line for each pair of hosts."""
    return [f"link: {each.hosts[0]} <- {each.hosts[1]}: {_words(each)}" for each in baselines]


def _words(each: LinkBaseline) -> str:
    over = f"{each.tool} over {in_words(each.over)}" if each.over else each.tool
    words = []
    if each.raw_gbit_per_s is not None:
        parts = ", ".join(f"{name} {rate:.4g}" for name, rate in each.gbit_per_s.items())
        words.append(f"{each.raw_gbit_per_s:.4g} Gb/s ({over}: {parts})")
    if each.half_round_trip_us is not None:
        words.append(f"half a round trip {each.half_round_trip_us:.3g} us")
    if each.problem is not None:
        words.append(f"not measured: {each.problem}")
    if each.note is not None:
        words.append(each.note)
    return ", ".join(words)


def share_line(baselines: Sequence[LinkBaseline], collective: str, bus_gb_per_s: float) -> str | None:
    """How much of the slowest link a collective's busbw is; None without a link's rate."""
    rates = [(rate, each.tool) for each in baselines if (rate := each.raw_gbit_per_s) is not None]
    if not rates:
        return None
    reached, (slowest, tool) = 8 * bus_gb_per_s, min(rates)
    link = "slowest link" if len(rates) > 1 else "link"
    return (
        f"link: {collective}'s busbw at the largest size, {bus_gb_per_s:.4g} GB/s = {reached:.4g} Gb/s, is"
        f" {percent(reached / slowest)} of the {slowest:.4g} Gb/s that {tool} alone gets from the {link}"
    )
