"""What gemv, dequantize and the stream operations do by default and refuse, and the gates for the host backend."""

from collections.abc import Callable
import os
import subprocess
import sys

from numerics import (
    any_e8m0,
    any_fp8,
    any_scales,
    check_block_probes,
    check_dequantize,
    check_e8m0_probes,
    check_exact_gemv,
    check_random_gemv,
    every_code_and_e8m0,
    every_code_and_scale,
    every_fp8,
    exact_bf16,
    exact_fp8,
    exact_mxfp4,
    exact_nvfp4,
    in_swizzled_layout,
    run_gemv,
    whole_vectors,
)
import pytest
import torch

from roofprobe.kernels import stream
from roofprobe.kernels.dequant import dequantize
from roofprobe.kernels.dequant_triton import DequantConfig
from roofprobe.kernels.formats import FORMAT_NAMES, random_nvfp4, random_weight
from roofprobe.kernels.gemv import gemv
from roofprobe.kernels.gemv_triton import GemvConfig
from roofprobe.kernels.host_threads import HostConfig
from roofprobe.kernels.stream_check import count_wrong
from roofprobe.kernels.stream_triton import StreamConfig

on_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="the shared gates put their tensors on the GPU")
WEIGHT = random_nvfp4(3, 48, 1, "cpu")
X = torch.ones(48)
FLOATS = torch.zeros(8)


@pytest.mark.parametrize("config", [None, HostConfig(threads=1, stores="normal")], ids=["default", "one thread"])
def test_host_stream_operations(config: HostConfig | None) -> None:
    n = 10_007
    b, c = torch.empty(n), torch.empty(n)
    stream.fill(b, 1, config=config)
    stream.fill(c, 2, config=config)
    assert count_wrong("read", stream.read(b, config=config), n, [1]) == 0
    assert count_wrong("copy", stream.copy(b, config=config), n, [1]) == 0
    assert count_wrong("write", stream.write(torch.empty(n, dtype=torch.int32), 3, config=config), n, [3]) == 0
    assert count_wrong("triad", stream.triad(b, c, 3.0, config=config), n, [1, 2]) == 0


