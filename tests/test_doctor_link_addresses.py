"""GIDs, and what NCCL's settings name: interfaces and devices that are there and can be used."""

from __future__ import annotations

from pathlib import Path
import re

from gb10_hosts import SOFT_ROCE, Entries, faults, found, h100, host, unit, units
from gb10_tree import RDMA, cabled, changed, unit_entries
import pytest

from roofprobe.doctor.case import Case, LogFile
from roofprobe.doctor.diagnosis import diagnose
from roofprobe.doctor.host import Host, Software, look
from roofprobe.doctor.link_gid import gid_wrong
from roofprobe.doctor.nccl_names import parse_names
from roofprobe.nccl_log_summary import ProcessLog
from roofprobe.recording import open_tree

LEAF = re.compile(r"\|-- ([0-9.]+)\n\s+/32 host LOCAL")


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("0", "gid_attrs/types/0 reads IB/RoCE v1"),
        ("1", "gids/1 is fe80:"),
        ("2", "gid_attrs/types/2 reads IB/RoCE v1"),
        ("5", "gids/5 is empty"),
        ("77", "gids/77 is empty"),
    ],
)
def test_a_gid_index_that_is_not_roce_v2_over_ipv4(index: str, said: str) -> None:
    (fault,) = found(unit(1, settings={"NCCL_IB_GID_INDEX": index}))
    assert fault.id == "link.gid-wrong" and said in fault.evidence
    assert "Set NCCL_IB_GID_INDEX=3" in fault.remedy


@pytest.mark.parametrize("index", ["3", " 3 ", "-1", "auto", ""])
def test_a_gid_index_that_is_right_or_none(index: str) -> None:
    assert found(unit(1, settings={"NCCL_IB_GID_INDEX": index})) == ()


def test_ipv6_may_be_asked_for() -> None:
    assert found(unit(1, settings={"NCCL_IB_GID_INDEX": "1", "NCCL_IB_ADDR_FAMILY": "AF_INET6"})) == ()


def test_only_ports_in_use_need_a_gid() -> None:
    halves = changed(cabled(0, 1), "rocep1s0f1", "roceP2p1s0f1", address=False)
    assert faults(unit(1, halves)) == [("link.gid-wrong", "spark1")]
    assert found(unit(1, halves, settings={"NCCL_IB_HCA": "rocep1s0f0,roceP2p1s0f0"})) == ()


def test_a_half_without_an_address() -> None:
    (fault,) = found(unit(1, changed(cabled(0), "roceP2p1s0f0", address=False)))
    assert fault.id == "link.gid-wrong"
    assert f"{RDMA}/roceP2p1s0f0/ports/1/gids holds no RoCE v2 GID over IPv4" in fault.evidence
    assert "enP2p1s0f0np0" in fault.remedy and "rocep1s0f0/" not in fault.evidence


def test_gids_elsewhere() -> None:
    soft_roce = open_tree(SOFT_ROCE)
    for index, expected in (("1", []), ("3", ["link.gid-wrong"])):
        one = look("soft", soft_roce, Software(), None, environment={"NCCL_IB_GID_INDEX": index})
        assert [each.id for each in diagnose(Case(hosts=(one,)))] == expected
    assert found(h100(1, settings={"NCCL_IB_GID_INDEX": "3"})) == ()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("eth9", "matches no interface"),
        ("=enp1s0f0", "matches no interface"),
        ("^en,lo", "matches no interface"),
        ("enp1s0f1np1", "matches only enp1s0f1np1, which is down"),
        ("enp1s0f1np1,eth9", "matches only enp1s0f1np1, which is down"),
    ],
)
def test_a_socket_interface_that_can_not_be_used(names: str, said: str) -> None:
    (fault,) = found(unit(1, settings={"NCCL_SOCKET_IFNAME": names}))
    assert fault.id == "link.interface-wrong"
    assert f"NCCL_SOCKET_IFNAME={names} {said}" in fault.evidence
    assert "Set NCCL_SOCKET_IFNAME" in fault.remedy and "enP7s7" in fault.remedy


@pytest.mark.parametrize("names", ["enP7s7", "=enP7s7", "en", "eth9,enP7", "^docker", "^=enP7s7", "lo", "x", ""])
def test_a_socket_interface_that_can_be_used(names: str) -> None:
    assert found(unit(1, settings={"NCCL_SOCKET_IFNAME": names})) == ()


def routes_of(entries: Entries) -> str:
    return str(entries["/proc/net/route"]["data"])


def bare_management() -> Entries:
    """The management interface is up and has no address."""
    entries = unit_entries(1, settings={"NCCL_SOCKET_IFNAME": "enP7s7"})
    routes = routes_of(entries).splitlines()
    return entries | {"/proc/net/route": {"data": "\n".join(line for line in routes if "enP7s7" not in line)}}


