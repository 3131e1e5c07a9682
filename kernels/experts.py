"""The experts' weights of a mixture-of-experts layer: E matrices [N, K] of one format, stacked as in checkpoints.

BF16 experts are a plain tensor [E, N, K].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from roofprobe.kernels.formats import (
    FP8Weight,
    MXFP4Weight,
    NVFP4Weight,
    QuantizedWeight,
    Weight,
    check_weight,
    format_name,
    random_weight,
    stored_bytes,
)
from roofprobe.kernels.quantized import GlobalScaleUse


@dataclass(frozen=True, eq=False)
class ExpertWeights:
    """E quantized matrices [N, K]; expert e alone is `experts[e]`, a view.

    values: the codes, uint8 [E, N, K/2], or FP8's float8_e4m3fn [E, N, K]. scales: the block scales, [E, N, K/block]
    or, with the "swizzled" scale_layout, [E, bytes], each expert padded for itself; FP8's float32 [E] or [E, N].
    global_scale: float32 [E] for NVFP4, else None. What one expert's parts must look like is its format's business.
    Raises ValueError naming the tensor, what was expected and what was found.
    """

    format: Literal["fp8", "nvfp4", "mxfp4"]
    values: torch.Tensor
    scales: torch.Tensor
    global_scale: torch.Tensor | None = None
    scale_layout: str = "linear"
    global_scale_use: GlobalScaleUse = "multiply"

    def __post_init__(self) -> None:
        if self.format not in ("fp8", "nvfp4", "mxfp4"):
            raise ValueError(f"format: expected 'fp8', 'nvfp4' or 'mxfp4', got {self.format!r}")
        if self.values.dim() != 3 or 0 in self.values.shape:
            raise ValueError(f"values: expected shape [E, N, ...] without zeros, got {list(self.values.shape)}")
        if (self.global_scale is not None) != (self.format == "nvfp4"):
            raise ValueError(f"global_scale: expected {'float32 [E]' if self.format == 'nvfp4' else 'None'}")
        for name, tensor in (("scales", self.scales), ("global_scale", self.global_scale)):
            if tensor is not None and (tensor.dim() == 0 or tensor.shape[0] != self.experts):
                raise ValueError(f"{name}: expected {self.experts} experts first, got shape {list(tensor.shape)}")
        for name, tensor in (("values", self.values), ("scales", self.scales), ("global_scale", self.global_scale)):
            if tensor is not None and not tensor.is_contiguous():
                raise ValueError(f"{name}: expected a contiguous tensor, got a strided one; call .contiguous()")
        self[0]  # raises for parts that do not fit the format

    @classmethod
    def from_gpt_oss(cls, blocks: torch.Tensor, scales: torch.Tensor) -> ExpertWeights:
        """gpt-oss's `*_blocks` uint8 [E, N, K/32, 16] and `*_scales` uint8 [E, N, K/32]; views, nothing is copied."""
        if blocks.dim() != 4 or blocks.shape[3] != 16:
            raise ValueError(f"blocks: expected shape [E, N, K/32, 16], got {list(blocks.shape)}")
        return cls("mxfp4", blocks.flatten(2), scales)

    @classmethod
    def stacked(cls, weights: Sequence[QuantizedWeight]) -> ExpertWeights:
        """A copy of the experts' own weights, which must be of one format, shape, layout and scale convention."""
        first = weights[0]
        kinds = {(format_name(w), *w.shape, *_conventions(w), w.device) for w in weights}
        if len(kinds) != 1:
            raise ValueError(
                f"weights: expected one format, shape and layout for all experts, got {sorted(map(str, kinds))}"
            )
        layout, use = _conventions(first)
        values = torch.stack([w.values if isinstance(w, FP8Weight) else w.codes for w in weights])
        scales = torch.stack([w.scale if isinstance(w, FP8Weight) else w.block_scales for w in weights])
        if layout == "swizzled":
            scales = scales.flatten(1)
        shared = [w.global_scale for w in weights if isinstance(w, NVFP4Weight)]
        kind: Literal["fp8", "nvfp4", "mxfp4"] = (
            "fp8" if isinstance(first, FP8Weight) else "nvfp4" if isinstance(first, NVFP4Weight) else "mxfp4"
        )
        return cls(kind, values, scales, torch.stack(shared) if shared else None, layout, use)

    @property
    def experts(self) -> int:
        return self.values.shape[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(E, N, K)."""
        experts, n, width = self.values.shape
        return experts, n, width if self.format == "fp8" else 2 * width

    @property
    def device(self) -> torch.device:
        return self.values.device

    def __getitem__(self, expert: int) -> QuantizedWeight:
        _, n, k = self.shape
        values, scales = self.values[expert], self.scales[expert]
        if self.format == "fp8":
            return FP8Weight(values, scales)
        if self.global_scale is None:
            return MXFP4Weight(values, scales, (n, k), self.scale_layout)
        return NVFP4Weight(values, scales, self.global_scale[expert], (n, k), self.scale_layout, self.global_scale_use)


Experts = torch.Tensor | ExpertWeights


def check_experts(weights: object) -> Experts:
    """`weights` as a type that grouped_gemv takes; raises ValueError unless ExpertWeights or bfloat16 [E, N, K]."""
    if isinstance(weights, ExpertWeights):
        return weights
    if not isinstance(weights, torch.Tensor):
        raise ValueError(f"weights: expected a bfloat16 tensor or ExpertWeights, got {type(weights).__name__}")
    if weights.dim() != 3 or 0 in weights.shape:
        raise ValueError(f"weights: expected shape [E, N, K] without zeros, got {list(weights.shape)}")
    if not weights.is_contiguous():
        raise ValueError("weights: expected a contiguous tensor, got a strided one; call .contiguous()")
    check_weight(weights[0])
    return weights


def expert(weights: Experts, number: int) -> Weight:
    """Expert `number` alone, a view."""
    return weights[number]


def expert_bytes(weights: Experts) -> int:
    """Bytes that reading one expert once moves."""
    return stored_bytes(weights[0])


def random_experts(weight_format: str, experts: int, n: int, k: int, seed: int, device: torch.device | str) -> Experts:
    """Non-periodic data in one of FORMAT_NAMES, other for every expert; raises ValueError for another name."""
    weights = [random_weight(weight_format, n, k, seed * experts + e, device) for e in range(experts)]
    tensors = [w for w in weights if isinstance(w, torch.Tensor)]
    if tensors:
        return torch.stack(tensors)
    return ExpertWeights.stacked([w for w in weights if not isinstance(w, torch.Tensor)])


def _conventions(weight: QuantizedWeight) -> tuple[str, GlobalScaleUse]:
    layout = "linear" if isinstance(weight, FP8Weight) else weight.scale_layout
    return layout, weight.global_scale_use if isinstance(weight, NVFP4Weight) else "multiply"
