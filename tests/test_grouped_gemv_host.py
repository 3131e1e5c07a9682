"""Mixture-of-experts GEMV on the CPU: each token's experts and no others, in every format and layout."""

import ctypes
import mmap

from host_weights import KINDS, assert_within_bound, make
from hypothesis import given, strategies
import numpy as np
import pytest
import torch

from roofprobe.kernels.gemv_rows_host import RESIDENT
from roofprobe.kernels.grouped_gemv_host import group_by_expert, grouped_gemv_bf16, grouped_gemv_fp8, grouped_gemv_nvfp4
from roofprobe.kernels.host_threads import HostConfig

DEFAULT = HostConfig()
ANY_KIND = pytest.mark.parametrize("kind", KINDS)


def choose(tokens: int, top_k: int, experts: int, seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(experts, generator=generator)[:top_k] for _ in range(tokens)]).int()


def poisoned(ids: torch.Tensor, n: int) -> torch.Tensor:
    return torch.full((*ids.shape, n), float("nan"))


@ANY_KIND
@pytest.mark.parametrize(
    ("tokens", "top_k", "experts", "n", "k"),
    [
        (1, 1, 1, 1, 32),
        (1, 4, 8, 33, 96),  # one token: each expert alone; stacked 128x4 scales with padding in each
        (5, 2, 3, 130, 96),  # experts with one, two and more tokens; two tiles of rows
        (40, 2, 2, 7, 64),  # forty tokens for each expert: more than a GEMV takes
        (3, 2, 4, 9, RESIDENT + 32),  # four rows together, over the tiles of a row
    ],
)
def test_each_pair_is_that_experts_product(kind: str, tokens: int, top_k: int, experts: int, n: int, k: int) -> None:
    weights = make(kind, experts, n, k)
    ids = choose(tokens, top_k, experts)
    x = torch.randn(tokens, k, generator=torch.Generator().manual_seed(4))
    out = poisoned(ids, n)
    assert weights.grouped(x, ids, out, HostConfig(chunk_bytes=4096)) is out
    for t in range(tokens):
        for i in range(top_k):
            e = int(ids[t, i])
            assert_within_bound(out[t, i][None], weights.products[e], weights.factors[e], x[t][None])


@ANY_KIND
@given(data=strategies.data())
def test_exact_sums(kind: str, data: strategies.DataObject) -> None:
    """Any choice, repeated experts too: every partial sum is an integer below 2^24, so the bits are given."""
    experts, n, blocks = (data.draw(strategies.integers(1, most)) for most in (5, 40, 5))
    tokens, top_k = data.draw(strategies.integers(1, 6)), data.draw(strategies.integers(1, 4))
    chosen = data.draw(strategies.lists(strategies.integers(0, experts - 1), min_size=24, max_size=24))
    ids = torch.tensor(chosen[: tokens * top_k], dtype=torch.int32).view(tokens, top_k)
    k = 32 * blocks
    weights = make(kind, experts, n, k, whole=True)
    x = torch.randint(-8, 9, (tokens, k), generator=torch.Generator().manual_seed(n)).bfloat16()
    out = poisoned(ids, n)
    weights.grouped(x, ids, out, DEFAULT)
    w = weights.products.double() * weights.factors
    assert torch.equal(out, torch.einsum("tink,tk->tin", w[ids.long()], x.double()).float())


def test_other_experts_are_never_touched() -> None:
    """Their pages may not be read."""
    experts, n, k = 4, 4, mmap.PAGESIZE // 4  # a page each
    memory = mmap.mmap(-1, experts * mmap.PAGESIZE)
    pages = np.frombuffer(memory, dtype=np.uint8)
    pages[:] = 0x38  # 1.0
    libc = ctypes.CDLL(None, use_errno=True)
    no_access = 0
    for expert in (0, 2):
        page = ctypes.c_void_p(pages.ctypes.data + expert * mmap.PAGESIZE)
        assert libc.mprotect(page, mmap.PAGESIZE, no_access) == 0
    values = torch.frombuffer(memory, dtype=torch.uint8).view(experts, n, k)
    ids = torch.tensor([[3, 1], [1, 3], [3, 3]], dtype=torch.int32)
    out = poisoned(ids, n)
    grouped_gemv_fp8(values, torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.ones(3, k), ids, out)
    assert torch.equal(out, (ids + 1)[..., None].expand_as(out) * float(k))


def test_an_expert_has_one_group_for_all_its_tokens() -> None:
    """So its weights are read once: forty tokens that choose from two experts make two groups."""
    ids = choose(40, 2, 2)
    groups = group_by_expert(ids)
    assert groups.matrices.tolist() == [0, 1]
    assert groups.begins.tolist() == [0, 40, 80]
    assert ids.reshape(-1)[torch.from_numpy(groups.places)].tolist() == [0] * 40 + [1] * 40
    assert (groups.vectors == groups.places // 2).all()


@pytest.mark.parametrize("wrong", [-1, 3, 2**31 - 1])
def test_an_expert_that_there_is_not(wrong: int) -> None:
    ids = torch.tensor([[0, wrong]], dtype=torch.int32)
    with pytest.raises(ValueError, match=rf"expert_ids: expected 0 to 2, got {wrong}"):
        grouped_gemv_bf16(torch.ones(3, 2, 4).bfloat16(), torch.ones(1, 4), ids, torch.ones(1, 2, 2))


W, X, IDS, Y = (
    torch.ones(3, 2, 4).bfloat16(),
    torch.ones(2, 4),
    torch.zeros(2, 1, dtype=torch.int32),
    torch.ones(2, 1, 2),
)


@pytest.mark.parametrize(
    ("weight", "x", "ids", "out", "message"),
    [
        (W[0], X, IDS, Y, r"weight: expected shape \[any, any, any\], got \[2, 4\]"),
        (W, X[:, :3], IDS, Y, r"x: expected shape \[any, 4\], got \[2, 3\]"),
        (W, X, IDS.long(), Y, "expert_ids: expected torch.int32, got torch.int64"),
        (W, X, IDS[:1], Y, r"expert_ids: expected shape \[2, any\], got \[1, 1\]"),
        (W, X, IDS, Y[:, :, :1].contiguous(), r"out: expected shape \[2, 1, 2\], got \[2, 1, 1\]"),
    ],
)
def test_wrong_arguments_are_named(
    weight: torch.Tensor, x: torch.Tensor, ids: torch.Tensor, out: torch.Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        grouped_gemv_bf16(weight, x, ids, out)


def test_wrong_scales_are_named() -> None:
    codes, scales = torch.zeros(3, 2, 8, dtype=torch.uint8), torch.zeros(3, 2, 1, dtype=torch.uint8)
    x, out = torch.zeros(2, 16), torch.zeros(2, 1, 2)
    with pytest.raises(ValueError, match=r"global_scale: expected shape \[3\], got \[1\]"):
        grouped_gemv_nvfp4(codes, scales, torch.ones(1), False, x, IDS, out)
    with pytest.raises(ValueError, match=r"scale_bytes: expected shape \[3, 512\], got \[3, 2, 1\]"):
        grouped_gemv_nvfp4(codes, scales, torch.ones(3), False, x, IDS, out, swizzled=True)
    with pytest.raises(ValueError, match=r"scale: expected shape \[3, 2\], got \[3, 1\]"):
        grouped_gemv_fp8(torch.zeros(3, 2, 16, dtype=torch.uint8), torch.ones(3, 1), x, IDS, out)
