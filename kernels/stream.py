"""The stream operations on any device: read, copy, write and triad on contiguous tensors of 4-byte elements.

    fill   out[i] = float32((uint32(i) * 2654435761 + uint32(seed)) >> 12): integers below 2^20 that do not repeat
    read   out.sum() mod 2^32 = sum of the source's 32-bit words mod 2^32
    copy   out[i] = source[i]
    write  bits of out[i] = uint32(i) * 2654435761 + uint32(seed)
    triad  out[i] = b[i] + scalar * c[i], product and sum each rounded to float32; exact for fill's values and scalar 3

`backend`: None takes "triton" for CUDA tensors and "host" for CPU tensors; "torch" is the eager reference. `config`:
the backend's own, StreamConfig or HostConfig. Every function raises ValueError for a tensor or config that does not
fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from roofprobe.kernels.backend import ConfigFields, choose_backend, config_for, no_config

if TYPE_CHECKING:
    from roofprobe.kernels.host_threads import HostConfig
    from roofprobe.kernels.stream_triton import StreamConfig

    Config = StreamConfig | HostConfig | ConfigFields | None

ELEMENT_BYTES = 4


@dataclass(frozen=True)
class StreamOp:
    """Arrays that an operation reads and writes, in STREAM's count."""

    reads: int
    writes: int

    def useful_bytes(self, n: int) -> int:
        """STREAM's bytes for arrays of n elements: each read once, each written once."""
        return ELEMENT_BYTES * n * (self.reads + self.writes)

    def bus_bytes(self, n: int, write_allocate: bool) -> int:
        """Estimated bytes on the bus: a cached store of a CPU first reads the line that it will overwrite."""
        return self.useful_bytes(n) + (ELEMENT_BYTES * n * self.writes if write_allocate else 0)


STREAM_OPS = {"read": StreamOp(1, 0), "copy": StreamOp(1, 1), "write": StreamOp(0, 1), "triad": StreamOp(2, 1)}


def fill(out: torch.Tensor, seed: int, *, config: Config = None, backend: str | None = None) -> torch.Tensor:
    """Fills float32 `out` and returns it."""
    _check("out", out, torch.float32)
    kernels, settings = _implementation(out, backend, config)
    kernels.fill(out, seed, *settings)
    return out


def read_partials(source: torch.Tensor, *, config: Config = None, backend: str | None = None) -> int:
    """Length of `out` for `read` of this source with this backend and config."""
    kernels, settings = _implementation(source, backend, config)
    on_host = choose_backend(source, backend) == "host"  # where the number is the same for every source
    return int(kernels.read_partials(*(settings if on_host else (source, *settings))))


def read(
    source: torch.Tensor, *, out: torch.Tensor | None = None, config: Config = None, backend: str | None = None
) -> torch.Tensor:
    """Reads all of `source` (float32 or int32) into int32 partial sums [read_partials(source)]."""
    _check("source", source, None)
    kernels, settings = _implementation(source, backend, config)
    partials = read_partials(source, config=config, backend=backend)
    if out is None:
        out = torch.empty(partials, dtype=torch.int32, device=source.device)
    _check("out", out, torch.int32, partials, source.device)
    kernels.read(source, out, *settings)
    return out


def copy(
    source: torch.Tensor, *, out: torch.Tensor | None = None, config: Config = None, backend: str | None = None
) -> torch.Tensor:
    """Copies `source` (float32 or int32)."""
    _check("source", source, None)
    out = torch.empty_like(source) if out is None else out
    _check("out", out, source.dtype, source.numel(), source.device)
    kernels, settings = _implementation(source, backend, config)
    kernels.copy(source, out, *settings)
    return out


def write(out: torch.Tensor, seed: int, *, config: Config = None, backend: str | None = None) -> torch.Tensor:
    """Writes the pattern to int32 `out` and returns it."""
    _check("out", out, torch.int32)
    kernels, settings = _implementation(out, backend, config)
    kernels.write(out, seed, *settings)
    return out


def triad(
    b: torch.Tensor,
    c: torch.Tensor,
    scalar: float,
    *,
    out: torch.Tensor | None = None,
    config: Config = None,
    backend: str | None = None,
) -> torch.Tensor:
    """b + scalar * c; all float32 of one length."""
    _check("b", b, torch.float32)
    _check("c", c, torch.float32, b.numel(), b.device)
    out = torch.empty_like(b) if out is None else out
    _check("out", out, torch.float32, b.numel(), b.device)
    kernels, settings = _implementation(b, backend, config)
    kernels.triad(b, c, scalar, out, *settings)
    return out


def _implementation(tensor: torch.Tensor, backend: str | None, config: Config) -> tuple[Any, tuple[object, ...]]:
    """The backend's module, loaded on first use, and what its functions take after their own arguments."""
    match choose_backend(tensor, backend):
        case "triton":
            from roofprobe.kernels import stream_triton

            return stream_triton, (config_for(config, stream_triton.StreamConfig),)
        case "host":
            from roofprobe.kernels import host_threads, stream_host

            return stream_host, (config_for(config, host_threads.HostConfig),)
        case "torch":
            from roofprobe.kernels import stream_torch

            no_config(config)
            return stream_torch, ()


def _check(
    name: str,
    tensor: torch.Tensor,
    dtype: torch.dtype | None,
    length: int | None = None,
    device: torch.device | None = None,
) -> None:
    allowed = (torch.float32, torch.int32) if dtype is None else (dtype,)
    if tensor.dtype not in allowed:
        raise ValueError(f"{name}: expected {' or '.join(map(str, allowed))}, got {tensor.dtype}")
    if tensor.dim() != 1 or tensor.numel() == 0 or not tensor.is_contiguous():
        raise ValueError(
            f"{name}: expected a contiguous one-dimensional tensor of at least one element, "
            f"got shape {list(tensor.shape)} with strides {list(tensor.stride())}"
        )
    if length is not None and tensor.numel() != length:
        raise ValueError(f"{name}: expected {length} elements, got {tensor.numel()}")
    if device is not None and tensor.device != device:
        raise ValueError(f"{name}: expected on {device}, got {tensor.device}")
