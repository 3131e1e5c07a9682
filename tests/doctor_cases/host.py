"""A GB10 machine's /sys, /proc and /etc, as far as a doctor reads them.

Names, rates and layouts are GB10.md's; a port that is down says 40 Gb/s; a machine without a cable has lost its
four ConnectX-7 functions from the PCI bus. Addresses come from ranges for documentation and private use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
import json
from typing import Any

from doctor_cases.recorded import Tree, put, put_error, put_link
from doctor_cases.routes import fib_trie, route_table

HALVES = {"first": ("0000", "p1s0f"), "second": ("0002", "P2p1s0f")}
SOFTWARE = {
    "gpu": "NVIDIA GB10",
    "platform": "dgx-spark",
    "driver": "580.95.05",
    "cuda": "13.0",
    "torch": "2.13.0+cu130",
    "triton": "3.9.0",
    "ptxas": "13.0",
    "nccl_loaded": "2.28.9",
}
PRODUCTS = {  # maker -> sys_vendor, product_name, product_version
    "nvidia": ("NVIDIA", "NVIDIA_DGX_Spark", "A.7"),
    "asus": ("ASUSTeK COMPUTER INC.", "GX10", "1.0"),
    "dell": ("Dell Inc.", "Dell Pro Max with GB10 FCM1253", ""),
    "lenovo": ("LENOVO", "30KL0001US", "ThinkStation PGX"),
}
MANAGEMENT = "enP7s7"


def netdev(half: str, port: int) -> str:
    return f"en{HALVES[half][1]}{port}np{port}"


def rdma(half: str, port: int) -> str:
    return f"roce{HALVES[half][1]}{port}"


@dataclass(frozen=True)
class Half:
    """One PCIe function of one QSFP port."""

    up: bool = True
    gbit: int = 200
    mtu: int = 9000
    address: str | None = None
    sent_words: int = 250_000_000
    """port_xmit_data counts 4-byte words."""
    link_downed: int = 0
    retransmissions: int = 0
    out_of_sequence: int = 0
    width: str = "4"
    speed: str = "32.0 GT/s PCIe"
    phys_state: str = ""
    """Empty: as `up` says."""
    gids: tuple[tuple[str, str], ...] | None = None
    """(GID, type) by index; None makes the four that the driver makes of the address."""


@dataclass(frozen=True)
class Host:
    number: int = 1
    maker: str = "nvidia"
    functions: Mapping[tuple[str, int], Half] = field(default_factory=dict)
    """(half, port) -> Half; empty where no cable is plugged in."""
    software: Mapping[str, Any] | None = field(default_factory=lambda: dict(SOFTWARE))
    nccl_conf: str | None = None
    memlock: str = "unlimited"
    verbs: bool = True
    extra_addresses: Mapping[str, str] = field(default_factory=dict)


def cabled(number: int, ports: tuple[int, ...] = (0,), **options: Any) -> dict[tuple[str, int], Half]:
    """Both halves of the ports with a cable up, each on a subnet of its own; the other port's down."""
    found = {}
    for port in (0, 1):
        for index, half in enumerate(HALVES):
            address = f"192.168.{100 + 100 * port + index}.{9 + number}/24"
            down = Half(up=False, mtu=1500, sent_words=0)
            found[half, port] = Half(address=address, **options) if port in ports else down
    return found


