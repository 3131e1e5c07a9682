"""Baselines: measured beside ours and compared, skipped with a reason where they can't run, never ours, never fatal."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from records import environment, gemv, measurement, timing
import torch

from roofprobe.kernels.dequant import dequantize
from roofprobe.kernels.formats import random_bf16, random_weight
from roofprobe.measurement import Measurement, Skipped
from roofprobe.probes import baseline_kernels
from roofprobe.probes.baseline_kernels import Baseline
from roofprobe.probes.baselines import dequant_rows, gemv_rows
from roofprobe.probes.case import Ceiling, Operands
from roofprobe.probes.comparison import comparisons, line
from roofprobe.probes.dequant import main as dequant_main
from roofprobe.probes.gemv import main as gemv_main
from roofprobe.profile import build_profile
from roofprobe.report import highlights
from roofprobe.run_file import Run

SMALL = ["--side", "host", "--seconds", "0.1", "--memory", "16M", "--json", "--n", "256", "--k", "1056"]


@pytest.fixture
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roofprobe.environment.read_environment", environment)


@pytest.mark.usefixtures("small_cache")
@pytest.mark.parametrize("batch", ["1", "3"])
def test_every_kernel_row_says_how_it_compares(batch: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert gemv_main([*SMALL, "--batch", batch]) == 0
    printed = capsys.readouterr()
    rows = json.loads(printed.out)["measurements"]
    assert [(row["backend"], row["format"]) for row in rows] == [
        ("host", "bf16"), ("torch", "bf16"), ("host", "fp8"), ("host", "nvfp4"), ("host", "mxfp4"),
    ]  # fmt: skip
    for row in rows:
        compared = row["compared_with"]
        if row["backend"] == "torch":
            assert compared == []
            continue
        (found,) = compared
        assert (found["backend"], found["format"]) == ("torch", "bf16")
        low, high = found["interval"]
        assert 0 < low <= found["times_as_fast"] <= high
    assert f"host gemv bf16 256x1056 b{batch}:" in printed.err and "x torch" in printed.err


@pytest.mark.usefixtures("small_cache")
def test_a_quantized_format_alone_still_meets_torch(capsys: pytest.CaptureFixture[str]) -> None:
    assert gemv_main([*SMALL, "--format", "fp8"]) == 0
    rows = json.loads(capsys.readouterr().out)["measurements"]
    assert [(row["backend"], row["format"]) for row in rows] == [("host", "fp8"), ("torch", "bf16")]
    assert len(rows[0]["compared_with"]) == 1


@pytest.mark.usefixtures("small_cache")
def test_dequantizations_meet_torch(capsys: pytest.CaptureFixture[str]) -> None:
    assert dequant_main([*SMALL, "--seconds", "0.5"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["format"], row["backend"]) for row in found["measurements"]] == [
        ("fp8", "host"), ("fp8", "torch"), ("nvfp4", "host"), ("nvfp4", "torch"), ("mxfp4", "host"), ("mxfp4", "torch"),
    ]  # fmt: skip
    assert all(row["verified"] for row in found["measurements"]), "every one gives the exact order's bits"
    assert all(row["compared_with"] for row in found["measurements"] if row["backend"] == "host")


@pytest.mark.usefixtures("small_cache")
def test_none_are_measured_when_not_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert dequant_main([*SMALL, "--no-baselines"]) == 0
    assert {row["backend"] for row in json.loads(capsys.readouterr().out)["measurements"]} == {"host"}


class HostSide:
    """As much of a MeasuredSide as a baseline's row needs."""

    side = "host"
    backend = "host"
    memory = "CPU side of test memory"
    nominal_gb_per_s = None
    cache_bytes = 1 << 10

    def __init__(self) -> None:
        from roofprobe.timing import HostStopwatch

        self.stopwatch = HostStopwatch(min_seconds=1e-4)

    def limits(self, seconds: float) -> Any:
        from roofprobe.timing import Limits

        return Limits(precision=1.0, seconds=seconds)


