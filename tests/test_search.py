"""The search spaces: bounded, valid, the default first, nothing twice, no multiprocessor idle."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from roofprobe.kernels import search
from roofprobe.kernels.decode import MODES
from roofprobe.kernels.dequant_triton import DequantConfig
from roofprobe.kernels.formats import FORMAT_NAMES
from roofprobe.kernels.gemv_triton import GemvConfig, default_config
from roofprobe.kernels.host_threads import HostConfig, share, worker_cpus
from roofprobe.kernels.stream_triton import StreamConfig
from roofprobe.models import models, projections

GB10, H200 = 48, 132
SHAPES = sorted({(p.n, p.k) for model in models() for tp in (1, 2, 4) for p in projections(model, tp)})


def check(space: Sequence[object], default: object, most: int) -> None:
    assert space[0] == default
    assert len(set(space)) == len(space) <= most


@pytest.mark.parametrize("batch", [1, 4, 16])
@pytest.mark.parametrize("weight_format", FORMAT_NAMES)
def test_gemv_over_the_whole_catalogue(weight_format: str, batch: int) -> None:
    for n, k in SHAPES:
        space = search.gemv_space(weight_format, n, k, batch, GB10)
        check(space, default_config(n, batch, GB10), 85)
        for config in space[1:]:
            assert -(-n // (config.lane_rows * config.row_groups)) >= GB10
            assert config.row_groups * batch <= search.LANE_REGISTERS
    assert len(search.gemv_space(weight_format, 28672, 8192, batch, GB10)) >= 40, "a large weight has a choice"


def test_older_decode_modes_are_tried_under_the_defaults_sizes() -> None:
    space = search.gemv_space("nvfp4", 28672, 8192, 1, GB10, decode="fhfma")
    check(space, default_config(28672, 1, GB10, "fhfma"), 87)
    assert {config.decode for config in space} == set(MODES)
    assert [c for c in space if c.decode == "e4m3"] == [default_config(28672, 1, GB10, "e4m3")]
    assert {c.decode for c in search.gemv_space("fp8", 28672, 8192, 1, H200, decode="e4m3")} == {"bits", "e4m3"}


@pytest.mark.parametrize("n", [32, 28672], ids=["router", "large"])
def test_dequant(n: int) -> None:
    space = search.dequant_space(n, 8192, H200, decode="cvt")
    check(space, DequantConfig(decode="cvt"), 23)
    assert len(space) > (10 if n == 28672 else 2)


@pytest.mark.parametrize("op", search.STREAMS)
def test_streams(op: str) -> None:
    space = search.stream_space(op, 1 << 28, GB10)
    check(space, StreamConfig(), 64 if op == "read" else 20)
    for config in space:
        assert op != "read" or 8 <= config.warps * config.programs_per_multiprocessor <= 64
    assert search.stream_space(op, 4096, GB10) == (StreamConfig(),), "too short to keep every multiprocessor busy"


@pytest.mark.parametrize("op", ["gemv", "dequant", *search.STREAMS])
@pytest.mark.parametrize("n_bytes", [1 << 20, 1 << 30], ids=["1 MiB", "1 GiB"])
def test_host(op: str, n_bytes: int) -> None:
    space = search.host_space(op, n_bytes)
    cpus = len(worker_cpus(HostConfig()))
    check(space, HostConfig(threads=cpus), 40)
    same = [(config.threads, share(config, n_bytes), config.stores) for config in space]
    assert len(set(same)) == len(same), "chunks that come to the same are measured once"
    assert {config.stores for config in space} >= {"non-temporal"}
    assert ({config.stores for config in space} == {"non-temporal"}) == (op in ("gemv", "read"))


def test_each_operation_has_its_own_config() -> None:
    found = [search.config_class(op, "device") for op in ("gemv", "dequant", "read")]
    assert found == [GemvConfig, DequantConfig, StreamConfig]
    assert search.config_class("gemv", "host") is HostConfig
