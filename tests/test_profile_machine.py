"""A prediction from a profile: which of its figures are taken, and what is said where one is missing."""

from __future__ import annotations

from math import isclose
from pathlib import Path
from typing import Any

import msgspec
import pytest
from records import collective, environment, gemv, measurement, timing

from roofprobe.alpha_beta import Segment
from roofprobe.errors import CannotMeasure
from roofprobe.latency_record import LatencyPoint
from roofprobe.machines import EFFICIENCY, LAYER_SECONDS
from roofprobe.measurement import CollectiveMeasurement, Measurement
from roofprobe.models import find_model, projections
from roofprobe.profile import TuningProfile, build_profile
from roofprobe.profile_machine import profile_machine
from roofprobe.run_file import Run
from roofprobe.scaling import predict
from roofprobe.step_terms import Workload

GPT = find_model("gpt-oss-120b")
LLAMA = find_model("llama-3.1-70b")
WORK = Workload(GPT, "as-shipped")
READ = 200.0


def device_read(**changes: Any) -> Measurement:
    """1 GB in 5 ms: 200 GB/s."""
    return measurement(**{"side": "device", "backend": "triton", "timing": timing([0.005] * 7), **changes})


def kernel(n: int, k: int, share: float, name: str = "bf16", **changes: Any) -> Measurement:
    """A device GEMV of 1 GB at that share of the read that was paired with it."""
    fields = {
        "side": "device",
        "backend": "triton",
        "format": name,
        "n": n,
        "k": k,
        "timing": timing([0.005 / share] * 7, reference_seconds=(0.010,) * 7),
    }
    return gemv(**{**fields, **changes})


def profile(*measurements: Measurement, collectives: tuple[CollectiveMeasurement, ...] = ()) -> TuningProfile:
    return build_profile(
        Run(environment=environment(), measurements=measurements, collectives=collectives, skipped=(), ended=None)
    )


def own_kernels(ranks: int, share: float, expert_share: float) -> list[Measurement]:
    """Every matrix of the model as one of `ranks` holds it."""
    return [
        kernel(p.n, p.k, expert_share, "mxfp4", op="grouped_gemv", experts=128, top_k=4)
        if p.part == "expert"
        else kernel(p.n, p.k, share)
        for p in projections(GPT, ranks)
    ]


def nccl(**changes: Any) -> CollectiveMeasurement:
    """Two units: 20 us plus bus bytes at 10 GB/s, as `collective`, over InfiniBand."""
    return collective(**{"backend": "nccl", "transport": "NET/IB", **changes})


def test_own_shapes_are_weighed_by_the_time_that_their_bytes_take() -> None:
    found = profile_machine(profile(device_read(), *own_kernels(1, 0.9, 0.6)), WORK, 1, 1)
    assert found.machine.bandwidth_gb_per_s == pytest.approx(READ)
    bf16 = 4.999 - 36 * 4 * 3 * 2880 * 2880 * 4.25 / 8 / 1e9
    experts = 4.999 - bf16
    assert found.machine.efficiency.mid == pytest.approx(4.999 / (bf16 / 0.9 + experts / 0.6), rel=1e-3)
    assert any("own shapes for 100% of the bytes" in note for note in found.notes)
    assert any("the GPU's measured read" in note for note in found.notes)
    assert found.machine.layer_seconds == LAYER_SECONDS
    prediction = predict(WORK, found.machine, "tp", 1)
    step = (bf16 / 0.9 + experts / 0.6) / READ + 36 * LAYER_SECONDS.mid
    assert prediction.expected_tokens_per_s.mid == pytest.approx(1 / step, rel=1e-3)
    assert prediction.ceiling_tokens_per_s == pytest.approx(READ / 4.999, rel=1e-3)


def test_the_low_end_leaves_room_for_an_engines_own_kernels() -> None:
    found = profile_machine(profile(device_read(), *own_kernels(1, 0.8, 0.8)), WORK, 1, 1).machine.efficiency
    assert (found.mid, found.high) == (pytest.approx(0.8), pytest.approx(0.8))
    assert found.low == pytest.approx(0.8 * EFFICIENCY.low / EFFICIENCY.mid)


def test_a_row_of_the_batch_in_flight_stands_before_a_nearer_shape() -> None:
    rows = [kernel(5120, 2880, 0.9), kernel(4096, 4096, 0.5, batch=8)]
    measured = profile(device_read(), *rows)
    share = {batch: profile_machine(measured, Workload(LLAMA, "bf16", batch), 1, 1) for batch in (1, 8)}
    assert [found.machine.efficiency.mid for found in share.values()] == [pytest.approx(0.9), pytest.approx(0.5)]


def test_the_shapes_are_those_of_a_rank() -> None:
    halves = profile(device_read(), *own_kernels(2, 0.5, 0.5))
    assert any("own shapes for 100%" in note for note in profile_machine(halves, WORK, 2, 2).notes)
    assert any(
        "nearest shape" in note and "qkv 5120x2880 by" in note for note in profile_machine(halves, WORK, 1, 1).notes
    )


def test_the_nearest_shape_stands_for_one_that_was_not_measured_and_is_named() -> None:
    rows = [kernel(4096, 2880, 0.9), kernel(131072, 2880, 0.5), kernel(5760, 2880, 0.7, "mxfp4")]
    found = profile_machine(profile(device_read(), *rows), WORK, 1, 1)
    (note,) = (note for note in found.notes if "nearest shape" in note)
    assert "qkv 5120x2880 by 4096x2880" in note
    assert "0% of the bytes; at the nearest shape for" not in note  # expert_gate_up is measured at its own shape
    assert 0.5 < found.machine.efficiency.mid < 0.9


