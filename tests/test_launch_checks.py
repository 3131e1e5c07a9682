"""What `roofprobe launch` decides from the hosts' own facts, before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from roofprobe.errors import BadInput, RoofprobeError
from roofprobe.probes.launch_agent import addresses
from roofprobe.probes.launch_checks import (
    Meeting,
    clock_warnings,
    meeting,
    rank_environment,
    ranks_per_host,
    require_same_software,
    torchrun_arguments,
)
from roofprobe.probes.launch_protocol import Address, Facts


def at(interface: str, address: str, megabits_per_s: int = 10_000, rdma: bool = False) -> Address:
    return Address(interface=interface, address=address, megabits_per_s=megabits_per_s, rdma=rdma)


def host(*found: Address, **changes: Any) -> Facts:
    usual: dict[str, Any] = {
        "hostname": "spark", "python": "3.12.3", "roofprobe": "0.1", "torch": "2.15.0", "nccl": "2.30.3", "gpus": 1,
        "memory_available_bytes": 100 << 30, "addresses": found,
    }  # fmt: skip
    return Facts(**usual | changes)


OFFICE = ("192.168.1.5/24", "192.168.1.6/24")
CABLE = ("192.168.100.1/24", "192.168.100.2/24")


@pytest.mark.parametrize(
    ("left", "right", "interfaces"),
    [
        pytest.param(
            [at("eth0", OFFICE[0]), at("enp1s0f0np0", CABLE[0], 200_000)],
            [at("eth0", OFFICE[1]), at("enp1s0f1np1", CABLE[1], 200_000)],
            ("enp1s0f0np0", "enp1s0f1np1"),
            id="the faster of two, under another name on each host",
        ),
        pytest.param(
            [at("fast0", OFFICE[0], 400_000), at("roce0", CABLE[0], 100_000, rdma=True)],
            [at("fast0", OFFICE[1], 400_000), at("roce0", CABLE[1], 100_000, rdma=True)],
            ("roce0", "roce0"),
            id="one that RDMA uses before a faster one",
        ),
        pytest.param(
            [at("docker0", "172.17.0.1/16", 999_000), at("eth0", OFFICE[0])],
            [at("docker0", "172.17.0.1/16", 999_000), at("eth0", OFFICE[1])],
            ("eth0", "eth0"),
            id="never a bridge that has the same address everywhere",
        ),
        pytest.param(
            [at("a", CABLE[0], 200_000), at("eth0", OFFICE[0], 1_000)],
            [at("a", CABLE[1], 10), at("eth0", OFFICE[1], 1_000)],
            ("eth0", "eth0"),
            id="by the slower end",
        ),
    ],
)
def test_the_hosts_meet_on_the_fastest_network_they_share(
    left: list[Address], right: list[Address], interfaces: tuple[str, str]
) -> None:
    found = meeting({"a": host(*left), "b": host(*right)})
    assert tuple(a.interface for a in found.addresses) == interfaces
    assert found.master == left[[a.interface for a in left].index(interfaces[0])].address.partition("/")[0]


def test_a_network_can_be_asked_for() -> None:
    hosts = {"a": host(at("x", OFFICE[0]), at("y", CABLE[0])), "b": host(at("x", OFFICE[1]), at("y", CABLE[1]))}
    assert meeting(hosts, "192.168.100.0/24").addresses[0].interface == "y"
    with pytest.raises(BadInput, match=r"not all on 10\.0\.0\.0/8; found a: 192\.168\.1\.5/24 on x"):
        meeting(hosts, "10.0.0.0/8")


def test_hosts_without_a_common_network_are_told_with_what_each_has() -> None:
    with pytest.raises(BadInput, match=r"share no network; found a: 192\.168\.1\.5/24 on eth0; b: no address"):
        meeting({"a": host(at("eth0", OFFICE[0])), "b": host()})


@pytest.mark.parametrize("what", ["roofprobe", "python", "torch", "nccl"])
def test_the_host_whose_software_differs_is_named_with_both_versions(what: str) -> None:
    hosts = {"a": host(), "b": host(), "c": host(**{what: "9.9"})}
    usual = getattr(host(), what)
    with pytest.raises(RoofprobeError, match=f"{what} differs: c has 9.9, a has {usual}"):
        require_same_software(hosts)


def test_hosts_alike_pass() -> None:
    require_same_software({"a": host(), "b": host()})


def test_one_rank_a_gpu_and_one_where_there_is_none() -> None:
    assert ranks_per_host({"a": host(gpus=2), "b": host(gpus=2)}, None) == 2
    assert ranks_per_host({"a": host(gpus=0), "b": host(gpus=0)}, None) == 1
    assert ranks_per_host({"a": host(gpus=1), "b": host(gpus=2)}, 1) == 1
    with pytest.raises(BadInput, match=r"a 1, b 2"):
        ranks_per_host({"a": host(gpus=1), "b": host(gpus=2)}, None)


def test_only_a_clock_that_is_surely_off_is_told() -> None:
    told = clock_warnings({"a": (0.9, 0.01), "b": (-70.0, 0.01), "c": (5.0, 4.5)})
    assert len(told) == 1 and "the clock of b is 70.0 s behind" in told[0]


def test_the_ranks_find_rank_0_and_use_their_own_hosts_interface() -> None:
    where = Meeting("192.168.100.0/24", (at("left", CABLE[0]), at("right", CABLE[1])))
    words = " ".join(torchrun_arguments(1, 2, 3, where, 29500, 60))
    assert "--node-rank 1" in words and "--nproc-per-node 3" in words and "--master-addr 192.168.100.1 " in words
    assert rank_environment(where, 1, {})["NCCL_SOCKET_IFNAME"] == "=right"
    assert rank_environment(where, 1, {"NCCL_SOCKET_IFNAME": "eth9"})["NCCL_SOCKET_IFNAME"] == "eth9"


def test_this_hosts_addresses_leave_loopback_out(tmp_path: Path) -> None:
    assert all(not a.address.startswith("127.") for a in addresses())
    for found in addresses():
        (tmp_path / "class/net" / found.interface / "device/infiniband").mkdir(parents=True)
    assert all(a.rdma for a in addresses(tmp_path))
