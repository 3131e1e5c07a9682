"""Rates of what ran under load follow from raw seconds, and a record that can have no rate is refused."""

from __future__ import annotations

from typing import Any

import pytest

from roofprobe.load_record import MatmulRate, SentinelRun
from roofprobe.measurement import Timing


def test_a_product_is_held_against_the_clock_that_it_had() -> None:
    """80 TFLOP/s at 2.0 GHz on 48 multiprocessors of 1024 flops a cycle: 98.3 is the most."""
    seconds = 2 * 4096**3 / 80e12
    fields: dict[str, Any] = {
        "side": "device",
        "processor": "NVIDIA GB10",
        "backend": "torch",
        "m": 4096,
        "n": 4096,
        "k": 4096,
        "timing": Timing(clock="cuda-graph", seconds=(seconds,) * 9, stopped_by="interval"),
        "multiprocessors": 48,
        "flops_per_cycle": 1024,
        "wrong": 0,
    }
    rate = MatmulRate(**fields, sm_clock_mhz=(1990.0, 2000.0, 2010.0))
    assert rate.tflop_per_s == pytest.approx(80) and rate.peak_tflop_per_s == pytest.approx(98.304)
    assert rate.peak_fraction == pytest.approx(80 / 98.304) and rate.invalid is None
    slow_clock = MatmulRate(**fields, sm_clock_mhz=(700.0,))
    assert slow_clock.invalid is not None and "its own clock" in slow_clock.invalid
    assert MatmulRate(**fields).peak_fraction is None, "without a clock there is no peak"
    for changes in ({"k": 0}, {"timing": Timing(clock="cuda-graph", seconds=(), stopped_by="time-limit")}):
        with pytest.raises(ValueError, match="expected"):
            MatmulRate(**{**fields, **changes})


@pytest.mark.parametrize(
    "changes",
    [{"seconds": ()}, {"seconds": (0.0,)}, {"bytes": None}, {"bytes": 0}, {"flops": 5}],
    ids=["no sample", "no time", "neither", "nothing moved", "both"],
)
def test_a_run_that_can_have_no_rate_is_refused(changes: dict[str, Any]) -> None:
    fields = {"sentinel": "copy", "phase": "before", "t_s": 0.0, "side": "host", "memory": "m", "backend": "host"}
    with pytest.raises(ValueError, match="expected"):
        SentinelRun(**{**fields, "seconds": (1.0,), "bytes": 1, **changes})


def test_a_reading_above_the_memorys_ceiling_is_invalid() -> None:
    fields: dict[str, Any] = {"sentinel": "gemv", "phase": "during", "t_s": 1.0, "side": "device", "memory": "m"}
    run = SentinelRun(**fields, backend="triton", seconds=(0.01,) * 7, bytes=2_300_000_000, nominal_gb_per_s=273.1)
    assert run.gb_per_s == pytest.approx(230) and run.interval == pytest.approx((230, 230)) and run.invalid is None
    cached = SentinelRun(**fields, backend="triton", seconds=(0.008,) * 7, bytes=2_300_000_000, nominal_gb_per_s=273.1)
    assert cached.invalid is not None and "above the nominal" in cached.invalid
