"""``--checkpoint``, ``--tensor``, ``--expert`` and ``--list`` of the kernel probes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from checkpoints import (
    K,
    Tensors,
    bf16,
    changed,
    compressed_mxfp4,
    compressed_nvfp4,
    fp8,
    gpt_oss,
    modelopt_nvfp4,
    saved,
)
import pytest
from records import environment
import torch

from roofprobe.probes.dequant import main as dequant_main
from roofprobe.probes.gemv import main as gemv_main

SMALL = ["--side", "host", "--seconds", "0.1", "--memory", "16M", "--no-baselines"]


@pytest.fixture
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roofprobe.environment.read_environment", environment)


@pytest.mark.usefixtures("small_cache")
@pytest.mark.parametrize("main", [gemv_main, dequant_main], ids=["gemv", "dequant"])
def test_the_probes_measure_a_checkpoint(main: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = (modelopt_nvfp4(), compressed_nvfp4(n=8), compressed_mxfp4(), gpt_oss(n=4), fp8(per_row=True), bf16())
    path = saved(tmp_path / "x.safetensors", *parts, modelopt_nvfp4("again."))
    assert main([*SMALL, "--checkpoint", str(path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["measurements"]
    assert len(rows) == 4, "one of each format and shape, four at most"
    assert all(row["verified"] for row in rows)
    assert rows[0]["note"].startswith("c.weight_packed"), "the largest first"
    assert main([*SMALL, "--checkpoint", str(path), "--json", "--tensor", "e.gate_up_proj", "--expert", "2"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["measurements"]
    assert (row["format"], row["n"], row["k"], row["verified"]) == ("mxfp4", 4, K, True)
    assert row["note"].startswith("e.gate_up_proj_blocks[2]")


@pytest.mark.usefixtures("small_cache")
def test_the_listing_names_every_weight_and_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = changed(modelopt_nvfp4("bad."), weight_scale=None)
    path = saved(tmp_path / "x.safetensors", modelopt_nvfp4(), gpt_oss(), broken)
    assert gemv_main(["--checkpoint", str(path), "--list"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in printed[:2]] == ["e.gate_up_proj_blocks", "m.weight"]
    assert "unusable" in printed[2] and "bad.weight_scale" in printed[2]
    assert gemv_main(["--checkpoint", str(path), "--list", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["weights"]) == 2


@pytest.mark.usefixtures("small_cache")
@pytest.mark.parametrize(
    ("tensors", "flags", "message"),
    [
        (modelopt_nvfp4(), ["--tensor", "nothing"], "no weight 'nothing'"),
        (gpt_oss(), ["--expert", "3"], "has 3, got 3"),
        (bf16(), ["--format", "fp8"], "expected fp8, got bf16"),
        ({"a": torch.zeros(3)}, [], "got no weight that the kernels read"),
        (changed(modelopt_nvfp4(), weight_scale=None) | bf16(), [], "'m.weight_scale': expected"),
    ],
    ids=["unknown name", "unknown expert", "another format", "no weight", "one that is not whole"],
)
def test_a_request_that_can_not_be_met_is_one_line(
    tensors: Tensors, flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "x.safetensors", tensors)
    assert gemv_main([*SMALL, "--checkpoint", str(path), *flags]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and printed.out == ""


@pytest.mark.parametrize("flags", [["--tensor", "x"], ["--list"], ["--expert", "0"], ["--checkpoint", "/no/such/file"]])
def test_flags_that_go_with_a_checkpoint(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        gemv_main(flags)
    assert ended.value.code == 2 and capsys.readouterr().err.count("\n") == 1
