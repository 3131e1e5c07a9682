"""NCCL's log in the wordings of several releases, with launchers' prefixes, junk and great length."""

from __future__ import annotations

from io import BytesIO

from hypothesis import given
from hypothesis import strategies as st
import nccl_logs as logs
from nccl_logs import BOTH_HALVES, MERGING, MIDDLE, NEW, OLD, RELEASES, Rank
import pytest

from roofprobe.nccl_log import MAX_LINE_BYTES, lines_of, read_line, read_log
from roofprobe.nccl_log_facts import Connection, EnvironmentSet, NicsFound, Source, Version, Warned
from roofprobe.nccl_log_summary import MAX_WARNINGS, ProcessLog, summarize


def read(lines: list[str]) -> list[ProcessLog]:
    return summarize(read_log(line.encode() for line in lines))


def devices_used(process: ProcessLog) -> set[str]:
    plugins = {"IB": "IB", "Socket": "Socket"}
    return {
        name
        for each in process.connections
        if each.nic is not None
        for name in process.nic_devices(plugins[each.detail], each.nic)
    }


@pytest.mark.parametrize("release", RELEASES)
def test_a_healthy_pair(release: str) -> None:
    found = read([line for rank in (0, 1) for line in logs.over_ib(Rank(rank), release)])
    assert [(p.host, p.rank, p.ranks, p.device) for p in found] == [("spark1", 0, 2, 0), ("spark2", 1, 2, 0)]
    for process in found:
        assert process.version == release
        assert process.network == "IB"
        assert process.layer == "RoCE"
        assert process.bootstrap == "enP7s7"
        assert process.started == process.completed == {("0x9f3c", process.rank): 2}
        assert process.environment == {"NCCL_SOCKET_IFNAME": "enP7s7"}
        assert process.gpu_direct == dict.fromkeys(BOTH_HALVES, False)
        assert {(c.sender, c.receiver, c.direction) for c in process.connections} == (
            {(1, 0, "receive"), (0, 1, "send")} if process.rank == 0 else {(0, 1, "receive"), (1, 0, "send")}
        )
        # Whether two devices, one merged in the list, or one merged after it: both halves are used.
        assert devices_used(process) == set(BOTH_HALVES)
        assert process.warnings == {}


@pytest.mark.parametrize("release", RELEASES)
def test_a_fall_back_to_sockets(release: str) -> None:
    (process,) = read(logs.over_sockets(Rank(0), release))
    assert process.network == "Socket"
    assert process.nics["IB"] == ()  # found none, which an empty list after it does not change
    assert devices_used(process) == {"enP7s7"}


@pytest.mark.parametrize("release", RELEASES)
def test_one_half_is_one_device(release: str) -> None:
    (process,) = read(logs.over_ib(Rank(0), release, devices=("rocep1s0f0",)))
    assert devices_used(process) == {"rocep1s0f0"}


@pytest.mark.parametrize(
    ("text", "kind", "detail", "nic", "direct"),
    [
        ("0[0] -> 1[1] via P2P/CUMEM", "P2P", "CUMEM", None, False),
        ("0[0] -> 1[1] via P2P/CUMEM/read", "P2P", "CUMEM/read", None, False),
        ("0[0] -> 1[1] via P2P/direct pointer", "P2P", "direct pointer", None, False),
        ("0[0] -> 3[3] via P2P/indirect/2[2]", "P2P", "indirect/2[2]", None, False),
        ("0[b1000] -> 1[d1000] via P2P/IPC", "P2P", "IPC", None, False),  # bus ids, as before 2.17
        ("0[0] -> 1[0] via SHM/direct/direct", "SHM", "direct/direct", None, False),
        ("0[0] -> 1[0] via SHM/direct", "SHM", "direct", None, False),
        ("0[0] -> 1[0] [send] via NET/IB/1/GDRDMA", "NET", "IB", 1, True),
        ("0[0] -> 1[0] [send] via NET/IB/1/GDRDMA(PCI)/Shared", "NET", "IB", 1, True),
        ("0[0] -> 8[0] [send] via NET/IB/3(2)/GDRDMA", "NET", "IB", 3, True),  # by rank 2's NIC
        ("1[0] -> 0[0] [receive] via NET/Socket/0/Shared", "NET", "Socket", 0, False),
        ("1[0] -> 0[0] [receive] via NET/IBext_v8/0", "NET", "IBext_v8", 0, False),
        ("1[0] -> 0[0] [receive] via NET/AWS Libfabric/2/GDRDMA", "NET", "AWS Libfabric", 2, True),
    ],
)
def test_connections(text: str, kind: str, detail: str, nic: int | None, direct: bool) -> None:
    for channel in ("Channel 00/0", "Channel 07"):
        found = read_line(logs.info(Rank(0), f"{channel} : {text}"))
        assert isinstance(found, Connection)
        assert (found.kind, found.detail, found.nic, found.gpu_direct) == (kind, detail, nic, direct)


