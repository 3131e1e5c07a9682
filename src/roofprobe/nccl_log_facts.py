"""What a line of NCCL's log can say, each kind as a struct; `nccl_log.py` reads them."""

from __future__ import annotations

from typing import Literal

import msgspec

Direction = Literal["send", "receive"]


class Source(msgspec.Struct, frozen=True):
    """Who wrote a line: the prefix ``host:pid:tid [device]``."""

    host: str
    pid: int
    device: int


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """What one line says. `source` is None for the version line alone, which may have no prefix."""

    source: Source | None


class Version(Fact, frozen=True, kw_only=True):
    version: str
    cuda: str | None


class NicsFound(Fact, frozen=True, kw_only=True):
    """The list that one network plugin found; empty where it found none."""

    plugin: str
    """``IB`` or ``Socket``."""
    nics: tuple[tuple[str, ...], ...]
    """In order of NCCL's numbers: the devices of each, several where it merged them when it listed them."""
    layer: str | None
    """``RoCE`` or ``IB``."""


class NicMerged(Fact, frozen=True, kw_only=True):
    """A virtual NIC of several devices, made after the list."""

    index: int
    devices: tuple[str, ...]


class NetworkChosen(Fact, frozen=True, kw_only=True):
    """``IB``, ``Socket``, or a plugin's name."""

    network: str


class Connection(Fact, frozen=True, kw_only=True):
    """One channel between two ranks."""

    channel: int
    sender: int
    receiver: int
    direction: Direction | None
    """Which end wrote the line; None for those that are written once."""
    kind: Literal["NET", "P2P", "SHM"]
    detail: str
    """The network's name for NET; ``CUMEM``, ``IPC``, ``direct pointer`` …, ``direct`` for the others."""
    nic: int | None
    """NCCL's number of the network device."""
    gpu_direct: bool


class InitStarted(Fact, frozen=True, kw_only=True):
    rank: int
    ranks: int
    communicator: str
    """The id that its ranks share, and for one that was split off, which has none, its address in this process."""


class InitCompleted(Fact, frozen=True, kw_only=True):
    rank: int
    ranks: int
    communicator: str


class NodesCounted(Fact, frozen=True, kw_only=True):
    """How many hosts a communicator spans, as NCCL counts them; known from 2.19 on."""

    nodes: int


class EnvironmentSet(Fact, frozen=True, kw_only=True):
    name: str
    value: str


class BootstrapOver(Fact, frozen=True, kw_only=True):
    interface: str


class GpuDirect(Fact, frozen=True, kw_only=True):
    """Whether a NIC can reach the GPU's memory itself; on GB10 none can."""

    device: str
    enabled: bool


class Warned(Fact, frozen=True, kw_only=True):
    """A line at level WARN, whatever it says, or one at INFO that explains what is wrong."""

    where: str
    text: str
