"""Synthetic NCCL logs of two to four hosts, in the wordings of several releases; no real machine wrote them.

The formats are those of NCCL's sources at each release's tag; hosts, process ids, addresses and pointers are made up.
"""

from __future__ import annotations

from dataclasses import dataclass

OLD, MERGING, MIDDLE, NEW = "2.18.3", "2.21.5", "2.26.2", "2.30.7"
RELEASES = (OLD, MERGING, MIDDLE, NEW)
BOTH_HALVES = ("rocep1s0f0", "roceP2p1s0f0")


@dataclass(frozen=True)
class Rank:
    """One process of a job, each with GPU 0 of a host of its own."""

    rank: int
    ranks: int = 2
    host: str = ""
    pid: int = 4000

    @property
    def name(self) -> str:
        return self.host or f"spark{self.rank + 1}"


def info(rank: Rank, text: str) -> str:
    return f"{rank.name}:{rank.pid + rank.rank}:{rank.pid + rank.rank + 40} [0] NCCL INFO {text}"


def warn(rank: Rank, text: str, release: str, where: str = "init.cc:900") -> list[str]:
    """A warning comes after an empty line, and from 2.24 on after a time."""
    time = "" if release in (OLD, MERGING) else "[2026-03-01 10:20:30] "
    function = " (ncclIbInit)" if release == NEW else ""
    prefix = f"{time}{rank.name}:{rank.pid + rank.rank}:{rank.pid + rank.rank + 40} [0] {where}{function} NCCL WARN "
    return ["", prefix + text]


def begin(rank: Rank, release: str, version: str | None = None) -> list[str]:
    bootstrap = "Bootstrap : Using" if release in (OLD, MERGING) else "Bootstrap: Using"
    function = {OLD: "", NEW: f"[Rank {rank.rank}] ncclCommInitRankConfig "}.get(release, "ncclCommInitRankConfig ")
    return [
        info(rank, f"{bootstrap} enP7s7:192.168.1.{rank.rank + 1}<0>"),
        info(rank, f"NCCL version {version or release}+cuda13.0"),
        info(rank, "NCCL_SOCKET_IFNAME set by environment to enP7s7"),
        info(rank, f"{function}comm 0x55aa rank {rank.rank} nranks {rank.ranks} cudaDev 0 nvmlDev 0 busId f01000"
                   " commId 0x9f3c - Init START"),
    ]  # fmt: skip


def complete(rank: Rank, release: str) -> str:
    function = "" if release == OLD else "ncclCommInitRankConfig "
    return info(
        rank,
        f"{function}comm 0x55aa rank {rank.rank} nranks {rank.ranks} cudaDev 0 nvmlDev 0 busId f01000"
        " commId 0x9f3c - Init COMPLETE",
    )


def ib_found(rank: Rank, release: str, devices: tuple[str, ...] = BOTH_HALVES) -> list[str]:
    """The list of RDMA devices; 2.21 shows merged ones in it, and from 2.22 on they are made afterwards."""
    oob = f"; OOB enP7s7:192.168.1.{rank.rank + 1}<0>"
    if release == MERGING and len(devices) > 1:
        inner = ", ".join(f"[{i}] {name}:1/RoCE" for i, name in enumerate(devices))
        return [info(rank, f"NET/IB : Using [0]={{{inner}}} [RO]{oob}")]
    listed = "".join(f" [{i}]{name}:1/RoCE" for i, name in enumerate(devices))
    lines = [info(rank, f"NET/IB : Using{listed} [RO]{oob}")]
    if release in (MIDDLE, NEW) and len(devices) > 1:
        extra = " rail=-1 plane=-1" if release == NEW else ""
        merged = "+".join(devices)
        lines.append(info(rank, f"NET/IB : Made virtual device [2] name={merged} speed=400000 ndevs=2{extra}"))
    return lines


def ib_missing(rank: Rank, release: str) -> list[str]:
    """From 2.25 on, an empty list follows."""
    lines = [info(rank, "NET/IB : No device found.")]
    if release in (MIDDLE, NEW):
        lines.append(info(rank, f"NET/IB : Using ; OOB enP7s7:192.168.1.{rank.rank + 1}<0>"))
    return lines


def over_ib(rank: Rank, release: str, devices: tuple[str, ...] = BOTH_HALVES, channels: int = 2) -> list[str]:
    """A ring over RDMA: what a healthy pair of GB10 units logs."""
    merges = len(devices) > 1 and release != OLD
    lines = [*begin(rank, release), *ib_found(rank, release, devices), info(rank, "Using network IB")]
    for name in devices:
        lines.append(info(rank, f"NET/IB : GPU Direct RDMA Disabled for HCA 0 '{name}'"))
    for channel in range(channels):
        nic = (0 if release == MERGING else 2) if merges else channel % len(devices)
        lines += _ring(rank, channel, f"NET/IB/{nic}")
    return [*lines, complete(rank, release)]


def over_sockets(rank: Rank, release: str, interface: str = "enP7s7", channels: int = 2) -> list[str]:
    """A ring over sockets, after no RDMA device was found."""
    lines = [
        *begin(rank, release),
        *ib_missing(rank, release),
        info(rank, f"NET/Socket : Using [0]{interface}:192.168.1.{rank.rank + 1}<0>"),
        info(rank, "Using network Socket"),
    ]
    for channel in range(channels):
        lines += _ring(rank, channel, "NET/Socket/0")
    return [*lines, complete(rank, release)]


def within_a_host(rank: Rank, release: str, how: str) -> list[str]:
    """Several GPUs of one host: `how` is what follows ``via``."""
    following = (rank.rank + 1) % rank.ranks
    channel = "00" if how.startswith("SHM") else "00/0"
    text = f"Channel {channel} : {rank.rank}[{rank.rank}] -> {following}[{following}] via {how}"
    return [*begin(rank, release), info(rank, text), complete(rank, release)]


def _ring(rank: Rank, channel: int, via: str) -> list[str]:
    me, following, before = rank.rank, (rank.rank + 1) % rank.ranks, (rank.rank - 1) % rank.ranks
    return [
        info(rank, f"Channel {channel:02d}/0 : {before}[0] -> {me}[0] [receive] via {via}"),
        info(rank, f"Channel {channel:02d}/0 : {me}[0] -> {following}[0] [send] via {via}"),
    ]
