"""What the doctor found, as one JSON document and as text for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import json
import sys

import msgspec
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from roofprobe.arguments import size_text
from roofprobe.doctor.case import Case
from roofprobe.doctor.facts import DeviceFacts, HostFacts, InterfaceFacts, MemoryFacts, PortFacts
from roofprobe.doctor.read_facts import facts_of, log_facts
from roofprobe.finding import Finding

UNKNOWN = "unknown"
WIDTH = 110
"""Where the output is no terminal."""
_STYLE = {"fault": "bold red", "warning": "yellow", "info": "cyan"}


def gather_facts(case: Case) -> dict[str, HostFacts]:
    """Host -> facts, of every host that a recording or a log tells of."""
    found = {host.name: facts_of(host) for host in case.hosts}
    for process in case.processes:
        before = found.get(process.host, HostFacts())
        found[process.host] = msgspec.structs.replace(before, nccl_logs=(*before.nccl_logs, log_facts(process)))
    return found


def as_json(findings: Sequence[Finding], facts: Mapping[str, HostFacts]) -> str:
    """``{"faults": […], "facts": {HOST: …}}``; the faults are findings of every severity."""
    return json.dumps(msgspec.to_builtins({"faults": findings, "facts": facts}), indent=2, ensure_ascii=False)


def as_text(findings: Sequence[Finding], facts: Mapping[str, HostFacts], verdict: str) -> str:
    """A table of facts for each host, the findings, and the verdict in one line."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, emoji=False)
    with console.capture() as captured:
        for host, known in facts.items():
            table = Table(title=_plain(host), title_justify="left", box=None, show_header=False, pad_edge=False)
            table.add_column(style="dim", no_wrap=True)
            table.add_column(overflow="fold")
            for name, value in _rows(known):
                table.add_row(name, _plain(value))
            console.print(table)
            console.print()
        for finding in findings:
            head = Text(f"{finding.severity.upper()} {finding.id}", style=_STYLE[finding.severity])
            console.print(head.append(_plain(f" on {finding.host}").plain, style="default"))
            console.print(Padding(_plain(finding.evidence), (0, 0, 0, 2)))
            console.print(Padding(Text("remedy: ", style="bold").append_text(_plain(finding.remedy)), (0, 0, 1, 2)))
        console.print(_plain(verdict))
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def verdict_of(findings: Sequence[Finding], silent: Sequence[str], hosts: Sequence[str]) -> str:
    """One line: what was found, and what could not be judged."""
    faults = [f for f in findings if f.severity == "fault"]
    if faults:
        each = ", ".join(f"{fault.id} on {fault.host}" for fault in faults)
        return f"{len(faults)} fault{'s' * (len(faults) > 1)}: {each}"
    if silent:
        return f"nothing found, but not all could be judged: {'; '.join(silent)}"
    if any(f.id == "reading.inconclusive" for f in findings):
        return "nothing found, but the readings are inconclusive"
    judged = ", ".join(hosts) or "what was given"
    warnings = sum(f.severity == "warning" for f in findings)
    beside = f", {warnings} warning{'s' * (warnings > 1)}" if warnings else ""
    return f"no fault found on {judged}{beside}"


def _plain(text: str) -> Text:
    """Text of a stranger's file: no markup, and nothing that a terminal would act on."""
    return Text("".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text))


def _rows(f: HostFacts) -> Iterator[tuple[str, str]]:
    recorded = f != HostFacts(nccl_logs=f.nccl_logs)
    if recorded:
        machine = ", ".join(part for part in (f.product, f.bios and f"BIOS {f.bios}") if part)
        yield "machine", machine or UNKNOWN
        yield "platform", f.platform or "none that roofprobe knows"
        yield "CPU", f.cpu or UNKNOWN
        yield "GPU", f"{f.gpu or UNKNOWN}, driver {f.driver or UNKNOWN}, CUDA {f.cuda or UNKNOWN}"
        yield "software", f"torch {f.torch or UNKNOWN}, Triton {f.triton or UNKNOWN}, NCCL {f.nccl_loaded or UNKNOWN}"
        knows = {True: "knows GB10's sm_121", False: "does NOT know GB10's sm_121", None: "unknown whether for GB10"}
        yield "Triton's ptxas", f"{f.ptxas}, {knows[f.ptxas_knows_sm_121]}" if f.ptxas else UNKNOWN
        yield "memory", UNKNOWN if f.memory is None else _memory(f.memory)
        yield from _link_rows(f)
        yield from _container_rows(f)
        yield "NCCL settings", ", ".join(f"{k}={v}" for k, v in f.nccl_environment.items()) or "none"
    for log in f.nccl_logs:
        rank = UNKNOWN if log.rank is None else f"{log.rank} of {log.ranks}"
        devices = f" on {', '.join(log.devices)}" if log.devices else ""
        text = f"rank {rank}: NCCL {log.nccl or UNKNOWN}, network {log.network or UNKNOWN}{devices}"
        yield f"log of pid {log.pid}", text + "".join(f", {k}={v}" for k, v in log.environment.items())


