"""Synthetic hosts for the doctor's rules: GB10 clusters as they are built, and machines that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gb10_tree import Half, cabled, changed, unit_entries
import msgspec

from roofprobe.ceiling import find_platform
from roofprobe.doctor.case import Case
from roofprobe.doctor.diagnosis import diagnose
from roofprobe.doctor.host import Host, Software, look
from roofprobe.finding import Finding
from roofprobe.recording import Entry, RecordedTree, open_tree

SOFT_ROCE = Path(__file__).resolve().parent / "recordings" / "softroce.json"
BOTH_HALVES = {"NCCL_SOCKET_IFNAME": "enP7s7", "NCCL_IB_HCA": "rocep1s0f0,roceP2p1s0f0", "NCCL_IB_GID_INDEX": "3"}
H100 = "NVIDIA H100 80GB HBM3"
Entries = dict[str, Any]


def host(name: str, entries: Entries, before: Entries | None = None, gpu: str | None = "NVIDIA GB10") -> Host:
    """A recording as the doctor sees it. Without a GPU's name nothing but its link says what it is."""
    software = Software(gpu=gpu)
    platform = find_platform(gpu, None)
    return look(name, tree(entries), software, platform, before=None if before is None else tree(before))


def tree(entries: Entries) -> RecordedTree:
    return RecordedTree({path: msgspec.convert(entry, Entry) for path, entry in entries.items()})


def unit(node: int, halves: tuple[Half, ...] = cabled(0), **changes: Any) -> Host:
    """spark1 for node 1, with what `unit_entries` takes."""
    return host(f"spark{node}", unit_entries(node, halves, **changes))


def units(*halves: tuple[Half, ...], **changes: Any) -> tuple[Host, ...]:
    """One unit for each set of halves."""
    return tuple(unit(number, each, **changes) for number, each in enumerate(halves, start=1))


def found(*hosts: Host) -> tuple[Finding, ...]:
    return diagnose(Case(hosts=hosts))


def faults(*hosts: Host) -> list[tuple[str, str]]:
    """Id and host of every fault."""
    return [(each.id, each.host) for each in found(*hosts) if each.severity == "fault"]


def soft_roce() -> Host:
    """The real recording."""
    return look("softroce", open_tree(SOFT_ROCE), Software(), None)


def h100(node: int, up: int = 8, settings: dict[str, str] | None = None) -> Host:
    entries = h100_entries(up)
    if settings:
        entries["/etc/nccl.conf"] = {"data": "\n".join(f"{name}={value}" for name, value in settings.items())}
    return host(f"node{node}", entries, gpu=H100)


def h100_entries(up: int) -> Entries:
    """A server with eight InfiniBand adapters, `up` of them with a cable, on a board that gives two 8 lanes."""
    entries: Entries = {"/dev/null": {"dir": 1}, "/dev/infiniband/uverbs0": {"dir": 1}}
    for number in range(8):
        at = f"/sys/class/infiniband/mlx5_{number}"
        linked = number < up
        entries |= {
            f"{at}/device": {"link": f"../../../0000:{16 * number + 8:02x}:00.0"},
            f"{at}/device/current_link_speed": {"data": "32.0 GT/s PCIe\n"},
            f"{at}/device/current_link_width": {"data": "8\n" if number > 5 else "16\n"},
            f"{at}/device/max_link_speed": {"data": "32.0 GT/s PCIe\n"},
            f"{at}/device/max_link_width": {"data": "16\n"},
            f"{at}/device/net/ibs{number}": {"dir": 1},
            f"{at}/fw_ver": {"data": "28.39.1002\n" if number < 4 else "28.38.1900\n"},
            f"{at}/ports/1/state": {"data": "4: ACTIVE\n" if linked else "1: DOWN\n"},
            f"{at}/ports/1/phys_state": {"data": "5: LinkUp\n" if linked else "2: Polling\n"},
            f"{at}/ports/1/rate": {"data": "400 Gb/sec (4X NDR)\n" if linked else "10 Gb/sec (4X SDR)\n"},
            f"{at}/ports/1/link_layer": {"data": "InfiniBand\n"},
            f"{at}/ports/1/gids/0": {"data": "fe80:0000:0000:0000:0000:00ff:fe00:0001\n"},
            f"{at}/ports/1/gid_attrs/types/0": {"data": "IB/RoCE v1\n"},
            f"{at}/ports/1/counters/port_xmit_data": {"data": f"{number * 10**9}\n"},
            f"{at}/ports/1/counters/port_rcv_data": {"data": f"{number * 10**9}\n"},
            f"{at}/ports/1/counters/link_downed": {"data": "0\n"},
            f"/sys/class/net/ibs{number}/operstate": {"data": "up\n" if linked else "down\n"},
            f"/sys/class/net/ibs{number}/mtu": {"data": "2044\n" if number else "4092\n"},
        }
    return entries


