"""Ranks as they introduce themselves, for tests that have no process group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from roofprobe.collectives.results import RankInfo


def rank_infos(hosts: Sequence[str], **changes: Any) -> tuple[RankInfo, ...]:
    """One rank for each name; equal names share a host."""
    return tuple(
        RankInfo(
            **{
                "rank": rank,
                "pid": 4000 + rank,
                "host": host,
                "machine": host,
                "network": f"{host}/net",
                "local_rank": list(hosts[:rank]).count(host),
                "device_index": list(hosts[:rank]).count(host),
                "device_id": f"GPU-{rank}",
                "device_address": "000f:01:00",
                "device_name": "NVIDIA GB10",
                "memory_budget_bytes": 1 << 30,
                "shares_memory_with": host,
                "address": f"10.77.0.{rank + 1}",
                **changes,
            }
        )
        for rank, host in enumerate(hosts)
    )