def _link_rows(f: HostFacts) -> Iterator[tuple[str, str]]:
    if f.nics is None:
        yield "ConnectX", "unknown: the PCI bus was not recorded"
    elif not f.nics:
        yield "ConnectX", "no function on the PCI bus (on GB10: no cable is plugged in)"
    for nic in f.nics or ():
        pcie = _pcie(nic.speed, nic.width, nic.max_speed, nic.max_width)
        yield "ConnectX", f"{nic.pci_address} {nic.model or 'of an unknown model'}, {pcie}"
    if not f.rdma_devices:
        yield "RDMA devices", "none"
    for device in f.rdma_devices:
        yield device.name, _device(device)
        for port in device.ports:
            yield f"  port {port.number}", _port(port)
    for each in f.interfaces:
        yield each.name, _interface(each)


def _container_rows(f: HostFacts) -> Iterator[tuple[str, str]]:
    if f.container is None:
        return
    c = f.container
    nodes = UNKNOWN if c.infiniband_nodes is None else ", ".join(c.infiniband_nodes) or "none"
    locked = size_text(c.memlock_bytes) if isinstance(c.memlock_bytes, int) else c.memlock_bytes or UNKNOWN
    limit = "no limit" if c.memory_limit_bytes is None else f"limit {size_text(c.memory_limit_bytes)}"
    yield "container", f"{c.kind or 'none seen'}; memlock {locked}; cgroup memory {limit}; /dev/infiniband: {nodes}"


def _memory(m: MemoryFacts) -> str:
    def size(n_bytes: int | None) -> str:
        return UNKNOWN if n_bytes is None else size_text(n_bytes)

    huge = UNKNOWN if m.hugepages_total is None else f"{m.hugepages_total} of {size(m.hugepage_bytes)}"
    return (
        f"{size(m.total_bytes)}, available {size(m.available_bytes)}, page cache {size(m.page_cache_bytes)},"
        f" swap {size(m.swap_total_bytes)}, of which free {size(m.swap_free_bytes)}, huge pages {huge}"
    )


def _pcie(speed: str | None, width: int | None, max_speed: str | None, max_width: int | None) -> str:
    now = f"{speed or 'PCIe unknown'} x{width or '?'}"
    most = f"{max_speed or '?'} x{max_width or '?'}"
    return now if now == most or not (max_speed or max_width) else f"{now} (at most {most})"


def _device(d: DeviceFacts) -> str:
    pcie = _pcie(d.pcie_speed, d.pcie_width, d.pcie_max_speed, d.pcie_max_width)
    half = f", other half {d.other_half}" if d.other_half else ""
    return (
        f"at {d.pci_address or UNKNOWN}{half}, netdev {', '.join(d.netdevs) or UNKNOWN},"
        f" firmware {d.firmware or UNKNOWN}, {pcie}"
    )


def _port(p: PortFacts) -> str:
    rate = "" if p.rate_gbit_per_s is None or p.state != "ACTIVE" else f" {p.rate_gbit_per_s:g} Gb/s"
    gids = ", ".join(f"{g.index} {g.type or UNKNOWN} over {g.ipv4 or g.over}" for g in p.gids) or "none"
    counted = ", ".join(f"{name} {value}" for name, value in p.counters.items() if value) or "nothing of note"
    layer = p.link_layer or "link layer unknown"
    return f"{p.state or UNKNOWN}, {p.physical_state or UNKNOWN}{rate}, {layer}; GIDs: {gids}; counted: {counted}"


def _interface(i: InterfaceFacts) -> str:
    carrier = {True: "carrier", False: "no carrier", None: "carrier unknown"}[i.carrier]
    speed = "speed unknown" if i.speed_gbit_per_s is None else f"{i.speed_gbit_per_s:g} Gb/s"
    where = ", ".join(i.addresses or i.subnets) or "no IPv4 address"
    return f"{i.state or UNKNOWN}, {carrier}, {speed}, MTU {i.mtu or UNKNOWN}, {where}"
