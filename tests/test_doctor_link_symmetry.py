"""What has to be alike on every host, and which host is the odd one out."""

from __future__ import annotations

from gb10_hosts import H100, faults, found, h100, h100_entries, host, unit, units
from gb10_tree import cabled, changed, unit_entries
import pytest


def test_a_unit_whose_functions_left_the_bus() -> None:
    (fault,) = found(*units(cabled(0), cabled(0), (), cabled(0)))
    assert (fault.id, fault.host) == ("link.nic-asymmetry", "spark3")
    assert "0 RDMA ports on spark3 (none) and 2 on spark1, spark2, spark4" in fault.evidence
    assert "lspci" in fault.remedy


def test_of_two_the_one_with_fewer_is_odd() -> None:
    one_function = tuple(half for half in cabled(0) if half.device != "roceP2p1s0f0")
    for pair, odd in ((units(one_function, cabled(0)), "spark1"), (units(cabled(0), one_function), "spark2")):
        assert faults(*pair) == [("link.nic-asymmetry", odd)]


def test_settings_that_differ() -> None:
    ring = cabled(0, 1)
    hosts = unit(1, ring), unit(2, ring), unit(3, ring, settings={"NCCL_IB_HCA": "rocep1s0f0,roceP2p1s0f0"})
    assert faults(*hosts) == [("link.nic-asymmetry", "spark3")]


def test_hosts_of_different_kinds_are_not_compared() -> None:
    assert found(unit(1), h100(1)) == ()


def test_a_recording_without_any_network_says_nothing_of_its_nics() -> None:
    assert found(unit(1), host("spark2", {"/etc/nccl.conf": {"data": "NCCL_DEBUG=INFO\n"}})) == ()


@pytest.mark.parametrize(
    ("mtus", "odd"),
    [
        ((9000, 1500), "spark2"),
        ((1500, 9000), "spark1"),
        ((9000, 1500, 9000), "spark2"),
        ((1500, 1500, 9000), "spark3"),
        # Neither is what the link should have: nobody can say who is odd.
        ((1500, 4200), "spark1, spark2"),
    ],
)
def test_mtus_that_differ_between_hosts(mtus: tuple[int, ...], odd: str) -> None:
    findings = found(*units(*(changed(cabled(0), mtu=mtu) for mtu in mtus)))
    assert [(each.id, each.host, each.severity) for each in findings] == [("link.mtu-mismatch", odd, "fault")]
    assert "/sys/class/net/enp1s0f0np0/mtu reads" in findings[0].evidence and "ip link set" in findings[0].remedy


def test_mtus_that_differ_though_the_cable_is_crossed() -> None:
    assert faults(*units(cabled(0), changed(cabled(1), mtu=1500))) == [("link.mtu-mismatch", "spark2")]


def test_mtus_that_differ_between_halves() -> None:
    odd = changed(cabled(0), "roceP2p1s0f0", mtu=1500)
    assert faults(unit(1, odd)) == [("link.mtu-mismatch", "spark1")]
    assert faults(*units(cabled(0), odd)) == [("link.mtu-mismatch", "spark2")]
    # A port without a cable keeps its default.
    assert found(unit(1, changed(cabled(0), "rocep1s0f1", "roceP2p1s0f1", mtu=1500))) == ()


def test_an_interface_is_known_by_its_name_where_nothing_ties_it_to_its_device() -> None:
    kept = ("/state", "/rate", "/mtu", "/speed", "/operstate")
    bare = [
        {path: entry for path, entry in unit_entries(n, changed(cabled(0), mtu=mtu)).items() if path.endswith(kept)}
        for n, mtu in ((1, 9000), (2, 1500))
    ]
    assert faults(host("spark1", bare[0]), host("spark2", bare[1])) == [("link.mtu-mismatch", "spark2")]


def test_every_odd_host_is_named_with_its_own_values() -> None:
    findings = found(*units(*(changed(cabled(0), mtu=mtu) for mtu in (9000, 1500, 9000, 4200, 9000))))
    assert [each.host for each in findings] == ["spark2", "spark4"]
    assert "reads 4200" not in findings[0].evidence and "reads 1500" not in findings[1].evidence


def test_the_mtu_of_infiniband_interfaces_is_free() -> None:
    entries = h100_entries(8)
    assert (
        found(
            *(
                host(f"node{n}", entries | {"/sys/class/net/ibs0/mtu": {"data": f"{n * 2044}\n"}}, gpu=H100)
                for n in (1, 2)
            )
        )
        == ()
    )


def test_a_small_mtu_everywhere_is_a_warning() -> None:
    findings = found(*units(*(changed(cabled(0), mtu=1500) for _ in range(2))))
    assert [(each.id, each.host, each.severity) for each in findings] == [
        ("link.mtu-small", "spark1", "warning"),
        ("link.mtu-small", "spark2", "warning"),
    ]
    crossed = found(*units(changed(cabled(0), mtu=1500), changed(cabled(1), mtu=1500)))
    assert ["f0np0" in each.evidence for each in crossed] == [True, False]  # each its own
    assert [(each.id, each.severity) for each in found(unit(1, changed(cabled(0), mtu=1500)))] == [
        ("link.mtu-small", "info")
    ]


def test_firmware_that_differs_is_told() -> None:
    newer = changed(cabled(0), firmware="28.47.1000")
    (told,) = found(*units(cabled(0), newer, cabled(0)))
    assert (told.id, told.host, told.severity) == ("link.firmware-differs", "spark2", "info")
    assert "28.47.1000" in told.evidence and "expected 28.45.4028, as on spark1, spark3" in told.evidence
    (told,) = found(*units(cabled(0), newer))
    assert told.host == "spark1, spark2"
    (told,) = found(unit(1, changed(cabled(0), "rocep1s0f0", firmware="28.47.1000")))
    assert told.host == "spark1"
    other = {"/sys/class/infiniband/mlx5_9/fw_ver": {"data": "16.35.2000\n"}}
    assert found(host("spark1", unit_entries(1) | other)) == ()
