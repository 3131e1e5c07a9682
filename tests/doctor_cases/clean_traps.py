"""More of what is healthy: forms of recordings, other people's lines in logs, machines that resemble a GB10."""

from __future__ import annotations

from collections.abc import Callable
import json
from typing import Any

from doctor_cases.case import Case
from doctor_cases.clusters import A, B, C, edited, logs, pair, ring, spoil_port, switch, trees, unit
from doctor_cases.host import SOFTWARE, Host, tree_of
from doctor_cases.nccl_text import Process, cluster, text, warn
from doctor_cases.recorded import Tree, bare, put, without_links
from doctor_cases.sampling import jsonl, samples, sentinels
from doctor_cases.tables import document, ramp, table


def _clean(name: str, seen: str, **given: Any) -> Case:
    return Case(name, seen, None, 0, **given)


def _formed(form: Any, hosts: dict[str, Tree]) -> dict[str, Tree]:
    return {name: form(tree) for name, tree in hosts.items()}


def server(product: str = "PowerEdge R760") -> Tree:
    """An x86 server whose 25 Gb/s adapter happens to have a GB10's names; one port is not connected."""
    tree: Tree = {}
    for port in (0, 1):
        place, net = f"/sys/class/infiniband/rocep1s0f{port}", f"/sys/class/net/enp1s0f{port}np{port}"
        put(tree, f"{place}/hca_type", "MT4117")
        put(tree, f"{place}/ports/1/state", "1: DOWN" if port else "4: ACTIVE")
        put(tree, f"{place}/ports/1/phys_state", "3: Disabled" if port else "5: LinkUp")
        put(tree, f"{place}/ports/1/rate", "40 Gb/sec (4X QDR)" if port else "25 Gb/sec (1X EDR)")
        put(tree, f"{place}/ports/1/link_layer", "Ethernet")
        put(tree, f"{place}/ports/1/counters/port_xmit_data", "0" if port else "9000000000")
        put(tree, f"{place}/ports/1/counters/link_downed", "0")
        put(tree, f"{place}/device/current_link_width", "8")
        put(tree, f"{place}/device/current_link_speed", "8.0 GT/s PCIe")
        put(tree, f"{net}/mtu", "1500")
        put(tree, f"{net}/speed", "-1" if port else "25000")
    put(tree, "/sys/class/dmi/id/product_name", product)
    put(tree, "/software.json", json.dumps({"gpu": "NVIDIA L40S", "ptxas": "12.4", "nccl_loaded": "2.26.2"}))
    return tree


def once_at_1000(rate: float) -> Callable[[float], float]:
    return lambda t: rate * 0.18 if 1000 < t < 1020 else rate


P0 = cluster(2)[0]
BENIGN = (
    "torch/cuda/__init__.py:285: UserWarning: Found GPU0 NVIDIA GB10 which is of cuda capability 12.1.",
    "Minimum and Maximum cuda capability supported by this version of PyTorch is (8.0) - (12.0)",
    f"{A}:1234:1260 [0] NCCL INFO NET/Plugin: Failed to find ncclNetPlugin_v6 symbol.",
    f"{A}:1234:1260 [0] NCCL INFO TUNER/Plugin: Could not find: libnccl-tuner.so.",
    *warn(P0, "net_ib/common.cc:180", "NET/IB : rocep1s0f0:1 Got non-fatal async event: GID table change(18)"),
    f"{A}:1234:1260 [0] NCCL INFO comm 0xaaab1c005e10 rank 0 nranks 2 cudaDev 0 busId f01000 - Destroy COMPLETE",
)
other_headers = table(ramp(23.7)).replace("nccl-headers=22809", "nccl-headers=22803")
ray = "(EngineCore_DP0 pid=2301) (RayWorkerWrapper pid=2981, ip=169.254.28.198) "
polling = spoil_port(unit(1), 1, up=False, phys_state="2: Polling")
second_cable_idle = spoil_port(unit(1, (0, 1), sent_words=12_500_000_000), 1, sent_words=0)
cpu_results = document(ramp(1.4)).replace("NVIDIA GB10", "Intel(R) Xeon(R)")
no_dmi = trees(unit(software=None))[A]
for path in [p for p in no_dmi if "/dmi/" in p]:
    del no_dmi[path]
