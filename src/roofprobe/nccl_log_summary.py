"""What NCCL's log says of each process, and which network each pair of ranks is connected by.

A connection names its network device by NCCL's number. The numbers are those of the list that the plugin printed,
then those of the virtual devices that were merged after it; so whose number it is follows from the same process' log.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from roofprobe.nccl_log_facts import (
    BootstrapOver,
    Connection,
    EnvironmentSet,
    Fact,
    GpuDirect,
    InitCompleted,
    InitStarted,
    NetworkChosen,
    NicMerged,
    NicsFound,
    Source,
    Version,
    Warned,
)

MAX_WARNINGS = 100
MAX_CONNECTIONS = 1 << 14
"""Of one process; 4 ranks with 32 channels each have under a thousand."""


@dataclass
class ProcessLog:
    """One process' part of a log. Only what was said is set."""

    host: str
    pid: int
    device: int
    version: str | None = None
    rank: int | None = None
    ranks: int | None = None
    network: str | None = None
    bootstrap: str | None = None
    layer: str | None = None
    nics: dict[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    """Plugin -> what it listed; an empty list says that it found none."""
    merged: dict[int, tuple[str, ...]] = field(default_factory=dict)
    connections: dict[Connection, None] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    gpu_direct: dict[str, bool] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    started: set[str] = field(default_factory=set)
    """Communicators whose initialisation began."""
    completed: set[str] = field(default_factory=set)

    def nic_devices(self, plugin: str, number: int) -> tuple[str, ...]:
        """The devices behind NCCL's number of a NIC; empty where the log does not say."""
        if plugin == "IB" and number in self.merged:
            return self.merged[number]
        listed = self.nics.get(plugin, ())
        return listed[number] if number < len(listed) else ()


def summarize(facts: Iterable[Fact]) -> list[ProcessLog]:
    """One entry a process, in order of appearance. A version line without a prefix counts for those without one."""
    processes: dict[tuple[str, int], ProcessLog] = {}
    version = None
    for fact in facts:
        if fact.source is None:
            version = fact.version if isinstance(fact, Version) else version
            continue
        key = fact.source.host, fact.source.pid
        _add(processes.setdefault(key, _process(fact.source)), fact)
    for process in processes.values():
        process.version = process.version or version
    return list(processes.values())


def _process(source: Source) -> ProcessLog:
    return ProcessLog(source.host, source.pid, source.device)


def _add(process: ProcessLog, fact: Fact) -> None:
    match fact:
        case Version():
            process.version = fact.version
        case NicsFound():
            # From 2.25 on an empty list follows "No device found."; neither may take a list that is there.
            if fact.nics or fact.plugin not in process.nics:
                process.nics[fact.plugin] = fact.nics
            process.layer = fact.layer or process.layer
        case NicMerged():
            process.merged[fact.index] = fact.devices
        case NetworkChosen():
            process.network = fact.network
        case Connection():
            if len(process.connections) < MAX_CONNECTIONS:
                process.connections[fact] = None
        case InitStarted():
            process.rank, process.ranks = fact.rank, fact.ranks
            process.started.add(fact.communicator)
        case InitCompleted():
            process.rank, process.ranks = fact.rank, fact.ranks
            process.completed.add(fact.communicator)
        case EnvironmentSet():
            process.environment[fact.name] = fact.value
        case BootstrapOver():
            process.bootstrap = fact.interface
        case GpuDirect():
            process.gpu_direct[fact.device] = fact.enabled
        case Warned():
            if len(process.warnings) < MAX_WARNINGS:
                process.warnings.append(fact.text)
