"""What the tuner times is the kernel that it names, on operands that the check knows: a GPU's in the interpreter."""

from __future__ import annotations

from dataclasses import dataclass
import itertools
import os
from types import SimpleNamespace

import pytest
import torch

from roofprobe.probes.sides import MeasuredSide
from roofprobe.probes.tune_workloads import Operands, Target, stream_target, weight_target
from roofprobe.probes.weights import Shape
from roofprobe.timing import HostStopwatch, Launch, PreparedCase
from roofprobe.tuned import TunedOp

interpreted = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1", reason="CPU tensors take the Triton kernels only in the interpreter"
)


@dataclass
class NoStopwatch:
    clock: str = "none"

    def prepare(self, launch: Launch) -> PreparedCase:
        raise AssertionError(f"nothing is timed here, but {launch} is")


def side(name: str, cache_bytes: int = 0, array_bytes: int = 1 << 20) -> MeasuredSide:
    return MeasuredSide(
        side="device" if name == "triton" else "host",
        device=torch.device("cpu"),
        backend=name,
        memory="test memory",
        nominal_gb_per_s=100.0,
        array_bytes=array_bytes,
        cache_bytes=cache_bytes,
        stopwatch=NoStopwatch(),
        precision=0.01,
    )


def operands(target: Target) -> Operands:
    made = target.subject.open(1)
    assert isinstance(made, Operands)
    return made


@interpreted
@pytest.mark.parametrize(
    ("op", "weight_format", "fields"),
    [
        ("gemv", "mxfp4", {"warps", "row_groups", "tile_bytes", "stages", "decode"}),
        ("gemv", "bf16", {"warps", "row_groups", "tile_bytes", "stages", "decode"}),
        ("dequant", "nvfp4", {"warps", "words", "decode"}),
    ],
)
def test_weights_on_a_device(op: TunedOp, weight_format: str, fields: set[str]) -> None:
    target = weight_target(op, weight_format, Shape(4, 64, batch=2), side("triton"), seconds=1)
    assert all(set(config) == fields for config in target.subject.space)
    assert target.subject.name == f"device {op} {weight_format} 4x64" + (" b2" if op == "gemv" else "")
    made = operands(target)
    for config in (target.subject.space[0], target.subject.space[-1]):
        trial = made.trial(config, config == target.subject.space[0])
        trial.poison()
        trial.launch(0)
        assert trial.count_wrong() == 0
        trial.poison()
        made.run, run = (lambda *_: None), made.run
        trial.launch(0)
        assert trial.count_wrong() == (4 * 64 if op == "dequant" else 4 * 2), "poison is wrong everywhere"
        made.run = run


@interpreted
@pytest.mark.parametrize("op", ["read", "copy", "write", "triad"])
def test_streams_on_a_device(op: TunedOp) -> None:
    target = stream_target(op, side("triton", array_bytes=1 << 20), seconds=1)
    made = operands(target)
    trial = made.trial(target.subject.space[0], False)
    trial.poison()
    trial.launch(0)
    assert trial.count_wrong() == 0


@pytest.mark.parametrize("weight_format", ["bf16", "fp8", "nvfp4", "mxfp4"])
def test_bytes_are_what_the_kernels_count(weight_format: str) -> None:
    from roofprobe.kernels import dequant, formats
    from roofprobe.kernels import gemv as kernel

    weight = formats.random_weight(weight_format, 48, 96, 1, "cpu")
    shape = Shape(48, 96, batch=3)
    assert weight_target("gemv", weight_format, shape, side("host"), 1).bytes == kernel.algorithmic_bytes(weight, 3)
    if not isinstance(weight, torch.Tensor):
        target = weight_target("dequant", weight_format, shape, side("host"), 1)
        assert target.bytes == dequant.algorithmic_bytes(weight, torch.bfloat16) and target.batch == 1
        assert target.subject.fastest_seconds == pytest.approx(target.bytes / 102e9)


def test_the_defaults_outputs_are_its_own() -> None:
    """A configuration that writes nothing must not be taken for right because the default has written."""
    target = weight_target("gemv", "bf16", Shape(8, 64), side("host"), 1)
    made = operands(target)
    default, other = (made.trial(target.subject.space[0], is_default) for is_default in (True, False))
    other.poison()
    default.launch(0)
    assert default.count_wrong() == 0
    made.run = lambda *_: None
    other.launch(0)
    assert other.count_wrong() == 8


def test_weights_rotate_past_the_cache_and_every_copy_is_checked() -> None:
    target = weight_target("gemv", "bf16", Shape(8, 64), side("host", cache_bytes=1024), 1)
    made = operands(target)
    assert made.copies == 5  # of 1 KiB each, more than four caches
    trial = made.trial(target.subject.space[0], False)
    for count in (3, 4):
        trial.launch(count)
    trial.poison()
    for count in (0, 1, 7):
        trial.launch(count)
    assert trial.count_wrong() == 0, "what was launched before the poison is not looked at"
    made.run = lambda *_: None
    trial.poison()
    for count in (0, 1, 7):
        trial.launch(count)
    assert trial.count_wrong() == 3 * 8


def test_a_weight_that_does_not_fit_is_cut_and_the_entry_says_so() -> None:
    target = weight_target("gemv", "bf16", Shape(4096, 1024), side("host", array_bytes=1 << 20), 1)
    assert (target.n, target.k) == (512, 1024)


@pytest.mark.parametrize(("cpus", "problem"), [(1, None), (2, "had 50% of the CPUs")])
def test_a_sample_has_had_its_cpus(cpus: int, problem: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One CPU was busy all the time: all that a case of one thread can have, and half of what one of two can."""
    ticks = itertools.count()
    clock = SimpleNamespace(
        perf_counter=lambda: float(next(ticks)), process_time=lambda: next(ticks) / 3
    )  # 3 ticks for 1 s
    monkeypatch.setattr("roofprobe.timing.time", clock)
    assert HostStopwatch(cpus=cpus).prepare(lambda _: None).sample().problem == problem


def test_fewer_threads_are_held_to_their_own_cpus() -> None:
    target = stream_target("read", side("host", array_bytes=1 << 24), 1)
    made = operands(target)
    for config in (target.subject.space[0], target.subject.space[-1]):
        stopwatch = made.trial(config, False).stopwatch
        assert isinstance(stopwatch, HostStopwatch) and stopwatch.cpus == config["threads"]