@on_cpu
@pytest.mark.parametrize("use", ["multiply", "divide"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_host_dequantizes_every_code_and_scale(use: str, dtype: torch.dtype) -> None:
    for global_scale in (0.0123, 1e-41, 1e37, 0.0, -3.3, float("inf")):
        check_dequantize(every_code_and_scale(global_scale, use), dtype, "host")


@on_cpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_host_dequantizes_every_e8m0_and_fp8_byte(dtype: torch.dtype) -> None:
    check_dequantize(every_code_and_e8m0(), dtype, "host")
    check_dequantize(every_fp8([0.0123, 1e-41, 1e37, 0.0, -3.3, float("inf")]), dtype, "host")
    check_dequantize(every_fp8(1.00390625), dtype, "host")


@on_cpu
@pytest.mark.parametrize(("n", "k"), [(1, 16), (3, 48), (130, 272)])
def test_host_dequantizes_any_shape(n: int, k: int) -> None:
    weight = any_scales(n, k, 3)
    check_dequantize(weight, torch.bfloat16, "host")
    check_dequantize(in_swizzled_layout(weight), torch.bfloat16, "host")
    check_dequantize(any_fp8(n, k + 1, 3), torch.bfloat16, "host")


@on_cpu
@pytest.mark.parametrize(("n", "k"), [(1, 32), (3, 96), (130, 288)])
def test_host_dequantizes_mxfp4_of_any_shape(n: int, k: int) -> None:
    weight = any_e8m0(n, k, 3)
    check_dequantize(weight, torch.bfloat16, "host")
    check_dequantize(in_swizzled_layout(weight), torch.bfloat16, "host")


@on_cpu
@pytest.mark.parametrize("batch", [1, 3, 16])
@pytest.mark.parametrize(("n", "k"), [(1, 16), (3, 48), (130, 288)])
def test_host_gemv_is_exact(n: int, k: int, batch: int) -> None:
    weights = [exact_bf16(n, k, 1), exact_fp8(n, k, 1), exact_nvfp4(n, k, 1), in_swizzled_layout(exact_nvfp4(n, k, 1))]
    if k % 32 == 0:
        weights += [exact_mxfp4(n, k, 1), in_swizzled_layout(exact_mxfp4(n, k, 1))]
    for weight in weights:
        check_exact_gemv(weight, whole_vectors(batch, k, 2), "host")


@on_cpu
@pytest.mark.parametrize("layout", ["linear", "swizzled"])
def test_host_gemv_takes_every_scale_byte_from_its_own_block(layout: str) -> None:
    check_block_probes("host", layout=layout)
    check_e8m0_probes("host", layout=layout)


@on_cpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_host_gemv_is_within_gamma(dtype: torch.dtype) -> None:
    x = torch.randn(3, 4128, generator=torch.Generator().manual_seed(7)).to(dtype)
    for weight_format in FORMAT_NAMES:
        weight = random_weight(weight_format, 3, 4128, 1, "cpu")
        for out_dtype in (torch.float32, dtype):
            check_random_gemv(weight, x, "host", out_dtype)
        assert torch.equal(run_gemv(weight, torch.zeros(1, 4128), "host", torch.float32), torch.zeros(1, 3))


def test_results_follow_the_vectors_shape_and_type() -> None:
    assert gemv(WEIGHT, X).shape == (3,)
    assert gemv(WEIGHT, X.expand(5, 48)).shape == (5, 3)  # a strided x is made contiguous
    assert gemv(WEIGHT, X.bfloat16()).dtype == torch.bfloat16
    assert gemv(WEIGHT, X.bfloat16(), out_dtype=torch.float32).dtype == torch.float32
    assert dequantize(WEIGHT).dtype == torch.bfloat16
    out = torch.empty(3)
    assert gemv(WEIGHT, X, out=out) is out


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "backend": (lambda: gemv(WEIGHT, X, backend="cuda"), "backend: expected 'triton', 'host', 'torch' or None, got"),
    "config": (lambda: gemv(WEIGHT, X, config=GemvConfig()), "config: expected HostConfig .*, got GemvConfig"),
    "config of torch": (lambda: gemv(WEIGHT, X, config=GemvConfig(), backend="torch"), "config: backend 'torch'"),
    "config of triton": (
        lambda: dequantize(WEIGHT, config=HostConfig(), backend="triton"),
        "config: expected DequantConfig .*, got HostConfig",
    ),
    "stream config": (lambda: stream.fill(FLOATS, 1, config=DequantConfig()), "expected HostConfig"),  # type: ignore[arg-type]
    "stream dtype": (lambda: stream.copy(FLOATS.double()), "source: expected torch.float32 or torch.int32, got"),
    "stream length": (lambda: stream.triad(FLOATS, FLOATS[:7], 3.0), "c: expected 8 elements, got 7"),
    "stream shape": (lambda: stream.copy(FLOATS.view(2, 4)), "source: expected a contiguous one-dimensional"),
    "empty stream": (lambda: stream.copy(FLOATS[:0]), "source: expected .* at least one element"),
    "stream out": (
        lambda: stream.read(FLOATS, out=torch.zeros(3, dtype=torch.int32), config=StreamConfig(), backend="triton"),
        "out: expected 1 elements, got 3",
    ),
    "dequant weight": (lambda: dequantize(torch.zeros(2, 2)), "weight: expected NVFP4Weight, .* got Tensor"),  # type: ignore[arg-type]
    "dequant dtype": (lambda: dequantize(WEIGHT, torch.float64), "out_dtype: expected .*, got torch.float64"),
    "dequant out": (lambda: dequantize(WEIGHT, out=torch.zeros(3, 48)), "out: expected torch.bfloat16, got"),
    "gemv weight": (lambda: gemv(torch.zeros(3, 48), X), "weight: expected a bfloat16 tensor, NVFP4Weight, .* got"),
    "gemv x": (lambda: gemv(WEIGHT, torch.ones(32)), r"x: expected shape \[48\] or \[B, 48\], got \[32\]"),
    "gemv x dtype": (lambda: gemv(WEIGHT, X.double()), "x: expected .*, got torch.float64"),
    "gemv batch": (lambda: gemv(WEIGHT, X.expand(17, 48)), "x: expected a batch of 1 to 16, got 17"),
    "gemv empty batch": (lambda: gemv(WEIGHT, torch.ones(0, 48)), "x: expected a batch of 1 to 16, got 0"),
    "gemv out": (lambda: gemv(WEIGHT, X, out=torch.zeros(4)), r"out: expected contiguous torch.float32 \[3\] on cpu"),
    "gemv out dtype": (lambda: gemv(WEIGHT, X, out_dtype=torch.int8), "out_dtype: expected .*, got torch.int8"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_arguments_are_named_in_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def python(code: str, interpret: bool) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_INTERPRET": "1"} if interpret else {}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def test_triton_on_the_cpu_without_the_interpreter_says_what_to_do() -> None:
    calls = (
        "dequantize(w, backend='triton')",
        "gemv(w, torch.ones(16), backend='triton')",
        "stream.copy(torch.ones(4), backend='triton')",
        "stream.read(torch.ones(4), backend='triton')",
    )
    body = "".join(
        f"try:\n    {call}\nexcept ValueError as error:\n    print(str(error).count('set TRITON_INTERPRET=1'))\n"
        for call in calls
    )
    imports = (
        "import torch\nfrom roofprobe.kernels import stream\nfrom roofprobe.kernels.dequant import dequantize\n"
        "from roofprobe.kernels.gemv import gemv\nfrom roofprobe.kernels.formats import random_nvfp4\n"
        "w = random_nvfp4(1, 16, 1, 'cpu')\n"
    )
    done = python(imports + body, interpret=False)
    assert done.stdout.split() == ["1"] * len(calls), done.stderr


@pytest.mark.parametrize(("backend", "absent"), [("torch", {"triton", "numba"}), ("host", {"triton"})])
def test_a_backend_loads_only_what_it_uses(backend: str, absent: set[str]) -> None:
    code = (
        "import sys, torch\nbefore = set(sys.modules)\nfrom roofprobe.kernels.gemv import gemv\n"
        "from roofprobe.kernels.formats import random_nvfp4\n"
        f"gemv(random_nvfp4(1, 16, 1, 'cpu'), torch.ones(16), backend={backend!r})\n"
        f"print(sorted({absent!r} & (set(sys.modules) - before)))"
    )
    done = python(code, interpret=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
