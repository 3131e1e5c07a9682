"""What a rank tells the others about itself: host, process, device, and how much memory it may use."""

from __future__ import annotations

import os
from pathlib import Path
import socket
from typing import Any

import psutil

from roofprobe.collectives.results import RankInfo
from roofprobe.environment import cpu_model

MEMORY_SHARE = 4
"""A probe's buffers take at most one part in this many of the available memory."""
RESERVE_BYTES = 8 << 30
"""Of memory that CPU and GPU share, kept back for CUDA, NCCL, this process and the system: a machine that runs out
hangs."""


def introduce(rank: int, local_rank: int | None, address: str) -> RankInfo:
    """Describes this process as `rank`, which others reach at `address`.

    Without a local rank given, the rank counts as its host's only one.
    """
    import torch

    host = socket.gethostname()
    machine = _text("/proc/sys/kernel/random/boot_id") or host
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    local = 0 if local_rank is None else local_rank
    available = psutil.virtual_memory().available
    index, device_id, device_address, name, memory = local, "", "cpu", cpu_model(), machine
    if gpus:
        # A launcher may show each rank its own GPU alone, which is then that rank's device 0.
        index = local % gpus
        properties = torch.cuda.get_device_properties(index)
        device_id, device_address, name = str(properties.uuid), _pci_address(properties), properties.name
        if properties.is_integrated:
            available = max(0, available - RESERVE_BYTES)
        else:
            available, memory = torch.cuda.mem_get_info(index)[0], device_id
    return RankInfo(
        rank=rank,
        pid=os.getpid(),
        host=host,
        machine=machine,
        network=f"{machine}/{_link('/proc/self/ns/net')}",
        local_rank=local,
        device_index=index,
        device_id=device_id,
        device_address=device_address,
        device_name=name,
        memory_budget_bytes=available // MEMORY_SHARE,
        shares_memory_with=memory,
        address=address,
    )


def _pci_address(properties: Any) -> str:
    return f"{properties.pci_domain_id:04x}:{properties.pci_bus_id:02x}:{properties.pci_device_id:02x}"


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
