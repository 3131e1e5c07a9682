"""One thing broken on one host of a cluster: that fault, on that host, and no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gb10_hosts import BOTH_HALVES, RING, RING_SETTINGS, faults, unit
from gb10_tree import Half, cabled, changed
import pytest

FIRST, SECOND = "rocep1s0f0", "roceP2p1s0f0"


@dataclass(frozen=True)
class Fault:
    id: str
    halves: Callable[[tuple[Half, ...]], tuple[Half, ...]] = lambda halves: halves
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    alone: bool = True
    """Whether a unit shows it without a peer."""


def all_off_the_bus(_: tuple[Half, ...]) -> tuple[Half, ...]:
    return ()


def one_off_the_bus(halves: tuple[Half, ...]) -> tuple[Half, ...]:
    return tuple(half for half in halves if half.device != SECOND)


FAULTS = {
    "a half down": Fault("link.port-down", lambda h: changed(h, SECOND, up=False)),
    "the other half down": Fault("link.port-down", lambda h: changed(h, FIRST, up=False)),
    "100G": Fault("link.port-slow", lambda h: changed(h, FIRST, SECOND, rate=100)),
    "two lanes": Fault("link.pcie-narrow", lambda h: changed(h, SECOND, pcie_width=2)),
    "no address": Fault("link.gid-wrong", lambda h: changed(h, SECOND, address=False)),
    "another GID index": Fault("link.gid-wrong", settings={"NCCL_IB_GID_INDEX": "2"}),
    "no such interface": Fault("link.interface-wrong", settings={"NCCL_SOCKET_IFNAME": "eth0"}),
    "no such device": Fault("link.interface-wrong", settings={"NCCL_IB_HCA": "mlx5"}),
    "one subnet": Fault("link.halves-one-subnet", lambda h: changed(h, FIRST, SECOND, subnet=9)),
    "one half taken": Fault("link.one-half", settings={"NCCL_IB_HCA": f"^{SECOND}"}),
    "one half moves": Fault("link.one-half", lambda h: changed(h, SECOND, words=(10**10, 10**10))),
    "no functions": Fault("link.nic-asymmetry", all_off_the_bus, alone=False),
    "a function missing": Fault("link.nic-asymmetry", one_off_the_bus, alone=False),
    "another MTU": Fault("link.mtu-mismatch", lambda h: changed(h, mtu=1500), alone=False),
    "another MTU on one half": Fault("link.mtu-mismatch", lambda h: changed(h, FIRST, mtu=1500)),
    "a flapping link": Fault("link.flapping", lambda h: changed(h, FIRST, SECOND, counters={"link_downed": 5000})),
    "no devices": Fault("link.socket-fallback", options={"verbs": False}),
    "no locked memory": Fault("link.socket-fallback", options={"locked_memory": 65536}),
}
CLUSTERS = {
    "unit": ((cabled(0),), {}),
    "pair": ((cabled(0),) * 2, {}),
    "pinned pair": ((cabled(0),) * 2, BOTH_HALVES),
    "crossed pair": ((cabled(0), cabled(1)), {}),
    "ring": ((RING,) * 3, RING_SETTINGS),
    "switch": ((cabled(0),) * 4, BOTH_HALVES),
}


@pytest.mark.parametrize(
    ("name", "cluster"),
    [(name, cluster) for name, fault in FAULTS.items() for cluster in CLUSTERS if fault.alone or cluster != "unit"],
)
def test_it_is_named_once(name: str, cluster: str) -> None:
    fault = FAULTS[name]
    nodes, settings = CLUSTERS[cluster]
    # The first host of the crossed pair has its cable in port 0, which is the one that is broken here.
    for broken in (1,) if cluster == "crossed pair" else (1, len(nodes)):
        hosts = [
            unit(number, fault.halves(halves), settings={**settings, **fault.settings}, **fault.options)
            if number == broken
            else unit(number, halves, settings=settings)
            for number, halves in enumerate(nodes, start=1)
        ]
        assert faults(*hosts) == [(fault.id, f"spark{broken}")]
