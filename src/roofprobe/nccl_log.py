"""Reads NCCL's own log, line by line, into typed facts.

NCCL writes such lines with NCCL_DEBUG=INFO, and their wording moved a little from release to release; known here are
those of 2.18 to 2.30. Whatever a launcher puts before a line (a rank, a time) is passed over, and a line that says
nothing known is skipped, so any mixture of programs' output can be read, of any length.

Two traps. From 2.25 on, `NET/IB : Using` is printed with an empty list after `No device found.`. And a connection's
device number counts NCCL's own devices, merged ones included; see `nccl_log_summary.py` for whose it is.

Source: NCCL, src/debug.cc, src/init.cc, src/bootstrap.cc, src/transport/{net,net_ib,net_socket,p2p,shm}.cc and, from
2.29, src/transport/net_ib/init.cc, at v2.18.3 to v2.30.7.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import re
from typing import BinaryIO

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

MAX_LINE_BYTES = 8192
"""NCCL cuts its own lines at 1 KiB, and a list of devices at 2 KiB."""

_PREFIX = re.compile(
    r"(?:^|[\s>:|\]])(?P<host>[^\s:>|\]\[]{1,255}):(?P<pid>\d{1,10}):\d{1,10} \[(?P<device>-?\d{1,4})\] "
    r"(?:(?P<where>\S{1,200}:\d{1,6})(?: \(\S{1,200}\))? )?NCCL (?P<level>INFO|WARN) (?P<text>.*)$"
)
_VERSION = re.compile(r"NCCL version (\d+\.\d+\.\d+)\S*?(?:\+cuda(\d+\.\d+))?\b")
_LISTED = re.compile(r"NET/(IB|Socket) : Using(.*)$")
_MERGED_IN_LIST = r"\[\d+\]=\{([^}]*)\}"
_LISTED_NIC = re.compile(_MERGED_IN_LIST + r"|\[\d+\] ?(\S+)")
_IB_NAME = re.compile(r"([^\s:]+)((?::\d*)+)/(RoCE|IB)")
_MERGED = re.compile(r"NET/IB : Made virtual device \[(\d{1,4})\] name=(\S+) ")
_CONNECTION = re.compile(
    r"Channel (\d{1,4})(?:/\d+)? : (\d{1,7})\[-?[0-9a-f]+\] -> (\d{1,7})\[-?[0-9a-f]+\](?: \[(send|receive)\])?"
    r" via (NET|P2P|SHM)/(.+)$"
)
_NET = re.compile(r"(.+?)/(\d{1,4})(?:\(\d+\))?((?:/GDRDMA(?:\(PCI\))?|/Shared)*)$")
_INIT = re.compile(
    r"comm \S+ rank (\d{1,7}) nranks (\d{1,7}) .*?(?:commId (0x[0-9a-f]+)|key -?\d+) ?- Init (START|COMPLETE)"
)
_ENVIRONMENT = re.compile(r"(?:Comm config \S+ reset to )?(NCCL_[A-Z0-9_]+)(?: set (?:by environment )?to |=)(.*?)\.?$")
_BOOTSTRAP = re.compile(r"Bootstrap ?: Using (?:\[0\])?([^\s:]+):")
_GPU_DIRECT = re.compile(r"NET/.{1,64}? : GPU Direct RDMA (Enabled|Disabled) for HCA \d+ '([^']+)'")


def read_log(lines: Iterable[bytes]) -> Iterator[Fact]:
    """The facts of a log in order, one line in memory at a time. Iterate `lines_of(file)` for a file."""
    for line in lines:
        # Nearly every line of a long log is another program's, or a collective's call: passing over those without a
        # look at their prefix reads 1 GB in seconds instead of minutes.
        if b"NCCL" in line and b": opCount " not in line:
            found = read_line(line.decode(errors="replace").rstrip("\r\n"))
            if found is not None:
                yield found


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """A file's lines, cut at MAX_LINE_BYTES: a file without a line's end is not read into memory."""
    while line := file.readline(MAX_LINE_BYTES):
        yield line


def read_line(line: str) -> Fact | None:
    """What one line says, or None."""
    prefixed = _PREFIX.search(line)
    if prefixed is None:
        version = _VERSION.search(line)
        return None if version is None else Version(source=None, version=version[1], cuda=version[2])
    source = Source(prefixed["host"], int(prefixed["pid"]), int(prefixed["device"]))
    text = prefixed["text"]
    if prefixed["level"] == "WARN":
        return Warned(source=source, where=prefixed["where"] or "", text=text)
    for read in _READERS:
        found = read(source, text)
        if found is not None:
            return found
    return None


def _version(source: Source, text: str) -> Fact | None:
    found = _VERSION.match(text)
    return None if found is None else Version(source=source, version=found[1], cuda=found[2])


def _nics(source: Source, text: str) -> Fact | None:
    if text.startswith("NET/IB : No device found."):
        return NicsFound(source=source, plugin="IB", nics=(), layer=None)
    listed = _LISTED.match(text)
    if listed is None:
        return None
    plugin, rest = listed[1], listed[2].partition(";")[0]
    nics = []
    layers = []
    for together, alone in _LISTED_NIC.findall(rest):
        if plugin == "Socket":
            nics.append((alone.partition(":")[0],))
            continue
        named = _IB_NAME.findall(together or alone)
        if named:
            nics.append(tuple(name for name, _, _ in named))
            layers += [layer for _, _, layer in named]
    return NicsFound(source=source, plugin=plugin, nics=tuple(nics), layer=layers[0] if layers else None)


def _merged(source: Source, text: str) -> Fact | None:
    found = _MERGED.match(text)
    return None if found is None else NicMerged(source=source, index=int(found[1]), devices=tuple(found[2].split("+")))


def _network(source: Source, text: str) -> Fact | None:
    name = text.removeprefix("Using network ")
    return None if name == text else NetworkChosen(source=source, network=name.strip())


def _connection(source: Source, text: str) -> Fact | None:
    found = _CONNECTION.match(text)
    if found is None:
        return None
    channel, sender, receiver, direction, kind, rest = found.groups()
    nic, gpu_direct = None, False
    if kind == "NET":
        net = _NET.match(rest)
        if net is None:
            return None
        rest, nic, gpu_direct = net[1], int(net[2]), "/GDRDMA" in net[3]
    return Connection(
        source=source,
        channel=int(channel),
        sender=int(sender),
        receiver=int(receiver),
        direction="send" if direction == "send" else "receive" if direction else None,
        kind="NET" if kind == "NET" else "P2P" if kind == "P2P" else "SHM",
        detail=rest,
        nic=nic,
        gpu_direct=gpu_direct,
    )


def _init(source: Source, text: str) -> Fact | None:
    found = _INIT.search(text)
    if found is None:
        return None
    what = InitStarted if found[4] == "START" else InitCompleted
    return what(source=source, rank=int(found[1]), ranks=int(found[2]), communicator=found[3] or "")


def _environment(source: Source, text: str) -> Fact | None:
    found = _ENVIRONMENT.match(text)
    return None if found is None else EnvironmentSet(source=source, name=found[1], value=found[2])


def _bootstrap(source: Source, text: str) -> Fact | None:
    found = _BOOTSTRAP.match(text)
    return None if found is None else BootstrapOver(source=source, interface=found[1])


def _gpu_direct(source: Source, text: str) -> Fact | None:
    found = _GPU_DIRECT.match(text)
    return None if found is None else GpuDirect(source=source, device=found[2], enabled=found[1] == "Enabled")


_READERS = (_connection, _nics, _merged, _network, _init, _environment, _bootstrap, _gpu_direct, _version)
