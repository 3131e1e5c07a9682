"""What every Triton launch needs: a device that can run the kernel, its multiprocessors, and arguments in range."""

from functools import cache

import torch
import triton
from triton.runtime import JITFunction

from roofprobe.kernels.decode import decode_mode

ALIGNMENT = 16  # bytes: what a 128-bit access needs


def require_launchable(kernel: object, tensor: torch.Tensor) -> None:
    """Raises ValueError if `kernel` is compiled for a GPU and `tensor` is not on one."""
    if isinstance(kernel, JITFunction) and not tensor.is_cuda:
        raise ValueError(
            f"backend 'triton' takes CUDA tensors, got one on {tensor.device}; "
            "for the interpreter set TRITON_INTERPRET=1 before Python starts, or use backend='host'"
        )


def require_aligned(name: str, tensor: torch.Tensor) -> None:
    """Raises ValueError unless `tensor` starts at a multiple of 16 bytes, as fresh tensors do and slices may not."""
    offset = tensor.data_ptr() % ALIGNMENT
    if offset:
        raise ValueError(f"{name}: expected 16-byte aligned data, got an address {offset} past; pass {name}.clone()")


@cache
def multiprocessors(device: torch.device) -> int:
    """Streaming multiprocessors of a CUDA device; 1 for the CPU, where the interpreter runs programs in turn."""
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


@cache
def device_mode(device: torch.device) -> str:
    """The decode mode for a device; the CPU, where the interpreter runs, has "bits"."""
    if device.type != "cuda":
        return "bits"
    return decode_mode(torch.cuda.get_device_capability(device), triton.__version__)


def power_of_two(name: str, value: int, largest: int) -> None:
    """Raises ValueError unless `value` is a power of two from 1 to `largest`."""
    if not 1 <= value <= largest or value & (value - 1):
        raise ValueError(f"{name}: expected a power of two from 1 to {largest}, got {value}")
