"""Every kernel, format, scale layout and decode mode against its check: bit by bit, or within a float32 sum's bound.

The checks (`kernels/*_check.py`) compute in eager torch, in float64 where there is a sum, and share no code with the
Triton kernels. Every output is NaN before its kernel runs. For cc 9.0, whose modes are "bits", "e4m3" and "mma", these
are about 250 compilations: 0.9 to 2 s of a CPU each, 6 to 7 s for a GEMV of batch 16 (Triton 3.9 on x86-64).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from gpu_checks.lines import NotHereError, first_line, say
from gpu_checks.machine import Machine
import torch

from roofprobe.kernels import dequant_check, gemv_check, grouped_gemv_check, stream, stream_check
from roofprobe.kernels.decode import MODES
from roofprobe.kernels.dequant import dequantize
from roofprobe.kernels.dequant_triton import DequantConfig
from roofprobe.kernels.experts import random_experts
from roofprobe.kernels.formats import random_fp8, random_mxfp4, random_nvfp4, random_weight
from roofprobe.kernels.gemv import gemv
from roofprobe.kernels.gemv_triton import GemvConfig, default_config, gemv_mode
from roofprobe.kernels.grouped_gemv import grouped_gemv
from roofprobe.kernels.launch import device_mode, multiprocessors

Cases = dict[str, Callable[[], Iterator[tuple[str, int]]]]
"""Name -> what runs it and yields, for each variant, its name and how many elements are wrong."""
WEIGHTS: dict[str, Any] = {
    "bf16": partial(random_weight, "bf16"),
    "fp8 tensor": random_fp8,
    "fp8 row": partial(random_fp8, per_row=True),
    "nvfp4 linear": random_nvfp4,
    "nvfp4 128x4": partial(random_nvfp4, scale_layout="swizzled"),
    "mxfp4 linear": random_mxfp4,
    "mxfp4 128x4": partial(random_mxfp4, scale_layout="swizzled"),
}
RAGGED_K = {"bf16": 4095, "fp8": 4098, "nvfp4": 4112, "mxfp4": 4128}
"""Divided by no tile; but for mxfp4, whose blocks are 16 bytes, rows do not all start on 16 bytes."""
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
BATCHES = (16, 1, 3)
NAN = float("nan")


def cases(where: Machine) -> Cases:
    """The longest to compile first."""
    from gpu_checks.corner_values import cases as corner_cases

    found: Cases = {}
    for kind, make in WEIGHTS.items():
        for mode in modes(where, kind.split()[0]):
            found[f"gemv {kind}, {mode}"] = partial(_gemv, where, kind.split()[0], make, mode)
    for kind in ("bf16", "fp8", "nvfp4", "mxfp4"):
        found[f"grouped_gemv {kind}"] = partial(_grouped, where, kind)
    for kind, make in WEIGHTS.items():
        for mode in modes(where) if kind != "bf16" else ():
            found[f"dequant {kind}, {mode}"] = partial(_dequant, where, kind.split()[0], make, mode)
    for op in ("read", "copy", "write", "triad"):
        found[f"stream {op}"] = partial(_stream, where, op)
    return found | corner_cases(where)


def report(name: str, found: Iterator[tuple[str, int]]) -> None:
    """One line for all of a case's variants, the first wrong one named; an error ends this case alone."""
    count, wrong, first = 0, 0, ""
    try:
        for variant, missed in found:
            count += 1
            wrong += missed
            first = first or (variant if missed else "")
    except NotHereError as reason:
        say(name, "skipped", str(reason))
        return
    except Exception as error:  # noqa: BLE001 - whatever one case does, the others are wanted
        say(name, "failed", first_line(error), checked=count, wrong=wrong)
        return
    say(name, "wrong" if wrong else "ok", first and f"first in {first}", checked=count, wrong=wrong)


def modes(where: Machine, gemv_format: str | None = None) -> tuple[str, ...]:
    """Those that this device runs; tensor cores too for a GEMV in a format that they take."""
    found = MODES[: MODES.index(device_mode(where.device)) + 1]
    tensor_cores = gemv_format is not None and gemv_mode(gemv_format, 64, torch.bfloat16, "e4m3") == "mma"
    takes = not where.dry and torch.cuda.get_device_capability(where.device) >= (8, 9)
    return (*found, "mma") if tensor_cores and takes else found


