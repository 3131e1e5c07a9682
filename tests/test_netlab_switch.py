"""The lab's switch in user space: where frames go, and when."""

from __future__ import annotations

from collections.abc import Iterator
import socket

import netlab_switch
from netlab_switch import OFFLOAD_HEADER, Port, Switch
import pytest

HEADER = bytes(OFFLOAD_HEADER)
ALL = b"\xff" * 6


def frame(destination: bytes, source: bytes, text: bytes = b"") -> bytes:
    return HEADER + destination + source + text


@pytest.fixture
def wires() -> Iterator[tuple[Switch, list[socket.socket]]]:
    """A switch whose ports are socket pairs, and their far ends."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(3)]
    for _, far in pairs:
        far.setblocking(False)
    yield (
        Switch([Port(str(i), near) for i, (near, _) in enumerate(pairs)]),
        [far for _, far in pairs],
    )
    for pair in pairs:
        for end in pair:
            end.close()


def waiting(wire: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(wire.recv(1000))
        except BlockingIOError:
            return found


def test_the_switch_learns_where_addresses_are(
    wires: tuple[Switch, list[socket.socket]],
) -> None:
    switch, far = wires
    a, b = b"\x02aaaaa", b"\x02bbbbb"
    for sender, sent, takers in (
        (0, frame(b, a), [1, 2]),  # not seen yet: to all others
        (1, frame(a, b), [0]),
        (0, frame(b, a), [1]),
        (1, frame(ALL, b), [0, 2]),
        (1, frame(b, a), []),  # on the sender's own wire
    ):
        far[sender].send(sent)
        switch.take(switch.ports[sender])
        switch.send_due()
        assert [i for i, wire in enumerate(far) if waiting(wire) == [sent]] == takers


def test_the_switch_holds_frames_for_the_longer_delay_and_in_order(
    wires: tuple[Switch, list[socket.socket]], monkeypatch: pytest.MonkeyPatch
) -> None:
    switch, far = wires
    now = 100.0
    monkeypatch.setattr(netlab_switch, "monotonic", lambda: now)
    switch.ports[0].delay_seconds, switch.ports[1].delay_seconds = 1.0, 3.0
    assert switch.wait_seconds() is None
    sent = [frame(ALL, b"\x02aaaaa", text) for text in (b"z", b"a")]
    for one in sent:
        far[0].send(one)
    switch.take(switch.ports[0])
    seen = {}
    for now in (100.9, 101.0, 102.9, 103.0):
        switch.send_due()
        seen[now] = [waiting(wire) for wire in far]
    assert seen == {100.9: [[], [], []], 101.0: [[], [], sent], 102.9: [[], [], []], 103.0: [[], sent, []]}
    assert switch.wait_seconds() is None


def test_a_port_that_takes_nothing_loses_its_frames_and_holds_up_no_other(
    wires: tuple[Switch, list[socket.socket]],
) -> None:
    switch, far = wires
    far[1].close()
    for _ in range(3):
        far[0].send(frame(ALL, b"\x02aaaaa"))
        switch.take(switch.ports[0])
        switch.send_due()
    assert len(waiting(far[2])) == 3
