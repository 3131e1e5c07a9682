"""What TCP alone moves between two hosts: a stream's rate, and the round trip of one byte.

The receiver counts, from the first arrival to the last, and ends the test while the sender still sends. A later start,
past slow start, would read high: what waits for a lost segment is delivered at once when that has been sent again, and
would count though it came before (by 26 % on a link of 40 Mb/s that drops). Slow start itself costs the figure a few
milliseconds of a second.

A single stream is one core's work at each end; four show whether the core or the link was the limit. Every wait is
bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
import socket
from statistics import median
from threading import Thread
from time import monotonic, perf_counter

STREAM_SECONDS = 1.0
BUFFER_BYTES = 1 << 20
PING_ROUNDS = 500
PING_SECONDS = 0.5
WAIT_SECONDS = 5.0
"""For a connection, or for the next byte."""


@contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    """A server's socket on a free port of `address`."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family, backlog=16) as listener:
        listener.settimeout(WAIT_SECONDS)
        yield listener


def receive(listener: socket.socket, streams: int) -> float:
    """Takes `streams` connections that `send` makes and returns what they move together in Gb/s.

    Raises OSError (a timeout is one) where they don't come or stay away.
    """
    with ExitStack() as stack:
        sockets = [stack.enter_context(_accepted(listener)) for _ in range(streams)]
        end = perf_counter() + STREAM_SECONDS
        rates: list[float | None] = [None] * streams
        threads = [Thread(target=_count, args=(each, end, rates, i)) for i, each in enumerate(sockets)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    told = [rate for rate in rates if rate]
    if len(told) < streams:
        raise TimeoutError(f"a stream ended early, or stopped for {WAIT_SECONDS:g} s")
    return 8 * sum(told) / 1e9


def send(address: tuple[str, int], streams: int) -> None:
    """Sends to a `receive` until it has enough. Raises OSError where it can't be reached."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(_connected(address)) for _ in range(streams)]
        threads = [Thread(target=_fill, args=(each,)) for each in sockets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def echo(listener: socket.socket) -> None:
    """Returns every byte that one `half_round_trip_us` sends. Raises OSError where it does not come."""
    with _accepted(listener) as peer:
        while byte := peer.recv(1):
            peer.sendall(byte)


def half_round_trip_us(address: tuple[str, int]) -> float:
    """Median over single bytes to an `echo` and back, halved. Raises OSError where it can't be reached."""
    with _connected(address) as peer:
        times: list[float] = []
        end = monotonic() + PING_SECONDS
        while len(times) < PING_ROUNDS and (not times or monotonic() < end):
            began = perf_counter()
            peer.sendall(b"x")
            if not peer.recv(1):
                raise ConnectionResetError("the other end closed the connection")
            times.append(perf_counter() - began)
    return median(times) / 2 * 1e6


def _accepted(listener: socket.socket) -> socket.socket:
    peer = listener.accept()[0]
    return _bounded(peer)


def _connected(address: tuple[str, int]) -> socket.socket:
    return _bounded(socket.create_connection(address, timeout=WAIT_SECONDS))


def _bounded(peer: socket.socket) -> socket.socket:
    peer.settimeout(WAIT_SECONDS)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer


def _count(peer: socket.socket, end: float, rates: list[float | None], index: int) -> None:
    """Bytes a second from the first arrival to the first at or after `end`; 0 for a stream that stopped or ended."""
    buffer = bytearray(BUFFER_BYTES)
    rate = 0.0
    with suppress(OSError):
        got = peer.recv_into(buffer)
        since = last = perf_counter()
        total = 0
        while got and last < end:
            got = peer.recv_into(buffer)
            last = perf_counter()
            total += got
        rate = total / (last - since) if got else 0.0
    rates[index] = rate
    with suppress(OSError):
        # A stream that ends later must not have the link to itself meanwhile.
        while None in rates and peer.recv_into(buffer):
            pass


def _fill(peer: socket.socket) -> None:
    data = bytes(BUFFER_BYTES)
    end = monotonic() + STREAM_SECONDS + WAIT_SECONDS
    # The receiver ends the test by closing, which is no error; one that is gone is seen by the receiver's own result.
    with suppress(OSError):
        while monotonic() < end:
            peer.sendall(data)
