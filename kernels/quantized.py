"""Quantized weights, as they lie in memory and in checkpoints.

NVFP4: w[n, k] = e2m1(code[n, k]) * e4m3(scale[n, k // 16]) * global scale.
MXFP4: w[n, k] = e2m1(code[n, k]) * e8m0(scale[n, k // 32]).
FP8:   w[n, k] = e4m3(value[n, k]) * scale, or * scale[n].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from roofprobe.kernels.tensor_checks import (
    check_block_scales,
    check_device,
    check_shape,
    check_tensor,
    scalar,
    unpacked_shape,
)

NVFP4_BLOCK = 16
MXFP4_BLOCK = 32

GlobalScaleUse = Literal["multiply", "divide"]


class _BlockScaled:
    """What the formats of two codes a byte and a scale a block have in common."""

    codes: torch.Tensor
    block_scales: torch.Tensor
    scale_layout: str

    @property
    def device(self) -> torch.device:
        return self.codes.device

    @property
    def swizzled(self) -> bool:
        return self.scale_layout == "swizzled"

    @property
    def block_scale_bytes(self) -> torch.Tensor:
        """The block scales' bit patterns, uint8, [N, K/16 or K/32] or, if swizzled, flat; a view."""
        return _bytes(self.block_scales, self.swizzled)


