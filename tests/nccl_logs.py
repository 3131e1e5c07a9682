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


def cluster(ranks: int, release: str, devices: tuple[str, ...] = BOTH_HALVES, pid: int = 4000) -> list[str]:
    """A healthy job over RDMA, its processes' lines one after the other."""
    return [line for rank in range(ranks) for line in over_ib(Rank(rank, ranks, pid=pid), release, devices)]


def single(release: str) -> list[str]:
    """A unit alone, without a cable: no RDMA device, a network that nobody uses, one rank."""
    lines = over_sockets(Rank(0, ranks=1), release, channels=0)
    return [*lines, info(Rank(0, ranks=1), "Connected all rings")]


def h100(release: str) -> list[str]:
    """Two hosts of two GPUs each on InfiniBand, with GPUDirect RDMA."""
    lines = []
    for rank in range(4):
        me = Rank(rank, 4, host=f"dgx{rank // 2 + 1}")
        lines += begin(me, release)
        lines.append(info(me, "NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_3:1/IB [RO]; OOB ib0:10.0.0.1<0>"))
        lines.append(info(me, "Using network IB"))
        lines.append(info(me, f"comm 0x55aa rank {rank} nRanks 4 nNodes 2 localRanks 2 localRank {rank % 2} MNNVL 0"))
        lines.append(info(me, f"NET/IB : GPU Direct RDMA Enabled for HCA {rank % 2} 'mlx5_{3 * (rank % 2)}'"))
        lines += _ring(me, 0, f"NET/IB/{rank % 2}/GDRDMA") if rank % 2 else []
        lines += [info(me, f"Channel 00/0 : {rank}[0] -> {rank ^ 1}[1] via P2P/CUMEM"), complete(me, release)]
    return lines


def table(
    rates: dict[int, float],
    hosts: tuple[str, ...] = ("spark1", "spark2"),
    gpu: str = "NVIDIA GB10",
    name: str = "all_gather",
) -> list[str]:
    """nccl-tests' output for these bus bandwidths in GB/s by message bytes; in place is a little faster."""
    lines = [
        f"# Collective test starting: {name}_perf",
        "# nThread 1 nGpus 1 minBytes 8 maxBytes 8",
        "#",
        "# Using devices",
    ]
    for rank, host in enumerate(hosts):
        lines.append(f"#  Rank {rank:2d} Group  0 Pid {4000 + rank:6d} on {host:>10} device  0 [000f:01:00] {gpu}")
    columns = "     time   algbw   busbw  #wrong"
    lines.append(f"#       size         count      type   redop    root{columns}{columns} ")
    for size, rate in rates.items():
        body = "".join(
            f"  {size / 1e3 / each:7.2f}  {2 * each:6.2f}  {each:6.2f}  {0:6g}" for each in (0.99 * rate, rate)
        )
        lines.append(f"{size:12d}  {size // 4:12d}  {'float':>8}  {'none':>6}  {-1:6d}{body}")
    return [*lines, "# Out of bounds values : 0 OK", "# Avg bus bandwidth    : 3.2 ", "#"]


def watchdog(rank: int, sequence: int = 1580, operation: str = "ALLREDUCE") -> str:
    """torch 2.4 and later, under torchrun."""
    return (
        f"[rank{rank}]:[E321 02:07:08.408271257 ProcessGroupNCCL.cpp:632] [Rank {rank}] Watchdog caught collective"
        f" operation timeout: WorkNCCL(SeqNum={sequence}, OpType={operation}, NumelIn=4096, NumelOut=4096,"
        " Timeout(ms)=600000) ran for 600004 milliseconds before timing out."
    )
