"""What `roofprobe launch` and its agent on a host say to each other: JSON lines over ssh's stdin and stdout.

    agent     Facts           what this host is and has, once torch is imported
    launcher  Ping            any number of times; the agent answers with a Pong
    launcher  Start           the agent starts torchrun; from then on its output is torchrun's, and nothing is JSON

The agent ends torchrun when its stdin ends, so that nothing outlives a launcher that was killed.
"""

from __future__ import annotations

import msgspec


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """One IPv4 address of a host."""

    interface: str
    address: str
    """With the length of its network's prefix: ``192.168.100.1/24``."""
    megabits_per_s: int
    """As the driver tells; 0 where it does not."""
    rdma: bool
    """Whether the interface belongs to an RDMA device."""


class Facts(msgspec.Struct, frozen=True, kw_only=True, tag="facts"):
    """A host, as far as its ranks depend on it; no more is ever sent."""

    hostname: str
    python: str
    roofprobe: str
    torch: str
    nccl: str | None
    """As loaded; None without a CUDA GPU."""
    gpus: int
    memory_available_bytes: int
    addresses: tuple[Address, ...]


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    pass


class Pong(msgspec.Struct, frozen=True, kw_only=True, tag="pong"):
    time_seconds: float
    """Since the epoch, by the host's clock."""


class Start(msgspec.Struct, frozen=True, kw_only=True, tag="start"):
    arguments: tuple[str, ...]
    """torchrun's."""
    environment: dict[str, str]
    """Added to the agent's own."""


FromAgent = Facts | Pong
FromLauncher = Ping | Start


def line(message: FromAgent | FromLauncher) -> bytes:
    return msgspec.json.encode(message) + b"\n"
