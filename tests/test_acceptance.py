"""A healthy unit and a healthy pair pass, each fault is named, and no bad data ever passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import acceptance_folders as folders
from acceptance_judging import GPU_READ, each, judged, scaled, verdict
from msgspec.structs import replace
import pytest

from roofprobe.acceptance.folder import accept, read_folder
from roofprobe.ceiling import choose_platform
from roofprobe.measurement import Ended, Measurement, Skipped


def test_a_healthy_unit_passes_every_required_check(tmp_path: Path) -> None:
    acceptance = judged(folders.gb10_run(), tmp_path)
    assert acceptance.exit_status == 0 and acceptance.verdict == "PASS"
    assert {c.verdict for c in acceptance.checks if c.required} == {"PASS"}
    read = verdict(acceptance, "gpu-read")
    assert read.processes == 3 and read.unit == "GB/s" and read.interval is not None
    assert read.limits[0].value == pytest.approx(0.8 * 273.1) and "234" in read.limits[0].source
    assert verdict(acceptance, "memory-kinds").verdict == "SKIP"


def test_a_healthy_pair_passes_every_required_check(tmp_path: Path) -> None:
    acceptance = judged(folders.pair_run(), tmp_path, nodes=2)
    assert acceptance.platform == "gb10-cluster-2" and acceptance.nodes == 2
    assert acceptance.exit_status == 0, [c for c in acceptance.checks if c.verdict != "PASS"]


@pytest.mark.parametrize(
    "platform", ["asus-ascent-gx10", "dell-pro-max-gb10", "lenovo-thinkstation-pgx", "gb10", "generic"]
)
def test_a_healthy_unit_passes_as_every_make(tmp_path: Path, platform: str) -> None:
    acceptance = judged(folders.gb10_run(), tmp_path, platform)
    open_ = [c.check for c in acceptance.open]
    # The generic platform asks for host rows that a GB10's file does not.
    expected = ["cpu-gemv-bf16", "cpu-dequant-nvfp4", "cpu-stable-gemv", "cpu-stable-copy"]
    assert open_ == (expected if platform == "generic" else [])
    assert acceptance.exit_status == (3 if platform == "generic" else 0)


def test_without_telemetry_the_state_under_load_is_open(tmp_path: Path) -> None:
    acceptance = judged(folders.gb10_run(), tmp_path, telemetry=[])
    assert verdict(acceptance, "telemetry").verdict == "SKIP" and acceptance.exit_status == 3


def test_a_low_power_state_is_named_and_explains_the_slow_memory(tmp_path: Path) -> None:
    slow = each(lambda m: scaled(m, 4), side="device", probe="memory")(folders.gb10_run())
    low = folders.telemetry_lines(sm_clock_mhz=610, power_w=18.0, temperature_c=48)
    acceptance = judged(slow, tmp_path, telemetry=low)
    assert acceptance.exit_status == 1
    assert [f.id for f in verdict(acceptance, "telemetry").faults] == ["unit.low-power-state"]
    read = verdict(acceptance, "gpu-read")
    assert read.verdict == "FAIL" and [f.id for f in read.faults] == ["unit.low-power-state"]


def test_slow_memory_that_nothing_explains_has_an_id_and_a_remedy_of_its_own(tmp_path: Path) -> None:
    slow = each(lambda m: scaled(m, 1.3), **GPU_READ)(folders.gb10_run())
    acceptance = judged(slow, tmp_path)
    (fault,) = verdict(acceptance, "gpu-read").faults
    assert fault.id == "unit.slow-memory" and fault.host == "spark-1" and "218" in fault.evidence
    assert "unplug" in fault.remedy and acceptance.exit_status == 1


def test_a_slow_gemv_beside_a_good_copy_is_the_hidden_slow_state(tmp_path: Path) -> None:
    slow = each(lambda m: scaled(m, 4), side="device", op="gemv")(folders.gb10_run())
    acceptance = judged(slow, tmp_path)
    assert {f.id for f in verdict(acceptance, "gpu-gemv-bf16").faults} == {"unit.hidden-slow-state"}
    assert verdict(acceptance, "gpu-copy").verdict == "PASS"


def test_one_format_that_is_slow_alone_is_a_slow_kernel_and_no_state_of_the_unit(tmp_path: Path) -> None:
    slow = each(lambda m: scaled(m, 2.4), side="device", op="gemv", format="nvfp4")(folders.gb10_run())
    failed = verdict(judged(slow, tmp_path), "gpu-gemv-nvfp4")
    assert (failed.measured or 1) < 0.5 and {f.id for f in failed.faults} == {"kernel.slow"}


def test_a_rate_that_falls_under_load_fails(tmp_path: Path) -> None:
    run = folders.gb10_run()
    during = [
        replace(s, seconds=tuple(1.5 * x for x in s.seconds)) if (s.sentinel, s.phase) == ("gemv", "during") else s
        for s in run.sentinels
    ]
    acceptance = judged(replace(run, sentinels=tuple(during)), tmp_path)
    assert [f.id for f in verdict(acceptance, "gpu-stable-gemv").faults] == ["unit.unstable"]
    assert verdict(acceptance, "gpu-stable-copy").verdict == "PASS"


@pytest.mark.parametrize("phase", ["before", "during", "after"])
def test_a_phase_without_sentinels_is_open(tmp_path: Path, phase: str) -> None:
    run = folders.gb10_run()
    kept = tuple(s for s in run.sentinels if s.phase != phase)
    acceptance = judged(replace(run, sentinels=kept), tmp_path)
    assert phase in (verdict(acceptance, "gpu-stable-copy").reason or "")
    assert acceptance.exit_status == 3


def test_the_doctors_faults_fail_and_its_absence_is_open(tmp_path: Path) -> None:
    fault = {"id": "link.port-down", "severity": "fault", "host": "spark-1", "evidence": "state 1", "remedy": "plug"}
    acceptance = judged(folders.gb10_run(), tmp_path / "a", faults=[fault])
    assert [f.id for f in verdict(acceptance, "doctor").faults] == ["link.port-down"] and acceptance.exit_status == 1
    warning = {**fault, "severity": "warning"}
    assert judged(folders.gb10_run(), tmp_path / "b", faults=[warning]).exit_status == 0
    assert judged(folders.gb10_run(), tmp_path / "c", faults=None).exit_status == 3


@pytest.mark.parametrize("ended", [None, Ended(seconds=3.0, interrupted=True)], ids=["killed", "interrupted"])
def test_a_run_that_was_cut_short_does_not_pass(tmp_path: Path, ended: Ended | None) -> None:
    acceptance = judged(replace(folders.gb10_run(), ended=ended), tmp_path)
    assert acceptance.interrupted and acceptance.exit_status == 3


def test_a_run_of_another_machine_decides_nothing(tmp_path: Path) -> None:
    run = folders.gb10_run()
    (gpu,) = run.environment.devices
    other = replace(run.environment, devices=(replace(gpu, name="NVIDIA H200"),))
    acceptance = judged(replace(run, environment=other), tmp_path)
    assert verdict(acceptance, "machine").verdict == "INCONCLUSIVE" and acceptance.exit_status == 3
    assert verdict(acceptance, "gpu-read").verdict == "INCONCLUSIVE"


def test_a_machine_without_a_gpu_is_skipped_and_not_passed(tmp_path: Path) -> None:
    run = folders.gb10_run()
    host = folders.with_rows(run, lambda m: m if m.side == "host" else None)
    bare = replace(
        host,
        environment=folders.gb10_environment(devices=(), driver=None),
        skipped=(Skipped(probe="run", case="device side", reason="torch finds no CUDA device"),),
        sentinels=(),
        matmuls=(),
        contentions=(),
    )
    acceptance = judged(bare, tmp_path, telemetry=[])
    assert acceptance.exit_status == 3
    read = verdict(acceptance, "gpu-read")
    assert read.verdict == "SKIP" and "only the CPU side was measured: torch finds no CUDA device" in (
        read.reason or ""
    )


def test_a_row_that_could_not_be_measured_says_why(tmp_path: Path) -> None:
    run = each(lambda _: None, side="host")(folders.gb10_run())
    why = Skipped(probe="run", case="rows, process 1 of 3", reason="too little memory for the CPU: pass --memory 387M")
    read = verdict(judged(replace(run, skipped=(why,)), tmp_path), "cpu-read")
    assert read.verdict == "SKIP" and "--memory 387M" in (read.reason or "")


def test_a_box_of_several_gpus_is_told_that_one_is_judged(tmp_path: Path) -> None:
    (device,) = folders.gb10_environment().devices
    environment = folders.gb10_environment(devices=(device, replace(device, index=1)))
    found = verdict(judged(replace(folders.gb10_run(), environment=environment), tmp_path), "machine")
    assert found.verdict == "PASS" and "only GPU 0 of 2" in (found.reason or "")


def test_a_machine_that_is_not_known_to_be_the_platforms_fails_none_of_its_limits(tmp_path: Path) -> None:
    """A CPU at a quarter of a Spark's rate, and no GPU: it may be any machine."""
    run = each(lambda m: scaled(m, 4), side="host")(folders.gb10_run())
    run = folders.with_rows(run, lambda m: m if m.side == "host" else None)
    bare = replace(run, environment=folders.gb10_environment(devices=(), driver=None), sentinels=(), matmuls=())
    acceptance = judged(bare, tmp_path, telemetry=[])
    assert verdict(acceptance, "cpu-read").verdict == "INCONCLUSIVE" and acceptance.exit_status == 3


