"""Sizes come from the memory that is free, outgrow the caches, and are refused with the size that is needed."""

import pytest
from records import environment

from roofprobe.errors import BadInput
from roofprobe.probes.sides import ARRAYS, find_sides
from roofprobe.probes.sides import array_size as array_size_of
from roofprobe.probes.weights import BITS_PER_WEIGHT, FULL_SHAPES, Shape, place

GIB, MIB = 1 << 30, 1 << 20


def test_a_roomy_machine_gets_arrays_of_a_gibibyte() -> None:
    assert array_size_of(100 * GIB, 32 * MIB, None, "CPU") == GIB


def test_arrays_outgrow_a_huge_cache() -> None:
    assert array_size_of(100 * GIB, 512 * MIB, None, "CPU") > 4 * 512 * MIB


def test_a_run_takes_at_most_a_quarter() -> None:
    for available in (2 * GIB, 5 * GIB, 11 * GIB):
        assert ARRAYS * array_size_of(available, 32 * MIB, None, "CPU") <= available / 4


def test_too_little_memory_names_the_size_it_needs() -> None:
    with pytest.raises(BadInput, match=r"387\.00 MiB needed .* free 1\.51 GiB or pass --memory 387M"):
        array_size_of(GIB, 32 * MIB, None, "CPU")
    assert array_size_of(GIB, 32 * MIB, 387 * MIB, "CPU") == 129 * MIB, "the advice is sufficient"


def test_a_limit_of_ones_own_is_kept_to() -> None:
    assert array_size_of(100 * GIB, MIB, 600 * MIB, "CPU") == 200 * MIB
    with pytest.raises(BadInput, match="more than the"):
        array_size_of(GIB, MIB, 2 * GIB, "CPU")
    with pytest.raises(BadInput, match="pass --memory 387M or more"):
        array_size_of(100 * GIB, 32 * MIB, 100 * MIB, "CPU")


def test_without_a_gpu_the_device_side_is_skipped_with_the_reason() -> None:
    sides, skipped = find_sides(environment(), "all")
    assert [side.side for side in sides] == ["host"]
    assert [(s.case, s.reason) for s in skipped] == [("device side", "torch finds no CUDA device")]


def test_asking_for_a_side_that_is_not_there_is_an_error() -> None:
    with pytest.raises(BadInput, match="no CUDA device"):
        find_sides(environment(), "device")


def test_the_host_is_never_shown_as_the_gpu() -> None:
    (host,), _ = find_sides(environment(), "host")
    assert host.memory.startswith("CPU side of ")
    assert host.nominal_gb_per_s is None
    assert "unknown" in host.ceiling_line()


@pytest.mark.parametrize("shape", FULL_SHAPES, ids=lambda s: f"{s.n}x{s.k}b{s.batch}")
@pytest.mark.parametrize("weight_format", sorted(BITS_PER_WEIGHT))
def test_weights_outgrow_the_caches_and_fit(shape: Shape, weight_format: str) -> None:
    (side,), _ = find_sides(environment(last_level_cache_bytes=32 * MIB), "host")
    placed = place(shape, weight_format, side)
    one = placed.n * placed.k * BITS_PER_WEIGHT[weight_format] / 8
    assert one * placed.copies > 4 * side.cache_bytes
    assert one * placed.copies <= side.array_bytes
    assert placed.k == shape.k


def test_a_weight_too_large_for_the_memory_is_cut_to_fewer_rows() -> None:
    (side,), _ = find_sides(environment(last_level_cache_bytes=MIB), "host", memory_limit=96 * MIB)
    placed = place(Shape(28672, 8192), "bf16", side)
    assert placed.n == 32 * MIB // (2 * 8192)
    assert placed.n % 128 == 0
