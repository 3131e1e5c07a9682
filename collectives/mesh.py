"""A TCP connection between every two ranks, beside the one that carries the data, so that each sees each one's end.

A connection tells what a shared store can't: the kernel closes it the moment its process dies, whoever hosted the
store, and whether the peer's host still acknowledges tells a stopped process from a host that can't be reached. The
messages are lines of JSON, a hundred bytes a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
import fcntl
import hmac
import ipaddress
import socket
import struct
import termios
from time import monotonic

import msgspec

from roofprobe.collectives.faults import Message
from roofprobe.errors import RoofprobeError

HELLO_BYTES = 4096
HELLO_SECONDS = 2.0


class Line:
    """One end of a connection: sends and receives whole messages, and never blocks."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connection
        self._partial = b""
        self._decoder = msgspec.json.Decoder(Message)

    def send(self, message: Message) -> None:
        """Gives up silently where the other end is gone, or has not read for so long that the buffer is full."""
        with suppress(OSError):
            self.socket.send(msgspec.json.encode(message) + b"\n")

    def receive(self) -> tuple[list[Message], bool]:
        """The messages that have come, and whether the connection is still open."""
        is_open = True
        try:
            while data := self.socket.recv(1 << 16):
                self._partial += data
            is_open = False
        except BlockingIOError:
            pass
        except OSError:
            is_open = False
        *lines, self._partial = self._partial.split(b"\n")
        messages: list[Message] = []
        for line in lines:
            with suppress(msgspec.DecodeError):
                messages.append(self._decoder.decode(line))
        return messages, is_open

    def unacknowledged(self) -> int:
        """Bytes sent that the other end's kernel has not acknowledged; 0 where this system can't tell."""
        try:
            answer = fcntl.ioctl(self.socket.fileno(), termios.TIOCOUTQ, bytes(4))
        except OSError:
            return 0
        return int(struct.unpack("i", answer)[0])


class _Hello(msgspec.Struct, frozen=True):
    rank: int
    secret: str


def own_address(toward: str, port: int) -> str:
    """The address that this host uses to reach `toward`; nothing is sent. Raises RoofprobeError where it has none."""
    try:
        family, kind, *_, target = socket.getaddrinfo(toward, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise RoofprobeError(
            f"{socket.gethostname()} can't reach {toward}: {error.strerror}; is MASTER_ADDR right?"
        ) from None


def listen(address: str, store_address: str, world_size: int) -> socket.socket:
    """A listener on `address`; on every one where that is loopback only because of how this host names itself."""
    if is_loopback(address) and store_address != "localhost" and not _is_literal_loopback(store_address):
        address = ""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, 0), family=family, backlog=max(8, world_size))


def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def _is_literal_loopback(name: str) -> bool:
    with suppress(ValueError):
        return is_loopback(name)
    return False


def connect(
    rank: int,
    listener: socket.socket,
    addresses: Sequence[tuple[str, int]],
    secret: str,
    timeout_seconds: float,
    name: Callable[[int], str],
) -> Mapping[int, Line]:
    """Connects every two ranks; the result has every rank's line but the own one.

    `addresses` are the ranks' listeners, in order of rank, as this rank reaches them, and `secret` keeps strangers
    out. Raises RoofprobeError naming a rank that can't be reached or does not come within the timeout.
    """
    deadline = monotonic() + timeout_seconds
    lines = {}
    for other in range(rank):
        try:
            connection = socket.create_connection(addresses[other], max(0.1, deadline - monotonic()))
            connection.sendall(msgspec.json.encode(_Hello(rank, secret)) + b"\n")
        except OSError as error:
            address, port = addresses[other]
            raise RoofprobeError(
                f"{name(rank)} can't connect to {name(other)} at {address}:{port}: {error.strerror or error}; do the"
                " ranks' hosts reach each other at these addresses, on any port?"
            ) from None
        lines[other] = Line(connection)
    while missing := sorted(set(range(rank + 1, len(addresses))) - set(lines)):
        listener.settimeout(max(0.1, deadline - monotonic()))
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            raise RoofprobeError(
                f"{name(missing[0])} did not connect to {name(rank)} within {timeout_seconds:g} s after both had"
                " introduced themselves; was it killed, or do its host and this one not reach each other?"
            ) from None
        hello = _read_hello(connection)
        if hello is None or hello.rank not in missing or not hmac.compare_digest(hello.secret, secret):
            connection.close()
            continue
        lines[hello.rank] = Line(connection)
    listener.close()
    return lines


def _read_hello(connection: socket.socket) -> _Hello | None:
    """The first line, byte for byte, so that nothing of what follows is taken."""
    connection.settimeout(HELLO_SECONDS)
    line = b""
    with suppress(OSError, msgspec.DecodeError):
        while len(line) < HELLO_BYTES and (byte := connection.recv(1)):
            if byte == b"\n":
                return msgspec.json.decode(line, type=_Hello)
            line += byte
    return None