def workstation() -> Host:
    """A machine that nothing names, with a ConnectX adapter at the address that one of GB10's has."""
    halves = changed(tuple(half for half in cabled(0) if half.pci.startswith("0000")), mtu=1500, pcie_width=2, rate=25)
    return host("desk", unit_entries(1, halves), gpu=None)


def laptop() -> Host:
    return host("laptop", {
        "/sys/class/net/lo/operstate": {"data": "unknown\n"},
        "/sys/class/net/wlan0/operstate": {"data": "up\n"},
        "/sys/class/net/wlan0/mtu": {"data": "1500\n"},
        "/dev/null": {"dir": 1},
        "/proc/self/limits": {"data": "Max locked memory         65536      65536      bytes\n"},
    }, gpu="NVIDIA GeForce RTX 4070 Laptop GPU")  # fmt: skip


PINNED = {"settings": BOTH_HALVES}
NO_SECOND_PORT = {"NCCL_IB_HCA": "^rocep1s0f1,roceP2p1s0f1"}
OVER_THE_CABLE = {"NCCL_SOCKET_IFNAME": "=enp1s0f0np0"}
ALL_ADAPTERS = {"NCCL_IB_HCA": "mlx5", "NCCL_IB_GID_INDEX": "3"}
RING = cabled(0, 1)
RING_SETTINGS = {"NCCL_IB_HCA": "=rocep1s0f0:1,roceP2p1s0f0:1,rocep1s0f1:1,roceP2p1s0f1:1", "NCCL_IB_MERGE_NICS": "0"}

CLEAN: dict[str, tuple[Host, ...]] = {
    "a unit without a cable": units(()),
    "a unit without a cable whose settings wait for one": units((), **PINNED),
    "a unit with a cable in port 0": units(cabled(0)),
    "a unit with a cable in port 1": units(cabled(1)),
    "a unit with two cables": units(RING),
    "a pair, port 0 to port 0": units(cabled(0), cabled(0)),
    "a pair, port 0 to port 1": units(cabled(0), cabled(1)),
    "a pair with settings": units(cabled(0), cabled(0), **PINNED),
    "a pair that excludes the empty port": units(cabled(0), cabled(0), settings=NO_SECOND_PORT),
    "a pair with a prefix for all": units(cabled(1), cabled(1), settings={"NCCL_IB_HCA": "roce"}),
    "a pair that excludes interfaces": units(cabled(0), cabled(0), settings={"NCCL_SOCKET_IFNAME": "^docker,lo"}),
    "a pair that bootstraps over the cable": units(cabled(0), cabled(0), settings=OVER_THE_CABLE),
    "a pair with two cables": units(RING, RING),
    "a pair without a cable": units((), ()),
    "a pair that nothing names": tuple(host(f"spark{n}", unit_entries(n), gpu=None) for n in (1, 2)),
    "a ring of three": units(RING, RING, RING, settings=RING_SETTINGS),
    "a ring of three without settings": units(RING, RING, RING),
    "three on a switch": units(cabled(0), cabled(0), cabled(1)),
    "four on a switch": units(*[cabled(0)] * 4, **PINNED),
    "four on a switch, other ports": units(cabled(0), cabled(1), cabled(0), cabled(1)),
    "four in a ring": units(*[RING] * 4, settings=RING_SETTINGS),
    "containers with devices and memory": units(cabled(0), cabled(0), locked_memory=None, verbs=True),
    "containers with enough memory": units(cabled(0), cabled(0), locked_memory=64 << 20),
    "a container without a cable": units((), verbs=False, locked_memory=65536),
    "a pair after traffic": units(*[changed(cabled(0), words=(10**12, 10**12))] * 2),
    "a pair whose halves are not quite alike": units(*[changed(cabled(0), "rocep1s0f0", words=(10**8, 10**7))] * 2),
    "a real Soft-RoCE device": (soft_roce(),),
    "two Soft-RoCE hosts": (soft_roce(), soft_roce()),
    "an InfiniBand server": (h100(1),),
    "an InfiniBand server with free ports": (h100(1, up=6),),
    "an InfiniBand cluster": tuple(map(h100, (1, 2, 3, 4))),
    "an InfiniBand cluster with settings": tuple(h100(n, settings=ALL_ADAPTERS) for n in (1, 2)),
    "a workstation": (workstation(),),
    "a laptop": (laptop(),),
    "a laptop beside a unit": (laptop(), unit(1)),
}  # fmt: skip
"""Nothing is wrong with any of these."""
