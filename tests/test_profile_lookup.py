"""Which configuration a profile gives for a shape, and that the kernels take it as it is."""

import json
from pathlib import Path
from typing import Any

import pytest
from records import environment
import torch

from roofprobe.errors import BadInput
from roofprobe.kernels.backend import config_for
from roofprobe.kernels.dequant import dequantize
from roofprobe.kernels.formats import random_bf16, random_nvfp4
from roofprobe.kernels.gemv import gemv
from roofprobe.kernels.gemv_triton import GemvConfig
from roofprobe.kernels.host_threads import HostConfig
from roofprobe.profile import SCHEMA, TuningProfile
from roofprobe.tuned import TunedKernel, with_tuned

HOST = {"threads": 1, "chunk_bytes": 8192, "stores": "normal"}


def entry(n: int, k: int | None, batch: int = 1, **changes: Any) -> TunedKernel:
    """An entry whose configuration says which it is."""
    fields: dict[str, Any] = {
        "op": "gemv",
        "format": "bf16",
        "side": "device",
        "backend": "triton",
        "config": {"name": f"{n}x{k} b{batch}"},
        "default": {"name": "default"},
        "keep_default": False,
        "speedup": 1.1,
        "interval": (1.05, 1.15),
        "margin": 0.01,
        "seconds": 1e-3,
        "bytes": 1_000_000,
        "tried": 84,
        "created": "2026-01-31T12:00:00+00:00",
        "kernels": "0123456789abcdef",
    }
    return TunedKernel(n=n, k=k, batch=batch, **{**fields, **changes})


def profile(*entries: TunedKernel) -> TuningProfile:
    return TuningProfile(
        schema=SCHEMA, created="now", environment=environment(), ceilings={}, kernels=(), collectives=(), tuned=entries
    )


@pytest.mark.parametrize(
    ("n", "k", "batch", "found"),
    [
        (4096, 4096, 1, "4096x4096 b1"),
        (4096, 4096, 2, "4096x4096 b1"),  # as far by ratio from 1 as from 4: the smaller
        (4096, 4096, 3, "8192x1024 b4"),  # the batch comes first, whatever the shape
        (4096, 4096, 16, "8192x1024 b4"),
        (28672, 8192, 1, "28672x4096 b1"),
        (5000, 4000, 1, "4096x4096 b1"),
        (11000, 4096, 1, "28672x4096 b1"),  # log(28672 / 11000) < log(11000 / 4096): sizes compare by ratio
        (10700, 4096, 1, "4096x4096 b1"),
        (1, 1, 1, "4096x4096 b1"),
    ],
)
def test_the_nearest_shape(n: int, k: int, batch: int, found: str) -> None:
    entries = [entry(28672, 4096), entry(4096, 4096), entry(8192, 1024, 4)]
    for order in (entries, entries[::-1]):
        assert profile(*order).kernel_config("gemv", "bf16", n, k, batch) == {"name": found}


@pytest.mark.parametrize(
    "asked",
    [
        {"op": "dequant"},
        {"format": "nvfp4"},
        {"side": "host"},
    ],
    ids=["operation", "format", "side"],
)
def test_nothing_is_borrowed_across(asked: dict[str, Any]) -> None:
    where: dict[str, Any] = {"op": "gemv", "format": "bf16", "side": "device", **asked}
    assert profile(entry(4096, 4096)).kernel_config(n=4096, k=4096, **where) is None


def test_a_default_that_was_not_beaten_stays() -> None:
    tuned = profile(entry(4096, 4096, keep_default=True), entry(64, 64))
    assert tuned.kernel_config("gemv", "bf16", 4096, 4096) is None


def test_a_stream_has_no_k() -> None:
    tuned = profile(
        entry(1 << 20, None, op="copy", format="float32"), entry(1 << 28, None, op="copy", format="float32")
    )
    assert tuned.kernel_config("copy", "float32", 1 << 27) == {"name": f"{1 << 28}xNone b1"}


def test_a_newer_entry_takes_the_older_ones_place() -> None:
    old, other, new = entry(64, 64, speedup=1.1), entry(64, 64, 4), entry(64, 64, speedup=1.3)
    assert with_tuned([old, other], [new]) == (new, other)


def test_entries_survive_the_file_and_an_older_profile_loads(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    profile(entry(4096, 4096)).save(path)
    assert TuningProfile.load(path) == profile(entry(4096, 4096))
    document = json.loads(path.read_text())
    del document["tuned"]
    path.write_text(json.dumps(document))
    assert TuningProfile.load(path).kernel_config("gemv", "bf16", 4096, 4096) is None


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("config", {"warps": [4]}, r"tuned\[0\]\.config.*expected `int \| str \| null`, got `array`"),
        ("config", "GemvConfig(warps=4)", r"tuned\[0\]\.config: expected `object`, got `str`"),
        ("op", "gemm", r"tuned\[0\]\.op: invalid enum value 'gemm'"),
    ],
)
def test_a_malformed_entry_is_named(tmp_path: Path, field: str, value: object, said: str) -> None:
    path = tmp_path / "profile.json"
    profile(entry(4096, 4096)).save(path)
    document = json.loads(path.read_text())
    document["tuned"][0][field] = value
    path.write_text(json.dumps(document))
    with pytest.raises(BadInput, match=said):
        TuningProfile.load(path)


def test_kernels_take_what_the_profile_gives() -> None:
    """A K that no tile divides, so that the host kernel's tail runs under the tuned configuration as well."""
    tuned = profile(entry(33, 272, side="host", config=HOST), entry(33, 272, op="dequant", format="nvfp4", side="host"))
    weight, x = random_bf16(33, 272, 1, "cpu"), torch.ones(272)
    config = tuned.kernel_config("gemv", "bf16", 33, 272, side="host")
    assert torch.equal(gemv(weight, x, config=config), gemv(weight, x, config=HostConfig(1, 8192, "normal")))
    with pytest.raises(ValueError, match=r"config: expected HostConfig's threads.*, got the field 'name'"):
        dequantize(
            random_nvfp4(33, 272, 1, "cpu"), config=tuned.kernel_config("dequant", "nvfp4", 33, 272, side="host")
        )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"warps": 4, "words": 2}, r"expected GemvConfig's warps, .*, got the field 'words'"),
        ({"warps": "4"}, r"GemvConfig: Expected `int`, got `str`.*warps"),
        ({"warps": 3}, "warps: expected a power of two"),
        ({"decode": "__import__('os')"}, "decode: expected"),
    ],
    ids=["another kernel's", "a number as text", "out of range", "code"],
)
def test_fields_are_checked_and_never_run(fields: dict[str, int | str | None], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config_for(fields, GemvConfig)


def test_fields_that_an_older_profile_lacks_are_the_defaults() -> None:
    assert config_for({"warps": 8}, GemvConfig) == GemvConfig(warps=8)
