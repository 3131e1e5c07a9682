"""An Ethernet switch in user space that holds every frame for a set time: delay on kernels that lack netem.

    netlab_switch.py PORT ...               switches between these interfaces until it is killed; says "ready"
    netlab_switch.py ask [PORT SECONDS]     sets a port's delay on the one that runs in this network namespace, and
                                            prints every port's, one a line

A frame is read from the port that it came in on, offload header and all, held, and sent from the port behind which its
destination was last seen, or from all others. The delay between two ports is the larger of theirs. Frames of one pair
don't overtake each other while it stays. What a port can't take at once is dropped, as a switch does.

An abstract Unix socket belongs to its network namespace, so every switch can have the same name.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
import ctypes
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
import os
import select
import socket
import sys
from time import monotonic

NAME = "\0roofprobe-netlab-switch"
ETH_P_ALL = 3
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23
OFFLOAD_HEADER = 10
"""bytes of struct virtio_net_hdr: with it, a frame of up to 64 KiB passes whole, as between two veth devices."""
MOST_BYTES = OFFLOAD_HEADER + 18 + (1 << 16)
QUEUE_BYTES = 32 << 20
READ_AT_ONCE = 64
PRIORITY = 2
"""Above the ranks' 1: a rank that computes must not hold up the wire."""
ANSWER_SECONDS = 5


@dataclass(eq=False)
class Port:
    """One interface of the switch."""

    name: str
    socket: socket.socket
    delay_seconds: float = 0.0


@dataclass
class Switch:
    """The ports, where addresses were seen, and the frames that are being held."""

    ports: list[Port]
    seen: dict[bytes, Port] = field(default_factory=dict)
    held: list[tuple[float, int, Port, bytes]] = field(default_factory=list)
    order: count[int] = field(default_factory=count)

    def take(self, port: Port) -> None:
        """Reads what waits at `port`, a bounded number of frames so that none of the held ones is kept too long."""
        for _ in range(READ_AT_ONCE):
            try:
                frame = port.socket.recv(MOST_BYTES, socket.MSG_DONTWAIT)
            except OSError:  # nothing waits, or the link is down
                return
            now = monotonic()
            destination, source = frame[OFFLOAD_HEADER:][:6], frame[OFFLOAD_HEADER + 6 :][:6]
            self.seen[source] = port
            known = self.seen.get(destination)
            for to in self.ports if known is None else [known]:
                if to is not port:
                    due = now + max(port.delay_seconds, to.delay_seconds)
                    heappush(self.held, (due, next(self.order), to, frame))

    def send_due(self) -> None:
        """Sends every frame that has been held long enough."""
        while self.held and self.held[0][0] <= monotonic():
            _, _, port, frame = heappop(self.held)
            with suppress(OSError):  # its queue is full, or the link is down
                port.socket.send(frame, socket.MSG_DONTWAIT)

    def wait_seconds(self) -> float | None:
        """Until the next frame is due; None where none is held."""
        return max(0.0, self.held[0][0] - monotonic()) if self.held else None


def open_port(name: str) -> Port:
    """A raw socket that sees what comes in on the interface, and nothing that goes out."""
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    raw.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    raw.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    for limited, forced in ((socket.SO_SNDBUF, 32), (socket.SO_RCVBUF, 33)):
        try:
            raw.setsockopt(socket.SOL_SOCKET, forced, QUEUE_BYTES)  # SO_SNDBUFFORCE, SO_RCVBUFFORCE: past the limit
        except PermissionError:
            raw.setsockopt(socket.SOL_SOCKET, limited, QUEUE_BYTES)
    raw.bind((name, ETH_P_ALL))
    return Port(name, raw)


def serve(names: Sequence[str]) -> None:
    """Switches between these interfaces for ever."""
    switch = Switch([open_port(name) for name in names])
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    pr_set_timerslack = 29  # ordinary processes otherwise wake up to 50 us late
    ctypes.CDLL(None).prctl(pr_set_timerslack, 1)
    by_socket = {port.socket: port for port in switch.ports}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as control:
        control.bind(NAME)
        print("ready", flush=True)
        sys.stdout.close()
        while True:
            ready, _, _ = select.select([*by_socket, control], [], [], switch.wait_seconds())
            for waiting in ready:
                if waiting is control:
                    _obey(control, switch.ports)
                else:
                    switch.take(by_socket[waiting])
                switch.send_due()
            switch.send_due()


def _obey(control: socket.socket, ports: Sequence[Port]) -> None:
    request, sender = control.recvfrom(100)
    name, _, seconds = request.decode().partition(" ")
    for port in ports:
        if port.name == name:
            port.delay_seconds = float(seconds)
    answer = "\n".join(f"{port.name} {port.delay_seconds!r}" for port in ports)
    with suppress(OSError):  # who asked has gone
        control.sendto(answer.encode(), sender)


def ask(request: str) -> str:
    """Has the switch of this network namespace carry out `request`, and returns its answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as control:
        control.bind("")  # a name of the kernel's choice, for the answer
        control.settimeout(ANSWER_SECONDS)
        control.connect(NAME)
        control.send(request.encode())
        return control.recv(4096).decode()


def main(words: Sequence[str]) -> None:
    """Does what the module's text says."""
    if words[0] == "ask":
        print(ask(f"{words[1]} {float(words[2])!r}" if len(words) > 1 else ""))
    else:
        serve(words)


if __name__ == "__main__":
    main(sys.argv[1:])
