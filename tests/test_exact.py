"""The exact check: inputs whose every partial sum is exact, and every wrong element counted."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
import torch

from roofprobe.collectives.collective import Piece
from roofprobe.collectives.dtypes import DTYPES, Dtype, find_dtype
from roofprobe.collectives.exact import CHUNK, NO_REDUCTION, Pattern, fill, poison
from roofprobe.collectives.exact import count_wrong as count_wrong_pieces
from roofprobe.errors import BadInput

CPU = torch.device("cpu")
COUNT = CHUNK + 321
"""One chunk and a part of the next."""


def count_wrong(buffer: torch.Tensor, pattern: Pattern, seed: int) -> int:
    """Of a whole reduced message, as all_reduce leaves it."""
    return count_wrong_pieces(buffer, [Piece(buffer.numel(), first=0, source=None)], pattern, seed)


def inputs_of(pattern: Pattern, count: int, seed: int) -> list[torch.Tensor]:
    buffers = [torch.empty(count, dtype=pattern.dtype.torch) for _ in range(pattern.world_size)]
    for rank, buffer in enumerate(buffers):
        fill(buffer, pattern, rank, seed)
    return buffers


def add(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """One step of a reduction in the element type; float8 has no addition of its own on a CPU."""
    return (a.float() + b.float()).to(a.dtype) if a.element_size() == 1 and a.is_floating_point() else a + b


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
def test_every_order_of_summation_gives_the_expected_bits(dtype: Dtype) -> None:
    pattern = Pattern(dtype, "sum", 4)
    buffers = inputs_of(pattern, 4096, seed=5)
    for order in list(permutations(range(4)))[::5]:
        total = buffers[order[0]]
        for rank in order[1:]:
            total = add(total, buffers[rank])
        assert count_wrong(total, pattern, 5) == 0
    pairwise = add(add(buffers[0], buffers[1]), add(buffers[2], buffers[3]))
    assert count_wrong(pairwise, pattern, 5) == 0


@pytest.mark.parametrize("reduction", ["prod", "max", "min", "avg"])
@pytest.mark.parametrize("name", ["float", "half", "bfloat16", "int32"])
def test_the_other_reductions(reduction: str, name: str) -> None:
    dtype = find_dtype(name)
    if reduction == "avg" and not dtype.is_float:
        with pytest.raises(BadInput, match="average"):
            Pattern(dtype, reduction, 4)
        return
    pattern = Pattern(dtype, reduction, 4)
    stacked = torch.stack(inputs_of(pattern, COUNT, seed=1)).to(torch.float64)
    reduced = {"prod": stacked.prod(0), "max": stacked.amax(0), "min": stacked.amin(0), "avg": stacked.mean(0)}
    assert count_wrong(reduced[reduction].to(dtype.torch), pattern, 1) == 0


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
@pytest.mark.parametrize("at", [0, CHUNK - 1, CHUNK, COUNT - 1], ids=["first", "chunk's last", "next chunk", "last"])
def test_one_corrupted_element_is_one_wrong_element(dtype: Dtype, at: int) -> None:
    pattern = Pattern(dtype, "sum", 2)
    reduced = add(*inputs_of(pattern, COUNT, seed=2))
    assert count_wrong(reduced, pattern, 2) == 0
    reduced.view(torch.uint8)[at * dtype.bytes] ^= 1  # the least significant bit
    assert count_wrong(reduced, pattern, 2) == 1


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
def test_poison_is_wrong_everywhere(dtype: Dtype) -> None:
    buffer = torch.empty(COUNT, dtype=dtype.torch)
    poison(buffer, dtype)
    assert count_wrong(buffer, Pattern(dtype, "sum", 2), seed=0) == COUNT


def test_what_lies_beyond_the_pieces_may_hold_anything() -> None:
    pattern = Pattern(find_dtype("half"), NO_REDUCTION, 3)
    buffer = torch.empty(10, dtype=torch.half)
    fill(buffer, pattern, 2, seed=4)
    buffer[6:] = 1e4
    assert count_wrong_pieces(buffer, [Piece(6, first=0, source=2)], pattern, 4) == 0
    assert count_wrong_pieces(buffer, [], pattern, 4) == 0
    assert count_wrong_pieces(buffer, [Piece(6, first=0, source=1)], pattern, 4) == 6


def test_a_zero_with_the_wrong_sign_is_a_wrong_element() -> None:
    pattern = Pattern(find_dtype("f8e4m3"), "sum", 2)  # of few values, so that zeros are many
    reduced = add(*inputs_of(pattern, COUNT, seed=2))
    assert count_wrong(reduced, pattern, 2) == 0
    reduced.view(torch.uint8)[int((reduced.float() == 0).nonzero()[0])] = 0x80  # minus zero, which equals zero
    assert count_wrong(reduced, pattern, 2) == 1


def mistakes(pattern: Pattern, reduced: torch.Tensor) -> dict[str, torch.Tensor]:
    own, other = inputs_of(pattern, COUNT, seed=7)
    return {
        "one rank's inputs alone": own,
        "one rank counted twice": add(own, own),
        "shifted by one": reduced.roll(1),
        "a block repeated": torch.cat([reduced[:1024], reduced[:1024], reduced[2048:]]),
        "halves swapped": reduced.roll(COUNT // 2),
        "an earlier result": add(*inputs_of(pattern, COUNT, seed=6)),
        "the other rank's inputs": other,
    }


def test_a_misplaced_stale_or_partial_result_is_wrong() -> None:
    pattern = Pattern(find_dtype("half"), "sum", 2)
    reduced = add(*inputs_of(pattern, COUNT, seed=7))
    for name, result in mistakes(pattern, reduced).items():
        wrong = count_wrong(result, pattern, 7)
        # A block of 1024 in 65857 for the repeated one; nearly everything for the others.
        assert wrong > (900 if "block" in name else 0.95 * COUNT), name


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(DTYPES), st.integers(1, 8), st.integers(0, 2**31), st.integers(0, 1 << 40))
def test_values_are_bounded_varied_and_depend_on_the_index_alone(
    dtype: Dtype, world_size: int, seed: int, start: int
) -> None:
    pattern = Pattern(dtype, "sum", world_size) if world_size * 2 <= dtype.exact_integer else None
    if pattern is None:
        return
    values = pattern.inputs(world_size - 1, start, start + 512, seed, CPU)
    assert int(values.abs().max()) * world_size <= dtype.exact_integer
    assert len(values.unique()) >= 2
    assert torch.equal(values[100:200], pattern.inputs(world_size - 1, start + 100, start + 200, seed, CPU))


def test_too_many_ranks_for_a_type_is_said() -> None:
    with pytest.raises(BadInput, match="sum over 17 ranks is not exact in f8e4m3"):
        Pattern(find_dtype("fp8_e4m3"), "sum", 17)
    with pytest.raises(BadInput, match="product over 16 ranks is not exact in half"):
        Pattern(find_dtype("half"), "prod", 16)
    with pytest.raises(BadInput, match="average over 3 ranks"):
        Pattern(find_dtype("float"), "avg", 3)


@pytest.mark.parametrize(
    ("given_name", "name"),
    [("float", "float"), ("float32", "float"), ("bfloat16", "bfloat16"), ("fp8_e4m3", "f8e4m3"),
     ("float8_e4m3fn", "f8e4m3"), ("f8e4m3", "f8e4m3")],
)  # fmt: skip
def test_both_nccl_tests_and_torch_names_are_taken(given_name: str, name: str) -> None:
    assert find_dtype(given_name).name == name


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(BadInput, match="float64x"):
        find_dtype("float64x")