def test_a_format_that_was_not_measured_takes_the_default_and_says_how_to_measure_it() -> None:
    rows = [kernel(p.n, p.k, 0.9) for p in projections(GPT) if p.part != "expert"]
    found = profile_machine(profile(device_read(), *rows), WORK, 1, 1)
    assert any("default for 38% (`roofprobe gemv` measures it)" in note for note in found.notes)
    nothing = profile_machine(profile(device_read()), WORK, 1, 1)
    assert nothing.machine.efficiency.mid == pytest.approx(EFFICIENCY.mid)


def test_without_a_gpu_the_hosts_figures_are_taken_and_called_the_hosts() -> None:
    found = profile_machine(profile(measurement(), kernel(4096, 2880, 0.8, side="host")), WORK, 1, 1)
    assert found.machine.bandwidth_gb_per_s == pytest.approx(100)
    assert any("HOST's" in note for note in found.notes)
    both = profile_machine(profile(measurement(), device_read()), WORK, 1, 1)
    assert both.machine.bandwidth_gb_per_s == pytest.approx(READ)


def test_a_profile_without_a_read_is_no_ground_for_a_prediction() -> None:
    with pytest.raises(CannotMeasure, match="measure it with `roofprobe memory`"):
        profile_machine(profile(device_read(op="copy")), WORK, 1, 1)


def test_the_all_reduce_is_taken_at_the_models_own_message() -> None:
    found = profile_machine(profile(device_read(), collectives=(nccl(),)), WORK, 2, 2)
    each = found.machine.link(5760, 2)
    assert each.latency.mid == pytest.approx(20e-6) and each.bandwidth == pytest.approx(5760 / 10e9)
    assert (each.latency.low, each.latency.high) == (pytest.approx(19e-6), pytest.approx(21e-6))
    assert any("all-reduce of 5760 B 20.6 us, measured: NET/IB" in note for note in found.notes)


def test_the_time_measured_at_that_very_size_stands_above_the_fit() -> None:
    points = nccl().points
    own = type(points[0])(
        bytes=5760, count=1440, out_of_place_seconds=(30e-6,) * 5, in_place_seconds=(30e-6,) * 5, wrong=0
    )
    found = profile_machine(profile(device_read(), collectives=(nccl(points=(*points, own)),)), WORK, 2, 2)
    each = found.machine.link(5760, 2)
    assert each.latency.mid + each.bandwidth == pytest.approx(30e-6)
    assert isclose(each.bandwidth / each.latency.mid, 5760 / 10e9 / 20e-6, rel_tol=1e-6)
    wrong = msgspec.structs.replace(own, wrong=3)
    found = profile_machine(profile(device_read(), collectives=(nccl(points=(*points, wrong)),)), WORK, 2, 2)
    assert found.machine.link(5760, 2).latency.mid == pytest.approx(20e-6)


def test_without_a_fit_the_next_larger_size_stands() -> None:
    found = profile_machine(profile(device_read(), collectives=(nccl(fit=()),)), WORK, 2, 2)
    each = found.machine.link(5760, 2)
    assert each.latency.mid + each.bandwidth == pytest.approx(20e-6 + (1 << 15) / 10e9)
    assert each.latency.mid == pytest.approx(20e-6 + (1 << 10) / 10e9)


@pytest.mark.parametrize("several", [(0, 1), (1, 0)], ids=["link first", "loopback first"])
def test_a_link_between_hosts_stands_before_loopback(several: tuple[int, int]) -> None:
    rows = (nccl(), collective(fit=(Segment(min_bytes=8, max_bytes=1 << 20, alpha_us=90.0, beta_gb_per_s=1.0),)))
    found = profile_machine(profile(device_read(), collectives=tuple(rows[i] for i in several)), WORK, 2, 2)
    assert found.machine.link(5760, 2).latency.mid == pytest.approx(20e-6)


def test_a_world_size_that_was_not_measured_takes_the_default_and_says_how_to_measure_it() -> None:
    measured = profile(device_read(), collectives=(nccl(),))
    found = profile_machine(measured, WORK, 4, 4)
    assert found.machine.link(5760, 4).latency.mid == pytest.approx(30e-6)
    (note,) = (note for note in found.notes if "no all-reduce of 4 ranks" in note)
    assert "measure it with `roofprobe allreduce` on 4 units" in note and "30 us" in note
    assert not any("all-reduce" in note for note in profile_machine(measured, WORK, 1, 1).notes)
    given = profile_machine(measured, WORK, 2, 2, all_reduce_us=50.0)
    assert given.machine.link(5760, 2).latency.mid == pytest.approx(50e-6)
    assert any("50 us, given" in note for note in given.notes)


def test_latency_under_load_comes_from_the_latency_record(tmp_path: Path) -> None:
    points = (
        LatencyPoint(bytes=4096, mode="isolated", operations=1, samples_us=(21.0,) * 9),
        LatencyPoint(bytes=4096, mode="loaded", operations=1, samples_us=(44.0,) * 9),
        LatencyPoint(bytes=1 << 20, mode="loaded", operations=1, samples_us=(999.0,) * 9),
        LatencyPoint(bytes=5760, mode="loaded", operations=1, samples_us=(1.0,) * 9, rank_wrong=(0, 3)),
    )
    built = profile(device_read(), collectives=(nccl(latency=points),))
    built.save(tmp_path / "profile.json")
    found = profile_machine(TuningProfile.load(tmp_path / "profile.json"), WORK, 2, 2)
    assert found.machine.link(5760, 2).loaded_latency == pytest.approx(44e-6)
    assert predict(WORK, found.machine, "tp", 2).loaded_link_latency == pytest.approx(72 * 44e-6)
    assert any("44 us while memory is streamed" in note for note in found.notes)
