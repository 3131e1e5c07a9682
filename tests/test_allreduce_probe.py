"""The all-reduce probe as people start it: under torchrun, alone, and from `roofprobe run`."""

from __future__ import annotations

import json
import os
from pathlib import Path
import re
import subprocess

from collective_ranks import QUICK, probe, torchrun
import msgspec
import nccl_tests_output as parser
import pytest

from roofprobe.errors import BadInput, RoofprobeError
from roofprobe.measurement import CollectiveMeasurement
from roofprobe.probes import allreduce

pytest.importorskip("torch.distributed")


@pytest.fixture(scope="module")
def under_torchrun(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The README's command, from a folder that is not the checkout's, writing JSON too."""
    folder = tmp_path_factory.mktemp("elsewhere")
    c10d = ("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0")
    done = torchrun(c10d, "allreduce", ["-b", "8", "-e", "1M", "-f", "2", *QUICK, "-J", "out.json"], folder)
    assert done.returncode == 0, done.stderr
    return done, folder / "out.json"


SIZES = [8 << i for i in range(18)]


def test_torchrun_prints_a_table_that_nccl_tests_parsers_read(
    under_torchrun: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    text = under_torchrun[0].stdout
    for in_place in (False, True):
        assert list(parser.by_negative_column(text, "time", in_place)) == SIZES
        assert set(parser.by_negative_column(text, "#wrong", in_place).values()) == {0.0}
        assert all(t > 0 for t in parser.by_negative_column(text, "time", in_place).values())
    assert parser.out_of_bounds(text) == (0, "OK")
    assert parser.average_bus_gb_per_s(text) > 0
    assert [m["rank"] for m in parser.RANK.finditer(text)] == ["0", "1"]


def test_only_rank_0_prints_and_every_other_line_is_a_comment(
    under_torchrun: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    lines = under_torchrun[0].stdout.splitlines()
    assert len([line for line in lines if not line.startswith("#")]) == len(SIZES)
    assert len([line for line in lines if line.startswith("# roofprobe version")]) == 1


def test_loopback_is_labelled_and_the_fit_follows_the_footer(
    under_torchrun: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    text = under_torchrun[0].stdout
    assert "# transport: gloo over loopback, 2 ranks on this host" in text
    after = text[text.index("# Collective test concluded") :]
    assert re.search(r"^# fit: 8 B to .*alpha \d.* us.*beta \d.* GB/s", after, re.MULTILINE) or "no fit" in after


def test_the_json_file_agrees_with_the_table(under_torchrun: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, path = under_torchrun
    found = json.loads(path.read_text())
    times = parser.by_negative_column(done.stdout, "time")
    assert [r["size"] for r in found["results"]] == SIZES
    for result in found["results"]:
        assert times[result["size"]] == pytest.approx(result["out_of_place"]["time"], rel=0.01)
    assert found["transport"] == "gloo over loopback, 2 ranks on this host"
    assert found["end_time"] is not None
    assert found["nccl_version"] is None
    assert [d["rank"] for d in found["config"]["devices"]] == [0, 1]
    assert os.listdir(path.parent) == ["out.json"]  # nothing left beside it


def test_alone_it_starts_its_own_ranks_and_prints_json_on_stdout(tmp_path: Path) -> None:
    done = probe("--ranks", "3", "-b", "8", "-e", "8K", "-f", "8", *QUICK, "-d", "bfloat16", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["config"]["devices"]) == 3
    assert {r["type"] for r in found["results"]} == {"bfloat16"}
    for result in found["results"]:
        assert result["out_of_place"]["bus_bw"] == pytest.approx(result["out_of_place"]["alg_bw"] * 4 / 3)
    assert parser.out_of_bounds(done.stderr) == (0, "OK")


def test_one_rank_runs_as_nccl_tests_does_and_fits_nothing() -> None:
    done = probe("--ranks", "1", "-b", "64", "-e", "4K", *QUICK, "-o", "max", "-c", "0")
    assert done.returncode == 0, done.stderr
    assert "    N/A" in done.stdout
    assert "a single rank sends nothing over a link: no fit" in done.stdout
    assert set(parser.by_negative_column(done.stdout, "busbw").values()) == {0.0}


def test_measure_local_returns_a_record_with_every_sample() -> None:
    lines: list[str] = []
    found = allreduce.measure_local(2, min_bytes=64, max_bytes=4096, iterations=7, on_line=lines.append)
    assert (found.op, found.world_size, found.backend, found.dtype) == ("all_reduce", 2, "gloo", "float")
    assert found.transport == "gloo over loopback, 2 ranks on this host"
    assert found.bus_factor == 1.0
    assert [p.bytes for p in found.points] == [64 << i for i in range(7)]
    assert all(len(p.in_place_seconds) == len(p.out_of_place_seconds) == 7 for p in found.points)
    assert all(p.wrong == 0 for p in found.points)
    assert msgspec.json.decode(msgspec.json.encode(found), type=CollectiveMeasurement) == found
    assert any(line.startswith("# Avg bus bandwidth") for line in lines)


def test_measure_local_begins_no_size_past_the_time_limit() -> None:
    found = allreduce.measure_local(2, seconds=0.01, iterations=6, on_line=list[str]().append)
    assert 1 <= len(found.points) < 22


def test_measure_local_raises_in_one_line_what_the_ranks_said() -> None:
    with pytest.raises(BadInput, match="all-reduce over 2 ranks: the buffers need"):
        allreduce.measure_local(2, min_bytes=1 << 50, max_bytes=1 << 50, on_line=list[str]().append)
    with pytest.raises(RoofprobeError, match=r"-b 16 is above -e 8"):
        allreduce.measure_local(2, min_bytes=16, max_bytes=8, on_line=list[str]().append)