@pytest.mark.parametrize(
    ("product", "expected"),
    [("Apple Inc. Mac15,14 1.0", "PASS"), ("QEMU Standard PC", "INCONCLUSIVE"), (None, "INCONCLUSIVE")],
)
def test_a_platform_without_a_gpu_is_told_by_its_product(tmp_path: Path, product: str | None, expected: str) -> None:
    rows = [folders.row("host", "gemv", "bf16", 110.0, seed, 120.0) for seed in range(3)]
    environment = folders.gb10_environment(devices=(), driver=None, platform=None, product=product)
    host = tuple(replace(s, side="host", backend="host") for s in folders.gb10_sentinels())
    run = replace(
        folders.gb10_run(),
        environment=environment,
        measurements=tuple(rows),
        sentinels=host,
        matmuls=(),
        contentions=(),
    )
    acceptance = judged(run, tmp_path, "mac-studio-m3-ultra", telemetry=[])
    assert verdict(acceptance, "machine").verdict == expected
    assert verdict(acceptance, "cpu-gemv-bf16").verdict == expected
    assert acceptance.exit_status == (0 if expected == "PASS" else 3)


@pytest.mark.parametrize("devices", ["none", "driver"])
def test_a_generic_machine_with_a_driver_owes_its_gpus_checks(tmp_path: Path, devices: str) -> None:
    run = replace(
        folders.gb10_run(),
        environment=folders.gb10_environment(devices=(), driver="580" if devices == "driver" else None),
    )
    acceptance = judged(run, tmp_path, "generic")
    assert verdict(acceptance, "gpu-gemv-bf16").required == (devices == "driver")