@dataclass(frozen=True, eq=False)
class NVFP4Weight(_BlockScaled):
    """A matrix [N, K] of E2M1 codes with one E4M3 scale for 16 weights along K and one float32 scale for all.

    codes: uint8 [N, K/2], even k in the low nibble. block_scales: float8_e4m3fn (a sign, zero, subnormals and NaN are
    all legal), [N, K/16] in the "linear" scale_layout; in the 128x4 "swizzled" one of `swizzle.py` flat or
    [padded N, padded K/16], and its padding may hold anything. global_scale: float32 []. K is a multiple of 16.
    global_scale_use: "multiply" (ModelOpt) or "divide" (compressed-tensors). The two differ by an ulp on most
    elements if one is turned into the other through a rounded reciprocal, so it stays as the checkpoint has it.
    Raises ValueError naming the tensor, what was expected and what was found.
    """

    codes: torch.Tensor
    block_scales: torch.Tensor
    global_scale: torch.Tensor
    shape: tuple[int, int]
    scale_layout: str = "linear"
    global_scale_use: GlobalScaleUse = "multiply"

    def __post_init__(self) -> None:
        n, k = self.shape
        if self.global_scale_use not in ("multiply", "divide"):
            raise ValueError(f"global_scale_use: expected 'multiply' or 'divide', got {self.global_scale_use!r}")
        check_shape(self.shape, NVFP4_BLOCK)
        check_tensor("codes", self.codes, (torch.uint8,), (n, k // 2))
        check_block_scales(self.block_scales, (torch.float8_e4m3fn,), n, k // NVFP4_BLOCK, self.scale_layout)
        check_tensor("global_scale", self.global_scale, (torch.float32,), ())
        check_device(self.device, block_scales=self.block_scales, global_scale=self.global_scale)

    @classmethod
    def from_modelopt(
        cls, weight: torch.Tensor, weight_scale: torch.Tensor, weight_scale_2: torch.Tensor
    ) -> NVFP4Weight:
        """From ModelOpt's tensors; `weight_scale_2` (float32, [] or [1]) multiplies."""
        shape = unpacked_shape("weight", weight)
        return cls(weight, weight_scale, scalar("weight_scale_2", weight_scale_2), shape)

    @classmethod
    def from_compressed_tensors(
        cls, weight_packed: torch.Tensor, weight_scale: torch.Tensor, weight_global_scale: torch.Tensor
    ) -> NVFP4Weight:
        """From compressed-tensors' tensors; `weight_global_scale` (float32, [] or [1]) divides."""
        shape = unpacked_shape("weight_packed", weight_packed)
        scale = scalar("weight_global_scale", weight_global_scale)
        return cls(weight_packed, weight_scale, scale, shape, global_scale_use="divide")


@dataclass(frozen=True, eq=False)
class MXFP4Weight(_BlockScaled):
    """A matrix [N, K] of E2M1 codes with one E8M0 scale for 32 weights along K: byte b is 2^(b - 127), 0xFF is NaN.

    codes: uint8 [N, K/2], even k in the low nibble. block_scales: uint8 or float8_e8m0fnu, [N, K/32] in the "linear"
    scale_layout; in the 128x4 "swizzled" one of `swizzle.py` flat or [padded N, padded K/32], and its padding may hold
    anything. K is a multiple of 32. Raises ValueError naming the tensor, what was expected and what was found.
    """

    codes: torch.Tensor
    block_scales: torch.Tensor
    shape: tuple[int, int]
    scale_layout: str = "linear"

    def __post_init__(self) -> None:
        n, k = self.shape
        check_shape(self.shape, MXFP4_BLOCK)
        check_tensor("codes", self.codes, (torch.uint8,), (n, k // 2))
        dtypes = (torch.uint8, torch.float8_e8m0fnu)
        check_block_scales(self.block_scales, dtypes, n, k // MXFP4_BLOCK, self.scale_layout)
        check_device(self.device, block_scales=self.block_scales)

    @classmethod
    def from_compressed_tensors(cls, weight_packed: torch.Tensor, weight_scale: torch.Tensor) -> MXFP4Weight:
        """From compressed-tensors' tensors: weight_packed uint8 [N, K/2], weight_scale uint8 [N, K/32]."""
        return cls(weight_packed, weight_scale, unpacked_shape("weight_packed", weight_packed))

    @classmethod
    def from_gpt_oss(cls, blocks: torch.Tensor, scales: torch.Tensor) -> MXFP4Weight:
        """One expert of gpt-oss: `*_blocks[e]` uint8 [N, K/32, 16], even k in the low nibble; `*_scales[e]` [N, K/32].

        Both are views of the checkpoint's tensors; nothing is copied.
        """
        if blocks.dim() != 3 or blocks.shape[2] != MXFP4_BLOCK // 2:
            raise ValueError(f"blocks: expected shape [N, K/32, 16] of one expert, got {list(blocks.shape)}")
        n, columns, _ = blocks.shape
        check_tensor("blocks", blocks, (torch.uint8,), (n, columns, MXFP4_BLOCK // 2))
        check_tensor("scales", scales, (torch.uint8,), (n, columns))
        return cls(blocks.view(n, -1), scales, (n, columns * MXFP4_BLOCK))


@dataclass(frozen=True, eq=False)
class FP8Weight:
    """A matrix [N, K] of E4M3 values with one float32 scale for all, [], or one for every row, [N]; scales multiply.

    values: float8_e4m3fn [N, K]; 0x7F and 0xFF are NaN. Raises ValueError naming the tensor, what was expected and
    what was found.
    """

    values: torch.Tensor
    scale: torch.Tensor

    def __post_init__(self) -> None:
        if self.values.dim() != 2 or 0 in self.values.shape:
            raise ValueError(f"values: expected shape [N, K] without zeros, got {list(self.values.shape)}")
        check_tensor("values", self.values, (torch.float8_e4m3fn,), tuple(self.values.shape))
        if self.scale.dim() != 0 and tuple(self.scale.shape) != (self.shape[0],):
            raise ValueError(f"scale: expected shape [] or [{self.shape[0]}], got {list(self.scale.shape)}")
        check_tensor("scale", self.scale, (torch.float32,), tuple(self.scale.shape))
        check_device(self.device, scale=self.scale)

    @classmethod
    def from_modelopt(cls, weight: torch.Tensor, weight_scale: torch.Tensor) -> FP8Weight:
        """From ModelOpt's tensors: `weight_scale` float32 [] or [1] for all, or [N] or [N, 1] for rows."""
        return cls(weight, _row_scale("weight_scale", weight_scale, weight))

    @classmethod
    def from_compressed_tensors(cls, weight: torch.Tensor, weight_scale: torch.Tensor) -> FP8Weight:
        """From compressed-tensors' tensors: `weight_scale` [] or [1] for all, or [N, 1] for rows.

        A bfloat16 or float16 scale, as some checkpoints hold, is widened, which is exact.
        """
        return cls(weight, _row_scale("weight_scale", weight_scale, weight))

    @property
    def device(self) -> torch.device:
        return self.values.device

    @property
    def shape(self) -> tuple[int, int]:
        return self.values.shape[0], self.values.shape[1]

    @property
    def value_bytes(self) -> torch.Tensor:
        """The values' bit patterns, uint8 [N, K]; a view."""
        return self.values.view(torch.uint8)


def _bytes(scales: torch.Tensor, flat: bool) -> torch.Tensor:
    scales = scales.view(torch.uint8)
    return scales.view(-1) if flat else scales


def _row_scale(name: str, scale: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """float32 [] or [N] from the shapes that checkpoints use; raises ValueError for others (blocks, for one)."""
    n = weight.shape[0] if weight.dim() else 0
    if scale.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(f"{name}: expected torch.float32, torch.bfloat16 or torch.float16, got {scale.dtype}")
    if scale.numel() == 1:
        return scale.float().reshape(())
    if tuple(scale.shape) not in ((n,), (n, 1)):
        raise ValueError(f"{name}: expected shape [], [1], [{n}] or [{n}, 1], got {list(scale.shape)}")
    return scale.float().reshape(n)
