"""The CPU stream kernels: every element right at every length and offset, and nothing written beside the output."""

from collections.abc import Callable, Iterator
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from roofprobe.kernels import stream_host
from roofprobe.kernels.host_memory import allocate
from roofprobe.kernels.host_threads import HostConfig, allowed_cpus, share

POISON = -77  # no kernel writes it
PAGE = 1024  # elements
# One element; either side of a vector; one step; a page and a bit; several chunks for two threads, with a tail.
LENGTHS = [1, 15, 16, 17, 64, PAGE + 3, 20 * PAGE + 7]
OFFSETS = [0, 1, 5]  # elements past a 64-byte boundary; differently for each tensor of a test

several_threads = pytest.mark.parametrize(
    "config",
    [
        HostConfig(threads=1, chunk_bytes=4096),
        pytest.param(
            HostConfig(threads=2, chunk_bytes=4096),
            marks=pytest.mark.skipif(len(allowed_cpus()) < 2, reason="this process may use one CPU only"),
        ),
        HostConfig(stores="normal"),
    ],
    ids=["1 thread", "2 threads", "normal stores"],
)


def between_poison(n: int, offset: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """A poisoned tensor and the n elements in its midst, `offset` past a 64-byte boundary."""
    whole = allocate(4 * (n + 128)).view(dtype).fill_(POISON)
    return whole, whole[16 + offset : 16 + offset + n]


def untouched_outside(whole: torch.Tensor, part: torch.Tensor) -> bool:
    first = (part.data_ptr() - whole.data_ptr()) // 4
    return bool((whole[:first] == POISON).all() and (whole[first + part.numel() :] == POISON).all())


def hashes(n: int, seed: int) -> np.ndarray:
    return (np.arange(n, dtype=np.uint64) * stream_host.HASH + seed).astype(np.uint32)


def cases() -> Iterator[tuple[int, int]]:
    return ((n, offset) for n in LENGTHS for offset in OFFSETS)


@several_threads
def test_copy(config: HostConfig) -> None:
    for n, offset in cases():
        _, source = between_poison(n, 2 * offset + 1, torch.float32)
        source.copy_(torch.randn(n))
        whole, out = between_poison(n, offset, torch.float32)
        assert stream_host.copy(source, out, config) is out
        assert torch.equal(out, source), (n, offset)
        assert untouched_outside(whole, out), (n, offset)


@several_threads
def test_write(config: HostConfig) -> None:
    seed = 2**32 - 5  # the sum wraps
    for n, offset in cases():
        whole, out = between_poison(n, offset, torch.int32)
        stream_host.write(out, seed, config)
        assert (out.numpy().view(np.uint32) == hashes(n, seed)).all(), (n, offset)
        assert untouched_outside(whole, out), (n, offset)


@several_threads
def test_fill(config: HostConfig) -> None:
    for n, offset in cases():
        whole, out = between_poison(n, offset, torch.float32)
        stream_host.fill(out, 123, config)
        assert (out.numpy() == (hashes(n, 123) >> 12).astype(np.float32)).all(), (n, offset)
        assert untouched_outside(whole, out), (n, offset)


@several_threads
def test_triad(config: HostConfig) -> None:
    for n, offset in cases():
        _, b = between_poison(n, offset + 1, torch.float32)
        _, c = between_poison(n, 3 * offset, torch.float32)
        whole, out = between_poison(n, offset, torch.float32)
        b.copy_(torch.randn(n))
        c.copy_(torch.randn(n))
        stream_host.triad(b, c, 1.7, out, config)
        # Product and sum rounded one after the other, as numpy does it: any fused product differs on random data.
        assert (out.numpy() == b.numpy() + np.float32(1.7) * c.numpy()).all(), (n, offset)
        assert untouched_outside(whole, out), (n, offset)


@several_threads
def test_read(config: HostConfig) -> None:
    for n, offset in cases():
        _, source = between_poison(n, offset, torch.float32)
        source.copy_(torch.randn(n))
        whole, out = between_poison(stream_host.read_partials(config), 0, torch.int32)
        stream_host.read(source, out, config)
        expected = int(source.numpy().view(np.uint32).sum(dtype=np.uint64)) % 2**32
        assert int(out.sum()) % 2**32 == expected, (n, offset)
        assert untouched_outside(whole, out), (n, offset)
        again = stream_host.read(source, out.clone(), config)
        assert torch.equal(again, out), "the partial sums depend on timing"


def test_read_notices_each_element() -> None:
    source = stream_host.fill(torch.empty(PAGE + 3), 1)
    out = torch.empty(stream_host.READ_PARTIALS, dtype=torch.int32)
    before = int(stream_host.read(source, out).sum()) % 2**32
    for i in (0, 17, PAGE + 2):
        source[i] += 1
        now = int(stream_host.read(source, out).sum()) % 2**32
        assert now != before, i
        before = now


def test_empty_tensors() -> None:
    empty = torch.empty(0)
    stream_host.copy(empty, torch.empty(0))
    stream_host.fill(empty, 1)
    assert stream_host.read(empty, torch.ones(stream_host.READ_PARTIALS, dtype=torch.int32)).sum() == 0


def test_workers_are_pinned_and_the_caller_is_not() -> None:
    before = os.sched_getaffinity(0)
    stream_host.fill(torch.empty(PAGE), 1)
    assert os.sched_getaffinity(0) == before
    pinned = {
        cpu
        for task in Path("/proc/self/task").iterdir()
        for cpu in os.sched_getaffinity(int(task.name))
        if len(os.sched_getaffinity(int(task.name))) == 1
    }
    assert pinned == before or len(before) == 1


def test_share_leaves_every_worker_several_chunks() -> None:
    config = HostConfig(threads=1, chunk_bytes=1 << 20)
    assert share(config, 1 << 30) == 1 << 20
    assert share(config, 1 << 20) == 1 << 17
    assert share(config, 100) == 4096


I32 = torch.int32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: stream_host.copy(t.half(), t), "source: expected torch.float32 or torch.int32, got torch.float16"),
        (lambda t: stream_host.copy(t, t.to(I32)), "out: expected torch.float32, got torch.int32"),
        (lambda t: stream_host.copy(t, torch.empty(5)), r"out: expected shape \[4\], got \[5\]"),
        (lambda t: stream_host.copy(t.view(2, 2), t), r"source: expected shape \[any\], got \[2, 2\]"),
        (lambda t: stream_host.fill(t[::2], 0), r"out: expected a contiguous tensor, got strides \[2\]"),
        (lambda t: stream_host.fill(t.to("meta"), 0), "out: expected a CPU tensor, got one on meta"),
        (lambda t: stream_host.write(t, 0), "out: expected torch.int32, got torch.float32"),
        (lambda t: stream_host.triad(t, torch.empty(3), 3.0, t), r"c: expected shape \[4\], got \[3\]"),
        (lambda t: stream_host.read(t, t.to(I32)), r"out: expected shape \[64\], got \[4\]"),
        (lambda t: stream_host.fill(t, 0, HostConfig(threads=10**6)), "threads: expected at most"),
    ],
)
def test_wrong_tensors_are_named(call: Callable[[torch.Tensor], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.empty(4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threads": 0}, "threads: expected at least 1, got 0"),
        ({"chunk_bytes": 1000}, "chunk_bytes: expected a positive multiple of 4096, got 1000"),
        ({"stores": "cached"}, 'stores: expected "non-temporal" or "normal", got \'cached\''),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HostConfig(**settings)


def test_memory_is_aligned_zero_and_outlives_its_first_view() -> None:
    view = allocate(3 * 4096 + 5)[4096:]
    assert view.data_ptr() % 4096 == 0
    assert view.numel() == 2 * 4096 + 5
    assert int(view.sum()) == 0
    with pytest.raises(ValueError, match="n_bytes: expected at least 1, got 0"):
        allocate(0)
    with pytest.raises(MemoryError, match="no room for"):
        allocate(1 << 62)