def test_power_capping_is_how_a_matrix_product_runs_and_is_judged_by_no_product(tmp_path: Path) -> None:
    acceptance = judged(folders.gb10_run(), tmp_path, telemetry=folders.telemetry_lines(reasons=["sw_power_cap"]))
    assert verdict(acceptance, "gpu-matmul-bf16").verdict == "INCONCLUSIVE"
    assert verdict(acceptance, "gpu-read").verdict == "PASS"


def test_verdicts_follow_from_the_folder_alone(tmp_path: Path) -> None:
    folder = folders.save(folders.gb10_run(), tmp_path)
    platform = choose_platform("dgx-spark")
    assert accept(platform, read_folder(folder)) == accept(platform, read_folder(folder))
    assert json.loads((folder / "doctor.json").read_text())["faults"] == []


def test_other_kernels_and_other_sides_do_not_stand_in(tmp_path: Path) -> None:
    """A baseline of torch beside our own row, and an X925-only row beside all cores: neither is the check's."""
    run = folders.gb10_run()
    extra = [
        replace(folders.row("device", "gemv", "bf16", 40.0, 9, 232.0), backend="torch"),
        replace(folders.row("host", "read", "float32", 20.0, 9), memory=f"{folders.CPU_MEMORY}, 10x Cortex-A725 only"),
    ]
    acceptance = judged(replace(run, measurements=(*run.measurements, *extra)), tmp_path)
    assert acceptance.exit_status == 0


