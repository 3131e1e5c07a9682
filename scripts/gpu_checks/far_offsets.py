"""Operands past 2^31 words of 32 bits: an offset computed in 32 bits reads another place, or none of the process'.

A kernel counts in words: 2^31 of them are 2^34 FP4 weights, 2^33 of FP8, 2^32 of bf16, 8.6 GB each. A dequantization's
larger side is its result: 2^32 weights in bf16. A dry run takes small operands: it shows that this part runs, and
nothing about 64-bit arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from gpu_checks.correctness import NAN, Cases
from gpu_checks.lines import NotHereError
from gpu_checks.machine import Machine
import torch

from roofprobe.kernels import dequant_check, gemv_check, grouped_gemv_check, stream, stream_check
from roofprobe.kernels.dequant import dequantize
from roofprobe.kernels.experts import random_experts
from roofprobe.kernels.formats import random_fp8, random_mxfp4, random_nvfp4, random_weight
from roofprobe.kernels.gemv import gemv
from roofprobe.kernels.grouped_gemv import grouped_gemv

WORDS = 1 << 31
K = 16384
PER_WORD = {"bf16": 2, "fp8": 4, "nvfp4": 8, "mxfp4": 8}
SCALES = {"bf16": 0.0, "fp8": 0.0, "nvfp4": 0.125, "mxfp4": 0.0625}
"""Bytes of block scales for a byte of weights."""
CHECKING = 1 << 30
"""What a check's chunks take, at most."""


def cases(where: Machine) -> Cases:
    found: Cases = {"stream, past 2^31 words": partial(_stream, where)}
    for name in PER_WORD:
        found[f"gemv {name}, past 2^31 words"] = partial(_gemv, where, name)
    for name, make in (("nvfp4", random_nvfp4), ("mxfp4", random_mxfp4), ("fp8", random_fp8)):
        found[f"dequant {name}, past 2^31 words of result"] = partial(_dequant, where, name, make)
    for name in ("bf16", "mxfp4"):
        found[f"grouped_gemv {name}, past 2^31 words"] = partial(_grouped, where, name)
    return found


def _rows(where: Machine, weights: int) -> tuple[int, int]:
    """Rows of K, a few more than those weights fill."""
    return where.shape(weights // K + 96, K)


def _need(where: Machine, total: float) -> None:
    """Raises NotHereError where so many bytes do not fit."""
    if not where.dry:
        torch.cuda.empty_cache()  # the last case's
    room = where.room()
    if total + CHECKING > room and not where.dry:
        raise NotHereError(f"needs {(total + CHECKING) / 1e9:.1f} GB of device memory, {room / 1e9:.1f} may be used")


def _stored(name: str, words: float) -> float:
    return 4 * words * (1 + SCALES[name])


def _stream(where: Machine) -> Iterator[tuple[str, int]]:
    _need(where, 2 * 4 * WORDS)
    n = 5000 if where.dry else WORDS + 4096 + 1
    source = stream.fill(torch.empty(n, device=where.device), 1, backend="triton")
    copied = stream.copy(source, out=torch.full_like(source, NAN), backend="triton")
    yield "copy", stream_check.count_wrong("copy", copied, n, (1,))
    yield "read", stream_check.count_wrong("read", stream.read(source, backend="triton"), n, (1,))


def _gemv(where: Machine, name: str) -> Iterator[tuple[str, int]]:
    _need(where, _stored(name, WORDS))
    n, k = _rows(where, WORDS * PER_WORD[name])
    weight = random_weight(name, n, k, 1, where.device)
    x = torch.randn(1, k, generator=torch.Generator().manual_seed(2)).to(torch.bfloat16).to(where.device)
    y = torch.full((1, n), NAN, device=where.device)
    gemv(weight, x, out=y, out_dtype=y.dtype, backend="triton")
    yield f"{n}x{k}", gemv_check.count_wrong(weight, x, y)


def _dequant(where: Machine, name: str, make: Any) -> Iterator[tuple[str, int]]:
    weights = 2 * WORDS
    _need(where, _stored(name, weights / PER_WORD[name]) + 2 * weights)
    n, k = _rows(where, weights)
    weight = make(n, k, 1, where.device)
    out = torch.full((n, k), NAN, dtype=torch.bfloat16, device=where.device)
    dequantize(weight, out=out, backend="triton")
    yield f"{n}x{k}", dequant_check.count_wrong(weight, out)


def _grouped(where: Machine, name: str) -> Iterator[tuple[str, int]]:
    """The last experts lie past 2^31 words; each is made alone and then stacked, so that both are there at once."""
    _need(where, 2 * _stored(name, WORDS))
    n, k = where.shape(8192, 8192)
    experts = 3 if where.dry else WORDS * PER_WORD[name] // (n * k) + 2
    weights = random_experts(name, experts, n, k, 3, where.device)
    x = torch.randn(2, k, generator=torch.Generator().manual_seed(4)).to(torch.bfloat16).to(where.device)
    ids = torch.tensor([[experts - 1, 0], [experts // 2, experts - 2]], dtype=torch.int32, device=where.device)
    y = torch.full((2, 2, n), NAN, device=where.device)
    grouped_gemv(weights, x, ids, out=y, out_dtype=y.dtype, backend="triton")
    yield f"{experts} experts of {n}x{k}", grouped_gemv_check.count_wrong(weights, x, ids, y)
