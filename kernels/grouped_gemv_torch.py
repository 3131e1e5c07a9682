"""Grouped GEMV as one eager GEMV for every chosen expert: the reference, on any device."""

import torch

from roofprobe.kernels import gemv_torch
from roofprobe.kernels.experts import Experts, expert


def grouped_gemv(weights: Experts, x: torch.Tensor, expert_ids: torch.Tensor, out: torch.Tensor) -> None:
    """out [T, top_k, N]: row (t, i) is expert expert_ids[t, i]'s matrix times x[t]. Copies the numbers to the host."""
    for number in expert_ids.unique().tolist():
        tokens, places = torch.nonzero(expert_ids == number, as_tuple=True)
        rows = torch.empty(len(tokens), out.shape[2], dtype=out.dtype, device=out.device)
        gemv_torch.gemv(expert(weights, number), x[tokens], rows)
        out[tokens, places] = rows
