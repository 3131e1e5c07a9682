"""Experts in the tuner and the GEMV probe: who is sent where, what moves, and that what is timed is checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from records import environment
from test_tune_workloads import interpreted, operands, side
import torch

from roofprobe.errors import BadInput
from roofprobe.kernels import search
from roofprobe.kernels.experts import random_experts
from roofprobe.kernels.gemv_triton import GemvConfig
from roofprobe.kernels.grouped_gemv import algorithmic_bytes, grouped_gemv
from roofprobe.kernels.grouped_gemv_triton import default_config
from roofprobe.probes.gemv import main as gemv_main
from roofprobe.probes.grouped import ExpertShape, make_operands, place_experts, routing
from roofprobe.probes.tune import main as tune_main
from roofprobe.probes.tune_experts import grouped_target
from roofprobe.profile import TuningProfile

FORMATS = ["bf16", "fp8", "nvfp4", "mxfp4"]


@pytest.fixture
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose cache is 1 MiB, so that arrays of a few MiB outgrow it."""
    monkeypatch.setattr("roofprobe.environment.read_environment", environment)


@pytest.mark.parametrize(
    ("experts", "top_k", "batch"), [(128, 4, 1), (8, 8, 3), (64, 6, 16), (1, 1, 2)], ids=lambda value: str(value)
)
def test_a_token_takes_different_experts(experts: int, top_k: int, batch: int) -> None:
    numbers = routing(ExpertShape(8, 32, experts, top_k, batch))
    assert numbers.shape == (batch, top_k) and numbers.dtype == torch.int32
    assert all(len(set(row)) == top_k for row in numbers.tolist())
    taken = numbers.unique().tolist()
    assert taken == list(range(len(taken))) and top_k <= len(taken) <= min(experts, batch * top_k)
    if batch == 16:
        assert len(taken) < batch * top_k, "tokens meet at some expert, as routers let them"


def test_copies_are_disjoint_and_the_stack_holds_no_others() -> None:
    """Of 16 experts of 2 KiB each, two tokens take 3 or 4: more than four caches of 4 KiB want 3 sets or more."""
    shape = ExpertShape(16, 64, experts=16, top_k=2, batch=2)
    where = side("host", cache_bytes=4096)
    at = place_experts(shape, "bf16", where)
    made = make_operands(where, shape, "bf16", at)
    sets = [set(numbers.unique().tolist()) for numbers in made.expert_ids]
    assert at.copies == len(sets) >= 3
    assert sorted(number for each in sets for number in each) == list(range(made.weights.shape[0]))
    assert len({algorithmic_bytes(made.weights, numbers) for numbers in made.expert_ids}) == 1


def test_there_are_no_more_copies_than_experts() -> None:
    shape = ExpertShape(16, 64, experts=5, top_k=2)
    assert place_experts(shape, "bf16", side("host", cache_bytes=1 << 20, array_bytes=1 << 30)).copies == 2


def test_experts_that_do_not_fit_are_cut() -> None:
    """Four of 4 MiB each are wanted, half an array of 4 MiB is there."""
    at = place_experts(ExpertShape(2048, 1024, 8, 4), "bf16", side("host", array_bytes=4 << 20))
    assert (at.n, at.copies) == (256, 1)


@pytest.mark.parametrize("weight_format", FORMATS)
def test_bytes_are_those_of_the_chosen_experts(weight_format: str) -> None:
    shape = ExpertShape(48, 96, experts=7, top_k=3, batch=2)
    target = grouped_target(weight_format, shape, side("host"), 1)
    ids = routing(shape)
    stack = random_experts(weight_format, int(ids.max()) + 1, 48, 96, 1, "cpu")
    assert target.bytes == algorithmic_bytes(stack, ids)
    assert target.subject.fastest_seconds == pytest.approx(target.bytes / 102e9)
    assert (target.experts, target.top_k, target.batch) == (7, 3, 2)


@interpreted
@pytest.mark.parametrize("weight_format", ["bf16", "mxfp4"])
def test_on_a_device_the_space_is_the_gemvs(weight_format: str) -> None:
    shape = ExpertShape(8, 64, experts=5, top_k=2, batch=2)
    where = side("triton")
    target = grouped_target(weight_format, shape, where, seconds=1)
    made = make_operands(where, shape, weight_format)
    default = default_config(made.weights, made.expert_ids[0])
    assert search.config_class("grouped_gemv", "device") is GemvConfig
    assert GemvConfig(**target.subject.space[0]) == default  # type: ignore[arg-type]
    assert len(target.subject.space) > 1
    ran = operands(target)
    for config in (target.subject.space[0], target.subject.space[-1]):
        trial = ran.trial(config, False)
        trial.poison()
        trial.launch(0)
        assert trial.count_wrong() == 0


def test_an_expert_that_is_not_run_is_found() -> None:
    ran = operands(grouped_target("bf16", ExpertShape(8, 64, 5, 2), side("host"), 1))
    trial = ran.trial({"threads": 1, "chunk_bytes": 65536, "stores": "non-temporal"}, False)
    ran.run = lambda _copy, out, _config: out[:, 0].zero_()
    trial.poison()
    trial.launch(0)
    assert trial.count_wrong() == 2 * 8


SMALL = ["--side", "host", "--memory", "16M"]
SHAPE = ["--n", "128", "--k", "1056", "--experts", "9", "--top-k", "2"]


