"""The raw link: perftest's output and processes (a stand-in), TCP for real over loopback, and pairs of hosts."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
from threading import Thread
import time

import fake_perftest
from gb10_tree import gb10_entries, record
import pytest

from roofprobe.collectives import link_ends, link_meeting, perftest, tcp_link
from roofprobe.collectives.link_baseline import LinkBaseline, baseline_lines, pairs_in_rounds, put_together, share_line
from roofprobe.collectives.link_ends import HostEnd, RdmaEnd, host_end, matched, rdma_ends
from roofprobe.collectives.link_meeting import Figures, Meeting
from roofprobe.collectives.perftest import PerftestError, read_gbit_per_s, read_half_round_trip_us
from roofprobe.fabric import read_fabric
from roofprobe.tree import this_machine

pytest.importorskip("torch.distributed")


@pytest.mark.parametrize("release", [2022, 2026], ids=["4.5", "26.04"])
def test_perftests_tables_are_read(release: int) -> None:
    assert read_gbit_per_s(fake_perftest.output("ib_write_bw", "rocep1s0f0", release)) == 92.57
    assert read_half_round_trip_us(fake_perftest.output("ib_write_lat", "rocep1s0f0", release)) == 4.21


GOOD = fake_perftest.output("ib_write_bw", "rocep1s0f0")


@pytest.mark.parametrize(
    "text",
    [
        "",
        GOOD.replace("Gb/sec", "MiB/sec"),  # another unit
        GOOD.replace("92.57", "nan"),
        GOOD.replace("92.57", "0.00"),
        GOOD.replace("92.57", ""),
        GOOD[: GOOD.index("#bytes") + 80],
        GOOD + GOOD,
        fake_perftest.output("ib_write_lat", "rocep1s0f0"),
    ],
    ids=["empty", "MiB", "nan", "zero", "column missing", "no row", "two tables", "latency"],
)
def test_a_table_that_is_not_as_expected_is_an_error(text: str) -> None:
    with pytest.raises(PerftestError):
        read_gbit_per_s(text)


def test_a_gb10s_ends_use_the_v2_gid_over_ipv4(tmp_path: Path) -> None:
    fabric = read_fabric(record(gb10_entries(2), tmp_path / "root.json"))
    assert rdma_ends(fabric) == [
        RdmaEnd(device="roceP2p1s0f0", port=1, gid_index=3, address="10.2.0.2", network="10.2.0.0/24"),
        RdmaEnd(device="rocep1s0f0", port=1, gid_index=3, address="10.1.0.2", network="10.1.0.0/24"),
    ]
    # TCP goes over the RoCE port's own interface, not over the management network.
    assert host_end(fabric, ("rocep1s0f0",), "192.168.1.2").address == "10.1.0.2"
    assert host_end(fabric, ("enP2p1s0f0np0",), "192.168.1.2").address == "10.2.0.2"
    assert host_end(fabric, (), "192.168.1.2").address == "192.168.1.2"


def end(device: str, network: str | None, **changes: object) -> RdmaEnd:
    fields = {"device": device, "port": 1, "gid_index": 3, "address": "127.0.0.1", "network": network, **changes}
    return RdmaEnd(**fields)  # type: ignore[arg-type]


def host(*rdma: RdmaEnd, address: str | None = "127.0.0.1") -> HostEnd:
    return HostEnd(address=address, interface="lo", rdma=rdma)


def test_ports_are_matched_by_subnet_and_else_by_name() -> None:
    """The cable may join port 0 of one unit with port 1 of the other."""
    crossed = matched(host(end("a0", "10.1.0.0/24"), end("a1", "10.2.0.0/24")), host(end("a1", "10.1.0.0/24")))
    assert [(ours.device, theirs.device) for ours, theirs in crossed] == [("a0", "a1")]
    unknown = matched(host(end("a0", None), end("a1", None)), host(end("a1", None), end("a2", None)))
    assert [(ours.device, theirs.device) for ours, theirs in unknown] == [("a1", "a1")]
    assert matched(host(), host(end("a0", None))) == []


@pytest.mark.parametrize(
    ("hosts", "rounds"),
    [(1, []), (2, [[(0, 1)]]), (3, [[(0, 1)], [(1, 2)], [(0, 2)]]), (4, [[(0, 1), (2, 3)], [(1, 2), (0, 3)]])],
)
def test_pairs_follow_the_ring_and_share_no_host_in_a_round(hosts: int, rounds: list[list[tuple[int, int]]]) -> None:
    assert pairs_in_rounds(hosts) == rounds


def meet(server: HostEnd, client: HostEnd) -> tuple[Figures, Figures]:
    """Both ends in threads of this process, over a store of its own."""
    from torch.distributed import HashStore

    store = HashStore()
    found: list[Figures | None] = [None, None]

    def run(index: int) -> None:
        found[index] = Meeting(store, "link/0/0-1", index == 0, this_machine()).measure(server, client)

    threads = [Thread(target=run, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found[0] is not None and found[1] is not None
    return found[0], found[1]


def test_tcp_over_loopback_for_real() -> None:
    at_server, at_client = meet(host(), host())
    assert at_server.tool == at_client.tool == "TCP"
    assert at_server.problem is None and at_client.problem is None
    assert at_server.gbit_per_s.keys() == {"1 stream", "4 streams"}
    # Any machine's loopback moves more than 0.1 Gb/s and echoes a byte in under 10 ms; wide, for a busy machine.
    assert all(0.1 < rate < 2000 for rate in at_server.gbit_per_s.values())
    assert at_client.half_round_trip_us is not None and 0.5 < at_client.half_round_trip_us < 10_000


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """The stand-in on PATH, with something going wrong as asked."""
    fake_perftest.install(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return lambda wrong: monkeypatch.setenv("FAKE_PERFTEST", wrong)


HALVES = host(end("rocep1s0f0", "10.1.0.0/24"), end("roceP2p1s0f0", "10.2.0.0/24"))


@pytest.mark.usefixtures("tools")
def test_both_halves_run_at_once_and_add_up() -> None:
    assert perftest.installed()
    at_server, at_client = meet(HALVES, HALVES)
    assert at_server.problem is None and at_client.problem is None
    both = put_together([baseline(at_server), baseline(at_client)])[0]
    assert both.gbit_per_s == {"rocep1s0f0": 92.57, "roceP2p1s0f0": 97.28}
    assert both.raw_gbit_per_s == pytest.approx(189.85)
    assert both.half_round_trip_us == 4.21
    (line,) = baseline_lines([both])
    assert line == (
        "link: spark1 <- spark2: 189.8 Gb/s (ib_write_bw over rocep1s0f0 and roceP2p1s0f0: rocep1s0f0 92.57,"
        " roceP2p1s0f0 97.28), half a round trip 4.21 us"
    )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("fail", "ib_write_bw ended with status 1: Unable to find the Infiniband/RoCE device"),
        ("junk", "its table is not understood"),
        ("hang", "did not listen within"),
    ],
)
def test_perftest_that_fails_is_a_reason_and_leaves_no_process(
    tools: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, wrong: str, says: str
) -> None:
    tools(wrong)
    monkeypatch.setattr(perftest, "LISTEN_SECONDS", 1.0)
    monkeypatch.setattr(perftest, "TIMEOUT_SECONDS", 3.0)
    found = put_together([baseline(each) for each in meet(HALVES, HALVES)])[0]
    assert found.problem is not None and says in found.problem
    assert found.raw_gbit_per_s is None and found.half_round_trip_us is None
    assert f"not measured: {found.problem}" in baseline_lines([found])[0]
    assert not [line for line in running() if "fake_perftest" in line]


def running() -> list[str]:
    import psutil

    children = psutil.Process().children(recursive=True)
    return [" ".join(child.cmdline()) for child in children if child.is_running()]


def baseline(figures: Figures) -> LinkBaseline:
    return LinkBaseline(ranks=(0, 1), hosts=("spark1", "spark2"), **figures._asdict())


def test_an_end_that_never_comes_is_a_reason_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.distributed import HashStore

    monkeypatch.setattr(link_meeting, "MEET_SECONDS", 0.5)
    monkeypatch.setattr(tcp_link, "WAIT_SECONDS", 0.5)
    for is_server in (True, False):
        began = time.monotonic()
        figures = Meeting(HashStore(), "link/0/0-1", is_server, this_machine()).measure(host(), host())
        assert figures.problem is not None and "127.0.0.1" in figures.problem
        assert time.monotonic() - began < 10
    nowhere = Meeting(HashStore(), "x", True, this_machine()).measure(host(address=None), host())
    assert nowhere.problem is not None and "no address" in nowhere.problem


def test_the_share_is_of_the_slowest_link() -> None:
    links = [baseline(Figures("TCP", ("eth0",), {"1 stream": rate}, None, None)) for rate in (0.956, 0.9)]
    line = share_line(links, "all_reduce", 0.1)
    assert line is not None and "0.8 Gb/s, is 89 % of the 0.9 Gb/s that TCP alone gets from the slowest link" in line
    assert share_line([baseline(Figures("TCP", (), {}, None, "gone"))], "all_reduce", 0.1) is None


def test_no_verbs_device_means_no_perftest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fabric = read_fabric(record(gb10_entries(2), tmp_path / "root.json"))
    monkeypatch.setattr(perftest, "installed", lambda: True)
    monkeypatch.setattr(link_ends, "verbs_nodes", lambda: 0)
    without = host_end(fabric, (), None)
    assert without.rdma == () and "uverbs" in (without.note or "")
    monkeypatch.setattr(link_ends, "verbs_nodes", lambda: 4)
    assert len(host_end(fabric, (), None).rdma) == 2 and host_end(fabric, (), None).note is None
