"""Synthetic recordings of a GB10 unit's fabric, generated from what is known of the machine; no real unit was recorded.

One ConnectX-7 with two QSFP ports, each in two halves, which are functions of two PCI domains. Names, rates and the
state of a port without a cable are as GB10 units show them; counters and addresses are made up.
"""

from __future__ import annotations

from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any

from roofprobe.recording import open_tree
from roofprobe.tree import Tree

RDMA = "/sys/class/infiniband"
GID_ENTRIES = 8


@dataclass(frozen=True)
class Half:
    """One PCI function."""

    device: str
    netdev: str
    pci: str
    subnet: int
    up: bool = True


HALVES = (
    Half("rocep1s0f0", "enp1s0f0np0", "0000:01:00.0", 1),
    Half("rocep1s0f1", "enp1s0f1np1", "0000:01:00.1", 3, up=False),
    Half("roceP2p1s0f0", "enP2p1s0f0np0", "0002:01:00.0", 2),
    Half("roceP2p1s0f1", "enP2p1s0f1np1", "0002:01:00.1", 4, up=False),
)
"""One cable, in port 0."""


def gb10_entries(node: int, halves: tuple[Half, ...] = HALVES) -> dict[str, Any]:
    """Path -> entry of a recording of unit `node`."""
    tree: dict[str, Any] = {}
    routes = ["Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT"]
    leaves = []
    devices = ["Inter-|   Receive |  Transmit", " face |bytes packets |bytes packets"]
    for half in halves:
        address = f"10.{half.subnet}.0.{node}"
        tree |= _netdev(half) | _device(half, address)
        devices.append(f"  {half.netdev}: 1000 1 0 0 0 0 0 0 2000 1 0 0 0 0 0 0")
        if half.up:
            routes.append(f"{half.netdev}\t{half.subnet << 8 | 10:08X}\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0")
            leaves += [f"     |-- {address}", "        /32 host LOCAL"]
    tree["/proc/net/route"] = {"data": "\n".join(routes)}
    tree["/proc/net/fib_trie"] = {"data": "\n".join(["Main:", "  +-- 0.0.0.0/0 3 0 5", *leaves])}
    tree["/proc/net/dev"] = {"data": "\n".join(devices)}
    return tree


def _netdev(half: Half) -> dict[str, Any]:
    at = f"/sys/class/net/{half.netdev}"
    down = {"errno": 22, "err": "Invalid argument"}
    return {
        f"{at}/operstate": {"data": "up\n" if half.up else "down\n"},
        f"{at}/carrier": {"data": "1\n"} if half.up else down,
        f"{at}/speed": {"data": "200000\n"} if half.up else down,
        f"{at}/mtu": {"data": "9000\n"},
        f"{at}/type": {"data": "1\n"},
        f"{at}/device/driver": {"link": "../../../../bus/pci/drivers/mlx5_core"},
    }


def _device(half: Half, address: str) -> dict[str, Any]:
    at, port = f"{RDMA}/{half.device}", f"{RDMA}/{half.device}/ports/1"
    ipv4 = "".join(f"{int(part):02x}" for part in address.split("."))
    gids = [
        ("fe80:0000:0000:0000:0000:00ff:fe00:0001", "IB/RoCE v1"),
        ("fe80:0000:0000:0000:0000:00ff:fe00:0001", "RoCE v2"),
        (f"0000:0000:0000:0000:0000:ffff:{ipv4[:4]}:{ipv4[4:]}", "IB/RoCE v1"),
        (f"0000:0000:0000:0000:0000:ffff:{ipv4[:4]}:{ipv4[4:]}", "RoCE v2"),
    ]
    tree: dict[str, Any] = {
        f"{at}/fw_ver": {"data": "28.45.4028\n"},
        f"{at}/device": {"link": f"../../../{half.pci}"},
        f"{at}/device/current_link_speed": {"data": "32.0 GT/s PCIe\n"},
        f"{at}/device/current_link_width": {"data": "4\n"},
        f"{at}/device/max_link_speed": {"data": "32.0 GT/s PCIe\n"},
        f"{at}/device/max_link_width": {"data": "16\n"},
        f"{at}/device/net/{half.netdev}": {"dir": 1},
        f"{port}/state": {"data": "4: ACTIVE\n" if half.up else "1: DOWN\n"},
        f"{port}/phys_state": {"data": "5: LinkUp\n" if half.up else "3: Disabled\n"},
        f"{port}/rate": {"data": "200 Gb/sec (4X HDR)\n" if half.up else "40 Gb/sec (4X QDR)\n"},
        f"{port}/link_layer": {"data": "Ethernet\n"},
        f"{port}/counters/port_xmit_data": {"data": "250\n"},
        f"{port}/counters/port_rcv_data": {"data": "125\n"},
        f"{port}/counters/link_downed": {"data": "1\n"},
        f"{port}/hw_counters/out_of_sequence": {"data": "0\n"},
    }
    for index in range(GID_ENTRIES):
        used = half.up and index < len(gids)
        invalid = {"errno": 22, "err": "Invalid argument"}
        gid = gids[index][0] if used else "0000:0000:0000:0000:0000:0000:0000:0000"
        tree[f"{port}/gids/{index}"] = {"data": gid + "\n"}
        tree[f"{port}/gid_attrs/types/{index}"] = {"data": gids[index][1] + "\n"} if used else invalid
        tree[f"{port}/gid_attrs/ndevs/{index}"] = {"data": half.netdev + "\n"} if used else invalid
    return tree


def record(entries: dict[str, Any], path: Path) -> Tree:
    """Writes a recording and opens it, as a user's is."""
    path.write_text(json.dumps({"what": "synthetic", "tree": entries}))
    return open_tree(path)
