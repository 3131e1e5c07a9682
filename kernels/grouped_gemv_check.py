"""Counts the elements of a grouped GEMV that no float32 summation could have given: `gemv_check`, expert by expert."""

import torch

from roofprobe.kernels import gemv_check
from roofprobe.kernels.experts import Experts, expert


def count_wrong(weights: Experts, x: torch.Tensor, expert_ids: torch.Tensor, y: torch.Tensor) -> int:
    """How many elements of y [T, top_k, N] lie outside the bound of `gemv_check` for their expert; NaN counts.

    weights: bfloat16 [E, N, K] or ExpertWeights; x [T, K]; expert_ids [T, top_k]. Finite weights and vectors.
    """
    wrong = 0
    for number in expert_ids.unique().tolist():
        tokens, places = torch.nonzero(expert_ids == number, as_tuple=True)
        wrong += gemv_check.count_wrong(expert(weights, number), x[tokens], y[tokens, places])
    return wrong
