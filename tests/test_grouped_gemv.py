"""Grouped GEMV by every backend: exact sums, gamma_d on random data, shared experts, poisoned outputs, bad numbers."""

from collections.abc import Callable

from numerics import DEVICE, assert_same_values, exact_bf16, exact_nvfp4, whole_vectors
import pytest
import torch

from roofprobe.kernels.experts import Experts, ExpertWeights, expert, random_experts
from roofprobe.kernels.formats import NVFP4Weight, random_fp8, random_mxfp4, random_nvfp4
from roofprobe.kernels.gemv import gemv
from roofprobe.kernels.gemv_triton import GemvConfig
from roofprobe.kernels.grouped_gemv import algorithmic_bytes, grouped_gemv
from roofprobe.kernels.grouped_gemv_check import count_wrong

on_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="the host backend takes CPU tensors")
BACKENDS = ["triton", "torch", pytest.param("host", marks=on_cpu)]
NARROW = GemvConfig(warps=1, row_groups=2, tile_bytes=32)  # programs of 32 rows
E, N, K = 5, 35, 288  # rows and words that no tile divides; blocks of 32 that no load of four words divides


def ids(*rows: list[int]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int32, device=DEVICE)


def stacked(make: Callable[..., object], k: int, *how: object) -> ExpertWeights:
    return ExpertWeights.stacked([make(N, k, e, DEVICE, *how) for e in range(E)])  # type: ignore[misc]


MAKERS: dict[str, Callable[[], Experts]] = {
    "bf16": lambda: random_experts("bf16", E, N, K, 1, DEVICE),
    "bf16 odd": lambda: random_experts("bf16", E, N, 271, 1, DEVICE),
    "fp8": lambda: random_experts("fp8", E, N, K, 1, DEVICE),
    "fp8 by row": lambda: stacked(random_fp8, 270, True),
    "nvfp4": lambda: random_experts("nvfp4", E, N, K, 1, DEVICE),
    "nvfp4 swizzled": lambda: stacked(random_nvfp4, 272, "swizzled"),
    "mxfp4": lambda: random_experts("mxfp4", E, N, K, 1, DEVICE),
    "mxfp4 swizzled": lambda: stacked(random_mxfp4, K, "swizzled"),
}


def run(weights: Experts, x: torch.Tensor, numbers: torch.Tensor, backend: str, dtype: torch.dtype) -> torch.Tensor:
    """The result, from a poisoned output."""
    out = torch.full((*numbers.shape, weights.shape[1]), float("nan"), dtype=dtype, device=DEVICE)
    config = NARROW if backend == "triton" else None
    assert grouped_gemv(weights, x.to(DEVICE), numbers, out=out, config=config, backend=backend) is out
    return out


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_random_data(maker: Callable[[], Experts], backend: str) -> None:
    weights = maker()
    x = torch.randn(3, weights.shape[2], generator=torch.Generator().manual_seed(7)).bfloat16()
    numbers = ids([0, 4], [4, 4], [2, 0])  # the last expert, one that several tokens share, one twice in a token
    y = run(weights, x, numbers, backend, torch.float32)
    assert count_wrong(weights, x.to(DEVICE), numbers, y) == 0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("tokens", "top_k"), [(1, 1), (1, 4), (8, 1)])
def test_any_number_of_tokens_and_experts(tokens: int, top_k: int, backend: str) -> None:
    weights = random_experts("nvfp4", 6, 3, 48, 1, DEVICE)
    numbers = ids(*[[(3 * t + 2 * i) % 6 for i in range(top_k)] for t in range(tokens)])
    x = torch.randn(tokens, 48, generator=torch.Generator().manual_seed(7))
    for dtype in (torch.float32, torch.bfloat16):
        y = run(weights, x.to(dtype), numbers, backend, dtype)
        assert count_wrong(weights, x.to(dtype).to(DEVICE), numbers, y) == 0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("weight_format", ["bf16", "nvfp4"])
