"""Everything that one call of the doctor was given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from roofprobe.ceiling import Platform
from roofprobe.doctor.host import Host
from roofprobe.finding import Finding
from roofprobe.nccl_log_summary import ProcessLog
from roofprobe.telemetry import Sampling


class MeasuredLink(msgspec.Struct, frozen=True, kw_only=True):
    """The best bus bandwidth of one collective's table: nccl-tests' text in a log, or its JSON."""

    source: str
    """The file, for people."""
    collective: str | None
    ranks: int | None
    bytes: int
    """Of the message that reached it; 0 where nothing was measured."""
    busbw_gb_per_s: float
    hosts: tuple[str, ...] = ()
    """Where its ranks ran, each once; empty where the table does not say."""
    gpu: str | None = None
    """The GPU's name, of rank 0."""
    transport: str | None = None
    """Roofprobe's own word of it, ``NCCL, RoCE over rocep1s0f0 …``; nccl-tests does not say."""
    slow_ranks: tuple[str, ...] = ()
    """Roofprobe's sentences that name a slow rank."""
    hangs: tuple[str, ...] = ()
    """Why it ended early, in roofprobe's words."""
    faults: tuple[Finding, ...] = ()
    """What its proof of the transport found."""


@dataclass(frozen=True)
class LogFile:
    """What one --nccl-log file said, read as a stream."""

    path: Path
    processes: tuple[ProcessLog, ...]
    measured: tuple[MeasuredLink, ...]
    hangs: tuple[str, ...]
    """Lines of a watchdog that gave a collective up, as they were written (shortened)."""
    ptxas_errors: tuple[str, ...]
    """ptxas' own complaint that it does not know the chip."""
    no_interface: tuple[str, ...] = ()
    """That no interface was found to meet on, in a line without NCCL's prefix: an exception's text, or gloo's."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """Of its processes, each once, and else whom the file is named after: ``nccl.spark1.log``."""
        name = self.path.stem
        return tuple(dict.fromkeys(process.host for process in self.processes)) or (name.removeprefix("nccl.") or name,)

    @property
    def says_something(self) -> bool:
        return bool(self.processes or self.measured or self.hangs or self.ptxas_errors or self.no_interface)


@dataclass(frozen=True)
class Case:
    """Hosts, logs, samplings and measured links, all read already."""

    hosts: tuple[Host, ...] = ()
    logs: tuple[LogFile, ...] = ()
    samplings: tuple[Sampling, ...] = ()
    measured: tuple[MeasuredLink, ...] = ()
    """Of --measured files; those of the logs are with their log."""
    platform: Platform | None = None
    """Of --platform: what holds for a host that does not tell its own."""

    @property
    def processes(self) -> tuple[ProcessLog, ...]:
        """Of every log."""
        return tuple(process for log in self.logs for process in log.processes)

    @property
    def links(self) -> tuple[MeasuredLink, ...]:
        """Of every log and every --measured file."""
        return (*(link for log in self.logs for link in log.measured), *self.measured)

    def host(self, name: str) -> Host | None:
        return next((host for host in self.hosts if host.name == name), None)

    def platform_of(self, name: str) -> Platform | None:
        """The platform of the host of that name, else --platform's, else the one that every host shares."""
        host = self.host(name)
        if host is not None and host.platform is not None:
            return host.platform
        first = self.hosts[0].platform if self.hosts else None
        return self.platform or (first if all(each.platform == first for each in self.hosts) else None)

    @property
    def nothing_to_judge(self) -> bool:
        """Whether nothing that was given says anything: then nothing may be called healthy."""
        said = any(log.says_something for log in self.logs)
        return not (self.hosts or said or self.measured or any(s.samples or s.sentinels for s in self.samplings))