@pytest.mark.usefixtures("small_cache")
def test_tuning_and_using_a_grouped_gemv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.json"
    command = [*SMALL, "--seconds", "0.02", "--op", "grouped_gemv", "--format", "nvfp4", "--profile", str(path), *SHAPE]
    assert tune_main([*command, "--batch", "1,2"]) == 0
    assert "grouped_gemv nvfp4 128x1056 top 2 of 9 b1" in capsys.readouterr().out
    profile = TuningProfile.load(path)
    assert [(e.op, e.n, e.k, e.batch, e.experts, e.top_k) for e in profile.tuned] == [
        ("grouped_gemv", 128, 1056, 1, 9, 2),
        ("grouped_gemv", 128, 1056, 2, 9, 2),
    ]
    weights, x = random_experts("nvfp4", 3, 8, 64, 1, "cpu"), torch.ones(1, 64, dtype=torch.bfloat16)
    ids = torch.tensor([[2, 0]], dtype=torch.int32)
    config = profile.kernel_config("grouped_gemv", "nvfp4", 8, 64, side="host")
    assert torch.equal(grouped_gemv(weights, x, ids, config=config), grouped_gemv(weights, x, ids))
    assert profile.kernel_config("gemv", "nvfp4", 128, 1056, side="host") is None
    document = json.loads(path.read_text())
    document["tuned"][0] |= {"keep_default": False, "config": {"threads": 1, "words": 2}}
    path.write_text(json.dumps(document))
    config = TuningProfile.load(path).kernel_config("grouped_gemv", "nvfp4", 8, 64, side="host")
    with pytest.raises(ValueError, match=r"HostConfig's threads.*, got the field 'words'"):
        grouped_gemv(weights, x, ids, config=config)


@pytest.mark.usefixtures("small_cache")
def test_the_gemv_probe_has_a_row_for_experts(capsys: pytest.CaptureFixture[str]) -> None:
    assert gemv_main([*SMALL, "--seconds", "0.5", "--json", "--batch", "3", *SHAPE]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    rows = found["measurements"]
    assert found["skipped"] == []
    assert [(row["backend"], row["format"]) for row in rows] == [("host", "bf16"), ("torch", "bf16")] + [
        ("host", name) for name in FORMATS[1:]
    ]
    taken = int(routing(ExpertShape(128, 1056, 9, 2, 3)).max()) + 1
    assert taken < 9
    vectors = 2 * 3 * 1056 + 2 * 3 * 2 * 128 + 4 * 3 * 2
    for row in rows:
        assert row["op"] == "grouped_gemv" and (row["experts"], row["top_k"], row["batch"]) == (9, 2, 3)
        assert row["verified"] and row["ceiling_fraction"] > 0
        if row["backend"] == "host":
            assert f"{taken} of 9 experts read" in row["note"]
            assert [c["backend"] for c in row["compared_with"]] == ["torch"]
    assert rows[0]["bytes"] == rows[1]["bytes"] == taken * 2 * 128 * 1056 + vectors
    assert rows[-1]["bytes"] == taken * 128 * 1056 * 17 // 32 + vectors
    assert "128x1056 b3 2/9" in printed.err


@pytest.mark.usefixtures("small_cache")
def test_a_quantized_format_alone_still_meets_torch(capsys: pytest.CaptureFixture[str]) -> None:
    assert gemv_main([*SMALL, "--seconds", "0.1", "--json", "--format", "fp8", *SHAPE]) == 0
    rows = json.loads(capsys.readouterr().out)["measurements"]
    assert [(row["backend"], row["format"]) for row in rows] == [("host", "fp8"), ("torch", "bf16")]


@pytest.mark.usefixtures("small_cache")
def test_a_kernel_that_reads_the_wrong_experts_is_caught(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from roofprobe.kernels import grouped_gemv as kernel

    right = kernel.grouped_gemv

    def neighbours(weights: Any, x: torch.Tensor, ids: torch.Tensor, **options: Any) -> torch.Tensor:
        return right(weights, x, (ids + 1) % weights.shape[0], **options)

    monkeypatch.setattr(kernel, "grouped_gemv", neighbours)
    flags = [*SMALL, "--seconds", "0.1", "--json", "--format", "bf16", "--no-baselines", *SHAPE]
    assert gemv_main(flags) == 1
    (row,) = json.loads(capsys.readouterr().out)["measurements"]
    assert row["wrong"] and not row["verified"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--top-k", "2"], "--top-k: needs --experts"),
        (["--experts", "2", "--top-k", "3"], "a token can't take 3 of 2 experts"),
        (["--experts", "0"], "--experts"),
        (["--experts", "8", "--k", "48", "--format", "mxfp4"], "48 is not a multiple of mxfp4's block of 32"),
    ],
    ids=" ".join,
)
def test_unusable_flags_are_one_line(flags: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = gemv_main(["--side", "host", *flags])
    except SystemExit as end:
        status = int(str(end.code))
    error = capsys.readouterr().err
    assert status == 2 and said in error and error.count("\n") == 1


def test_more_experts_than_there_are_can_not_be_tuned(tmp_path: Path) -> None:
    flags = ["--op", "grouped_gemv", "--experts", "2", "--profile", str(tmp_path / "p.json")]
    assert tune_main(flags) == BadInput.exit_status
