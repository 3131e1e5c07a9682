"""Ports that are down, slow, or on a narrowed PCIe link: named where it matters, and nowhere else."""

from __future__ import annotations

from typing import Any

from gb10_hosts import RING, faults, found, h100, host, unit, units
from gb10_tree import RDMA, cabled, changed, unit_entries
import pytest

NET = "/sys/class/net"
FIRST, SECOND = "rocep1s0f0", "roceP2p1s0f0"


def test_a_port_whose_twin_is_up() -> None:
    one = unit(2, changed(cabled(0), SECOND, up=False))
    (fault,) = found(one)
    assert (fault.id, fault.host, fault.severity) == ("link.port-down", "spark2", "fault")
    assert f"{RDMA}/{SECOND}/ports/1/state reads DOWN, expected ACTIVE" in fault.evidence
    assert "rocep1s0f0, the other half of the same QSFP port, is up" in fault.evidence
    assert "sudo ip link set enP2p1s0f0np0 up" in fault.remedy and "NCCL_IB_HCA" not in fault.remedy
    # Beside a healthy peer it is still one fault, which explains the unequal NICs.
    (fault,) = found(unit(1), one)
    assert (fault.id, fault.host) == ("link.port-down", "spark2")
    assert "It explains link.nic-asymmetry on spark2" in fault.evidence


@pytest.mark.parametrize(
    "change",
    [
        {f"{RDMA}/{SECOND}/ports/1/state": {"data": "2: INIT\n"}},
        {f"{RDMA}/{SECOND}/ports/1/phys_state": {"data": "2: Polling\n"}},
        {f"{NET}/enP2p1s0f0np0/carrier": {"data": "0\n"}},
        {f"{NET}/enP2p1s0f0np0/operstate": {"data": "down\n"}},
    ],
    ids=["state", "phys_state", "carrier", "operstate"],
)
@pytest.mark.parametrize("gpu", ["NVIDIA GB10", None], ids=["named", "known by its link"])
def test_each_file_that_says_so(change: dict[str, Any], gpu: str | None) -> None:
    assert faults(host("spark1", unit_entries(1) | change, gpu=gpu)) == [("link.port-down", "spark1")]


def test_a_peers_port_counts_only_where_this_host_has_fewer() -> None:
    # The cable's other end is in another port: as good.
    assert found(*units(cabled(0), cabled(1))) == ()
    # A ring of three without the cable between the first two.
    assert faults(*units(cabled(0), cabled(1), RING)) == [("link.port-down", "spark1"), ("link.port-down", "spark2")]
    # One of four on a switch is unplugged at the switch's end; its functions are still there.
    down = changed(cabled(0), up=False)
    assert faults(*units(cabled(0), cabled(0), down, cabled(0))) == [("link.port-down", "spark3")]
    # Machines of another kind are no peers.
    others = [host(f"other{n}", unit_entries(n), gpu="NVIDIA RTX PRO 6000") for n in (1, 2)]
    assert found(unit(1, down), unit(2, down), *others) == ()
    # With all of a unit's ports down and nobody to compare with, it has no cable.
    assert found(unit(1, down)) == ()


@pytest.mark.parametrize(
    ("hca", "pinned"),
    [
        ("rocep1s0f1,roceP2p1s0f1", True),
        ("=rocep1s0f1,roceP2p1s0f1", True),
        ("rocep1s0f1:1,roceP2p1s0f1:1", True),
        ("rocep1s0f0,roceP2p1s0f0,rocep1s0f1,roceP2p1s0f1", True),
        # A prefix that ports in use satisfy asks for none in particular, and an exclusion for nothing.
        ("roce", False),
        ("rocep1s0f,roceP2p1s0f", False),
        ("^rocep1s0f1", False),
    ],
)
def test_a_port_that_is_pinned(hca: str, pinned: bool) -> None:
    findings = found(unit(1, cabled(0), settings={"NCCL_IB_HCA": hca}))
    assert [(each.id, each.severity) for each in findings] == ([("link.port-down", "fault")] if pinned else [])
    for each in findings:
        assert f"NCCL_IB_HCA={hca} asks for it" in each.evidence and "take the port out of NCCL_IB_HCA" in each.remedy


def test_an_infiniband_port_that_only_a_peer_has() -> None:
    assert faults(h100(1), h100(2, up=7), h100(3)) == [("link.port-down", "node2")]
    assert faults(h100(1, up=7, settings={"NCCL_IB_HCA": "mlx5_6,mlx5_7"})) == [("link.port-down", "node1")]


def test_a_link_of_100g() -> None:
    (fault,) = found(unit(1, changed(cabled(0), rate=100)))
    assert (fault.id, fault.severity) == ("link.port-slow", "fault")
    assert f"{RDMA}/{FIRST}/ports/1/rate reads 100 Gb/sec" in fault.evidence and "expected 200 Gb/s" in fault.evidence
    assert "sudo ethtool -s" in fault.remedy
    # Either file is enough. A device that is not of the link has no expectation.
    slow = {f"{NET}/enp1s0f0np0/speed": {"data": "100000\n"}}
    assert faults(host("spark1", unit_entries(1) | slow)) == [("link.port-slow", "spark1")]
    other = {
        f"{RDMA}/rxe0/ports/1/state": {"data": "4: ACTIVE\n"},
        f"{RDMA}/rxe0/ports/1/rate": {"data": "10 Gb/sec (1X FDR10)\n"},
        f"{RDMA}/rxe0/ports/1/link_layer": {"data": "Ethernet\n"},
    }
    assert found(host("spark1", unit_entries(1) | other)) == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pcie_width": 2}, f"{RDMA}/{SECOND}/device/current_link_width reads 2"),
        ({"pcie_speed": "16.0 GT/s PCIe"}, f"{RDMA}/{SECOND}/device/current_link_speed reads 16.0 GT/s PCIe"),
    ],
    ids=["width", "speed"],
)
def test_a_narrowed_pcie_link(change: dict[str, Any], said: str) -> None:
    (fault,) = found(unit(1, changed(cabled(0), SECOND, "roceP2p1s0f1", **change)))
    assert fault.id == "link.pcie-narrow" and said in fault.evidence and "sudo fwupdmgr" in fault.remedy
    assert FIRST not in fault.evidence


@pytest.mark.parametrize("speed", ["Unknown", "64.0 GT/s PCIe", ""])
def test_a_pcie_speed_that_says_nothing_is_no_fault(speed: str) -> None:
    assert found(unit(1, changed(cabled(0), pcie_speed=speed))) == ()
