"""What a chain of reductions must leave, which sizes are measured, and how time is shared among them."""

from __future__ import annotations

import pytest

from roofprobe.collectives.dtypes import find_dtype
from roofprobe.collectives.exact import Pattern, fill
from roofprobe.collectives.latency_check import chain_pattern, count_wrong_after, longest_chain
from roofprobe.collectives.latency_clock import offset_bounds
from roofprobe.collectives.latency_plan import LatencyPlan, decode_sizes, model_sizes

torch = pytest.importorskip("torch")

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("dtype", "reduction", "ranks", "length"),
    [
        ("float", "sum", 2, 10),
        ("float", "sum", 3, 10),
        ("bfloat16", "sum", 4, 10),  # powers of two cost no significand
        ("bfloat16", "sum", 3, 5),  # 3^5 = 243 <= 256
        ("half", "sum", 2, 10),
        ("half", "sum", 4, 7),  # 65504 is its largest
        ("int8", "sum", 2, 5),
        ("bfloat16", "max", 3, 10),
        ("float", "prod", 2, None),
    ],
)
def test_the_longest_chain_is_exact_and_a_longer_one_is_not(
    dtype: str, reduction: str, ranks: int, length: int | None
) -> None:
    pattern = Pattern(find_dtype(dtype), reduction, ranks)
    assert longest_chain(pattern, 10) == length
    if length is None:
        return
    exact = chain_pattern(pattern, length)
    buffers = [torch.empty(500, dtype=pattern.dtype.torch) for _ in range(ranks)]
    for rank, buffer in enumerate(buffers):
        fill(buffer, exact, rank, seed=3)
    for _ in range(length):
        total = buffers[0].clone()
        for other in buffers[1:]:
            total = torch.maximum(total, other) if reduction == "max" else total + other
        buffers = [total.clone() for _ in range(ranks)]
    assert torch.isfinite(buffers[0].double()).all()
    assert len(buffers[0].unique()) > 1
    assert count_wrong_after(buffers[0], exact, 3, length) == 0
    buffers[0][17] += 1 if reduction == "max" or dtype == "int8" else buffers[0].abs().max()
    assert count_wrong_after(buffers[0], exact, 3, length) == 1
    if reduction == "sum":
        assert count_wrong_after(buffers[1], exact, 3, length - 1) > 100  # one reduction too many shows


def test_the_sizes_are_the_band_and_every_models_message_once() -> None:
    sizes = decode_sizes()
    assert sizes == tuple(sorted(set(sizes)))
    assert {1024, 2048, 131072, 262144} <= set(sizes)
    assert model_sizes()[5760] == "gpt-oss-120b, gpt-oss-20b"
    assert model_sizes()[4 * 16384] == "llama-3.1-70b x4"
    assert set(model_sizes()) <= set(sizes)


def test_a_time_limit_is_shared_and_without_one_isolated_samples_are_never_cut() -> None:
    free = LatencyPlan((1024, 4096), 1000)
    assert (free.limits("isolated", 1).samples, free.limits("isolated", 1).seconds) == (1000, None)
    assert (free.limits("chain", 10).samples, free.limits("loaded", 1).seconds) == (100, 0.5)
    limited = LatencyPlan((1024, 4096), 1000, seconds=18)
    shares = [limited.limits(mode, 1).seconds for mode in ("pipelined", "isolated", "chain", "graph", "loaded")]
    assert shares == [1, 4, 1, 1, 2]


@pytest.mark.parametrize(
    ("exchanges", "bounds"),
    [
        ([(0, 1050, 100)], (950, 1050)),
        ([(0, 1090, 100), (1000, 2010, 1100)], (990, 1010)),  # a fast way there and a fast way back, from two exchanges
        ([(0, 1050, 100), (1000, 3000, 1010)], (1990, 2000)),  # they contradict: the shortest exchange's
    ],
)
def test_an_offset_lies_where_all_exchanges_agree(
    exchanges: list[tuple[int, int, int]], bounds: tuple[float, float]
) -> None:
    assert offset_bounds(exchanges) == bounds