@pytest.mark.parametrize(
    "before",
    ["", "[rank0]: ", "[default0]:", "[1,0]<stdout>:", "0: ", "node1 | ", "[2026-03-01 10:20:30] ", "2026-03-01T10Z "],
    ids=["none", "torchrun", "elastic", "mpirun", "srun", "ours", "nccl-time", "collector"],
)  # fmt: skip
def test_what_a_launcher_puts_before_a_line_is_passed_over(before: str) -> None:
    found = read_line(before + logs.info(Rank(1), "Using network IB"))
    assert found is not None and found.source is not None
    assert (found.source.host, found.source.pid) == ("spark2", 4001)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("NCCL_IB_DISABLE set by environment to 1.", "NCCL_IB_DISABLE", "1"),
        ("NCCL_IB_HCA set to =rocep1s0f0,roceP2p1s0f0", "NCCL_IB_HCA", "=rocep1s0f0,roceP2p1s0f0"),
        ("NCCL_SOCKET_IFNAME set by environment to ^docker0,lo", "NCCL_SOCKET_IFNAME", "^docker0,lo"),
        ("Comm config netName reset to NCCL_NET=Socket", "NCCL_NET", "Socket"),
    ],
)
def test_the_environment_that_nccl_says_it_took(text: str, name: str, value: str) -> None:
    assert read_line(logs.info(Rank(0), text)) == EnvironmentSet(
        source=Source("spark1", 4000, 0), name=name, value=value
    )


def test_a_version_without_prefix_counts_for_all() -> None:
    """At NCCL_DEBUG=WARN, and with NCCL_DEBUG=VERSION, the line stands alone."""
    assert read_line("NCCL version 2.29.3+cuda13.1") == Version(source=None, version="2.29.3", cuda="13.1")
    lines = [line for line in logs.over_ib(Rank(0), NEW) if "NCCL version" not in line]
    assert [p.version for p in read(["NCCL version 2.28.9+cuda12.9", *lines])] == ["2.28.9"]


def test_rails_and_infiniband_in_the_list() -> None:
    text = "NET/IB : Using [0]mlx5_0:1:0:2/IB [1]mlx5_3:1::1/IB ; OOB ib0:10.0.0.1<0>"
    found = read_line(logs.info(Rank(0), text))
    assert isinstance(found, NicsFound)
    assert found.nics == (("mlx5_0",), ("mlx5_3",)) and found.layer == "IB"


@pytest.mark.parametrize("release", RELEASES)
def test_warnings_keep_their_place_and_text(release: str) -> None:
    text = "Mismatched NCCL version detected : rank 0 version 22107 rank 1 version 23007"
    (_, line) = logs.warn(Rank(0), text, release)
    found = read_line(line)
    assert isinstance(found, Warned)
    assert found.text == text and found.where == "init.cc:900"


def test_a_stuck_rank_has_started_only() -> None:
    lines = [line for line in logs.over_ib(Rank(0), MIDDLE) if "Init COMPLETE" not in line]
    (process,) = read(lines)
    assert process.started == {("0x9f3c", 0): 2} and not process.completed


def test_a_split_communicator_is_read_too() -> None:
    text = (
        "ncclCommSplit comm 0x1 rank 1 nranks 2 cudaDev 0 nvmlDev 0 busId f01000 parent 0x2 splitCount 1 color 5 key 1"
    )
    for end, line in (("START", f"{text}- Init START"), ("COMPLETE", f"{text} - Init COMPLETE")):
        found = read_line(logs.info(Rank(1), line))
        assert found is not None and type(found).__name__ == {"START": "InitStarted", "COMPLETE": "InitCompleted"}[end]


def test_a_log_is_streamed_and_its_memory_bounded() -> None:
    kinds = ["net.cc: something " + "x" * length for length in range(MAX_WARNINGS + 50)]
    warnings = [line for kind in kinds for number in (1, 2) for line in logs.warn(Rank(0), f"{kind} {number}", OLD)]
    call = logs.info(Rank(0), "AllReduce: opCount 1 sendbuff 0x7f recvbuff 0x7f count 1 datatype 7 op 0 root 0")
    text = "\n".join([*logs.over_ib(Rank(0), MERGING), *warnings, *[call] * 1000]).encode()
    endless = b"NCCL" * MAX_LINE_BYTES
    (process,) = summarize(read_log(lines_of(BytesIO(endless + b"\n" + text))))
    assert len(process.warnings) == MAX_WARNINGS
    assert process.rank == 0
    assert all(len(line) <= MAX_LINE_BYTES for line in lines_of(BytesIO(endless)))


@given(st.lists(st.sampled_from(logs.over_ib(Rank(0), NEW) + logs.over_sockets(Rank(1), OLD)) | st.text(), max_size=30),
       st.integers(0, 40))  # fmt: skip
def test_no_log_makes_the_reader_fail(lines: list[str], cut: int) -> None:
    read([line[cut:] if index % 3 == 0 else line for index, line in enumerate(lines)])


@given(st.binary(max_size=400))
def test_no_bytes_make_the_reader_fail(junk: bytes) -> None:
    summarize(read_log(lines_of(BytesIO(b"h:1:2 [0] NCCL INFO " + junk + b"\nNCCL version" + junk))))
