"""What a weight's tensors must be: every message names the tensor, what was expected and what was found."""

from __future__ import annotations

import torch

from roofprobe.kernels.swizzle import padded_shape

SCALE_LAYOUTS = ("linear", "swizzled")


def check_tensor(name: str, tensor: torch.Tensor, dtypes: tuple[torch.dtype, ...], shape: tuple[int, ...]) -> None:
    """Raises ValueError unless `tensor` is contiguous, of one of the dtypes and of this shape."""
    if tensor.dtype not in dtypes:
        raise ValueError(f"{name}: expected {' or '.join(map(str, dtypes))}, got {tensor.dtype}")
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name}: expected shape {list(shape)}, got {list(tensor.shape)}")
    if not tensor.is_contiguous():
        raise ValueError(f"{name}: expected a contiguous tensor, got a strided one; call .contiguous()")


def check_shape(shape: tuple[int, int], block: int) -> None:
    """Raises ValueError unless N >= 1 and K is a positive multiple of the block."""
    n, k = shape
    if n < 1 or k < block or k % block:
        raise ValueError(f"shape: expected N >= 1 and K a multiple of {block}, got N={n}, K={k}")


def check_block_scales(
    scales: torch.Tensor, dtypes: tuple[torch.dtype, ...], n: int, columns: int, layout: str
) -> None:
    """Raises ValueError unless linear scales are [N, columns] and swizzled ones flat or of the padded shape."""
    if layout not in SCALE_LAYOUTS:
        raise ValueError(f"scale_layout: expected {' or '.join(map(repr, SCALE_LAYOUTS))}, got {layout!r}")
    expected: tuple[int, ...] = (n, columns)
    if layout == "swizzled":
        rows, wide = padded_shape(n, columns)
        expected = (rows, wide) if scales.dim() == 2 else (rows * wide,)
    check_tensor("block_scales", scales, dtypes, expected)


def check_device(device: torch.device, **tensors: torch.Tensor) -> None:
    """Raises ValueError unless all of them are on the weight's device."""
    for name, tensor in tensors.items():
        if tensor.device != device:
            raise ValueError(f"{name}: expected on {device} like the weight, got {tensor.device}")


def unpacked_shape(name: str, codes: torch.Tensor) -> tuple[int, int]:
    """(N, K) of codes packed two a byte; raises ValueError unless they are a matrix."""
    if codes.dim() != 2:
        raise ValueError(f"{name}: expected shape [N, K/2], got {list(codes.shape)}")
    return codes.shape[0], 2 * codes.shape[1]


def scalar(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """A float32 [] from one of any shape with one element; raises ValueError for anything else."""
    if tensor.numel() != 1:
        raise ValueError(f"{name}: expected one float32, got shape {list(tensor.shape)}")
    if tensor.dtype != torch.float32:
        raise ValueError(f"{name}: expected torch.float32, got {tensor.dtype}")
    return tensor.reshape(())
