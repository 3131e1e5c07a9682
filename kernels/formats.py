"""Quantized weight formats, as they lie in memory and in checkpoints.

BF16 weights are plain tensors. NVFP4: w[n, k] = e2m1(code[n, k]) * e4m3(scale[n, k // 16]) * global scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

E2M1_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
NVFP4_BLOCK = 16

GlobalScaleUse = Literal["multiply", "divide"]


@dataclass(frozen=True, eq=False)
class NVFP4Weight:
    """A matrix [N, K] of E2M1 codes with one E4M3 scale for 16 weights along K and one float32 scale for all.

    codes: uint8 [N, K/2], even k in the low nibble. block_scales: float8_e4m3fn [N, K/16] (a sign, zero,
    subnormals and NaN are all legal). global_scale: float32 []. K is a multiple of 16.
    global_scale_use: "multiply" (ModelOpt) or "divide" (compressed-tensors). The two differ by an ulp on most
    elements if one is turned into the other through a rounded reciprocal, so it stays as the checkpoint has it.
    scale_layout: "linear"; the kernels do not read the 128x4 "swizzled" layout.
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
        if self.scale_layout != "linear":
            raise ValueError(f"scale_layout: expected 'linear', got {self.scale_layout!r}")
        if self.global_scale_use not in ("multiply", "divide"):
            raise ValueError(f"global_scale_use: expected 'multiply' or 'divide', got {self.global_scale_use!r}")
        if n < 1 or k < NVFP4_BLOCK or k % NVFP4_BLOCK:
            raise ValueError(f"shape: expected N >= 1 and K a multiple of {NVFP4_BLOCK}, got N={n}, K={k}")
        _check("codes", self.codes, torch.uint8, (n, k // 2))
        _check("block_scales", self.block_scales, torch.float8_e4m3fn, (n, k // NVFP4_BLOCK))
        _check("global_scale", self.global_scale, torch.float32, ())
        for name, tensor in (("block_scales", self.block_scales), ("global_scale", self.global_scale)):
            if tensor.device != self.codes.device:
                raise ValueError(f"{name}: expected on {self.codes.device} like codes, got {tensor.device}")

    @classmethod
    def from_modelopt(
        cls, weight: torch.Tensor, weight_scale: torch.Tensor, weight_scale_2: torch.Tensor
    ) -> NVFP4Weight:
        """From ModelOpt's tensors; `weight_scale_2` (float32, [] or [1]) multiplies."""
        shape = _unpacked_shape("weight", weight)
        return cls(weight, weight_scale, _scalar("weight_scale_2", weight_scale_2), shape)

    @classmethod
    def from_compressed_tensors(
        cls, weight_packed: torch.Tensor, weight_scale: torch.Tensor, weight_global_scale: torch.Tensor
    ) -> NVFP4Weight:
        """From compressed-tensors' tensors; `weight_global_scale` (float32, [] or [1]) divides."""
        shape = _unpacked_shape("weight_packed", weight_packed)
        scale = _scalar("weight_global_scale", weight_global_scale)
        return cls(weight_packed, weight_scale, scale, shape, global_scale_use="divide")

    @property
    def device(self) -> torch.device:
        return self.codes.device

    @property
    def block_scale_bytes(self) -> torch.Tensor:
        """The block scales' bit patterns, uint8 [N, K/16]; a view."""
        return self.block_scales.view(torch.uint8)


Weight = torch.Tensor | NVFP4Weight


def format_name(weight: Weight) -> str:
    """`bf16` or `nvfp4`, as records name it."""
    return "nvfp4" if isinstance(weight, NVFP4Weight) else "bf16"


def stored_bytes(weight: Weight) -> int:
    """Bytes that reading the whole weight once moves: codes or values, block scales and the global scale."""
    if isinstance(weight, NVFP4Weight):
        return weight.codes.nbytes + weight.block_scales.nbytes + weight.global_scale.nbytes
    return weight.nbytes


def check_weight(weight: object) -> Weight:
    """`weight` as a type that the kernels take; raises ValueError unless NVFP4Weight or bfloat16 [N, K]."""
    if isinstance(weight, NVFP4Weight):
        return weight
    if not isinstance(weight, torch.Tensor):
        raise ValueError(f"weight: expected a bfloat16 tensor or an NVFP4Weight, got {type(weight).__name__}")
    if weight.dtype != torch.bfloat16:
        raise ValueError(f"weight: expected bfloat16 or an NVFP4Weight, got {weight.dtype}")
    if weight.dim() != 2 or 0 in weight.shape:
        raise ValueError(f"weight: expected shape [N, K] without zeros, got {list(weight.shape)}")
    if not weight.is_contiguous():
        raise ValueError("weight: expected a contiguous tensor, got a strided one; call .contiguous()")
    return weight


def random_nvfp4(n: int, k: int, seed: int, device: torch.device | str) -> NVFP4Weight:
    """Non-periodic NVFP4 data, made in place: all codes, block scales from 0.25 to 3.75, global scale 0.0123."""
    if n < 1 or k < NVFP4_BLOCK or k % NVFP4_BLOCK:
        raise ValueError(f"shape: expected N >= 1 and K a multiple of {NVFP4_BLOCK}, got N={n}, K={k}")
    generator = torch.Generator(device).manual_seed(seed)
    codes = _random_bytes(n * k // 2, generator).view(n, k // 2)
    scales = _random_bytes(n * k // NVFP4_BLOCK, generator).view(n, k // NVFP4_BLOCK)
    scales.bitwise_and_(0x1F).add_(0x28)
    global_scale = torch.tensor(0.0123, dtype=torch.float32, device=device)
    return NVFP4Weight(codes, scales.view(torch.float8_e4m3fn), global_scale, (n, k))


def random_bf16(n: int, k: int, seed: int, device: torch.device | str) -> torch.Tensor:
    """Non-periodic bfloat16 [N, K] of either sign with magnitudes in [0.5, 2), made in place."""
    generator = torch.Generator(device).manual_seed(seed)
    bits = _random_bytes(2 * n * k, generator).view(torch.int16)
    bits.bitwise_and_(0x80FF - 0x10000).bitwise_or_(0x3F00)  # sign, lowest exponent bit and significand stay
    return bits.view(torch.bfloat16).view(n, k)


def _random_bytes(count: int, generator: torch.Generator) -> torch.Tensor:
    words = torch.empty(-(-count // 8), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)  # eight bytes a draw
    return words.view(torch.uint8)[:count]


def _check(name: str, tensor: torch.Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if tensor.dtype != dtype:
        raise ValueError(f"{name}: expected {dtype}, got {tensor.dtype}")
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name}: expected shape {list(shape)}, got {list(tensor.shape)}")
    if not tensor.is_contiguous():
        raise ValueError(f"{name}: expected a contiguous tensor, got a strided one; call .contiguous()")


def _unpacked_shape(name: str, codes: torch.Tensor) -> tuple[int, int]:
    if codes.dim() != 2:
        raise ValueError(f"{name}: expected shape [N, K/2], got {list(codes.shape)}")
    return codes.shape[0], 2 * codes.shape[1]


def _scalar(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if tensor.numel() != 1:
        raise ValueError(f"{name}: expected one float32, got shape {list(tensor.shape)}")
    if tensor.dtype != torch.float32:
        raise ValueError(f"{name}: expected torch.float32, got {tensor.dtype}")
    return tensor.reshape(())
