"""Faults of the link that a recording of a machine shows."""

from __future__ import annotations

from dataclasses import replace

from doctor_cases.case import Case, Finding
from doctor_cases.clusters import FIRST, SECOND, A, B, C, either, pair, ring, spoil, spoil_port, switch, trees, unit
from doctor_cases.host import V1, V2, Host, link_local, mapped

PINNED = "NCCL_IB_HCA=rocep1s0f0,roceP2p1s0f0\n"
GID3 = PINNED + "NCCL_IB_GID_INDEX=3\n"


def _one_half(hosts: tuple[str, ...], evidence: str) -> Finding:
    return Finding("link.one-half", hosts, evidence, r"NCCL_IB_HCA|both halves|roceP2p1s0f")


def _fault(name: str, hosts: tuple[str, ...], evidence: str, remedy: str) -> Finding:
    return Finding(f"link.{name}", hosts, evidence, remedy)


one_sided = spoil(unit(1, sent_words=300_000_000), SECOND, 0, sent_words=1_000)
one_sided_pair = [spoil(h, FIRST, 0, sent_words=40_000) for h in pair(sent_words=12_500_000_000)]
PORT_DOWN = r"cable|reseat|ip link set|up"
ours = mapped("192.168.100.10")
v1_at_3 = ((link_local(1, FIRST, 0), V1), (link_local(1, FIRST, 0), V2), (ours, V2), (ours, V1))
only_local = tuple((link_local(1, SECOND, 0), kind) for kind in (V1, V2))

