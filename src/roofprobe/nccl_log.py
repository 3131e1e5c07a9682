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
from functools import lru_cache
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
    NodesCounted,
    Source,
    Version,
    Warned,
)

MAX_LINE_BYTES = 8192
"""NCCL cuts its own lines at 1 KiB, and a list of devices at 2 KiB."""
_CHUNK_BYTES = 1 << 18
_SHORTEST_BYTES = 16
"""``NCCL version 2.2`` is as long."""

_HEAD = re.compile(rb"[^\s:>|\]\[]{1,255}:\d{1,10}:\d{1,10} \[-?\d{1,4}\] ")
_LEVEL = re.compile(r" NCCL (INFO|WARN) +")
_PREFIX = re.compile(
    r"(?:^|[\s>:|\]])(?P<host>[^\s:>|\]\[]{1,255}):(?P<pid>\d{1,10}):\d{1,10} \[(?P<device>-?\d{1,4})\]"
    r"(?: (?P<where>\S{1,200}:\d{1,6})(?: \(\S{1,200}\))?)?$"
)
COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
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
    r"(?:\[Rank \d+\] )?(?:nccl\w+ )?comm (\S+) rank (\d{1,7}) nranks (\d{1,7}) .*?"
    r"(?:commId (0x[0-9a-f]+)|key -?\d+)? ?- Init (START|COMPLETE)"
)
_NODES = re.compile(r"comm \S+ rank \d+ nRanks \d+ nNodes (\d{1,7}) ")
_ENVIRONMENT = re.compile(r"(?:Comm config \S+ reset to )?(NCCL_[A-Z0-9_]+)(?: set (?:by environment )?to |=)(.*?)\.?$")
_BOOTSTRAP = re.compile(r"Bootstrap ?: Using (?:\[0\])?([^\s:]+):")
_GPU_DIRECT = re.compile(r"NET/.{1,64}? : GPU Direct RDMA (Enabled|Disabled) for HCA \d+ '([^']+)'")


def read_log(lines: Iterable[bytes]) -> Iterator[Fact]:
    """The facts of a log in order, one line in memory at a time. Iterate `lines_of(file)` for a file."""
    for line in lines:
        # Nearly every line of a long log is another program's, or a collective's call: passing over those without a
        # look at their prefix reads 1 GB in seconds instead of minutes.
        if b"NCCL" in line and b": opCount " not in line:
            for part in (line,) if line.count(b" NCCL ") < 2 else _parts(line):
                found = _read(part)
                if found is not None:
                    yield found


def _parts(line: bytes) -> Iterator[bytes]:
    """What several processes, or a process twice, wrote into one line: each from its own prefix to the next one's end,
    since nothing tells where a text ends and the name of the host that follows begins."""
    heads = list(_HEAD.finditer(line))
    stops = [head.end() for head in heads[1:]]
    yield line[: stops[0]] if stops else line
    for head, stop in zip(heads[1:], [*stops[1:], len(line)]):
        yield line[head.start() : stop]


@lru_cache(maxsize=4096)
def _read(line: bytes) -> Fact | None:
    """A long log says the same again and again, for each communicator and each attempt."""
    return read_line(line.decode(errors="replace").rstrip("\r\n"))


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """A file's lines, cut at MAX_LINE_BYTES: a file without a line's end is not read into memory.

    Lines too short to say anything are left out; 1 GB may hold a thousand million of them.
    """
    rest = b""
    while chunk := file.read(_CHUNK_BYTES):
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        for line in lines:
            if len(line) >= _SHORTEST_BYTES:
                yield from _cut(line)
        if len(rest) >= MAX_LINE_BYTES:
            yield from _cut(rest)
            rest = b""
    yield from _cut(rest)


def _cut(line: bytes) -> Iterable[bytes]:
    if len(line) <= MAX_LINE_BYTES:
        return (line,)
    return (line[at : at + MAX_LINE_BYTES] for at in range(0, len(line), MAX_LINE_BYTES))


def read_line(line: str) -> Fact | None:
    """What one line says, or None."""
    if "\x1b" in line:
        line = COLOUR.sub("", line)
    level = _LEVEL.search(line)
    prefixed = None if level is None else _prefix(line[: level.start()])
    if level is None or prefixed is None:
        version = _VERSION.search(line)
        return None if version is None else Version(source=None, version=version[1], cuda=version[2])
    source, where = prefixed
    text = line[level.end() :]
    if level[1] == "WARN" or text.startswith(_EXPLAINS):
        return Warned(source=source, where=where, text=text)
    for read in _READERS.get(text[:4], ()):
        found = read(source, text)
        if found is not None:
            return found
    return None


@lru_cache(maxsize=4096)
def _prefix(head: str) -> tuple[Source, str] | None:
    """Who writes, and where in NCCL; few heads make most lines, and matching them is the larger part of the work."""
    found = _PREFIX.search(head)
    if found is None:
        return None
    return Source(found["host"], int(found["pid"]), int(found["device"])), found["where"] or ""


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
    found = _INIT.match(text)
    if found is None:
        nodes = _NODES.match(text)
        return None if nodes is None else NodesCounted(source=source, nodes=int(nodes[1]))
    address, rank, ranks, communicator, end = found.groups()
    what = InitStarted if end == "START" else InitCompleted
    return what(source=source, rank=int(rank), ranks=int(ranks), communicator=communicator or f"comm {address}")


def _environment(source: Source, text: str) -> Fact | None:
    found = _ENVIRONMENT.match(text)
    return None if found is None else EnvironmentSet(source=source, name=found[1], value=found[2])


def _bootstrap(source: Source, text: str) -> Fact | None:
    found = _BOOTSTRAP.match(text)
    return None if found is None else BootstrapOver(source=source, interface=found[1])


def _gpu_direct(source: Source, text: str) -> Fact | None:
    found = _GPU_DIRECT.match(text)
    return None if found is None else GpuDirect(source=source, device=found[2], enabled=found[1] == "Enabled")


_READERS = {
    "Chan": (_connection,),
    "NET/": (_nics, _merged, _gpu_direct),
    "Usin": (_network,),
    "NCCL": (_environment, _version),
    "Comm": (_environment,),
    "comm": (_init,),
    "nccl": (_init,),
    "[Ran": (_init,),
    "Boot": (_bootstrap,),
}
"""By a text's first letters, which spares nearly every line of a long log all but one look."""
_EXPLAINS = (
    "HINT: ",
    "Detected mixed local Net device counts",
    "Call to ibv_modify_qp failed",
    "Call to connect returned",
)
"""Lines at level INFO that say what is wrong."""
