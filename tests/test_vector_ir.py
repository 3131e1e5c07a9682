"""The vector intrinsics against numpy, the code that they become on other CPUs, and the cache of compiled kernels."""

from collections.abc import Callable
import ctypes
import json
import mmap
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
from typing import Any

import numba
import numpy as np
import pytest

from roofprobe.kernels import host_threads, stream_host, vector_math
from roofprobe.kernels.vector_ir import (
    address,
    fence,
    fetch_add,
    load,
    load_first,
    load_nibbles,
    store,
    store_first,
    stream,
)
from roofprobe.kernels.vector_math import (
    fma,
    from_bf16,
    interleave,
    lane_numbers,
    look_up,
    splat,
    to_float,
    total,
)

RANDOM = np.random.default_rng(7)


def run(kernel: Callable[..., Any], *arguments: Any) -> Any:
    return numba.njit(kernel)(*arguments)


def test_arithmetic_lane_by_lane() -> None:
    def kernel(a: Any, b: Any, words: Any, sums: Any, products: Any, fused: Any, shifted: Any) -> None:
        store(sums, 0, load(a, 0) + load(b, 0))
        store(products, 0, load(words, 0) * lane_numbers())
        store(fused, 0, fma(load(a, 0), load(b, 0), splat(np.float32(1))))
        store(shifted, 0, load(words, 0) >> 7)

    a, b = (RANDOM.standard_normal(16).astype(np.float32) for _ in range(2))
    words = RANDOM.integers(0, 2**32, 16, dtype=np.uint32)
    sums, fused = np.empty(16, np.float32), np.empty(16, np.float32)
    products, shifted = np.empty(16, np.uint32), np.empty(16, np.uint32)
    run(kernel, a, b, words, sums, products, fused, shifted)
    assert (sums == a + b).all()
    assert (products == words * np.arange(16, dtype=np.uint32)).all()
    assert (shifted == words >> 7).all()
    np.testing.assert_allclose(fused, a.astype(np.float64) * b + 1, rtol=2**-22, atol=2**-22)


def test_conversions_and_sums() -> None:
    def kernel(halves: Any, words: Any, wide: Any, converted: Any) -> Any:
        store(wide, 0, from_bf16(load(halves, 0)))
        store(converted, 0, to_float(load(words, 0)))
        return total(load(words, 0)), total(load(wide, 0))

    halves = (RANDOM.standard_normal(16).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    words = RANDOM.integers(2**30, 2**31, 16, dtype=np.uint32)
    wide, converted = np.empty(16, np.float32), np.empty(16, np.float32)
    word_sum, float_sum = run(kernel, halves, words, wide, converted)
    assert (wide.view(np.uint32) == halves.astype(np.uint32) << 16).all()
    assert (converted == words.astype(np.float32)).all()
    assert word_sum == int(words.sum(dtype=np.uint64)) % 2**32  # wraps
    assert abs(float_sum - wide.astype(np.float64).sum()) < 1e-5


def test_nibbles_look_up_and_interleave() -> None:
    def kernel(packed: Any, table: Any, low: Any, looked: Any, both: Any) -> None:
        nibbles = load_nibbles(packed, 1)
        store(low, 0, nibbles)
        store(looked, 0, look_up(load(table, 0), nibbles))
        store(both, 0, interleave(nibbles, look_up(load(table, 0), nibbles)))

    packed = RANDOM.integers(0, 256, 9, dtype=np.uint8)
    table = RANDOM.integers(0, 256, 16, dtype=np.uint8)
    low, looked, both = np.empty(16, np.uint8), np.empty(16, np.uint8), np.empty(16, np.uint16)
    run(kernel, packed, table, low, looked, both)
    expected = np.stack([packed[1:] & 15, packed[1:] >> 4], axis=1).reshape(-1)
    assert (low == expected).all()
    assert (looked == table[expected]).all()
    assert (both == expected + table[expected].astype(np.uint16) * 256).all()


def test_look_up_without_a_shuffle_instruction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_math, "shuffle_instruction", lambda _: "")
    test_nibbles_look_up_and_interleave()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_first_lanes_and_no_others(dtype: Any) -> None:
    def kernel(source: Any, out: Any, loaded: Any, count: int) -> None:
        lanes = load_first(source, 3, count)
        store(loaded, 0, lanes)
        store_first(out, 1, lanes, count)

    source = np.arange(1, 20).astype(dtype)
    for count in range(17):
        out, loaded = np.full(18, 77, dtype), np.full(16, 77, dtype)
        run(kernel, source, out, loaded, count)
        assert loaded.tolist() == [*range(4, 4 + count)] + [0] * (16 - count)
        assert out.tolist() == [77, *range(4, 4 + count)] + [77] * (17 - count)


def test_first_lanes_at_the_end_of_memory() -> None:
    """A page that may be read before one that may not: no lane beyond the count is even looked at."""

    def kernel(source: Any, out: Any) -> None:
        store(out, 0, load_first(source, source.size - 3, 3))

    libc = ctypes.CDLL(None, use_errno=True)
    memory = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    pages = np.frombuffer(memory, dtype=np.uint8)
    pages[: mmap.PAGESIZE] = 5
    guard = ctypes.c_void_p(pages.ctypes.data + mmap.PAGESIZE)
    no_access = 0
    assert libc.mprotect(guard, mmap.PAGESIZE, no_access) == 0
    out = np.empty(16, np.uint8)
    run(kernel, pages[: mmap.PAGESIZE], out)
    assert out.tolist() == [5] * 3 + [0] * 13