ONE_HALF = [
    Case(
        "one half: 1.2 GB on one, nothing on the other",
        "port counters (4-byte words)",
        _one_half((A,), r"port_xmit_data|1\.2|1200|300000000"),
        roots=trees(one_sided),
    ),
    Case(
        "one half: pair, 50 GB against 160 kB",
        "port counters, folders",
        _one_half(either(A, B), r"port_xmit_data|50"),
        roots=trees(*one_sided_pair),
        folders=True,
    ),
    Case(
        "one half: NCCL_IB_HCA names one",
        "etc/nccl.conf",
        _one_half((A,), r"NCCL_IB_HCA=?.*rocep1s0f0"),
        roots=trees(unit(nccl_conf="NCCL_IB_HCA=rocep1s0f0\nNCCL_DEBUG=WARN\n")),
    ),
    Case(
        "one half: NCCL_IB_HCA's prefix",
        "etc/nccl.conf, folder",
        _one_half((A,), r"rocep1"),
        roots=trees(unit(nccl_conf="# pinned\n\nNCCL_IB_HCA = rocep1\n".replace(" = ", "="))),
        folders=True,
    ),
    Case(
        "one half: NCCL_IB_HCA excludes one",
        "etc/nccl.conf with ^",
        _one_half((A,), r"\^roceP2p1"),
        roots=trees(unit(nccl_conf="NCCL_IB_HCA=^roceP2p1\n")),
    ),
    Case(
        "one half: NCCL_IB_HCA exact",
        "etc/nccl.conf with =",
        _one_half((A,), r"=roceP2p1s0f1"),
        roots=trees(unit(1, (1,), nccl_conf="NCCL_IB_HCA==roceP2p1s0f1:1\n")),
    ),
]
lost_half = replace(unit(), functions={key: half for key, half in unit().functions.items() if key[0] == FIRST})
MISSING = [
    Case(
        "one half: the second left the bus",
        "sys/bus/pci/devices",
        Finding("link.one-half", (A,), r"0002:01:00|roceP2p1s0f0", r"unplug|power|firmware"),
        roots=trees(lost_half),
    ),
    Case(
        "unequal NICs: one unit of two without a cable",
        "sys/class/infiniband of both",
        Finding("link.nic-asymmetry", (B,), r"\b0\b.*\b2\b|\b2\b.*\b0\b", r"cable"),
        roots=trees(unit(1), Host(2)),
        folders=True,
    ),
]
PORT_STATES = [
    Case(
        "port down: its twin is up",
        "ports/1/state",
        _fault("port-down", (A,), r"1: DOWN|DOWN", PORT_DOWN),
        roots=trees(spoil(unit(), SECOND, 0, up=False)),
    ),
    Case(
        "port down: pinned, the cable is in the other port",
        "ports/1/state and etc/nccl.conf",
        _fault("port-down", (A,), r"rocep1s0f0", r"port|cable|NCCL_IB_HCA"),
        roots=trees(unit(1, (1,), nccl_conf=PINNED)),
        folders=True,
    ),
    Case(
        "port down: two cables, one of them up at one end",
        "ports/1/state of both",
        _fault("port-down", (B,), r"DOWN", PORT_DOWN),
        roots=trees(unit(1, (0, 1)), spoil_port(unit(2, (0, 1)), 1, up=False, mtu=1500)),
    ),
    Case(
        "port down: first half of a ring's port",
        "ports/1/state of three",
        _fault("port-down", (C,), r"DOWN", PORT_DOWN),
        roots=trees(*ring()[:2], spoil(ring()[2], FIRST, 1, up=False)),
        folders=True,
    ),
    Case(
        "port slow: 100G from the switch",
        "rate and speed of all",
        _fault(
            "port-slow", (*either(A, B, C), "spark-a, spark-b, spark-c"), r"100", r"autoneg|speed|switch|cable|ethtool"
        ),
        roots=trees(*[spoil_port(h, 0, gbit=100) for h in switch(3)]),
    ),
    Case(
        "port slow: one unit",
        "rate and speed of one",
        _fault("port-slow", (B,), r"100", r"autoneg|speed|switch|cable|ethtool"),
        roots=trees(unit(1), spoil_port(unit(2), 0, gbit=100)),
        folders=True,
    ),
    Case(
        "PCIe narrow: the second half has two lanes",
        "current_link_width",
        _fault("pcie-narrow", (A,), r"\b2\b", r"firmware|BIOS|fwupdmgr"),
        roots=trees(spoil_port(spoil(unit(), SECOND, 0, width="2"), 1, up=False, mtu=1500)),
    ),
    Case(
        "PCIe narrow: both functions of the second half",
        "current_link_width, folder",
        _fault("pcie-narrow", (A,), r"0002:01:00|roceP2p1s0f0", r"firmware|BIOS|fwupdmgr"),
        roots=trees(spoil(spoil(unit(), SECOND, 0, width="2"), SECOND, 1, width="2")),
        folders=True,
    ),
    Case(
        "PCIe slow: trained at Gen3",
        "current_link_speed",
        _fault("pcie-narrow", (A,), r"8\.0 GT/s", r"firmware|BIOS|fwupdmgr|power"),
        roots=trees(spoil(unit(), FIRST, 0, speed="8.0 GT/s PCIe")),
    ),
    Case(
        "PCIe slow: Gen4 in an older kernel's words",
        "current_link_speed, folder",
        _fault("pcie-narrow", (A,), r"16 GT/s", r"firmware|BIOS|fwupdmgr|power"),
        roots=trees(spoil(unit(), FIRST, 0, speed="16 GT/s")),
        folders=True,
    ),
]
ADDRESSES = [
    Case(
        "GID: index 3 is RoCE v1",
        "gid_attrs/types",
        _fault("gid-wrong", (A,), r"v1", r"NCCL_IB_GID_INDEX"),
        roots=trees(spoil(unit(nccl_conf=GID3), FIRST, 0, gids=v1_at_3)),
    ),
    Case(
        "GID: index 3 is empty",
        "gids/3",
        _fault("gid-wrong", (A,), r"\b3\b", r"NCCL_IB_GID_INDEX|address"),
        roots=trees(spoil(unit(nccl_conf=GID3), SECOND, 0, gids=only_local)),
        folders=True,
    ),
    Case(
        "GID: index 0 is link-local RoCE v1",
        "etc/nccl.conf",
        _fault("gid-wrong", (A,), r"\b0\b", r"NCCL_IB_GID_INDEX"),
        roots=trees(unit(nccl_conf=PINNED + "NCCL_IB_GID_INDEX=0\n")),
    ),
    Case(
        "MTU: 9000 against 1500",
        "net/IF/mtu of both",
        _fault("mtu-mismatch", either(A, B), r"9000.*1500|1500.*9000", r"mtu"),
        roots=trees(unit(1), spoil_port(unit(2), 0, mtu=1500)),
    ),
    Case(
        "MTU: one of three",
        "net/IF/mtu of three, folders",
        _fault("mtu-mismatch", (C,), r"9000.*1500|1500.*9000", r"mtu"),
        roots=trees(*switch(2), spoil_port(switch(3)[2], 0, mtu=1500)),
        folders=True,
    ),
    Case(
        "MTU: the halves of one unit",
        "net/IF/mtu of both, one half differs",
        _fault("mtu-mismatch", either(A, B), r"1500", r"mtu"),
        roots=trees(unit(1), spoil(unit(2), SECOND, 0, mtu=1500)),
    ),
    Case(
        "one subnet: same /24",
        "proc/net/fib_trie and route",
        _fault("halves-one-subnet", (A,), r"192\.168\.100\.", r"subnet|address"),
        roots=trees(spoil(unit(), SECOND, 0, address="192.168.100.110/24")),
    ),
    Case(
        "one subnet: a /16 holds both",
        "proc/net/route's mask, folder",
        _fault("halves-one-subnet", (A,), r"10\.0\.", r"subnet|address"),
        roots=trees(spoil(spoil(unit(), FIRST, 0, address="10.0.1.1/16"), SECOND, 0, address="10.0.2.1/16")),
        folders=True,
    ),
    Case(
        "one subnet: both link-local",
        "169.254.0.0/16 on both halves",
        _fault("halves-one-subnet", (A,), r"169\.254", r"subnet|address"),
        roots=trees(spoil(spoil(unit(), FIRST, 0, address="169.254.28.198/16"), SECOND, 0, address="169.254.77.3/16")),
    ),
    Case(
        "one address: the same at both ends of a half",
        "proc/net/fib_trie of both",
        _fault("address-duplicate", either(A, B), r"192\.168\.100\.10", r"ip addr"),
        roots=trees(unit(1), spoil(unit(2), FIRST, 0, address="192.168.100.10/24")),
    ),
    Case(
        "interface: NCCL_SOCKET_IFNAME names none",
        "etc/nccl.conf",
        _fault("interface-wrong", (A,), r"eth9", r"NCCL_SOCKET_IFNAME"),
        roots=trees(unit(nccl_conf="NCCL_SOCKET_IFNAME=eth9\n")),
    ),
    Case(
        "interface: exact name of none",
        "etc/nccl.conf with =, folder",
        _fault("interface-wrong", (A,), r"enP7s\b", r"NCCL_SOCKET_IFNAME"),
        roots=trees(unit(nccl_conf="NCCL_SOCKET_IFNAME==enP7s\n")),
        folders=True,
    ),
]
FLAPS = r"cable|reseat|transceiver|port"
COUNTERS = [
    Case(
        "flapping: three since boot",
        "link_downed's total",
        Finding("link.flapping", (A,), r"link_downed.*3|3.*link_downed", FLAPS + "|--before", "warning"),
        0,
        roots=trees(spoil(unit(), FIRST, 0, link_downed=3)),
    ),
    Case(
        "flapping: an absurd total",
        "link_downed's total",
        _fault("flapping", (A,), r"4211", FLAPS),
        roots=trees(spoil_port(unit(), 0, link_downed=4211)),
        folders=True,
    ),
    Case(
        "retransmissions: an absurd total",
        "local_ack_timeout_err's total",
        _fault("flapping", (A,), r"3200000|3[.,]2", FLAPS),
        roots=trees(spoil(unit(), SECOND, 0, retransmissions=3_200_000)),
    ),
    Case(
        "flapping: during the run",
        "link_downed with --before",
        _fault("flapping", (A,), r"link_downed", FLAPS),
        roots=trees(spoil(unit(), FIRST, 0, link_downed=5)),
        before=trees(spoil(unit(), FIRST, 0, link_downed=2)),
    ),
    Case(
        "retransmissions: during the run",
        "out_of_sequence with --before, folders",
        _fault("flapping", (B,), r"out_of_sequence", FLAPS),
        roots=trees(unit(1), spoil(unit(2), FIRST, 0, out_of_sequence=250_400)),
        before=trees(unit(1), spoil(unit(2), FIRST, 0, out_of_sequence=400)),
        folders=True,
    ),
]
LINK_FAULTS = [*ONE_HALF, *MISSING, *PORT_STATES, *ADDRESSES, *COUNTERS]