def test_devices_of_a_recording_are_needed_for_device_rows(tmp_path: Path) -> None:
    run = replace(folders.gb10_run(), environment=folders.gb10_environment(devices=()))
    acceptance = judged(run, tmp_path, "generic")
    assert verdict(acceptance, "gpu-gemv-bf16").verdict == "INCONCLUSIVE"


def kind_row(**changes: Any) -> Measurement:
    row = folders.row("device", "read", "float32", 200.0, 7)
    fields: dict[str, Any] = {"probe": "memory-kinds", "format": "managed", "backend": "cupy"}
    return replace(row, **{**fields, **changes})


@pytest.mark.parametrize(
    ("rows", "skipped", "expected", "said"),
    [
        ([kind_row(), kind_row(format="pinned")], [], "PASS", "managed, pinned read right"),
        ([kind_row()], ["cudaHostRegister: not supported"], "PASS", "without pinned: cudaHostRegister"),
        ([], ["CuPy is not installed"], "SKIP", "CuPy is not installed"),
        ([kind_row(wrong=None)], [], "INCONCLUSIVE", "not checked"),
        ([kind_row(wrong=5)], [], "FAIL", None),
    ],
    ids=["both right", "one unsupported", "none", "unchecked", "wrong"],
)
def test_memory_kinds(
    tmp_path: Path, rows: list[Measurement], skipped: list[str], expected: str, said: str | None
) -> None:
    run = folders.gb10_run()
    records = tuple(Skipped(probe="memory-kinds", case="pinned", reason=reason) for reason in skipped)
    run = replace(run, measurements=(*run.measurements, *rows), skipped=records)
    kinds = verdict(judged(run, tmp_path), "memory-kinds")
    assert kinds.verdict == expected and (said is None or said in (kinds.reason or ""))
    assert [f.id for f in kinds.faults] == (["result.wrong"] if expected == "FAIL" else [])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "PASS"),
        ({"shared": False}, "SKIP"),
        ({"sides": ("host",)}, "SKIP"),
        ({"wrong": None}, "INCONCLUSIVE"),
        ({"points": ()}, "INCONCLUSIVE"),
        ({"ceiling": None}, "PASS"),
    ],
    ids=["healthy", "two memories", "CPU alone", "unchecked", "no points", "no saturation: the most that was reached"],
)
def test_both_sides_together(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    run = replace(folders.gb10_run(), contentions=(replace(folders.gb10_contention(), **changes),))
    assert verdict(judged(run, tmp_path), "contention").verdict == expected


def test_a_limit_that_is_a_share_of_something_unmeasured_decides_nothing(tmp_path: Path) -> None:
    run = each(lambda _: None, **GPU_READ)(folders.gb10_run())
    together = verdict(judged(run, tmp_path), "contention")
    assert together.verdict == "INCONCLUSIVE" and "the measured read, which is not known" in (together.reason or "")
