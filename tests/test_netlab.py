"""The lab's nodes and links: names, addresses, rates, cables and delays, and that nothing outlives them."""

from __future__ import annotations

from collections.abc import Iterator
from errno import ECONNREFUSED
from signal import SIGKILL

from netlab_build import up
from netlab_nodes import Lab, burst_bytes, find
import pytest
from real_nodes import GOODPUT, finish, lab, lab_name, left_of, output, start_python

from roofprobe.errors import BadInput

needs_nodes = pytest.mark.netns


@pytest.fixture(scope="module")
def three() -> Iterator[Lab]:
    with lab(3) as nodes:
        yield nodes


@needs_nodes
def test_nodes_have_names_addresses_and_each_other(three: Lab) -> None:
    greet = """
        import socket
        with socket.create_server(("", 5000)) as listener:
            print('listens', flush=True)
            peer, (address, _) = listener.accept()
            peer.sendall(f"{socket.gethostname()} sees {address}".encode())
    """
    ask = 'import socket; print(socket.create_connection(("node2", 5000), 5).recv(100).decode())'
    for node in (1, 3):
        server = start_python(three, 2, greet)
        assert output(three, node, ask) == f"node2 sees 10.77.0.{node}"
        finish([server], seconds=5)


@needs_nodes
def test_a_node_has_its_own_interfaces_only(three: Lab) -> None:
    assert sorted(output(three, 1, "import os; print(*os.listdir('/sys/class/net'))").split()) == ["eth0", "lo"]


SEND = """
    import socket, sys
    with socket.create_connection(("{to}", 5000), 5) as wire:
        wire.sendall(bytes({count}))
"""
RECEIVE = """
    import socket, time
    with socket.create_server(("", 5000)) as listener:
        print('listens', flush=True)
        wire, _ = listener.accept()
        got, first = 0, None
        while part := wire.recv(1 << 20):
            got, now = got + len(part), time.perf_counter()
            if first is None and got > 400_000:  # past what tbf lets through at once
                first, since = got, now
        print((got - first) / (now - since))
"""


@needs_nodes
@pytest.mark.parametrize(("sender", "receiver"), [(2, 1), (1, 2)], ids=["from the slow node", "to it"])
def test_one_slow_node_is_slow_both_ways(three: Lab, sender: int, receiver: int) -> None:
    three.shape(2, rate="40mbit")
    try:
        server = start_python(three, receiver, RECEIVE)
        output(three, sender, SEND.format(to=three.address(receiver), count=2_400_000))
        (done,) = finish([server], seconds=20)
    finally:
        three.shape(2, rate="none")
    link = 40e6 / 8 * GOODPUT
    assert 0.5 * link < float(done.stdout) < 1.05 * link  # a busy machine is slower; another link's limit is far off
    assert "40Mbit" not in three.describe()[1]


CONNECT = """
    import socket
    with socket.socket() as wire:
        wire.settimeout(1)
        print(wire.connect_ex(("node1", 9)))
"""
REFUSED = str(ECONNREFUSED)
"""What a node that is reached answers for a port on which nobody listens."""


@needs_nodes
def test_a_pulled_cable_takes_the_carrier_and_leaves_the_address(three: Lab) -> None:
    three.link(3, up=False)
    try:
        assert "eth0 DOWN" in three.describe()[2]
        assert "inet 10.77.0.3/24" in three.ip(3, "addr", "show", "eth0")
        assert output(three, 2, CONNECT) == REFUSED
        assert output(three, 3, CONNECT) != REFUSED
    finally:
        three.link(3, up=True)
    assert "eth0 up" in three.describe()[2]
    assert output(three, 3, CONNECT) == REFUSED


ECHO = """
    import socket
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.bind(("", 5000))
        print('listens', flush=True)
        while True:
            data, sender = wire.recvfrom(100)
            wire.sendto(data, sender)
"""
ROUND_TRIPS = """
    import socket, time
    seconds = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.settimeout(5)
        wire.connect(("node2", 5000))
        for _ in range(30):
            began = time.perf_counter()
            wire.send(b"?")
            wire.recv(100)
            seconds.append(time.perf_counter() - began)
    print(min(seconds))
"""


@needs_nodes
def test_a_delay_holds_every_frame_and_can_be_changed_for_one_node() -> None:
    with lab(3, delay_seconds=3e-3) as nodes:
        server = start_python(nodes, 2, ECHO)
        for node, seconds in ((1, 3e-3), (3, 8e-3)):
            nodes.shape(node, delay_seconds=seconds)
            # The least of many: a busy machine adds to all others.
            assert 2 * seconds <= float(output(nodes, node, ROUND_TRIPS)) < 2 * seconds + 1e-3
        assert "delay 8 ms" in nodes.describe()[2]
        nodes.link(3, up=False)
        nodes.link(3, up=True)
        assert float(output(nodes, 3, ROUND_TRIPS)) >= 16e-3
    assert finish([server], seconds=5)[0].returncode == -SIGKILL
    assert left_of(nodes.name) == []


@needs_nodes
def test_a_bridge_refuses_to_delay(three: Lab) -> None:
    with pytest.raises(BadInput, match=r"up N --delay"):
        three.shape(1, delay_seconds=1e-3)
    with pytest.raises(BadInput, match="no node 4; expected 1 to 3"):
        three.link(4, up=True)


@needs_nodes
def test_labs_stand_side_by_side(three: Lab) -> None:
    with lab(2) as other:
        assert other.counters(1).tx_bytes == 0
        assert find(three.name) == three
        assert find(other.name) == other
    assert find(three.name) == three


@needs_nodes
@pytest.mark.parametrize("delay", [None, 1e-3], ids=["bridge", "switch in user space"])
def test_an_interrupted_up_leaves_nothing(delay: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Lab, "shape", interrupted)
    name = lab_name()
    with pytest.raises(KeyboardInterrupt):
        up(name, 2, delay_seconds=delay)
    assert left_of(name) == []


@pytest.mark.parametrize(
    ("rate", "burst"),
    [("1gbit", 125_000), ("2.5gbit", 312_500), ("10mbit", 80 << 10)],
    ids=["1 ms", "a fraction", "at least 80 KiB"],
)
def test_burst(rate: str, burst: int) -> None:
    assert burst_bytes(rate) == burst
