"""Other people's kernels, each as one function: operands in, what runs one launch out.

A table's row names the module that the kernel comes from, the formats and the sides that it can do. What a function
here prepares (a library's own layout of the weight) is not timed; what it leaves in `operands.outputs` is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from roofprobe.kernels.formats import FP8Weight, MXFP4Weight, NVFP4Weight
    from roofprobe.probes.case import ExpertOperands, Operands

    Run = Callable[[int], object]

QUANTIZED = ("fp8", "nvfp4", "mxfp4")


@dataclass(frozen=True)
class Baseline:
    """Somebody's kernel: its name as a row's backend, the module that it needs, and what it can do."""

    name: str
    module: str
    formats: tuple[str, ...]
    sides: tuple[str, ...]
    make: Callable[[Any], Run]
    """From `Operands`, or for experts `ExpertOperands`."""


def torch_gemv(o: Operands) -> Run:
    """torch.mv for one vector, torch.mm (what F.linear calls) for more: cuBLAS on a GPU, oneDNN or ATen on a CPU."""
    import torch

    x, weights = _vectors(o), [_dense(w) for w in o.weights]
    if o.batch == 1:
        return lambda copy: torch.mv(weights[copy], x[0], out=o.outputs[copy][0])
    return lambda copy: torch.mm(x, weights[copy].t(), out=o.outputs[copy])


def torch_grouped_gemv(o: ExpertOperands) -> Run:
    """torch.mv, or torch.mm for an expert with several tokens, one for each expert: known beforehand."""
    import torch

    weights = _dense(o.weights)
    alone: list[list[tuple[torch.Tensor, ...]]] = []
    shared: list[list[tuple[torch.Tensor, ...]]] = []
    for numbers, output in zip(o.expert_ids, o.outputs, strict=True):
        alone.append([])
        shared.append([])
        for number in numbers.unique().tolist():
            tokens, places = torch.nonzero(numbers == number, as_tuple=True)
            if len(tokens) == 1:
                alone[-1].append((weights[number], o.x[tokens[0]], output[tokens[0], places[0]]))
            else:
                shared[-1].append((weights[number].t(), o.x[tokens], tokens, places))

    def run(copy: int) -> None:
        for matrix, vector, row in alone[copy]:
            torch.mv(matrix, vector, out=row)
        for matrix, vectors, tokens, places in shared[copy]:
            o.outputs[copy][tokens, places] = torch.mm(vectors, matrix)

    return run


def torch_dequantize(o: Operands) -> Run:
    """The eager reference, a few rows at a time: it takes 12 bytes a weight."""
    from roofprobe.kernels.dequant import dequantize
    from roofprobe.kernels.rows import row_chunks

    def run(copy: int) -> None:
        for rows, part in row_chunks(o.weights[copy]):
            dequantize(part, out=o.outputs[copy][rows], backend="torch")  # type: ignore[arg-type]

    return run


def cupy_gemv(o: Operands) -> Run:
    """CUDA C++ through NVRTC."""
    from roofprobe.kernels import gemv_cupy

    x, weights = _vectors(o), [_dense(w) for w in o.weights]
    return lambda copy: gemv_cupy.gemv(weights[copy], x, o.outputs[copy])


def flashinfer_gemv(o: Operands) -> Run:
    """Its products for a few bf16 vectors with bf16, FP8 (one scale a tensor) or NVFP4 weights."""
    import flashinfer

    from roofprobe.kernels.swizzle import swizzled

    x = _vectors(o)
    if o.format == "bf16":
        weights = [_dense(w) for w in o.weights]
        return lambda copy: flashinfer.gemm.tinygemm_bf16(x, weights[copy], o.outputs[copy])
    if o.format == "fp8":
        values = [(_fp8(w).values, _fp8(w).scale) for w in o.weights]
        return lambda copy: flashinfer.gemm.mm_bf16_fp8(x, *values[copy], out=o.outputs[copy])
    prepared = [
        flashinfer.gemm.prepare_bf16_fp4_weights(
            w.codes, swizzled(w.block_scale_bytes), _multiplier(w).reshape(1), backend="cute-dsl"
        )
        for w in map(_nvfp4, o.weights)
    ]
    return lambda copy: flashinfer.gemm.mm_bf16_fp4(x, *prepared[copy], backend="cute-dsl", out=o.outputs[copy])


def gemlite_gemv(o: Operands) -> Run:
    """Its 16-bit activation layers."""
    import gemlite.helper
    import torch

    options = {"device": str(o.weights[0].device), "dtype": torch.bfloat16}
    layers: list[Any] = []
    for weight in o.weights:
        if o.format == "fp8":
            scale = _fp8(weight).scale.expand(o.n).reshape(o.n, 1)
            layers.append(gemlite.helper.A16W8_FP8(**options).from_weights(_fp8(weight).values, scales=scale))
        elif o.format == "nvfp4":
            w = _nvfp4(weight)  # its global scale divides
            make = gemlite.helper.A16W4_NVFP(**options).from_packed_weights
            layers.append(make(w.codes, scales=w.block_scales, meta_scale=1 / _multiplier(w)))
        else:
            m = _mxfp4(weight)
            make = gemlite.helper.A16W4_MXFP(**options).from_packed_weights
            layers.append(make(m.codes, m.block_scales.view(torch.uint8)))
    x = _vectors(o)

    def run(copy: int) -> None:
        o.outputs[copy] = layers[copy](x)

    return run


def torchao_dequantize(o: Operands) -> Run:
    """NVFP4Tensor.dequantize, in eager torch."""
    import torch
    from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor

    tensors = [NVFP4Tensor(w.codes, w.block_scales, 16, torch.bfloat16, _multiplier(w)) for w in map(_nvfp4, o.weights)]

    def run(copy: int) -> None:
        o.outputs[copy] = tensors[copy].dequantize(torch.bfloat16)

    return run


GEMV = (
    Baseline("torch", "torch", ("bf16",), ("device", "host"), torch_gemv),
    Baseline("cupy", "cupy", ("bf16",), ("device",), cupy_gemv),
    Baseline("flashinfer", "flashinfer", ("bf16", "fp8", "nvfp4"), ("device",), flashinfer_gemv),
    Baseline("gemlite", "gemlite", QUANTIZED, ("device",), gemlite_gemv),
)
GROUPED_GEMV = (Baseline("torch", "torch", ("bf16",), ("device", "host"), torch_grouped_gemv),)
DEQUANT = (
    Baseline("torch", "torch", QUANTIZED, ("device", "host"), torch_dequantize),
    Baseline("torchao", "torchao", ("nvfp4",), ("device",), torchao_dequantize),
)


def _vectors(o: Operands) -> torch.Tensor:
    assert o.x is not None
    return o.x


def _dense(weight: object) -> torch.Tensor:
    import torch

    assert isinstance(weight, torch.Tensor)
    return weight


def _fp8(weight: object) -> FP8Weight:
    from roofprobe.kernels.formats import FP8Weight

    assert isinstance(weight, FP8Weight)
    return weight


def _nvfp4(weight: object) -> NVFP4Weight:
    from roofprobe.kernels.formats import NVFP4Weight

    assert isinstance(weight, NVFP4Weight)
    return weight


def _mxfp4(weight: object) -> MXFP4Weight:
    from roofprobe.kernels.formats import MXFP4Weight

    assert isinstance(weight, MXFP4Weight)
    return weight


def _multiplier(weight: NVFP4Weight) -> torch.Tensor:
    return 1 / weight.global_scale if weight.global_scale_use == "divide" else weight.global_scale