def tree_of(host: Host) -> Tree:
    tree: Tree = {}
    for (half, port), function in host.functions.items():
        _function(tree, host, half, port, function)
    addresses = {MANAGEMENT: f"192.168.1.{9 + host.number}/24", **host.extra_addresses}
    addresses |= {netdev(*key): f.address for key, f in host.functions.items() if f.up and f.address}
    _plain_netdevs(tree)
    put(tree, "/proc/net/route", route_table(addresses))
    put(tree, "/proc/net/fib_trie", fib_trie(addresses))
    vendor, product, version = PRODUCTS[host.maker]
    for name, text in (("sys_vendor", vendor), ("product_name", product), ("product_version", version)):
        put(tree, f"/sys/class/dmi/id/{name}", text)
    put(tree, "/proc/driver/nvidia/version", _driver(str((host.software or SOFTWARE)["driver"])))
    put(tree, "/proc/driver/nvidia/gpus/000f:01:00.0/information", "Model: \t\t NVIDIA GB10\nIRQ:   \t\t 504")
    put(
        tree,
        "/proc/meminfo",
        "MemTotal:       127535128 kB\nMemFree:        21034712 kB\n"
        "MemAvailable:   98312040 kB\nCached:         76120144 kB",
    )
    put(tree, "/proc/self/limits", _limits(host.memlock))
    put(tree, "/etc/os-release", 'PRETTY_NAME="Ubuntu 24.04.3 LTS"\nID=ubuntu')
    if host.nccl_conf is not None:
        put(tree, "/etc/nccl.conf", host.nccl_conf)
    if host.software is not None:
        put(tree, "/software.json", json.dumps(dict(host.software)))
    return tree


def _function(tree: Tree, host: Host, half: str, port: int, f: Half) -> None:
    domain = HALVES[half][0]
    address = f"{domain}:01:00.{port}"
    device = f"devices/pci{domain}:00/{domain}:00:00.0/{address}"
    put_link(tree, f"/sys/bus/pci/devices/{address}", f"../../../{device}")
    ib, net = f"/sys/class/infiniband/{rdma(half, port)}", f"/sys/class/net/{netdev(half, port)}"
    put_link(tree, ib, f"../../{device}/infiniband/{rdma(half, port)}")
    put_link(tree, net, f"../../{device}/net/{netdev(half, port)}")
    for place in (f"/sys/bus/pci/devices/{address}", f"{ib}/device", f"{net}/device"):
        if place.endswith("/device"):
            put_link(tree, place, f"../../../{address}")
        for name, text in _pci(f).items():
            put(tree, f"{place}/{name}", text)
    for name, text in (("fw_ver", "28.45.4028"), ("hca_type", "MT4129"), ("board_id", "NVD0000000087")):
        put(tree, f"{ib}/{name}", text)
    put(tree, f"{ib}/node_type", "1: CA")
    put(tree, f"{ib}/node_desc", "spark")
    _rdma_port(tree, f"{ib}/ports/1", host, half, port, f)
    if host.verbs:
        uverbs = f"/sys/class/infiniband_verbs/uverbs{len([k for k in tree if k.endswith('/ibdev')])}"
        put(tree, f"{uverbs}/ibdev", rdma(half, port))
        put(tree, f"{uverbs}/dev", "231:192")
    put(tree, f"{net}/address", _mac(host, half, port))
    put(tree, f"{net}/mtu", str(f.mtu))
    put(tree, f"{net}/carrier", "1" if f.up else "0")
    put(tree, f"{net}/operstate", "up" if f.up else "down")
    put(tree, f"{net}/speed", str(f.gbit * 1000) if f.up else "-1")
    put(tree, f"{net}/type", "1")


def _pci(f: Half) -> dict[str, str]:
    return {
        "vendor": "0x15b3",
        "device": "0x1021",
        "class": "0x020000",
        "current_link_speed": f.speed,
        "current_link_width": f.width,
        "max_link_speed": "32.0 GT/s PCIe",
        "max_link_width": "4",
    }


RATES = {200: "200 Gb/sec (4X HDR)", 100: "100 Gb/sec (2X HDR)", 50: "50 Gb/sec (1X HDR)", 40: "40 Gb/sec (4X QDR)"}