login_shell = tree_of(Host(functions=unit().functions, memlock="16324476928"))
root_login = tree_of(Host(functions=unit().functions, memlock="8388608"))
put(root_login, "/proc/self/status", "Name:\tcat\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff")

TRAPS = [
    _clean("pair, folders without links", "two trees", roots=_formed(without_links, trees(*pair())), folders=True),
    _clean("ring, JSON without links", "three trees", roots=_formed(without_links, trees(*ring()))),
    _clean("pair, bare", "state, rate, mtu and speed", roots=_formed(bare, trees(*pair())), folders=True),
    _clean("three on a switch, bare", "state, rate, mtu and speed", roots=_formed(bare, trees(*switch(3)))),
    _clean("the free port polls", "phys_state 2: Polling", roots=trees(polling)),
    _clean("the second cable idles", "traffic on port 0 alone, both halves", roots=trees(second_cable_idle)),
    _clean("no name and no software", "neither firmware nor software.json", roots={A: no_dmi}),
    _clean("memlock of an eighth of the memory", "a login shell's limit", roots={A: login_shell}, folders=True),
    _clean("memlock of 8 MiB for root", "CAP_IPC_LOCK lets it lock all", roots={A: root_login}),
    _clean("a server with the same names", "25 Gb/s, one port unused", roots={"server": server()}),
    _clean(
        "two such servers",
        "trees and a table of 2.7 GB/s",
        roots={"s1": server(), "s2": server("R750")},
        logs={"t.txt": table(ramp(2.7), hosts=("s1", "s2"), gpu="NVIDIA L40S", bus="0000:61:00")},
    ),
    _clean(
        "lines that look bad",
        "torch's capability warning, missing plugins, GID table change",
        logs={"a.log": text(Process(A, 0, 2, peers=(1,), after=BENIGN))},
    ),
    _clean(
        "Ray's prefixes",
        "a healthy pair as vLLM shows it",
        logs={n: "".join(f"{ray}{line}\n" for line in t.splitlines()) for n, t in logs(cluster(2)).items()},
    ),
    _clean(
        "headers of another release",
        "nccl-headers=22803 nccl-library=22809",
        logs={**logs(cluster(2)), "t.txt": other_headers},
    ),
    _clean(
        "host names with dots and digits",
        "gx10-1.lan",
        logs=edited(edited(logs(cluster(2)), A, "gx10-1.lan"), B, "gx10-2.lan"),
    ),
    _clean("gloo between CPUs", "nccl-tests' JSON of 1.4 GB/s without a GB10", measured=cpu_results),
    _clean(
        "H100s over TCP",
        "a table of 3 GB/s without a GB10",
        logs={"t.txt": table(ramp(3.0), hosts=("n1", "n2"), gpu="NVIDIA H100 80GB HBM3", bus="0000:1b:00")},
    ),
    _clean(
        "within two percent of the ceiling",
        "276 GB/s",
        telemetry={A: jsonl(samples(60), sentinels(60, gemv=275.0, copy=230.0))},
        flags=("--platform", "dgx-spark"),
        silent=False,
    ),
    _clean(
        "one stall in an hour",
        "nothing like it in the 43 minutes after",
        telemetry={A: jsonl(samples(3600, 5), sentinels(3600, 10, gemv=once_at_1000(223.0), copy=once_at_1000(221.0)))},
        silent=False,
    ),
    _clean(
        "ring of three at NVIDIA's mark",
        "10.4 GB/s",
        logs={"t.txt": table(ramp(10.4), hosts=(A, B, C), operation="all_reduce")},
    ),
    _clean(
        "no ptxas at all",
        "software.json with null",
        roots=trees(unit(software={**SOFTWARE, "ptxas": None, "triton": None, "nccl_loaded": None})),
    ),
    _clean(
        "the library by its code",
        "nccl_loaded 22809 here, 2.28.9 there",
        roots=trees(unit(1), unit(2, software={**SOFTWARE, "nccl_loaded": 22809})),
    ),
    _clean(
        "with the CUDA suffix",
        "2.28.9+cuda13.0 here, 2.28.9 there",
        roots=trees(unit(1), unit(2, software={**SOFTWARE, "nccl_loaded": "2.28.9+cuda13.0"})),
    ),
]
