"""Both halves of GB10's port have to be used, each on a subnet of its own."""

from __future__ import annotations

from gb10_hosts import RING, RING_SETTINGS, Entries, faults, found, host, unit, units
from gb10_tree import RDMA, Half, cabled, changed, unit_entries
import pytest

FIRST, SECOND = "rocep1s0f0", "roceP2p1s0f0"
GB_OF_WORDS = 125_000_000
"""Sent, and as many received."""


def used(first: float, second: float) -> tuple[Half, ...]:
    """A unit that sent, and received, so many GB over each half."""
    halves = changed(cabled(0), FIRST, words=(int(first * 2 * GB_OF_WORDS), 0))
    return changed(halves, SECOND, words=(0, int(second * 2 * GB_OF_WORDS)))


@pytest.mark.parametrize(
    ("first", "second", "fault"),
    [
        (5, 0, True),
        (0.005, 1.01, True),  # 0.5 %
        (0.02, 1.01, False),  # 2 %
        (0.99, 0, False),  # under 1 GB
        (5, 5, False),
    ],
)
def test_counters_that_move_on_one_half_alone(first: float, second: float, fault: bool) -> None:
    assert faults(unit(1, used(first, second))) == ([("link.one-half", "spark1")] if fault else [])


def test_what_counters_say_is_quoted() -> None:
    (fault,) = found(unit(1, used(5, 0.01)))
    assert f"{RDMA}/{FIRST}/ports/1/counters" in fault.evidence
    assert "5 GB in total, those of roceP2p1s0f0 0.01 GB" in fault.evidence
    assert f"NCCL_IB_HCA={FIRST},{SECOND}" in fault.remedy or f"NCCL_IB_HCA={SECOND},{FIRST}" in fault.remedy


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ((50, 50), (55, 50), True),
        ((50, 0), (50.5, 0), False),  # an old story
        ((50, 0), (55, 5), False),
        ((50, 50), (5, 0), False),  # reset in between
    ],
)
def test_an_earlier_recording_makes_deltas(
    before: tuple[float, float], after: tuple[float, float], fault: bool
) -> None:
    one = host("spark1", unit_entries(1, used(*after)), before=unit_entries(1, used(*before)))
    assert faults(one) == ([("link.one-half", "spark1")] if fault else [])


@pytest.mark.parametrize(
    ("hca", "fault"),
    [
        ("rocep1s0f0", True),
        ("=roceP2p1s0f0", True),
        ("^rocep1s0f0", True),
        ("rocep1s0f0,roce2p1s0f0", True),  # a slip of the pen
        ("rocep1s0f0:1,roceP2p1s0f0:1", False),
        ("rocep1s0f0:1,roceP2p1s0f0:2", True),
    ],
)
def test_an_hca_list_that_takes_one_half(hca: str, fault: bool) -> None:
    pair = units(cabled(0), cabled(0), settings={"NCCL_IB_HCA": hca})
    assert faults(*pair) == ([("link.one-half", "spark1"), ("link.one-half", "spark2")] if fault else [])


def test_one_unit_of_a_pair_that_takes_one_half_is_not_told_twice() -> None:
    pair = unit(1), unit(2, settings={"NCCL_IB_HCA": "rocep1s0f0"})
    (fault,) = found(*pair)
    assert (fault.id, fault.host) == ("link.one-half", "spark2")
    assert "takes rocep1s0f0 and leaves out roceP2p1s0f0, though both halves are up" in fault.evidence


def test_a_ring_needs_both_halves_of_both_ports() -> None:
    assert found(unit(1, RING, settings=RING_SETTINGS)) == ()
    assert faults(unit(1, RING, settings={"NCCL_IB_HCA": "rocep1s0f0,rocep1s0f1"})) == [("link.one-half", "spark1")]
    # Both halves of one port are a choice.
    assert found(unit(1, RING, settings={"NCCL_IB_HCA": "rocep1s0f0,roceP2p1s0f0"})) == ()


def without(entries: Entries, *words: str) -> Entries:
    return {path: entry for path, entry in entries.items() if not any(word in path for word in words)}


def test_a_half_that_is_not_on_the_bus() -> None:
    gone = without(unit_entries(2), "0002:01", "roceP2", "enP2p1")
    (fault,) = found(host("spark2", gone))
    assert fault.id == "link.one-half" and "lacks 0002:01:00.0" in fault.evidence
    # Beside its peer, the number of NICs is what differs.
    (fault,) = found(unit(1), host("spark2", gone))
    assert (fault.id, fault.host) == ("link.nic-asymmetry", "spark2")
    # A recording without the bus' list may leave a device out.
    assert found(host("spark2", without(gone, "/sys/bus"))) == ()


def test_halves_on_one_subnet() -> None:
    (fault,) = found(unit(1, changed(cabled(0), FIRST, SECOND, subnet=7)))
    assert fault.id == "link.halves-one-subnet"
    assert "is in 10.7.0.0/24 and enp" in fault.evidence.lower() and "10.7.0.1/24" in fault.evidence
    assert faults(unit(1, changed(RING, FIRST, "rocep1s0f1", subnet=7))) == [("link.halves-one-subnet", "spark1")]


def test_a_wider_subnet_around_the_other_half() -> None:
    entries = unit_entries(1)
    routes = entries["/proc/net/route"]["data"].splitlines()
    wide = [line for line in routes if not line.startswith("enp1s0f0np0")]
    wide.append("enp1s0f0np0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0")
    one = host("spark1", entries | {"/proc/net/route": {"data": "\n".join(wide)}})
    assert faults(one) == [("link.halves-one-subnet", "spark1")]


def test_halves_that_are_bonded_share_their_interface() -> None:
    entries = unit_entries(1)
    for path in [path for path in entries if "/gid_attrs/ndevs/" in path and "data" in entries[path]]:
        entries[path] = {"data": "bond0\n"}
    routes = [line for line in entries["/proc/net/route"]["data"].splitlines() if not line.startswith("enP2p1")]
    entries["/proc/net/route"] = {"data": "\n".join(routes).replace("enp1s0f0np0", "bond0")}
    entries["/proc/net/dev"]["data"] += "\n bond0: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0"
    entries |= {"/sys/class/net/bond0/operstate": {"data": "up\n"}, "/sys/class/net/bond0/mtu": {"data": "9000\n"}}
    assert found(host("spark1", entries)) == ()


def test_zeroconf_routes_without_an_address_are_no_subnet() -> None:
    entries = unit_entries(1)
    routes = [
        f"{name}\t0000FEA9\t00000000\t0001\t0\t0\t1000\t0000FFFF\t0\t0\t0" for name in ("enp1s0f0np0", "enP2p1s0f0np0")
    ]
    route = {"data": "\n".join([entries["/proc/net/route"]["data"], *routes])}
    assert found(host("spark1", entries | {"/proc/net/route": route})) == ()
