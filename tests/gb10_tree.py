"""Synthetic recordings of GB10 units, generated from what is known of the machine; no real unit was recorded.

One ConnectX-7 with two QSFP ports, each in two halves, which are functions of two PCI domains. Names, rates and the
state of a port without a cable are as GB10 units show them; counters, addresses and versions are made up.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
import json
from pathlib import Path
from typing import Any

from roofprobe.recording import open_tree
from roofprobe.tree import Tree

RDMA = "/sys/class/infiniband"
GID_ENTRIES = 8
INVALID = {"errno": 22, "err": "Invalid argument"}


@dataclass(frozen=True)
class Half:
    """One PCI function, and what one may want to change of it."""

    device: str
    netdev: str
    pci: str
    subnet: int
    up: bool = True
    rate: int = 200
    """Gb/s of the port and its interface while it is up."""
    mtu: int = 9000
    pcie_speed: str = "32.0 GT/s PCIe"
    pcie_width: int = 4
    firmware: str = "28.45.4028"
    address: bool = True
    """Whether the interface has an IPv4 address, and so the port a GID for it."""
    words: tuple[int, int] = (250, 125)
    """port_xmit_data and port_rcv_data, in words of 4 bytes."""
    counters: dict[str, int] = field(default_factory=dict)
    """Others, each in counters/ or hw_counters/ by its name."""


HALVES = (
    Half("rocep1s0f0", "enp1s0f0np0", "0000:01:00.0", 1),
    Half("rocep1s0f1", "enp1s0f1np1", "0000:01:00.1", 3, up=False),
    Half("roceP2p1s0f0", "enP2p1s0f0np0", "0002:01:00.0", 2),
    Half("roceP2p1s0f1", "enP2p1s0f1np1", "0002:01:00.1", 4, up=False),
)
"""One cable, in port 0."""

PORT_COUNTERS = ("link_downed", "link_error_recovery", "symbol_error")


def cabled(*ports: int) -> tuple[Half, ...]:
    """The halves of a unit with cables in these ports; without any, the functions leave the PCI bus."""
    return tuple(replace(half, up=int(half.pci[-1]) in ports) for half in HALVES) if ports else ()


def changed(halves: tuple[Half, ...], *devices: str, **fields: Any) -> tuple[Half, ...]:
    """The halves with these fields in the named devices, or in all of them where none is named."""
    assert set(devices) <= {half.device for half in halves}
    return tuple(replace(half, **fields) if half.device in devices or not devices else half for half in halves)


def gb10_entries(node: int, halves: tuple[Half, ...] = HALVES, management: bool = False) -> dict[str, Any]:
    """Path -> entry of the fabric of unit `node`; with `management`, lo and the 10GbE interface too."""
    tree: dict[str, Any] = {}
    routes = ["Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT"]
    leaves = []
    devices = ["Inter-|   Receive |  Transmit", " face |bytes packets |bytes packets"]
    if management:
        tree |= _management()
        devices += ["  enP7s7: 5000 9 0 0 0 0 0 0 5000 9 0 0 0 0 0 0", "  lo: 70 1 0 0 0 0 0 0 70 1 0 0 0 0 0 0"]
        routes += ["enP7s7\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0",
                   "enP7s7\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0"]  # fmt: skip
        leaves += [
            "     |-- 127.0.0.1",
            "        /32 host LOCAL",
            f"     |-- 192.168.1.{node}",
            "        /32 host LOCAL",
        ]
    for half in halves:
        address = f"10.{half.subnet}.0.{node}"
        tree |= _netdev(half) | _device(half, address)
        devices.append(f"  {half.netdev}: 1000 1 0 0 0 0 0 0 2000 1 0 0 0 0 0 0")
        if half.up and half.address:
            routes.append(f"{half.netdev}\t{half.subnet << 8 | 10:08X}\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0")
            leaves += [f"     |-- {address}", "        /32 host LOCAL"]
    tree["/proc/net/route"] = {"data": "\n".join(routes)}
    tree["/proc/net/fib_trie"] = {"data": "\n".join(["Main:", "  +-- 0.0.0.0/0 3 0 5", *leaves])}
    tree["/proc/net/dev"] = {"data": "\n".join(devices)}
    return tree


def unit_entries(
    node: int,
    halves: tuple[Half, ...] = HALVES,
    settings: dict[str, str] | None = None,
    locked_memory: int | None = None,
    verbs: bool = True,
) -> dict[str, Any]:
    """A whole unit. `settings` is /etc/nccl.conf; without `verbs` /dev/infiniband is empty, as in a container that
    was not given it; `locked_memory` in bytes, None for unlimited."""
    limit = "unlimited" if locked_memory is None else str(locked_memory)
    tree = gb10_entries(node, halves, management=True)
    tree |= {
        "/sys/class/dmi/id/product_name": {"data": "NVIDIA_DGX_Spark\n"},
        "/proc/self/limits": {
            "data": "Limit                     Soft Limit           Hard Limit           Units     \n"
            "Max processes             500000               500000               processes \n"
            f"Max locked memory         {limit:<20} {limit:<20} bytes     \n"
        },
        "/dev/null": {"dir": 1},
        "/sys/bus/pci/devices/000f:01:00.0": {"dir": 1},
    }
    for number, half in enumerate(sorted(halves, key=lambda half: half.device)):
        tree[f"/sys/bus/pci/devices/{half.pci}"] = {"dir": 1}
        tree[f"/sys/class/infiniband_verbs/uverbs{number}/ibdev"] = {"data": f"{half.device}\n"}
        if verbs:
            tree[f"/dev/infiniband/uverbs{number}"] = {"dir": 1}
    if settings:
        lines = [f"{name}={value}" for name, value in settings.items()]
        tree["/etc/nccl.conf"] = {"data": "\n".join(["# synthetic", *lines, ""])}
    return tree


def _management() -> dict[str, Any]:
    return {
        "/sys/class/net/lo/operstate": {"data": "unknown\n"},
        "/sys/class/net/lo/type": {"data": "772\n"},
        "/sys/class/net/lo/mtu": {"data": "65536\n"},
        "/sys/class/net/enP7s7/operstate": {"data": "up\n"},
        "/sys/class/net/enP7s7/carrier": {"data": "1\n"},
        "/sys/class/net/enP7s7/speed": {"data": "10000\n"},
        "/sys/class/net/enP7s7/mtu": {"data": "1500\n"},
        "/sys/class/net/enP7s7/type": {"data": "1\n"},
        "/sys/class/net/enP7s7/device/driver": {"link": "../../../../bus/pci/drivers/r8127"},
    }


def _netdev(half: Half) -> dict[str, Any]:
    at = f"/sys/class/net/{half.netdev}"
    return {
        f"{at}/operstate": {"data": "up\n" if half.up else "down\n"},
        f"{at}/carrier": {"data": "1\n"} if half.up else INVALID,
        f"{at}/speed": {"data": f"{half.rate * 1000}\n"} if half.up else INVALID,
        f"{at}/mtu": {"data": f"{half.mtu}\n"},
        f"{at}/type": {"data": "1\n"},
        f"{at}/device/driver": {"link": "../../../../bus/pci/drivers/mlx5_core"},
    }


def _device(half: Half, address: str) -> dict[str, Any]:
    at, port = f"{RDMA}/{half.device}", f"{RDMA}/{half.device}/ports/1"
    tree: dict[str, Any] = {
        f"{at}/fw_ver": {"data": f"{half.firmware}\n"},
        f"{at}/device": {"link": f"../../../{half.pci}"},
        f"{at}/device/current_link_speed": {"data": f"{half.pcie_speed}\n"},
        f"{at}/device/current_link_width": {"data": f"{half.pcie_width}\n"},
        f"{at}/device/max_link_speed": {"data": "32.0 GT/s PCIe\n"},
        f"{at}/device/max_link_width": {"data": "16\n"},
        f"{at}/device/net/{half.netdev}": {"dir": 1},
        f"{port}/state": {"data": "4: ACTIVE\n" if half.up else "1: DOWN\n"},
        f"{port}/phys_state": {"data": "5: LinkUp\n" if half.up else "3: Disabled\n"},
        f"{port}/rate": {"data": f"{half.rate} Gb/sec (4X HDR)\n" if half.up else "40 Gb/sec (4X QDR)\n"},
        f"{port}/link_layer": {"data": "Ethernet\n"},
        f"{port}/counters/port_xmit_data": {"data": f"{half.words[0]}\n"},
        f"{port}/counters/port_rcv_data": {"data": f"{half.words[1]}\n"},
        f"{port}/counters/link_downed": {"data": "0\n"},
        f"{port}/hw_counters/out_of_sequence": {"data": "0\n"},
        f"{port}/hw_counters/local_ack_timeout_err": {"data": "0\n"},
    }
    for name, value in half.counters.items():
        folder = "counters" if name in PORT_COUNTERS else "hw_counters"
        tree[f"{port}/{folder}/{name}"] = {"data": f"{value}\n"}
    return tree | _gids(half, port, address)


def _gids(half: Half, port: str, address: str) -> dict[str, Any]:
    ipv4 = "".join(f"{int(part):02x}" for part in address.split("."))
    gids = [
        ("fe80:0000:0000:0000:0000:00ff:fe00:0001", "IB/RoCE v1"),
        ("fe80:0000:0000:0000:0000:00ff:fe00:0001", "RoCE v2"),
        (f"0000:0000:0000:0000:0000:ffff:{ipv4[:4]}:{ipv4[4:]}", "IB/RoCE v1"),
        (f"0000:0000:0000:0000:0000:ffff:{ipv4[:4]}:{ipv4[4:]}", "RoCE v2"),
    ]
    gids = gids if half.address else gids[:2]
    tree: dict[str, Any] = {}
    for index in range(GID_ENTRIES):
        used = half.up and index < len(gids)
        gid = gids[index][0] if used else "0000:0000:0000:0000:0000:0000:0000:0000"
        tree[f"{port}/gids/{index}"] = {"data": gid + "\n"}
        tree[f"{port}/gid_attrs/types/{index}"] = {"data": gids[index][1] + "\n"} if used else INVALID
        tree[f"{port}/gid_attrs/ndevs/{index}"] = {"data": half.netdev + "\n"} if used else INVALID
    return tree


def record(entries: dict[str, Any], path: Path) -> Tree:
    """Writes a recording and opens it, as a user's is."""
    path.write_text(json.dumps({"what": "synthetic", "tree": entries}))
    return open_tree(path)