def test_memory_operations() -> None:
    def kernel(out: Any, first: int, counter: Any) -> Any:
        stream(out, first, splat(np.float32(5)))
        fence()
        return fetch_add(counter, 1, 4), address(out)

    out, counter = np.zeros(64, np.float32), np.array([1, 2])
    first = -out.ctypes.data % 64 // 4
    assert run(kernel, out, first, counter) == (2, out.ctypes.data)
    assert counter.tolist() == [1, 6]
    assert out[first : first + 16].tolist() == [5] * 16
    assert out.sum() == 80


# What the kernels become on the CPUs that this machine is not.


def assemblies(target: str, folder: Path) -> dict[str, dict[str, str]]:
    """Kernel -> CPU -> assembly, from a process and a cache of its own.

    What a kernel calls is compiled once a process and cached on the disk: compiled here, earlier tests would decide for
    which machine, and these tests what later runs load.
    """
    script = Path(__file__).parent / "cross_compile.py"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder)}
    command = [sys.executable, str(script), target]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert found.returncode == 0, found.stderr
    result: dict[str, dict[str, str]] = json.loads(found.stdout)
    return result


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    return assemblies("arm", tmp_path_factory.mktemp("arm"))


@pytest.fixture(scope="module")
def x86(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    return assemblies("x86", tmp_path_factory.mktemp("x86"))


def hot_loop(text: str, marker: str) -> str:
    """The basic block with the most of `marker`."""
    return max(re.split(r"^\.?L?[\w.$]+:.*$", text, flags=re.M), key=lambda block: len(re.findall(marker, block)))


@pytest.mark.parametrize("cpu", ["generic", "cortex-x2"], ids=["NEON", "SVE2 as in X925"])
@pytest.mark.parametrize(
    ("kernel", "decodes"),
    [("copy", ""), ("triad", ""), ("dequant nvfp4", r"\btbl\s+v"), ("dequant fp8", r"\bfcvtl2?\s+v")],
)
def test_neon_non_temporal_pairs(arm: dict[str, dict[str, str]], kernel: str, decodes: str, cpu: str) -> None:
    loop = hot_loop(arm[kernel][cpu], r"\bstnp\b")
    assert re.search(r"\bstnp\s+q\d+, q\d+", loop)
    assert re.search(r"\bldn?p\s+q\d+, q\d+|\bldu?r\s+q\d+", loop)
    assert not re.search(r"\b(st\d|str|stp)\s+[{qv]|\bbl\b", loop), "an ordinary store or a call in the hot loop"
    assert re.search(decodes, loop)


@pytest.mark.parametrize(("cpu", "register"), [("haswell", "ymm"), ("znver4", "zmm")], ids=["AVX2", "AVX-512"])
@pytest.mark.parametrize("kernel", ["copy", "triad"])
def test_x86_non_temporal_stores(x86: dict[str, dict[str, str]], kernel: str, cpu: str, register: str) -> None:
    loop = hot_loop(x86[kernel][cpu], r"vmovnt")
    assert re.search(rf"vmovnt(ps|dq|pd)\s+%{register}", loop)
    assert re.search(rf"vmovu?a?(ps|dq)\S*\s+\S*\(.*%{register}|v(add|mul)ps\s+\S*\(.*%{register}", loop)
    assert not re.search(r"vmov[au]\w+\s+%[yz]mm\d+, .*\(|\bcall", loop), "an ordinary store or a call in the hot loop"


# The cache


def test_cache_follows_the_intrinsics_source(tmp_path: Path) -> None:
    """numba looks at a kernel's own file only: a change of an intrinsic alone must still recompile."""
    package = tmp_path / "roofprobe"
    (package / "kernels").mkdir(parents=True)
    (package / "__init__.py").touch()
    for name in ("vector_ir.py", "vector_math.py", "host_threads.py", "host_memory.py", "stream_host.py"):
        shutil.copy(Path(host_threads.__file__).parent / name, package / "kernels")
    program = (
        "import torch; from roofprobe.kernels import stream_host as s\n"
        "out = s.write(torch.zeros(100, dtype=torch.int32), 0)\n"
        "print(out[1].item() % 2**32, sum(s._write.stats.cache_hits.values()))\n"
    )

    def run_copy() -> list[int]:
        command = [sys.executable, "-c", program]
        environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
        return [int(word) for word in result.stdout.split()]

    assert run_copy() == [stream_host.HASH, 0]
    assert run_copy() == [stream_host.HASH, 1]
    source = package / "kernels" / "vector_math.py"
    changed = source.read_text().replace("list(range(LANES))", "[2 * i for i in range(LANES)]")
    assert changed != source.read_text()
    source.write_text(changed)
    assert run_copy() == [2 * stream_host.HASH % 2**32, 0]
