"""What NCCL 2.18 to 2.30 write with NCCL_DEBUG=INFO, one text a process.

The wordings are NCCL's own, read in its sources by release: `Bootstrap : Using` until 2.23, `Bootstrap: Using` since;
the version on a line of its own, by rank 0 alone, until 2.21, and on every rank with the usual prefix since; virtual
devices since 2.24, plugins by name since 2.27, `[Rank N]` before Init START since 2.29; a time before each warning
since 2.26, an empty line before it until then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

RELEASES = (
    "2.18.5",
    "2.19.3",
    "2.20.5",
    "2.21.5",
    "2.22.3",
    "2.23.4",
    "2.24.3",
    "2.25.1",
    "2.26.5",
    "2.27.7",
    "2.28.9",
    "2.29.2",
    "2.30.7",
)
CUDA = {"2.18.5": "12.2", "2.19.3": "12.3", "2.20.5": "12.4", "2.21.5": "12.4"}
INTEGER_SETTINGS = ("NCCL_IB_GID_INDEX", "NCCL_IB_MERGE_NICS", "NCCL_IB_DISABLE", "NCCL_IB_TIMEOUT", "NCCL_CROSS_NIC")


def at_least(release: str, minor: int) -> bool:
    return int(release.split(".")[1]) >= minor


def code(release: str) -> int:
    """As ncclGetVersion codes it: 22809 for 2.28.9."""
    major, minor, patch = (int(part) for part in release.split("."))
    return 10000 * major + 100 * minor + patch


@dataclass(frozen=True)
class Process:
    host: str
    rank: int
    nranks: int
    release: str = "2.28.9"
    pid: int = 1234
    device: int = 0
    nics: tuple[str, ...] = ("rocep1s0f0", "roceP2p1s0f0")
    """Empty: NCCL found none and took sockets."""
    link_layer: str = "RoCE"
    merged: bool = False
    peers: tuple[int, ...] = ()
    """Ranks on other hosts that this one has channels with."""
    local_peers: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    completes: bool = True
    before_init: tuple[str, ...] = ()
    """Messages after the network is chosen, the prefix added here."""
    warnings: tuple[tuple[str, str], ...] = ()
    """(file and line, text), after Init START."""
    after: tuple[str, ...] = ()
    bootstrap_interface: str = "enP7s7"
    network: str | None = None
    """The name on the `Using network` line, where it is not IB or Socket."""

    @property
    def thread(self) -> int:
        return self.pid + 26


def text(p: Process) -> str:
    """The whole log of one process."""
    lines = [_info(p, message, p.pid) for message in _preamble(p)]
    if not at_least(p.release, 22) and p.rank == 0:
        lines.append(f"NCCL version {p.release}+cuda{CUDA[p.release]}")
    lines += [_info(p, message) for message in (*_network(p), *p.before_init)]
    lines.append(_info(p, _init(p, "START")))
    lines += [_info(p, m) for m in _topology(p)] if p.completes else []
    lines += [line for warning in p.warnings for line in warn(p, *warning)]
    lines += [_info(p, _init(p, "COMPLETE"))] if p.completes else []
    return "\n".join([*lines, *p.after]) + "\n"


def until_bootstrap(p: Process, where: str, failure: str) -> str:
    """A log that ends before any communicator is made."""
    lines = [_info(p, f"{name} set by environment to {value}", p.pid) for name, value in p.environment.items()]
    if not at_least(p.release, 22) and p.rank == 0:
        lines.append(f"NCCL version {p.release}+cuda{CUDA[p.release]}")
    lines += warn(p, where, failure, p.pid)
    lines += [_info(p, f"{where.split(':')[0]}:{number} -> 5", p.pid) for number in (101, 148, 1602)]
    return "\n".join(lines) + "\n"


def warn(p: Process, where: str, message: str, thread: int | None = None) -> list[str]:
    line = f"{p.host}:{p.pid}:{thread or p.thread} [{p.device}] {where} NCCL WARN {message}"
    return [f"[2026-03-13 22:26:02] {line}"] if at_least(p.release, 26) else ["", line]


def _info(p: Process, message: str, thread: int | None = None) -> str:
    return f"{p.host}:{p.pid}:{thread or p.thread} [{p.device}] NCCL INFO {message}"


def _preamble(p: Process) -> list[str]:
    colon = ":" if at_least(p.release, 24) else " :"
    lines = [_setting(name, value) for name, value in p.environment.items()]
    lines += [f"Bootstrap{colon} Using {p.bootstrap_interface}:192.168.1.{10 + p.rank}<0>", "cudaDriverVersion 13000"]
    if at_least(p.release, 22):
        lines.append(f"NCCL version {p.release}+cuda13.0")
    if at_least(p.release, 23):
        lines.append("NET/Plugin: Could not find: libnccl-net.so.")
    else:
        lines.append("NET/Plugin : No plugin found, using internal implementation")
    return lines


def _setting(name: str, value: str) -> str:
    if name == "NCCL_IB_HCA":
        return f"NCCL_IB_HCA set to {value}"
    return f"{name} set by environment to {value}" + ("." if name in INTEGER_SETTINGS else "")


def _network(p: Process) -> list[str]:
    out_of_band = f"OOB {p.bootstrap_interface}:192.168.1.{10 + p.rank}<0>"
    lines = []
    name = p.network or ("IB" if p.nics else "Socket")
    if p.nics:
        if at_least(p.release, 24):
            tail = " rail=-1 plane=0" if at_least(p.release, 30) else ""
            for i, nic in enumerate(p.nics):
                lines.append(f"NET/IB : Made virtual device [{i}] name={nic} speed=200000 ndevs=1{tail}")
        listed = " ".join(f"[{i}]{nic}:1/{p.link_layer}" for i, nic in enumerate(p.nics))
        lines.append(f"NET/IB : Using {listed} [RO]; {out_of_band}")
    else:
        if p.environment.get("NCCL_IB_DISABLE") != "1":
            lines.append("NET/IB : No device found.")
        lines.append(f"NET/Socket : Using [0]{p.bootstrap_interface}:192.168.1.{10 + p.rank}<0>")
    if at_least(p.release, 27):
        lines += [f"Initialized NET plugin {name}", f"Assigned NET plugin {name} to comm"]
    elif at_least(p.release, 19):
        lines.append("Using non-device net plugin version 0")
    return [*lines, f"Using network {name}"]


def _init(p: Process, stage: str) -> str:
    start = "ncclCommInitRank " if at_least(p.release, 20) else ""
    start = f"[Rank {p.rank}] {start}" if stage == "START" and at_least(p.release, 29) else start
    comm = f"comm 0xaaab1c{p.rank:02x}5e10 rank {p.rank} nranks {p.nranks} cudaDev {p.device} nvmlDev {p.device}"
    return f"{start}{comm} busId f01000 commId 0x99d3a7ab2e6a86a - Init {stage}"


def _topology(p: Process) -> list[str]:
    lines = [f"NET/IB : GPU Direct RDMA Disabled for HCA {i} '{nic}'" for i, nic in enumerate(p.nics)]
    if p.merged:
        tail = " rail=-1 plane=0" if at_least(p.release, 30) else ""
        fused = "+".join(p.nics)
        lines.append(
            f"NET/IB : Made virtual device [{len(p.nics)}] name={fused} speed=400000 ndevs={len(p.nics)}{tail}"
        )
    devices: Sequence[int] = [len(p.nics)] if p.merged else range(max(len(p.nics), 1))
    name = p.network or ("IB" if p.nics else "Socket")
    lines.append("P2P Chunksize set to 131072")
    for peer in p.peers:
        for channel in range(4):
            device = devices[channel % len(devices)]
            lines.append(f"Channel {channel:02d}/0 : {peer}[0] -> {p.rank}[0] [receive] via NET/{name}/{device}")
            lines.append(f"Channel {channel:02d}/0 : {p.rank}[0] -> {peer}[0] [send] via NET/{name}/{device}")
    for peer in p.local_peers:
        lines += [f"Channel {c:02d}/0 : {p.rank}[{p.device}] -> {peer}[{peer}] via P2P/CUMEM/read" for c in range(2)]
    rings = "Connected all rings, use ring PXN 0 GDR 0" if at_least(p.release, 28) else "Connected all rings"
    return [*lines, rings, "Connected all trees", "threadThresholds 8/8/64 | 16/8/64 | 512 | 512"]


HOSTS = ("spark-a", "spark-b", "spark-c", "spark-d")


def cluster(count: int, **options: object) -> list[Process]:
    """One process a host, each with a channel to its neighbours in a ring."""
    found = []
    for rank in range(count):
        peers = tuple(sorted({(rank + 1) % count, (rank - 1) % count}))
        found.append(Process(HOSTS[rank], rank, count, pid=1234 + 100 * rank, peers=peers, **options))  # type: ignore[arg-type]
    return found
