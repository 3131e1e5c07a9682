"""RDMA devices that a process can't open: NCCL falls back to sockets."""

from __future__ import annotations

from gb10_hosts import Entries, faults, found, host, unit, units
from gb10_tree import cabled, unit_entries
import pytest


def test_a_container_without_the_devices() -> None:
    (fault,) = found(unit(1, verbs=False))
    assert (fault.id, fault.severity, fault.host) == ("link.socket-fallback", "fault", "spark1")
    assert "/dev/infiniband holds no uverbs device" in fault.evidence
    assert "--device=/dev/infiniband" in fault.remedy
    assert faults(*units(cabled(0), cabled(0), verbs=False)) == [
        ("link.socket-fallback", "spark1"),
        ("link.socket-fallback", "spark2"),
    ]


@pytest.mark.parametrize(
    ("dev", "fault"),
    [
        ({}, False),  # /dev was not recorded
        ({"/dev/shm/x": {"dir": 1}}, False),
        ({"/dev": {"dir": 1}}, True),
        ({"/dev/infiniband": {"dir": 1}}, True),
        ({"/dev/infiniband/rdma_cm": {"dir": 1}}, True),
        (
            {"/dev/infiniband/rdma_cm": {"dir": 1}, **{f"/dev/infiniband/uverbs{n}": {"dir": 1} for n in range(4)}},
            False,
        ),
    ],
)
def test_only_a_place_that_was_recorded_speaks(dev: Entries, fault: bool) -> None:
    entries = {path: entry for path, entry in unit_entries(1).items() if not path.startswith("/dev")} | dev
    assert faults(host("spark1", entries)) == ([("link.socket-fallback", "spark1")] if fault else [])


def test_a_container_that_was_given_one_device_of_a_port() -> None:
    entries = {path: entry for path, entry in unit_entries(1).items() if not path.startswith("/dev/infiniband/")}
    (fault,) = found(host("spark1", entries | {"/dev/infiniband/uverbs0": {"dir": 1}}))
    assert fault.id == "link.one-half"
    assert "/dev/infiniband lacks uverbs2, the device of rocep1s0f0" in fault.evidence
    assert "--device=/dev/infiniband" in fault.remedy


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"NCCL_IB_DISABLE": "1"}, True),
        ({"NCCL_NET": "Socket"}, True),
        ({"NCCL_IB_DISABLE": "0", "NCCL_NET": "IB"}, False),
        ({"NCCL_IB_DISABLE": "no"}, False),  # no number: NCCL keeps its default
    ],
)
def test_settings_that_ask_for_sockets(settings: dict[str, str], fault: bool) -> None:
    findings = found(unit(1, settings=settings))
    assert [each.id for each in findings] == (["link.socket-fallback"] if fault else [])
    assert all("Unset NCCL_" in each.remedy for each in findings)
    # Without a cable there is nothing but sockets.
    assert found(unit(1, (), settings=settings)) == ()


def test_a_module_that_is_not_loaded() -> None:
    entries = {path: entry for path, entry in unit_entries(1).items() if "uverbs" not in path}
    (fault,) = found(host("spark1", entries | {"/sys/class/infiniband_verbs": {"dir": 1}}))
    assert fault.id == "link.socket-fallback" and "sudo modprobe ib_uverbs" in fault.remedy


@pytest.mark.parametrize(("limit", "fault"), [(65536, True), (8 << 20, True), (64 << 20, False), (None, False)])
def test_a_limit_on_locked_memory(limit: int | None, fault: bool) -> None:
    findings = found(unit(1, locked_memory=limit))
    assert [each.id for each in findings] == (["link.socket-fallback"] if fault else [])
    for each in findings:
        assert f"Max locked memory is {limit} bytes" in each.evidence and "--ulimit memlock=-1" in each.remedy


@pytest.mark.parametrize(("capabilities", "fault"), [("00000000a80425fb", True), ("000001ffffffffff", False)])
def test_the_limit_does_not_hold_for_a_process_that_may_lock(capabilities: str, fault: bool) -> None:
    status = {"/proc/self/status": {"data": f"Name:\tcat\nCapEff:\t{capabilities}\n"}}
    one = host("spark1", unit_entries(1, locked_memory=65536) | status)
    assert faults(one) == ([("link.socket-fallback", "spark1")] if fault else [])


def test_without_a_port_in_use_nothing_is_missed() -> None:
    assert found(unit(1, (), verbs=False, locked_memory=65536)) == ()