def test_a_socket_interface_without_an_address() -> None:
    (fault,) = found(host("spark1", bare_management()))
    assert fault.id == "link.interface-wrong" and "enP7s7, which has no address" in fault.evidence
    inet6 = {"data": "fe80000000000000000000fffe000001 02 40 20 80   enP7s7\n"}
    assert found(host("spark1", bare_management() | {"/proc/net/if_inet6": inet6})) == ()
    narrow = routes_of(bare_management()) + "\nenP7s7\t0001A8C0\t00000000\t0001\t0\t0\t100\tFEFFFFFF\t0\t0\t0"
    zero = bare_management()["/proc/net/fib_trie"]["data"] + "\n     |-- 192.168.1.0\n        /32 host LOCAL"
    link = {"/proc/net/route": {"data": narrow}, "/proc/net/fib_trie": {"data": zero}}
    assert found(host("spark1", bare_management() | link)) == ()  # the lower end of a /31
    unknown = {path: entry for path, entry in bare_management().items() if path != "/proc/net/fib_trie"}
    assert "link.interface-wrong" not in [each.id for each in found(host("spark1", unknown))]


def test_the_cause_is_told_alone() -> None:
    settings = {"NCCL_SOCKET_IFNAME": "enP2p1s0f0np0"}
    down = unit(1, changed(cabled(0), "roceP2p1s0f0", up=False), settings=settings)
    assert faults(down) == [("link.port-down", "spark1")]
    bare = unit(1, changed(cabled(0), "roceP2p1s0f0", address=False), settings=settings)
    assert faults(bare) == [("link.gid-wrong", "spark1")]


def test_devices_that_are_not_there() -> None:
    pair = units(cabled(0), cabled(0), settings={"NCCL_IB_HCA": "mlx5_0,mlx5_1"})
    assert faults(*pair) == [("link.interface-wrong", "spark1"), ("link.interface-wrong", "spark2")]
    assert "rocep1s0f0" in found(*pair)[0].remedy
    assert faults(unit(1), unit(2, settings={"NCCL_IB_HCA": "mlx5_0"})) == [("link.interface-wrong", "spark2")]


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("a1", {"a1", "a12"}),
        ("=a1", {"a1"}),
        ("^a1", {"b"}),
        ("^=a1", {"a12", "b"}),
        ("=a1,b", {"a1", "b"}),
        ("b:1", {"b"}),
        ("b:2", set()),
        ("b:x", set()),
        (",,", {"a1", "a12", "b"}),
        ("^", set()),
    ],
)
def test_the_rules_for_names(text: str, taken: set[str]) -> None:
    names = parse_names(text)
    assert names is not None
    assert {name for name in ("a1", "a12", "b") if names.select(name, 1)} == taken


def test_what_a_log_says_was_set_counts_for_its_host() -> None:
    def said(log_host: str, *hosts: Host) -> list[tuple[str, str]]:
        process = ProcessLog(log_host, 1, 0, environment={"NCCL_IB_GID_INDEX": "0"})
        log = LogFile(Path("nccl.log"), (process,), (), (), ())
        return [(each.id, each.host) for each in gid_wrong(Case(hosts=hosts, logs=(log,)))]

    pinned = {"NCCL_IB_GID_INDEX": "3"}
    assert said("spark2", unit(1, settings=pinned), unit(2, settings=pinned)) == [("link.gid-wrong", "spark2")]
    assert said("gx10-ab", unit(1), unit(2)) == []
    # A lone host and a lone log belong together, whatever the recording is called.
    assert said("gx10-ab", unit(1)) == [("link.gid-wrong", "spark1")]


def test_nothing_set_is_no_list() -> None:
    assert parse_names("") is None and parse_names(None) is None


def _readdressed(node: int, of: int) -> Host:
    """A unit whose first half has the address of another's."""
    entries = unit_entries(node, cabled(0))
    trie, theirs = entries["/proc/net/fib_trie"]["data"], unit_entries(of, cabled(0))["/proc/net/fib_trie"]["data"]
    addresses = zip(LEAF.findall(trie), LEAF.findall(theirs), strict=True)
    mine, other = next((a, b) for a, b in addresses if a != b and a.startswith("10."))
    return host(f"spark{node}", {**entries, "/proc/net/fib_trie": {"data": trie.replace(f" {mine}\n", f" {other}\n")}})


def test_one_address_at_both_ends() -> None:
    (fault,) = found(unit(1), _readdressed(2, of=1))
    assert (fault.id, fault.severity, fault.host) == ("link.address-duplicate", "fault", "spark1, spark2")
    assert "enp1s0f0np0 of spark1" in fault.evidence and "ip addr" in fault.remedy


def test_one_address_on_two_of_three_hosts_may_be_on_two_cables() -> None:
    assert [(each.id, each.severity) for each in found(unit(1), _readdressed(2, of=1), unit(3))] == [
        ("link.address-duplicate", "warning")
    ]


def test_one_machine_recorded_twice_has_its_own_addresses() -> None:
    assert found(host("monday", unit_entries(1, cabled(0))), host("tuesday", unit_entries(1, cabled(0)))) == ()
