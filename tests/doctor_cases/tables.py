"""nccl-tests' text and JSON for given bus bandwidths."""

from __future__ import annotations

from collections.abc import Sequence
import json

from doctor_cases.nccl_text import HOSTS, code

Rates = Sequence[tuple[int, float]]
"""(message bytes, bus bandwidth in GB/s)"""


def ramp(plateau: float, smallest: int = 1 << 13, largest: int = 1 << 33) -> list[tuple[int, float]]:
    """Sizes by powers of two and what a link with `plateau` GB/s and 30 us of latency gives for them."""
    sizes = [1 << power for power in range(smallest.bit_length() - 1, largest.bit_length())]
    return [(size, size / (30e-6 + size / (plateau * 1e9)) / 1e9) for size in sizes]


def factor(operation: str, ranks: int) -> float:
    return (2 if operation == "all_reduce" else 1) * (ranks - 1) / ranks


def table(
    rates: Rates,
    hosts: Sequence[str] = HOSTS[:2],
    operation: str = "all_gather",
    gpu: str = "NVIDIA GB10",
    bus: str = "000f:01:00",
    per_host: int = 1,
    release: str = "2.28.9",
) -> str:
    lines = [f"# nccl-tests version 2.17.6 nccl-headers={code(release)} nccl-library={code(release)}"]
    lines += [
        f"# Collective test starting: {operation}_perf",
        f"# nThread 1 nGpus 1 minBytes {rates[0][0]} maxBytes {rates[-1][0]} step: 2(factor) iters: 20 graph: 0",
        "#",
        "# Using devices",
    ]
    ranks = len(hosts) * per_host
    for rank in range(ranks):
        host, device = hosts[rank // per_host], rank % per_host
        lines.append(
            f"#  Rank {rank:2d} Group  0 Pid {1234 + 100 * rank:6d} on {host:>10} device {device:2d} [{bus}] {gpu}"
        )
    lines += [
        "#",
        f"#{'':62}out-of-place{'':23}in-place{'':10}",
        "#       size         count      type   redop    root" + 2 * "     time   algbw   busbw  #wrong" + " ",
        f"#        (B)    (elements){'':31}(us)  (GB/s)  (GB/s){'':13}(us)  (GB/s)  (GB/s){'':9}",
    ]
    for size, busbw in rates:
        algbw = busbw / factor(operation, ranks)
        column = f"  {size / algbw / 1e3:7.1f}  {algbw:6.2f}  {busbw:6.2f}  {0:6d}"
        lines.append(
            f"{size:12d}  {size // 4:12d}  {'float':>8}  {'sum' if operation == 'all_reduce' else 'none':>6}  {-1:6d}"
            + column * 2
        )
    average = sum(busbw for _, busbw in rates) / len(rates)
    lines += [
        "# Out of bounds values : 0 OK",
        f"# Avg bus bandwidth    : {average:.5g} ",
        "#",
        f"# Collective test concluded: {operation}_perf",
        "#",
    ]
    return "\n".join(lines) + "\n"


def document(rates: Rates, hosts: Sequence[str] = HOSTS[:2], operation: str = "all_gather") -> str:
    """nccl-tests' JSON, version 3."""
    ranks = len(hosts)
    devices = [
        {
            "rank": r,
            "group": 0,
            "pid": 1234 + 100 * r,
            "hostname": host,
            "device": 0,
            "device_hex": "000f:01:00",
            "device_info": "NVIDIA GB10",
        }
        for r, host in enumerate(hosts)
    ]
    results = []
    for size, busbw in rates:
        algbw = busbw / factor(operation, ranks)
        column = {"time": size / algbw / 1e3, "alg_bw": algbw, "bus_bw": busbw, "nwrong": 0}
        results.append(
            {
                "size": size,
                "count": size // 4,
                "type": "float",
                "redop": "none",
                "root": "    -1",
                "out_of_place": column,
                "in_place": column,
            }
        )
    average = sum(busbw for _, busbw in rates) / len(rates)
    whole = {
        "version": 3,
        "start_time": "2026-03-13 22:26:02",
        "args": [f"./build/{operation}_perf", "-b", "8K", "-e", "8G", "-f", "2"],
        "env": ["NCCL_IB_HCA=rocep1s0f0,roceP2p1s0f0"],
        "nccl_version": 22809,
        "config": {"nthreads": 1, "ngpus": 1, "minimum_bytes": 8192, "maximum_bytes": 1 << 33, "devices": devices},
        "results": results,
        "out_of_bounds": {"count": 0, "okay": "true"},
        "average_bus_bandwidth": {"bandwidth": average, "okay": "unchecked"},
        "end_time": "2026-03-13 22:27:40",
    }
    return json.dumps(whole)