def operands(weight_format: str = "bf16") -> Operands:
    x = torch.randn(2, 64, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    weights = [random_weight(weight_format, 32, 64, seed, "cpu") for seed in (1, 2)]
    return Operands(weight_format, weights, [torch.zeros(2, 32, dtype=torch.bfloat16) for _ in weights], x)


def measured_with(make: Any, monkeypatch: pytest.MonkeyPatch, module: str = "torch") -> Measurement | Skipped:
    monkeypatch.setattr(baseline_kernels, "GEMV", (Baseline("theirs", module, ("bf16",), ("host",), make),))
    found: list[Any] = []
    ceiling = Ceiling("read", lambda _: None, 1000)
    gemv_rows(HostSide(), operands(), ceiling, 0.05, found.append)  # type: ignore[arg-type]
    (row,) = found
    assert isinstance(row, Measurement | Skipped)
    return row


def test_one_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    row = measured_with(None, monkeypatch, module="no_such_module")
    assert isinstance(row, Skipped)
    assert (row.case, row.reason) == ("theirs bf16 32x64 batch 2", "no_such_module is not installed")


def test_one_that_fails_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(_: Operands) -> Any:
        raise RuntimeError("no kernel image\nis available")

    row = measured_with(make, monkeypatch)
    assert isinstance(row, Skipped) and row.reason == "RuntimeError: no kernel image is available"


def test_one_that_computes_something_else_is_no_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    row = measured_with(lambda o: lambda copy: o.outputs[copy].fill_(1), monkeypatch)
    assert isinstance(row, Skipped) and "off, relative to the norm" in row.reason


def test_one_that_writes_nothing_is_no_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    row = measured_with(lambda _: lambda _: None, monkeypatch)
    assert isinstance(row, Skipped)


def test_one_that_rounds_coarsely_is_measured_and_not_called_right(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(o: Operands) -> Any:
        right = baseline_kernels.torch_gemv(o)

        def run(copy: int) -> None:
            right(copy)
            o.outputs[copy].mul_(1.01)

        return run

    row = measured_with(make, monkeypatch)
    assert isinstance(row, Measurement)
    assert row.wrong is None and not row.verified and "outside float32's bound" in (row.note or "")


def test_one_that_leaves_its_result_in_a_tensor_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(o: Operands) -> Any:
        def run(copy: int) -> None:
            o.outputs[copy] = (o.x.float() @ o.weights[copy].float().T).bfloat16()  # type: ignore[union-attr]

        return run

    row = measured_with(make, monkeypatch)
    assert isinstance(row, Measurement) and row.verified and row.backend == "theirs"


def test_one_that_is_far_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(o: Operands) -> Any:
        right = baseline_kernels.torch_gemv(o)

        def run(copy: int) -> None:
            import time

            time.sleep(0.06)
            right(copy)

        return run

    row = measured_with(make, monkeypatch)
    assert isinstance(row, Skipped) and "more than the 0.05 s" in row.reason


def test_eager_dequantization_is_measured_over_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roofprobe.probes.baselines.EAGER_WEIGHTS", 64 * 40)
    weight = random_weight("nvfp4", 100, 64, 1, "cpu")
    whole = Operands("nvfp4", [weight], [torch.zeros(100, 64, dtype=torch.bfloat16)])
    found: list[Any] = []
    dequant_rows(HostSide(), whole, Ceiling("copy", lambda _: None, 1000), 0.05, found.append)  # type: ignore[arg-type]
    row = found[0]
    assert (row.backend, row.n, row.verified) == ("torch", 40, True)
    assert row.useful_bytes == 40 * (32 + 4) + 4 + 2 * 40 * 64


def pair(ours: list[float], theirs: list[float], **changes: Any) -> list[Measurement]:
    read = (0.020,) * len(ours)
    return [
        gemv(timing=timing(ours, reference_seconds=read)),
        gemv(backend="torch", timing=timing(theirs, reference_seconds=read), **changes),
    ]


def test_the_ratio_and_its_interval() -> None:
    ours, theirs = [0.010 + 0.0001 * i for i in range(9)], [0.020 + 0.0001 * i for i in range(9)]
    (found,) = comparisons(pair(ours, theirs))
    assert found.ratio == pytest.approx(0.0204 / 0.0104)
    assert found.interval is not None
    assert found.interval[0] < found.ratio < found.interval[1]
    assert found.interval[0] >= 0.0199 / 0.0108 and found.interval[1] <= 0.0209 / 0.010
    assert line(found).startswith("host gemv bf16 4096x8192 b1: 1.962 [")


def test_a_baseline_over_fewer_rows_compares_per_weight() -> None:
    (found,) = comparisons(pair([0.010] * 9, [0.005] * 9, n=2048))
    assert found.ratio == pytest.approx(1.0)


@pytest.mark.parametrize("changes", [{"k": 4096}, {"batch": 2}, {"side": "device"}, {"op": "dequant"}])
def test_other_work_is_not_compared(changes: dict[str, Any]) -> None:
    assert comparisons(pair([0.01] * 9, [0.02] * 9, **changes)) == []


def test_a_baseline_is_never_roofprobes_own_figure() -> None:
    read = measurement()
    run = Run(
        environment=environment(),
        measurements=(read, *pair([0.010] * 9, [0.005] * 9)),
        collectives=(),
        skipped=(),
        ended=None,
    )
    assert [kernel.backend for kernel in build_profile(run).kernels] == ["host"]
    (kernel,) = [h for h in highlights(run) if "gemv" in h.label]
    assert "–" not in kernel.value, "one row's share, not a span that a baseline widens"


def test_torchao_dequantizes_to_the_same_bits() -> None:
    pytest.importorskip("torchao", reason="torchao is not installed")
    weight = random_weight("nvfp4", 16, 64, 1, "cpu")
    o = Operands("nvfp4", [weight], [torch.zeros(16, 64, dtype=torch.bfloat16)])
    baseline_kernels.torchao_dequantize(o)(0)
    assert torch.equal(o.outputs[0], dequantize(weight, backend="torch"))  # type: ignore[arg-type]


def test_torch_gemv_on_the_operands_themselves() -> None:
    for batch in (1, 3):
        x = torch.randn(batch, 64, generator=torch.Generator().manual_seed(2)).to(torch.bfloat16)
        o = Operands("bf16", [random_bf16(16, 64, 1, "cpu")], [torch.zeros(batch, 16, dtype=torch.bfloat16)], x)
        baseline_kernels.torch_gemv(o)(0)
        expected = x.double().numpy() @ o.weights[0].double().numpy().T  # type: ignore[union-attr]
        assert np.allclose(o.outputs[0].double().numpy(), expected, rtol=2**-7, atol=2**-4)
