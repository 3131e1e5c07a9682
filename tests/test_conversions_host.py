"""Number formats in sixteen-lane vectors, against torch: with the CPU's own conversions and without."""

from collections.abc import Callable
from typing import Any

from host_weights import assert_same_bits
from llvmlite import binding
import numba
import numpy as np
import pytest
import torch

from roofprobe.kernels import vector_math
from roofprobe.kernels.vector_ir import load, store
from roofprobe.kernels.vector_math import from_e4m3, to_bf16, to_bits, to_f16


def run(kernel: Callable[..., Any], *arguments: Any) -> None:
    numba.njit(kernel)(*arguments)


HALVES_IN = pytest.mark.parametrize("hardware", [True, False], ids=["the CPU's float16", "integers"])


@HALVES_IN
def test_e4m3(hardware: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(source: Any, out: Any) -> None:
        for i in range(0, source.size, 16):
            store(out, i, from_e4m3(load(source, i)))

    choose_halves(monkeypatch, hardware)
    source, out = np.arange(256, dtype=np.uint8), np.empty(256, np.float32)
    run(kernel, source, out)
    assert_same_bits(torch.from_numpy(out), torch.from_numpy(source).view(torch.float8_e4m3fn).float())


@HALVES_IN
def test_rounding(hardware: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(source: Any, bf16: Any, f16: Any, same: Any) -> None:
        for i in range(0, source.size, 16):
            store(bf16, i, to_bf16(load(source, i)))
            store(f16, i, to_f16(load(source, i)))
            store(same, i, to_bits(load(source, i)))

    choose_halves(monkeypatch, hardware)
    around = np.array([-0x1000, -1, 0, 1, 0xFFF, 0x1000, 0x1001], dtype=np.int64)  # each float16, the ties, their sides
    every_half = torch.arange(2**16).to(torch.int16).view(torch.float16).float().numpy().view(np.uint32)
    words = (every_half.astype(np.int64)[:, None] + around).reshape(-1) % 2**32
    words = np.concatenate([words, np.random.default_rng(7).integers(0, 2**32, 2**16)]).astype(np.uint32)
    bf16, f16, same = np.empty(words.size, np.uint16), np.empty(words.size, np.uint16), np.empty(words.size, np.uint32)
    values = words.view(np.float32)
    run(kernel, values, bf16, f16, same)
    assert (same == words).all()
    assert_same_bits(torch.from_numpy(bf16).view(torch.bfloat16), torch.from_numpy(values).bfloat16())
    assert_same_bits(torch.from_numpy(f16).view(torch.float16), torch.from_numpy(values).half())


def choose_halves(monkeypatch: pytest.MonkeyPatch, hardware: bool) -> None:
    if hardware and not vector_math.converts_halves(binding.get_process_triple()):
        pytest.skip("this CPU has no float16 conversions, or numba may not use them")
    monkeypatch.setattr(vector_math, "converts_halves", lambda _: hardware)
