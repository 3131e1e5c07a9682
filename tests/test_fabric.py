"""Interfaces and RDMA devices: from a real Soft-RoCE recording, from synthetic GB10 units, and from this machine."""

from __future__ import annotations

from pathlib import Path
import socket

from gb10_tree import HALVES, Half, gb10_entries, record
import msgspec

from roofprobe.fabric import Counters, moved, read_counters, read_fabric
from roofprobe.recording import open_tree
from roofprobe.tree import this_machine

SOFT_ROCE = Path(__file__).resolve().parent / "recordings" / "softroce.json"


def test_a_real_soft_roce_device_is_read_with_all_that_it_lacks() -> None:
    fabric = read_fabric(open_tree(SOFT_ROCE))
    assert [device.name for device in fabric.devices] == ["rxe0", "rxe1"]
    device = fabric.devices[0]
    assert device.firmware is None  # an empty line
    assert device.pci_address is None
    assert device.netdevs == ("va",)
    (port,) = device.ports
    assert (port.state, port.physical_state, port.link_layer) == ("ACTIVE", "LinkUp", "Ethernet")
    assert port.rate_gbit_per_s == 10.0
    assert port.sent_bytes is None and port.counters == {}  # it has no counters folder
    assert port.hardware_counters["link_downed"] == 0
    # Six of eight entries are zero, and their attributes answer EINVAL.
    assert [(gid.index, gid.type, gid.ndev, gid.ipv4) for gid in port.gids] == [
        (0, "RoCE v2", "va", None),
        (1, "RoCE v2", "va", "10.9.0.1"),
    ]
    assert read_counters(open_tree(SOFT_ROCE)).ports == {}


def test_a_gb10_unit_with_one_cable(tmp_path: Path) -> None:
    fabric = read_fabric(record(gb10_entries(node=1), tmp_path / "root-spark1.json"))
    assert [device.name for device in fabric.active_devices] == ["roceP2p1s0f0", "rocep1s0f0"]
    first = fabric.device("rocep1s0f0")
    assert first is not None
    assert first.pci_address == "0000:01:00.0"
    assert (first.pcie_speed, first.pcie_width, first.pcie_max_width) == ("32.0 GT/s PCIe", 4, 16)
    assert first.netdevs == ("enp1s0f0np0",)
    assert first.ports[0].rate_gbit_per_s == 200
    assert first.ports[0].sent_bytes == 1000 and first.ports[0].received_bytes == 500  # words of 4 bytes
    assert first.ports[0].gids[3].ipv4 == "10.1.0.1"
    other = fabric.other_half(first)
    assert other is not None and other.name == "roceP2p1s0f0"
    down = fabric.device("rocep1s0f1")
    assert down is not None and not down.active and down.ports[0].rate_gbit_per_s == 40  # what a port that is down says

    interface = fabric.interface("enp1s0f0np0")
    assert interface is not None
    assert interface.speed_gbit_per_s == 200 and interface.carrier and interface.mtu == 9000
    assert interface.addresses == ("10.1.0.1/24",) and interface.networks == ("10.1.0.0/24",)
    assert interface.driver == "mlx5_core"
    assert (interface.sent_bytes, interface.received_bytes) == (2000, 1000)
    unplugged = fabric.interface("enp1s0f1np1")
    assert unplugged is not None
    assert unplugged.carrier is None and unplugged.speed_gbit_per_s is None and unplugged.addresses == ()
    msgspec.json.encode(fabric)


def test_two_halves_on_one_subnet_show_in_their_networks(tmp_path: Path) -> None:
    halves = (Half("rocep1s0f0", "a", "0000:01:00.0", 1), Half("roceP2p1s0f0", "b", "0002:01:00.0", 1))
    fabric = read_fabric(record(gb10_entries(1, halves), tmp_path / "root.json"))
    assert {interface.networks for interface in fabric.interfaces} == {("10.1.0.0/24",)}


def test_other_machines_have_no_halves(tmp_path: Path) -> None:
    fabric = read_fabric(record(gb10_entries(1, (HALVES[0], HALVES[1])), tmp_path / "root.json"))
    assert all(fabric.other_half(device) is None for device in fabric.devices)


def test_sysfs_alone_does_where_proc_was_not_recorded(tmp_path: Path) -> None:
    entries = {path: entry for path, entry in gb10_entries(1).items() if not path.startswith("/proc")}
    entries["/sys/class/net/enp1s0f0np0/statistics/tx_bytes"] = {"data": "77\n"}
    entries["/sys/class/net/enp1s0f0np0/statistics/rx_bytes"] = {"data": "88\n"}
    tree = record(entries, tmp_path / "root.json")
    assert {interface.name for interface in read_fabric(tree).interfaces} == {half.netdev for half in HALVES}
    assert read_counters(tree).interfaces == {"enp1s0f0np0": (77, 88)}


def test_deltas_leave_out_what_was_reset_or_came_later() -> None:
    before = Counters(interfaces={"eth0": (100, 50), "eth1": (9, 9)}, ports={"a/1": (4, 4)})
    after = Counters(interfaces={"eth0": (140, 51), "eth1": (3, 9), "eth2": (1, 1)}, ports={"a/1": (8, 5)})
    assert moved(before, after) == Counters(interfaces={"eth0": (40, 1)}, ports={"a/1": (4, 1)})


def test_bytes_over_this_machines_loopback_are_counted() -> None:
    size = 1 << 20
    before = read_counters(this_machine())
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        server = listener.accept()[0]
        with server:
            left = size
            while left:
                sent = client.send(bytes(min(left, 1 << 16)))
                left -= sent
                while sent:
                    sent -= len(server.recv(sent))
    assert moved(before, read_counters(this_machine())).interfaces["lo"][0] >= size
    lo = read_fabric(this_machine()).interface("lo")
    assert lo is not None and lo.loopback and lo.addresses == ("127.0.0.1/8",)
