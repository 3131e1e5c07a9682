"""Any file can be given as a log: of any length, of any bytes, and of none."""

from __future__ import annotations

from pathlib import Path
import tracemalloc

from doctor_logs import faults, named, read_case
from hypothesis import given
from hypothesis import strategies as st
import nccl_logs as logs
from nccl_logs import NEW, OLD, Rank
import pytest

from roofprobe.doctor.case import Case
from roofprobe.doctor.diagnosis import diagnose
from roofprobe.doctor.log_file import MAX_KEPT, MAX_KEPT_CHARACTERS, read_log_file
from roofprobe.errors import BadInput
from roofprobe.nccl_log_summary import MAX_ENTRIES, MAX_PROCESSES

PTXAS = "ptxas fatal   : Value 'sm_121a' is not defined for option 'gpu-name'"
TELLING = [
    *logs.over_ib(Rank(0), NEW),
    *logs.over_sockets(Rank(1), OLD),
    *logs.table({1 << 24: 3.0}),
    logs.watchdog(0),
    PTXAS,
    logs.info(
        Rank(0), "HINT: In many cases this error occurs when the incorrect GID index is forced by NCCL_IB_GID_INDEX"
    ),
    "rank 1 on spark2 (10.1.0.2) stopped answering 4 s ago in all_reduce",
    "\t     [1, 99999999999999] finished collective #5, but didn't join collective #6 (count from 1)",
    *logs.warn(Rank(0), "Mismatched NCCL version detected : rank 0 version 99999999999999 rank 1 version 1", NEW),
]


@pytest.mark.parametrize("name", ["none.log", "."])
def test_a_log_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"can't read .*; expected a log of NCCL's") as raised:
        read_log_file(tmp_path / name)
    assert "\n" not in str(raised.value)


@given(
    lines=st.lists(st.sampled_from(TELLING) | st.text(max_size=80), max_size=12),
    cuts=st.lists(st.integers(0, 60), min_size=1, max_size=4),
    end=st.sampled_from(["\n", "", "\r", "\0", "\x1b[31m", "\udcff"]),
)
def test_no_log_makes_the_doctor_fail(
    lines: list[str], cuts: list[int], end: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    torn = "".join(line[cuts[i % len(cuts)] if i % 3 == 0 else 0 :] + end for i, line in enumerate(lines))
    path = tmp_path_factory.getbasetemp() / "fuzz.log"
    path.write_bytes(torn.encode(errors="surrogatepass"))
    for finding in diagnose(Case(logs=(read_log_file(path),))):
        assert finding.host and finding.evidence and finding.remedy


@given(junk=st.binary(max_size=300))
def test_no_bytes_make_the_doctor_fail(junk: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "junk.log"
    starts = (
        b"h:1:2 [0] NCCL INFO ",
        b"# busbw type",
        b"#  Rank ",
        b"WorkNCCL(SeqNum=",
        b"size type busbw\n1 1 float ",
        b"",
    )
    path.write_bytes(b"\n".join(start + junk for start in starts))
    diagnose(Case(logs=(read_log_file(path),)))


def test_what_a_long_log_leaves_in_memory_is_bounded(tmp_path: Path) -> None:
    """Lines that all say something new: other processes, communicators, devices, variables and complaints."""
    path = tmp_path / "long.log"
    with open(path, "w") as file:
        for i in range(6_000):
            me = Rank(0, host=f"node{i}", pid=i)
            file.write(logs.info(me, "Using network IB") + "\n")
            here = Rank(0)
            for text in (
                f"ncclCommInitRank comm 0x{i:x} rank 0 nranks 2 cudaDev 0 commId 0x{i:x} - Init START",
                f"NCCL_SETTING_{'ABCDEFGHIJ'[i % 10] * (i % 300)} set by environment to {'x' * 100}",
                f"NET/IB : GPU Direct RDMA Disabled for HCA 0 'device{i}'",
                f"Channel 00/0 : {i}[0] -> 0[0] [receive] via NET/IB/0",
            ):
                file.write(logs.info(here, text) + "\n")
            file.write(logs.watchdog(0, sequence=i) + "\n")
        file.write("\n" * 1_000_000 + "x" * 10_000_000)
    tracemalloc.start()
    found = read_log_file(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 48 << 20
    assert len(found.processes) == MAX_PROCESSES and len(found.hangs) == MAX_KEPT
    assert max(map(len, found.hangs)) <= MAX_KEPT_CHARACTERS
    (here,) = [process for process in found.processes if process.host == "spark1"]
    assert len(here.started) == len(here.gpu_direct) == MAX_ENTRIES


def test_a_fault_at_the_end_of_a_long_log_is_found(tmp_path: Path) -> None:
    steps = [f"[rank0]: step {i} loss 2.3 on rank 0, all ranks at {i} tokens/s" for i in range(20_000)]
    lines = [*logs.cluster(2, NEW), *steps, PTXAS]
    assert [f.id for f in faults(tmp_path, lines)] == ["software.ptxas-too-old"]


def test_a_warning_after_many_others_is_kept(tmp_path: Path) -> None:
    noise = [
        line for i in range(500) for line in logs.warn(Rank(0), f"Call to connect to 10.0.{i}.1<{i}> timed out", NEW)
    ]
    told = logs.warn(Rank(0), "Bootstrap : no socket interface found", NEW)
    assert named(faults(tmp_path, [*noise, *told])) == [("link.interface-wrong", "spark1")]


def test_one_file_may_hold_everything(tmp_path: Path) -> None:
    case = read_case(tmp_path, [*logs.cluster(2, NEW), *logs.table({1 << 24: 20.0}), logs.watchdog(0), PTXAS])
    (log,) = case.logs
    assert (len(log.processes), len(log.measured), len(log.hangs), len(log.ptxas_errors)) == (2, 1, 1, 1)
