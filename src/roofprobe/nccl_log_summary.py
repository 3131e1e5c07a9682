"""What NCCL's log says of each process, and which network each pair of ranks is connected by.

A connection names its network device by NCCL's number. The numbers are those of the list that the plugin printed,
then those of the virtual devices that were merged after it; so whose number it is follows from the same process' log.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
import re
from typing import TypeVar

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
    NodesCounted,
    Source,
    Version,
    Warned,
)

MAX_WARNINGS = 100
"""Kinds of them: texts that differ in numbers alone are one kind."""
MAX_CONNECTIONS = 1 << 14
"""Of one process; 4 ranks with 32 channels each have under a thousand."""
MAX_PROCESSES = 1024
"""Of one file, each of which is compared with the others; GB10 clusters have at most some tens."""
MAX_ENTRIES = 4096
"""Of one process: communicators, variables, devices."""
TORN = 2
"""Facts up to which a process may be another's whose line was torn: half a name before the same process id."""

K = TypeVar("K")
V = TypeVar("V")
Init = tuple[str, int]
"""Communicator and rank."""


@dataclass
class ProcessLog:
    """One process' part of a log. Only what was said is set."""

    host: str
    pid: int
    device: int
    version: str | None = None
    rank: int | None = None
    ranks: int | None = None
    nodes: int | None = None
    """Hosts that its largest communicator spans."""
    network: str | None = None
    bootstrap: str | None = None
    layer: str | None = None
    nics: dict[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    """Plugin -> what it listed; an empty list says that it found none."""
    merged: dict[int, tuple[str, ...]] = field(default_factory=dict)
    connections: dict[Connection, None] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    gpu_direct: dict[str, bool] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)
    """Its text without numbers -> the first of its kind."""
    started: dict[Init, int] = field(default_factory=dict)
    """Initialisations that began -> how many ranks the communicator has."""
    completed: dict[Init, int] = field(default_factory=dict)
    facts: int = 0
    """How many lines said something."""

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
        if key in processes or len(processes) < MAX_PROCESSES:
            _add(processes.setdefault(key, _process(fact.source)), fact)
    for process in processes.values():
        process.version = process.version or version
    return _mended(list(processes.values()))


def _process(source: Source) -> ProcessLog:
    return ProcessLog(source.host, source.pid, source.device)


def _add(process: ProcessLog, fact: Fact) -> None:
    process.facts += 1
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
            _keep(process.connections, fact, None, MAX_CONNECTIONS)
        case InitStarted():
            process.rank, process.ranks = fact.rank, fact.ranks
            _keep(process.started, (fact.communicator, fact.rank), fact.ranks)
        case InitCompleted():
            process.rank, process.ranks = fact.rank, fact.ranks
            _keep(process.completed, (fact.communicator, fact.rank), fact.ranks)
        case NodesCounted():
            process.nodes = max(fact.nodes, process.nodes or 0)
        case EnvironmentSet():
            _keep(process.environment, fact.name, fact.value)
        case BootstrapOver():
            process.bootstrap = fact.interface
        case GpuDirect():
            _keep(process.gpu_direct, fact.device, fact.enabled)
        case Warned():
            kind = re.sub(r"[0-9]+", "#", fact.text)
            if kind not in process.warnings:
                _keep(process.warnings, kind, fact.text, MAX_WARNINGS)


def _keep(entries: dict[K, V], key: K, value: V, most: int = MAX_ENTRIES) -> None:
    if key in entries or len(entries) < most:
        entries[key] = value


def _mended(processes: list[ProcessLog]) -> list[ProcessLog]:
    """Without the processes that are there only because two wrote into one line; what they said is their owners'."""
    whole = [process for process in processes if process.facts > TORN]
    mended = list(processes)
    for torn in processes:
        owners = [p for p in whole if p.pid == torn.pid and p.host != torn.host and _may_be_torn(torn.host, p.host)]
        if torn.facts <= TORN and len(owners) == 1:
            _merge(owners[0], torn)
            mended.remove(torn)
    return mended


def _may_be_torn(host: str, whole: str) -> bool:
    """Whether `host` is `whole` with another line's end before it, or without its own beginning."""
    return host.endswith(whole) or whole.endswith(host)


def _merge(owner: ProcessLog, torn: ProcessLog) -> None:
    for each in fields(ProcessLog):
        mine, other = getattr(owner, each.name), getattr(torn, each.name)
        if isinstance(mine, dict):
            setattr(owner, each.name, {**other, **mine})
        elif mine is None:
            setattr(owner, each.name, other)
