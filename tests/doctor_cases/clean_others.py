"""Machines that are no GB10, and Soft-RoCE: facts, and nothing to complain about."""

from __future__ import annotations

import json
from pathlib import Path

from doctor_cases.case import Case
from doctor_cases.clusters import logs
from doctor_cases.nccl_text import Process
from doctor_cases.recorded import Tree, put
from doctor_cases.tables import ramp, table

SOFTROCE = Path(__file__).resolve().parent.parent / "recordings" / "softroce.json"


def softroce() -> Tree:
    return dict(json.loads(SOFTROCE.read_text())["tree"])


def h100_node() -> Tree:
    """Eight InfiniBand ports at 400 Gb/s of 16 lanes, one Ethernet port that is down, as such a node has."""
    tree: Tree = {}
    for index in range(9):
        place, ethernet = f"/sys/class/infiniband/mlx5_{index}", index == 8
        put(tree, f"{place}/fw_ver", "28.39.2048")
        put(tree, f"{place}/hca_type", "MT4129")
        put(tree, f"{place}/ports/1/state", "1: DOWN" if ethernet else "4: ACTIVE")
        put(tree, f"{place}/ports/1/phys_state", "3: Disabled" if ethernet else "5: LinkUp")
        put(tree, f"{place}/ports/1/rate", "40 Gb/sec (4X QDR)" if ethernet else "400 Gb/sec (4X NDR)")
        put(tree, f"{place}/ports/1/link_layer", "Ethernet" if ethernet else "InfiniBand")
        put(tree, f"{place}/ports/1/lid", "0x0" if ethernet else f"0x{17 + index:x}")
        put(tree, f"{place}/ports/1/counters/port_xmit_data", str(10_000_000_000 if index % 2 else 0))
        put(tree, f"{place}/ports/1/counters/link_downed", "0")
        put(tree, f"{place}/ports/1/gids/0", f"fe80:0000:0000:0000:0200:5eff:fe00:53{index:02x}")
        put(tree, f"{place}/device/current_link_width", "16")
        put(tree, f"{place}/device/max_link_width", "16")
        put(tree, f"{place}/device/current_link_speed", "32.0 GT/s PCIe")
    put(tree, "/sys/class/dmi/id/product_name", "ThinkSystem SR680a V3")
    put(
        tree,
        "/software.json",
        json.dumps(
            {
                "gpu": "NVIDIA H100 80GB HBM3",
                "driver": "570.86.15",
                "cuda": "12.8",
                "ptxas": "12.8",
                "nccl_loaded": "2.26.2",
            }
        ),
    )
    return tree


def laptop() -> Tree:
    tree: Tree = {}
    for name, mtu, speed in (("lo", 65536, None), ("wlp0s20f3", 1500, None), ("enp0s31f6", 1500, "1000")):
        put(tree, f"/sys/class/net/{name}/mtu", str(mtu))
        put(tree, f"/sys/class/net/{name}/carrier", "0" if speed else "1")
        if speed:
            put(tree, f"/sys/class/net/{name}/speed", "-1")
    put(tree, "/sys/class/dmi/id/product_name", "XPS 13 9340")
    put(
        tree,
        "/proc/self/limits",
        f"{'Limit':<25} {'Soft Limit':<20} {'Hard Limit':<20} {'Units':<10}\n"
        f"{'Max locked memory':<25} {'8388608':<20} {'8388608':<20} {'bytes':<10}",
    )
    put(tree, "/proc/meminfo", "MemTotal:       16113512 kB\nMemAvailable:   9112300 kB")
    return tree


def h100_logs() -> dict[str, str]:
    """Two nodes of eight GPUs over InfiniBand; neighbours in a node talk over NVLink."""
    nics = tuple(f"mlx5_{i}" for i in range(8))
    found = []
    for rank in range(16):
        host, device = f"node-{rank // 8 + 1}", rank % 8
        peers = ((rank + 8) % 16,)
        local = tuple(r for r in range(rank // 8 * 8, rank // 8 * 8 + 8) if r != rank)
        found.append(Process(host, rank, 16, "2.26.5", 5000 + rank, device, nics, "IB", peers=peers, local_peers=local))
    return logs(found)


one_node = logs(
    [
        Process("node-1", r, 8, "2.21.5", 5000 + r, r, nics=(), local_peers=tuple(i for i in range(8) if i != r))
        for r in range(8)
    ]
)
OTHERS = [
    Case("Soft-RoCE", "a real recording of rdma_rxe", None, 0, roots={"rxe": softroce()}),
    Case("Soft-RoCE, folder", "the same as files", None, 0, roots={"rxe": softroce()}, folders=True),
    Case(
        "an InfiniBand node", "eight ports of 400 Gb/s, traffic on every other", None, 0, roots={"node-1": h100_node()}
    ),
    Case(
        "two InfiniBand nodes",
        "trees and 16 logs",
        None,
        0,
        roots={"node-1": h100_node(), "node-2": h100_node()},
        logs=h100_logs(),
    ),
    Case(
        "InfiniBand's table",
        "all-reduce of 16 H100s",
        None,
        0,
        logs={
            "t.txt": table(
                ramp(387.0),
                hosts=("node-1", "node-2"),
                operation="all_reduce",
                gpu="NVIDIA H100 80GB HBM3",
                bus="0000:1b:00",
                per_host=8,
            )
        },
    ),
    Case("one node without a network", "eight GPUs over NVLink, Socket unused", None, 0, logs=one_node),
    Case("a laptop", "no RDMA device", None, 0, roots={"laptop": laptop()}),
    Case("a laptop, folder", "no RDMA device", None, 0, roots={"laptop": laptop()}, folders=True),
]
