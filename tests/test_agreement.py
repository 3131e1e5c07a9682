"""The hash that ranks compare, and who is odd among them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
import torch

from roofprobe.collectives.agreement import WORD_BYTES, dissenters, hash_of
from roofprobe.collectives.exact import CHUNK

WORDS_OF_TWO_CHUNKS = CHUNK + 3


def random_bytes(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count,), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "at",
    [0, 8 * CHUNK - 1, 8 * CHUNK, 8 * WORDS_OF_TWO_CHUNKS - 1, 8 * WORDS_OF_TWO_CHUNKS + 4],
    ids=["first", "chunk's last", "next chunk", "last whole word", "in the part of a word at the end"],
)
def test_every_single_bit_counts(at: int) -> None:
    data = random_bytes(WORDS_OF_TWO_CHUNKS * WORD_BYTES + 5)
    before = hash_of(data)
    for bit in range(8):
        data[at] ^= 1 << bit
        assert hash_of(data) != before
        data[at] ^= 1 << bit
    assert hash_of(data) == before


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 99), st.integers(-(2**63), 2**63 - 1))
def test_no_change_within_one_word_leaves_the_hash(word: int, value: int) -> None:
    data = random_bytes(100 * WORD_BYTES)
    changed = data.clone()
    changed.view(torch.int64)[word] = value
    assert (hash_of(changed) == hash_of(data)) == bool((changed == data).all())


def test_order_and_length_count() -> None:
    data = random_bytes(4096)
    assert hash_of(data.roll(8)) != hash_of(data)
    assert hash_of(torch.cat([data[2048:], data[:2048]])) != hash_of(data)
    assert hash_of(data[:4088]) != hash_of(data)


def test_an_element_type_is_only_a_view_of_the_bytes() -> None:
    data = random_bytes(64)
    assert hash_of(data.view(torch.float8_e4m3fn)) == hash_of(data.view(torch.bfloat16)) == hash_of(data)
    assert 0 <= hash_of(data) < 1 << 64


@pytest.mark.parametrize(
    ("hashes", "odd"),
    [
        ([7], ()),
        ([7, 7, 7], ()),
        ([7, 9, 7], (1,)),
        ([9, 7, 7, 7], (0,)),
        ([7, 9, 7, 8], (0, 1, 2, 3)),
        ([7, 9], (0, 1)),
        ([7, 9, 7, 9, 7], (1, 3)),
    ],
    ids=["alone", "all agree", "one of three", "the first", "half is no majority", "two", "three of five"],
)
def test_who_is_odd(hashes: list[int], odd: tuple[int, ...]) -> None:
    assert dissenters(hashes) == odd