def _shapes(where: Machine, name: str, mode: str = "") -> tuple[tuple[int, int], ...]:
    """Whole tiles only; a K that ends within one (gpt-oss); rows and columns that no tile divides."""
    ragged = 4128 if mode == "mma" else RAGGED_K[name]
    if where.dry:
        return (64, 288), (18, ragged % 256 + (256 if ragged % 256 < 32 else 0))
    return (4096, 4096), (130, 2880), (1031, ragged)


def _gemv(where: Machine, name: str, make: Any, mode: str) -> Iterator[tuple[str, int]]:
    """Each pair of shape and dtype, with the batches in turn, so that each dtype meets each batch too."""
    generator = torch.Generator().manual_seed(7)
    for i, (n, k) in enumerate(_shapes(where, name, mode)):
        weight = make(n, k, 1 + i, where.device)
        for j, dtype in enumerate(DTYPES[i : i + 1] if where.dry else DTYPES):
            if mode == "mma" and dtype == torch.float32:
                continue
            batch = 1 + i if where.dry else BATCHES[(i + j) % 3]
            config = default_config(n, batch, multiprocessors(where.device), mode)
            yield f"{n}x{k}, batch {batch}, x {dtype}", _wrong(where, weight, batch, dtype, config, generator)
    if not where.dry:
        other = GemvConfig(warps=2, row_groups=2, tile_bytes=64, decode=mode)
        weight = make(257, 2880, 5, where.device)
        yield "another configuration", _wrong(where, weight, 2, torch.bfloat16, other, generator)


def _wrong(
    where: Machine, weight: Any, batch: int, dtype: torch.dtype, config: GemvConfig, generator: torch.Generator
) -> int:
    n, k = weight.shape
    x = torch.randn(batch, k, generator=generator).to(dtype).to(where.device)
    y = torch.full((batch, n), NAN, dtype=torch.float32, device=where.device)
    gemv(weight, x, out=y, out_dtype=y.dtype, config=config, backend="triton")
    return gemv_check.count_wrong(weight, x, y)


def _dequant(where: Machine, name: str, make: Any, mode: str) -> Iterator[tuple[str, int]]:
    for i, (n, k) in enumerate(_shapes(where, name)):
        weight = make(n, k, 11 + i, where.device)
        for dtype in DTYPES[:1] if where.dry else DTYPES:
            out = torch.full((n, k), NAN, dtype=dtype, device=where.device)
            dequantize(weight, dtype, out=out, config=DequantConfig(decode=mode), backend="triton")
            yield f"{n}x{k} to {dtype}", dequant_check.count_wrong(weight, out)


def _grouped(where: Machine, kind: str) -> Iterator[tuple[str, int]]:
    generator = torch.Generator().manual_seed(9)
    for experts, tokens, top_k in ((3, 2, 1),) if where.dry else ((16, 1, 4), (16, 4, 4), (8, 16, 2)):
        n, k = where.shape(1024, 2880)
        weights = random_experts(kind, experts, n, k, 3, where.device)
        x = torch.randn(tokens, k, generator=generator).to(torch.bfloat16).to(where.device)
        chosen = torch.stack([torch.randperm(experts, generator=generator)[:top_k] for _ in range(tokens)])
        ids = chosen.to(torch.int32).to(where.device)
        y = torch.full((tokens, top_k, n), NAN, dtype=torch.float32, device=where.device)
        grouped_gemv(weights, x, ids, out=y, out_dtype=y.dtype, backend="triton")
        yield f"{experts} experts, {tokens} tokens", grouped_gemv_check.count_wrong(weights, x, ids, y)


def _stream(where: Machine, op: str) -> Iterator[tuple[str, int]]:
    for n in (4096, 5000) if where.dry else (1 << 26, (1 << 24) + 1):
        a, b, c = (torch.full((n,), NAN, device=where.device) for _ in range(3))
        stream.fill(b, 1, backend="triton")
        stream.fill(c, 2, backend="triton")
        if op == "read":
            out = stream.read(b, backend="triton")
        elif op == "copy":
            out = stream.copy(b, out=a, backend="triton")
        elif op == "write":
            out = stream.write(a.view(torch.int32), 1, backend="triton")
        else:
            out = stream.triad(b, c, 3.0, out=a, backend="triton")
        yield f"{n} elements", stream_check.count_wrong(op, out, n, (1, 2) if op == "triad" else (1,))
