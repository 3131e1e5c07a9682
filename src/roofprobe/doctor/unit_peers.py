"""One unit that does less than its peers: collectives wait for it, and measured work on each tells which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from roofprobe.finding import Finding
from roofprobe.telemetry import Sampling

PEER_SHARE = 0.85
"""Healthy GB10 units differ by 4 to 7 % from each other."""
KINDS = ("gemv", "copy", "matmul")


def slower_than_peers(samplings: Sequence[Sampling]) -> Iterator[Finding]:
    """Of samplings of one platform, each without a fault of its own: those clearly under the median of the others."""
    rates = {kind: {s.host: median(r.rate for r in results) for s in samplings if (results := s.of(kind))}
             for kind in KINDS}  # fmt: skip
    for sampling in samplings:
        host = sampling.host
        slow = [
            (by_host[host], others, kind)
            for kind, by_host in rates.items()
            if host in by_host and len(by_host) > 1
            if by_host[host] < PEER_SHARE * (others := median(r for name, r in by_host.items() if name != host))
        ]
        if not slow:
            continue
        own, others, kind = min(slow, key=lambda each: each[0] / each[1])
        unit = "TFLOP/s" if kind == "matmul" else "GB/s"
        yield Finding(
            id="unit.slow-rank",
            severity="fault",
            host=host,
            evidence=f"{kind} {own:.0f} {unit}, median of its peers {others:.0f} {unit}; healthy units differ by 7 %",
            remedy=f"End other work on {host} (`top`, `nvidia-smi`) and run `roofprobe accept --quick` there; unplug "
            "its supply for a minute if it stays slow.",
        )
