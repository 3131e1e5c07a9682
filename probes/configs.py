"""The kernel configurations that a side is measured with, and how a record names them.

A device's defaults come with its kernels; the host's configuration is how many threads and which stores.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from roofprobe.kernels.dequant_triton import DequantConfig
    from roofprobe.kernels.gemv_triton import GemvConfig
    from roofprobe.kernels.host_threads import HostConfig
    from roofprobe.kernels.stream_triton import StreamConfig
    from roofprobe.probes.sides import MeasuredSide


def stream_config(side: MeasuredSide) -> StreamConfig | HostConfig:
    """For read, copy, write and triad."""
    if side.side == "host":
        return _host()
    from roofprobe.kernels.stream_triton import StreamConfig

    return StreamConfig()


def dequant_config(side: MeasuredSide) -> DequantConfig | HostConfig:
    """For dequantizations."""
    if side.side == "host":
        return _host()
    from roofprobe.kernels.dequant_triton import DequantConfig
    from roofprobe.kernels.launch import device_mode

    return DequantConfig(decode=device_mode(side.device))


def gemv_config(
    side: MeasuredSide, n: int, batch: int, weight_format: str = "", x: Tensor | None = None
) -> GemvConfig | HostConfig:
    """For a GEMV of N rows and `batch` vectors; x: the vectors, where the plain kernel may take tensor cores."""
    if side.side == "host":
        return _host()
    from roofprobe.kernels.gemv_triton import default_config, gemv_mode
    from roofprobe.kernels.launch import device_mode, multiprocessors

    mode = device_mode(side.device)
    if x is not None:
        mode = gemv_mode(weight_format, x.shape[-1], x.dtype, mode)
    return default_config(n, batch, multiprocessors(side.device), mode)


def _host() -> HostConfig:
    from roofprobe.kernels.host_threads import HostConfig, worker_cpus

    return HostConfig(threads=len(worker_cpus(HostConfig())))


def allocates_on_write(config: StreamConfig | HostConfig) -> bool:
    """Whether stores first read the line that they overwrite: a CPU's normal stores do."""
    return getattr(config, "stores", "") == "normal"


def config_record(config: object) -> dict[str, Any]:
    """A configuration dataclass as a record holds it."""
    return asdict(config)  # type: ignore[call-overload,no-any-return]