def test_exact_sums(weight_format: str, backend: str) -> None:
    """Every partial sum is a float32: bit-equal to float64 and to the plain GEMV."""
    if weight_format == "bf16":
        weights: Experts = torch.stack([exact_bf16(N, 48, e) for e in range(E)])
    else:
        weights = ExpertWeights.stacked([exact_nvfp4(N, 48, e) for e in range(E)])
    numbers, x = ids([3, 1], [1, 4]), whole_vectors(2, 48, 5).to(DEVICE)
    y = run(weights, x, numbers, backend, torch.float32)
    for t, row in enumerate(numbers.tolist()):
        for i, number in enumerate(row):
            assert_same_values(y[t, i], gemv(expert(weights, number), x[t], out_dtype=torch.float32, backend="torch"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_expert_has_its_own_global_scale(backend: str) -> None:
    base = random_nvfp4(N, 48, 1, DEVICE)
    scales = [torch.tensor(2.0**e, device=DEVICE) for e in range(E)]
    weights = ExpertWeights.stacked(
        [NVFP4Weight.from_compressed_tensors(base.codes, base.block_scales, s) for s in scales]
    )
    y = run(weights, whole_vectors(1, 48, 1), ids([0, 1, 3]), backend, torch.float32)[0]
    assert torch.equal(y[1] * 2, y[0]) and torch.equal(y[2] * 8, y[0])  # it divides
    assert y[0].abs().min() > 0


def test_gpt_oss_tensors_are_read_in_place() -> None:
    blocks = torch.randint(0, 256, (E, 3, 2, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    scales = torch.full((E, 3, 2), 127, dtype=torch.uint8)
    weights = ExpertWeights.from_gpt_oss(blocks, scales)
    assert weights.values.data_ptr() == blocks.data_ptr() and weights.shape == (E, 3, 64)
    x = torch.zeros(1, 64)
    x[0, 33] = 1  # odd k: the upper nibble of the second block's first byte
    numbers = torch.tensor([[4]], dtype=torch.int32)
    codes = blocks[4, :, 1, 0] >> 4
    values = torch.tensor([0.0, 0.5, 1, 1.5, 2, 3, 4, 6])[(codes & 7).long()] * (1 - 2 * (codes >> 3).float())
    assert torch.equal(grouped_gemv(weights, x, numbers, backend="torch")[0, 0], values)


def test_a_number_out_of_range_is_nan_where_it_can_not_be_refused() -> None:
    """As on a GPU, where the host does not read the numbers."""
    from roofprobe.kernels import grouped_gemv_triton

    weights, x = random_experts("nvfp4", 2, 35, 48, 1, DEVICE), whole_vectors(1, 48, 1).to(DEVICE)
    for bad in (-1, 2, 2**31 - 1):
        numbers = ids([1, bad, 0])
        out = torch.zeros(1, 3, 35, device=DEVICE)
        grouped_gemv_triton.grouped_gemv(weights, x, numbers, out, NARROW)
        assert out[0, 1].isnan().all()
        assert count_wrong(weights, x, ids([1, 0]), out[:, [0, 2]]) == 0


def test_the_check_counts_a_row_of_another_expert() -> None:
    weights, x = random_experts("nvfp4", 3, 64, 48, 1, "cpu"), torch.randn(2, 48)
    numbers = torch.tensor([[0, 1], [2, 0]], dtype=torch.int32)
    y = grouped_gemv(weights, x, numbers, backend="torch")
    assert count_wrong(weights, x, numbers, y) == 0
    assert count_wrong(weights, x, numbers.flip(1), y) > 0.9 * y.numel()


def test_only_chosen_experts_count_as_bytes() -> None:
    weights = random_experts("nvfp4", 8, 4, 32, 1, "cpu")
    one = 4 * 16 + 4 * 2 + 4
    numbers = torch.tensor([[0, 5], [5, 5]], dtype=torch.int32)
    assert algorithmic_bytes(weights, numbers) == 2 * one + 2 * 32 * 2 + 4 * 4 + 4 * 4 * 2
    assert algorithmic_bytes(weights, numbers, torch.bfloat16, torch.float32) == 2 * one + 2 * 64 + 16 + 4 * 4 * 4
    bf16 = torch.zeros(8, 4, 32, dtype=torch.bfloat16)
    assert algorithmic_bytes(bf16, numbers[:1, :1]) == 4 * 32 * 2 + 64 + 4 + 8


WEIGHTS = random_experts("nvfp4", 2, 3, 48, 1, "cpu")
X, IDS = torch.ones(2, 48), torch.tensor([[0], [1]], dtype=torch.int32)
REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "weights": (lambda: grouped_gemv(random_nvfp4(3, 48, 1, "cpu"), X, IDS), "weights: expected a bfloat16 tensor or"),  # type: ignore[arg-type]
    "weights shape": (lambda: grouped_gemv(torch.zeros(3, 48).bfloat16(), X, IDS), r"weights: expected shape \[E, N"),
    "weights dtype": (lambda: grouped_gemv(torch.zeros(2, 3, 48), X, IDS), "weight: expected .*, got torch.float32"),
    "x": (lambda: grouped_gemv(WEIGHTS, torch.ones(2, 32), IDS), r"x: expected shape \[T, 48\] with T >= 1, got"),
    "x dtype": (lambda: grouped_gemv(WEIGHTS, X.double(), IDS), "x: expected .*, got torch.float64"),
    "ids dtype": (lambda: grouped_gemv(WEIGHTS, X, IDS.long()), "expert_ids: expected torch.int32, got torch.int64"),
    "ids shape": (lambda: grouped_gemv(WEIGHTS, X, IDS[:1]), r"expert_ids: expected shape \[2, top_k\]"),
    "no ids": (lambda: grouped_gemv(WEIGHTS, X, IDS[:, :0]), r"expert_ids: expected shape \[2, top_k\]"),
    "id too large": (lambda: grouped_gemv(WEIGHTS, X, IDS + 1), "expert_ids: expected 0 to 1, got 2"),
    "id below zero": (lambda: grouped_gemv(WEIGHTS, X, IDS - 1), "expert_ids: expected 0 to 1, got -1"),
    "out": (lambda: grouped_gemv(WEIGHTS, X, IDS, out=torch.zeros(2, 3)), r"out: expected contiguous .* \[2, 1, 3\]"),
    "out dtype": (lambda: grouped_gemv(WEIGHTS, X, IDS, out_dtype=torch.int8), "out_dtype: expected"),
    "config": (lambda: grouped_gemv(WEIGHTS, X, IDS, config=NARROW, backend="torch"), "config: backend 'torch'"),
    "mixed experts": (
        lambda: ExpertWeights.stacked([random_nvfp4(3, 48, 1, "cpu"), random_nvfp4(3, 64, 1, "cpu")]),
        "weights: expected one format, shape and layout",
    ),
    "global scale": (
        lambda: ExpertWeights("mxfp4", torch.zeros(2, 3, 16).byte(), torch.zeros(2, 3, 1).byte(), torch.ones(2)),
        "global_scale: expected None",
    ),
    "scales": (lambda: ExpertWeights("fp8", torch.zeros(2, 3, 16).byte(), torch.ones(3)), "scales: expected 2 experts"),
    "values": (
        lambda: ExpertWeights("mxfp4", torch.zeros(2, 3, 15).byte(), torch.zeros(2, 3, 1).byte()),
        "shape: expected .*K a multiple of 32, got N=3, K=30",
    ),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_arguments_are_named_in_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
