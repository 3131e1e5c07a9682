"""The all-reduce probe as people start it: under torchrun, alone, by hand; and what it says when it can't run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import json
import os
from pathlib import Path
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time

import msgspec
import nccl_tests_output as parser
import psutil
import pytest

from roofprobe.collectives.process_group import Place, find_place
from roofprobe.errors import BadInput, RoofprobeError
from roofprobe.measurement import CollectiveMeasurement
from roofprobe.probes import allreduce

pytest.importorskip("torch.distributed")

PROBE = Path(__file__).resolve().parent.parent / "probes" / "allreduce.py"
QUICK = ["-n", "6", "-w", "1"]
LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def environment(**changes: str) -> dict[str, str]:
    """Ours without a launcher's variables, with CPU ranks only: this file tests the gloo path on any machine."""
    kept = {name: value for name, value in os.environ.items() if name not in LAUNCHER_VARIABLES}
    return {**kept, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **changes}


def probe(*arguments: str | Path, cwd: Path | None = None, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROBE, *arguments],
        cwd=cwd, env=environment(**changes), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def under_torchrun(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The README's command, from a folder that is not the checkout's, writing JSON too."""
    folder = tmp_path_factory.mktemp("elsewhere")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
         "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0",
         PROBE, "-b", "8", "-e", "1M", "-f", "2", *QUICK, "-J", "out.json"],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
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


def ranks_by_hand(script: str, tmp_path: Path, *arguments: str) -> list[tuple[int, str, str]]:
    """Two ranks with their places set by hand, each running `script` before the probe's main(); status and output."""
    program = tmp_path / "rank.py"
    program.write_text(textwrap.dedent(script) + "\nfrom roofprobe.probes import allreduce\n"
                       "raise SystemExit(allreduce.main())\n")  # fmt: skip
    port = str(free_port())
    ranks = [
        subprocess.Popen(
            [sys.executable, program, *arguments],
            env=environment(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
                            GLOO_SOCKET_IFNAME="lo"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        return [(p.wait(), *p.communicate(timeout=90)) for p in ranks]
    finally:
        for p in ranks:
            p.kill()
            p.communicate()


CORRUPT_ONE_ELEMENT = """
    import dataclasses, os
    from roofprobe.probes import allreduce
    true_start = allreduce.ALL_REDUCE.start

    def start(send, receive, reduction):
        true_start(send, receive, reduction)
        if os.environ["RANK"] == "1" and receive.numel() == 16:
            receive[7] += 1

    allreduce.ALL_REDUCE = dataclasses.replace(allreduce.ALL_REDUCE, start=start)
"""


def test_one_corrupted_element_on_one_rank_is_counted_and_the_rank_named(tmp_path: Path) -> None:
    (status, out, _), (other_status, other_out, _) = ranks_by_hand(
        CORRUPT_ONE_ELEMENT, tmp_path, "-b", "32", "-e", "128", *QUICK
    )
    assert (status, other_status) == (1, 1)
    assert other_out == ""
    for in_place in (False, True):
        assert parser.by_negative_column(out, "#wrong", in_place) == {32: 0, 64: 1, 128: 0}
    assert parser.out_of_bounds(out) == (2, "FAILED")
    assert re.search(r"^# wrong: rank 1 on \S+: 2 wrong elements, at sizes 64$", out, re.MULTILINE)


DIE_AT_1_KIB = """
    import dataclasses, os, signal
    from roofprobe.probes import allreduce
    true_start = allreduce.ALL_REDUCE.start

    def start(send, receive, reduction):
        if os.environ["RANK"] == "1" and receive.numel() == 256:
            os.kill(os.getpid(), signal.SIGKILL)
        true_start(send, receive, reduction)

    allreduce.ALL_REDUCE = dataclasses.replace(allreduce.ALL_REDUCE, start=start)
"""


def test_a_rank_that_dies_ends_the_others_with_a_valid_json_of_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    began = time.monotonic()
    (status, out, error), _ = ranks_by_hand(DIE_AT_1_KIB, tmp_path, "-b", "256", "-e", "4K", *QUICK, "-J", str(path))
    assert time.monotonic() - began < 60
    assert status == 1
    assert "Traceback" not in error
    assert re.search(r"^roofprobe allreduce: rank 0 on \S+: all_reduce of 1024 bytes failed: .+", error, re.MULTILINE)
    partial = json.loads(path.read_text())
    assert [r["size"] for r in partial["results"]] == [256, 512]
    assert partial["end_time"] is None
    assert out.splitlines()[-1].split()[0] == "512"


def test_a_rank_that_never_comes_is_named_within_the_deadline() -> None:
    began = time.monotonic()
    done = probe("-e", "8", "-T", "2", RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    assert done.returncode == 1
    assert "rank 1 of 2 did not join within 2 s" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--no-such-flag"], "--no-such-flag"),
        (["-b", "12Q"], "'12Q' is not a size"),
        (["-b", "64M", "-e", "8"], "-b 67108864 is above -e 8"),
        (["--ranks", "0"], "'0' is not a whole number of at least 1"),
        (["-J", "/nonexistent/out.json"], "can't write /nonexistent/out.json"),
        (["-J", "."], "it is a folder"),
        (["-t", "2"], "only 1 is possible"),
        (["-d", "float7"], "no such datatype: 'float7'"),
        (["-o", "mulsum"], "mulsum"),
        (["--minbyte", "8"], "--minbyte"),
        (["-i", "0"], "never grow"),
        (["-G", "1", "-I", "1"], "-G launches whole loops"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in LAUNCHER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    try:
        status: object = allreduce.main(arguments)
    except SystemExit as ended:
        status = ended.code
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert words in captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-b", "12Q"], "'12Q' is not a size"),
        (["-d", "fp8_e4m3"], "gloo reduces no f8e4m3"),
        (["-e", "1024T", "-b", "1024T"], "a quarter of the available memory is"),
    ],
    ids=["known at once", "known once all have joined", "known from every rank's memory"],
)
def test_bad_input_is_told_by_rank_0_alone(arguments: list[str], words: str, tmp_path: Path) -> None:
    (status, out, error), (other_status, other_out, other_error) = ranks_by_hand("", tmp_path, *arguments)
    assert (status, other_status) == (2, 2)
    assert (out, other_out, other_error) == ("", "", "")
    assert len(error.splitlines()) == 1
    assert words in error


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


@contextmanager
def long_run(folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A probe of two ranks under way, with the JSON of its first size written; and the ranks."""
    path = folder / "out.json"
    running = subprocess.Popen(
        [sys.executable, PROBE, "--ranks", "2", "-b", "8", "-e", "16M", "-n", "300", "-J", path],
        env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not path.exists():
            assert time.monotonic() < deadline
            assert running.poll() is None
            time.sleep(0.05)
        yield running, psutil.Process(running.pid).children()
    finally:
        running.kill()
        running.communicate()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_rank_outlives_its_launcher_and_the_json_stays_valid(how: signal.Signals, tmp_path: Path) -> None:
    with long_run(tmp_path) as (running, ranks):
        assert len(ranks) == 2
        running.send_signal(how)
        _, error = running.communicate(timeout=30)
        assert "Traceback" not in error
        assert running.returncode != 0
        _, alive = psutil.wait_procs(ranks, timeout=10)
        assert alive == []
    partial = json.loads((tmp_path / "out.json").read_text())
    assert partial["results"][0]["size"] == 8
    assert partial["end_time"] is None


def test_a_killed_rank_is_named_by_the_launcher(tmp_path: Path) -> None:
    with long_run(tmp_path) as (running, ranks):
        victim = next(r for r in ranks if r.environ()["RANK"] == "1")
        victim.kill()
        _, error = running.communicate(timeout=30)
        assert running.returncode == 1
        assert f"rank 1 (pid {victim.pid}) was ended by SIGKILL" in error


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, None),
        (
            {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234"},
            Place(1, 4, 0, "10.0.0.1", 1234),
        ),
        (
            {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
             "MASTER_ADDR": "a"},
            Place(3, 4, 1, "a", 29500),
        ),
        (
            {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "0", "MASTER_ADDR": "a"},
            Place(0, 2, 0, "a", 29500),
        ),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, Place(0, 1, None, "127.0.0.1", 0)),
    ],
    ids=["none", "torchrun", "mpirun", "srun", "a batch script is no rank", "one rank by hand"],
)  # fmt: skip
def test_a_rank_finds_its_place(variables: dict[str, str], place: Place | None) -> None:
    assert find_place(variables) == place


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"RANK": "0"}, "WORLD_SIZE is not set"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK is 'x'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2 and WORLD_SIZE is 2"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR is not set"),
    ],
)
def test_an_unusable_place_is_told(variables: dict[str, str], words: str) -> None:
    with pytest.raises(BadInput, match=re.escape(words)):
        find_place(variables)
