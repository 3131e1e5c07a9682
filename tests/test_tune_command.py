"""``roofprobe tune`` for real, on the CPU at the smallest size that outgrows the cache."""

from __future__ import annotations

import json
from pathlib import Path
import subprocess
import sys
from typing import Any

import pytest
from records import environment
import torch

from roofprobe.kernels.formats import random_nvfp4
from roofprobe.kernels.gemv import gemv
from roofprobe.kernels.host_threads import allowed_cpus
from roofprobe.probes.tune import main
from roofprobe.probes.tune_search import Outcome, Subject, find_best
from roofprobe.profile import TuningProfile


@pytest.fixture(autouse=True)
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose cache is 1 MiB, so that arrays of a few MiB outgrow it."""
    monkeypatch.setattr("roofprobe.environment.read_environment", environment)


def flags(profile: Path, *more: str) -> list[str]:
    return ["--side", "host", "--seconds", "0.02", "--memory", "16M", "--profile", str(profile), *more]


GEMV = ("--op", "gemv", "--format", "nvfp4", "--n", "256", "--k", "528")  # K = 33 blocks of 16


def test_tuning_the_cpu_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "profile.json"
    assert main(flags(path, *GEMV, "--batch", "1,2", "--json")) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(e["n"], e["k"], e["batch"], e["rejected"]) for e in document["tuned"]] == [
        (256, 528, 1, 0),
        (256, 528, 2, 0),
    ]
    profile = TuningProfile.load(path)
    for entry in profile.tuned:
        assert entry.default == {"threads": len(allowed_cpus()), "chunk_bytes": 4 << 20, "stores": "non-temporal"}
        assert entry.tried > 1 and entry.bytes == 256 * 528 * 9 // 16 + 4 + 2 * entry.batch * (256 + 528)
        assert entry.keep_default or (entry.interval is not None and entry.interval[0] > 1 + entry.margin)
    config = profile.kernel_config("gemv", "nvfp4", 300, 512, side="host")
    weight, x = random_nvfp4(64, 528, 3, "cpu"), torch.ones(528, dtype=torch.bfloat16)
    assert torch.equal(gemv(weight, x, config=config), gemv(weight, x))

    assert main(flags(path, "--op", "dequant", "--format", "mxfp4", "--n", "256", "--k", "512")) == 0
    extended = TuningProfile.load(path)
    assert extended.tuned[:2] == profile.tuned and extended.tuned[2].op == "dequant"
    assert "GB/s, best of" in capsys.readouterr().out


def test_streams_are_tuned_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("roofprobe.probes.tune.STREAMS", ("read", "triad"))
    assert main(flags(tmp_path / "p.json", "--op", "stream")) == 0
    tuned = TuningProfile.load(tmp_path / "p.json").tuned
    assert [(e.op, e.format, e.k) for e in tuned] == [("read", "float32", None), ("triad", "float32", None)]
    assert {e.default["stores"] for e in tuned} == {"non-temporal"}
    assert capsys.readouterr().err.startswith("[1/")


def test_a_wrong_kernel_ends_with_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Right as the default writes, wrong with normal stores."""
    from roofprobe.kernels import stream_host

    copy = stream_host.copy

    def forgets_the_end(source: torch.Tensor, out: torch.Tensor, config: Any) -> torch.Tensor:
        copy(source, out, config)
        if config.stores == "normal":
            out[-1] = 0
        return out

    monkeypatch.setattr(stream_host, "copy", forgets_the_end)
    monkeypatch.setattr("roofprobe.probes.tune.STREAMS", ("copy",))
    assert main(flags(tmp_path / "p.json", "--op", "stream")) == 1
    assert "stores=normal: 1 elements wrong" in capsys.readouterr().out
    (entry,) = TuningProfile.load(tmp_path / "p.json").tuned
    assert entry.rejected >= 1 and entry.config["stores"] == "non-temporal"


def test_a_default_that_is_wrong_fails_its_target_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("roofprobe.kernels.stream_host.copy", lambda *arguments: arguments[1])
    monkeypatch.setattr("roofprobe.probes.tune.STREAMS", ("copy", "read"))
    assert main(flags(tmp_path / "p.json", "--op", "stream")) == 1
    assert "FAILED: host copy float32" in capsys.readouterr().out
    assert [entry.op for entry in TuningProfile.load(tmp_path / "p.json").tuned] == ["read"]


def test_an_interruption_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.json"

    def second_is_interrupted(subject: Subject, *rest: Any) -> Outcome:
        if subject.name.endswith("b2"):
            raise KeyboardInterrupt
        return find_best(subject, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("roofprobe.probes.tune.find_best", second_is_interrupted)
        assert main(flags(path, *GEMV, "--batch", "1,2")) == 3
    assert "interrupted: 1 of 2 are in" in capsys.readouterr().out
    (first,) = TuningProfile.load(path).tuned
    assert main(flags(path, *GEMV, "--batch", "1,2")) == 0
    assert "of an interrupted run are taken from" in capsys.readouterr().out
    resumed = TuningProfile.load(path).tuned
    assert (resumed[0].config, resumed[0].seconds, resumed[0].speedup) == (first.config, first.seconds, first.speedup)
    assert [entry.batch for entry in resumed] == [1, 2]


def test_the_probe_is_also_a_script(tmp_path: Path) -> None:
    script = Path(__file__).parent.parent / "probes" / "tune.py"
    command = [sys.executable, str(script), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert shown.returncode == 0 and "roofprobe tune" in shown.stdout


def test_another_machines_profile_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.json"
    there = TuningProfile(
        schema="roofprobe/profile/1",
        created="then",
        environment=environment(cpu_model="another CPU"),
        ceilings={},
        kernels=(),
        collectives=(),
    )
    there.save(path)
    assert main(flags(path, *GEMV)) == 2
    assert "was measured on another CPU, this is test CPU; choose another --profile" in capsys.readouterr().err
    assert TuningProfile.load(path) == there


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--model", "gpt-oss-120"], "did you mean 'gpt-oss-120b'"),
        (["--model", "llama-3.1-70b", "--tp", "3"], "can't be split over 3 ranks"),
        (["--model", "llama-3.1-70b", "--n", "8"], "has its own shapes"),
        (["--tp", "2"], "argument --tp: needs --model"),
        (["--batch", "1,32"], "above 16"),
        (["--op", "dequant", "--format", "bf16"], "bf16 weights need no dequantization"),
        (["--batch", "1,x"], "'x' is not a whole number"),
        (["--op", "gemv", "--format", "mxfp4", "--k", "48"], "no format's block divides K"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_unusable_flags_are_one_line(
    more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(flags(tmp_path / "p.json", *more))
    except SystemExit as end:
        status = int(str(end.code))
    error = capsys.readouterr().err
    assert status == 2 and said in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