def _rdma_port(tree: Tree, place: str, host: Host, half: str, port: int, f: Half) -> None:
    put(tree, f"{place}/state", "4: ACTIVE" if f.up else "1: DOWN")
    put(tree, f"{place}/phys_state", f.phys_state or ("5: LinkUp" if f.up else "3: Disabled"))
    put(tree, f"{place}/rate", RATES[f.gbit if f.up else 40])
    put(tree, f"{place}/link_layer", "Ethernet")
    put(tree, f"{place}/lid", "0x0")
    counters = {"port_xmit_data": f.sent_words, "port_rcv_data": f.sent_words, "link_downed": f.link_downed}
    counters |= {"port_xmit_packets": f.sent_words // 256, "symbol_error": 0, "port_rcv_errors": 0}
    for name, count in counters.items():
        put(tree, f"{place}/counters/{name}", str(count))
    hardware = {"out_of_sequence": f.out_of_sequence, "local_ack_timeout_err": f.retransmissions}
    hardware |= {"packet_seq_err": 0, "rnr_nak_retry_err": 0, "roce_adp_retrans": 0, "lifespan": 10}
    for name, count in hardware.items():
        put(tree, f"{place}/hw_counters/{name}", str(count))
    for index in range(5):
        gids = _gids(host, half, port, f) if f.gids is None else f.gids
        gid, kind = gids[index] if index < len(gids) else ("0000:" * 7 + "0000", "")
        put(tree, f"{place}/gids/{index}", gid)
        if kind:
            put(tree, f"{place}/gid_attrs/types/{index}", kind)
            put(tree, f"{place}/gid_attrs/ndevs/{index}", netdev(half, port))
        else:
            put_error(tree, f"{place}/gid_attrs/types/{index}", 22, "Invalid argument")
            put_error(tree, f"{place}/gid_attrs/ndevs/{index}", 22, "Invalid argument")


V1, V2 = "IB/RoCE v1", "RoCE v2"


def link_local(host_number: int, half: str, port: int) -> str:
    return f"fe80:0000:0000:0000:0200:5eff:fe00:53{host_number}{2 * port + (half == 'second')}"


def mapped(address: str) -> str:
    a, b, c, d = (int(part) for part in address.split("/")[0].split("."))
    return f"0000:0000:0000:0000:0000:ffff:{a:02x}{b:02x}:{c:02x}{d:02x}"


def _gids(host: Host, half: str, port: int, f: Half) -> tuple[tuple[str, str], ...]:
    local = link_local(host.number, half, port)
    found = ((local, V1), (local, V2))
    return (*found, (mapped(f.address), V1), (mapped(f.address), V2)) if f.up and f.address else found


def _mac(host: Host, half: str, port: int) -> str:
    return f"00:00:5e:00:53:{host.number}{2 * port + (half == 'second')}"


def _plain_netdevs(tree: Tree) -> None:
    """What is no half of the link must play no part: management, radio, loopback, a container's bridge."""
    for name, mtu, speed in (
        (MANAGEMENT, 1500, "10000"),
        ("docker0", 1500, "10000"),
        ("wlP9s9", 1500, ""),
        ("lo", 65536, ""),
    ):
        place = f"/sys/class/net/{name}"
        put(tree, f"{place}/mtu", str(mtu))
        put(tree, f"{place}/carrier", "1")
        put(tree, f"{place}/operstate", "unknown" if name == "lo" else "up")
        if speed:
            put(tree, f"{place}/speed", speed)
        else:
            put_error(tree, f"{place}/speed", 22, "Invalid argument")


def _driver(version: str) -> str:
    return f"NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  {version}  Release Build  (dvs-builder)"


def _limits(memlock: str) -> str:
    rows = (("Max open files", "1048576", "files"), ("Max locked memory", memlock, "bytes"))
    head = f"{'Limit':<25} {'Soft Limit':<20} {'Hard Limit':<20} {'Units':<10}"
    return "\n".join([head, *(f"{name:<25} {limit:<20} {limit:<20} {unit:<10}" for name, limit, unit in rows)])
