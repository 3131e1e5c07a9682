"""Two hosts' first ranks meet through the store and measure the link between them, by perftest or by TCP."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from socket import create_server
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from roofprobe.collectives import perftest, tcp_link
from roofprobe.collectives.link_ends import HostEnd, RdmaEnd, matched
from roofprobe.collectives.perftest import BANDWIDTH, LATENCY, End, PerftestError, Running
from roofprobe.collectives.process_group import first_line
from roofprobe.tree import Tree

if TYPE_CHECKING:
    from torch.distributed import Store

STREAMS = (1, 4)
MEET_SECONDS = 10.0
"""For the other end to come: it may still be busy with its last pair."""


class Said(msgspec.Struct, frozen=True):
    """What the server tells the client through the store: ports to come to, or why there is nothing to come to."""

    ports: tuple[int, ...]
    problem: str | None = None


class Figures(NamedTuple):
    """What one end saw; the fields are those of LinkBaseline."""

    tool: str
    over: tuple[str, ...]
    gbit_per_s: dict[str, float]
    half_round_trip_us: float | None
    problem: str | None
    note: str | None = None


class Meeting:
    """One end of one pair's test."""

    def __init__(self, store: Store, name: str, is_server: bool, tree: Tree) -> None:
        self._store = store
        self._name = name
        self._serves = is_server
        self._tree = tree

    def measure(self, server: HostEnd, client: HostEnd) -> Figures:
        facing = matched(server, client)
        if facing:
            return self._rdma(facing, server.address)
        over = (server.interface,) if server.interface else ()
        note = server.note or client.note
        if server.address is None:
            return Figures("TCP", over, {}, None, "the server has no address on the interface of the collectives", note)
        figures: dict[str, float] = {}
        latency = problem = None
        try:
            for streams in STREAMS:
                name = f"{streams} stream{'' if streams == 1 else 's'}"
                rate = self._stream(server.address, streams)
                if rate is not None:
                    figures[name] = rate
            latency = self._ping(server.address)
        except (OSError, RuntimeError) as error:
            problem = f"TCP to {server.address}: {first_line(error)}"
        return Figures("TCP", over, figures, latency, problem, note)

    def _stream(self, address: str, streams: int) -> float | None:
        if not self._serves:
            tcp_link.send((address, self._come(f"tcp{streams}").ports[0]), streams)
            return None
        with tcp_link.listening(address) as listener:
            self._call(f"tcp{streams}", Said((listener.getsockname()[1],)))
            return tcp_link.receive(listener, streams)

    def _ping(self, address: str) -> float | None:
        if not self._serves:
            return tcp_link.half_round_trip_us((address, self._come("ping").ports[0]))
        with tcp_link.listening(address) as listener:
            self._call("ping", Said((listener.getsockname()[1],)))
            tcp_link.echo(listener)
            return None

    def _rdma(self, facing: Sequence[tuple[RdmaEnd, RdmaEnd]], address: str | None) -> Figures:
        over = tuple(ours.device for ours, _ in facing)
        figures: dict[str, float] = {}
        latency = problem = None
        try:
            outputs = self._perftest(BANDWIDTH, facing, address)
            figures = {} if self._serves else dict(zip(over, map(perftest.read_gbit_per_s, outputs)))
            outputs = self._perftest(LATENCY, facing[:1], address)
            latency = None if self._serves else perftest.read_half_round_trip_us(outputs[0])
        except (PerftestError, RuntimeError) as error:
            problem = f"{'server' if self._serves else 'client'}: {first_line(error)}"
        return Figures(BANDWIDTH, over, figures, latency, problem)

    def _perftest(self, tool: str, facing: Sequence[tuple[RdmaEnd, RdmaEnd]], address: str | None) -> list[str]:
        """Both ends of every device's test at once; what each printed."""
        if self._serves:
            ports = _free_ports(len(facing))
            commands = [perftest.command(tool, _end(ours, port), None) for (ours, _), port in zip(facing, ports)]
            try:
                with Running(commands) as servers:
                    servers.wait_listening(self._tree, ports)
                    self._call(tool, Said(ports))
                    return servers.outputs(monotonic() + perftest.TIMEOUT_SECONDS)
            except PerftestError as error:
                self._call(tool, Said((), str(error)))  # too late where the client has come: it sees for itself
                raise
        said = self._come(tool)
        if said.problem is not None:
            raise PerftestError(f"the server could not start: {said.problem}")
        commands = [
            perftest.command(tool, _end(theirs, port), ours.address or address or "")
            for (ours, theirs), port in zip(facing, said.ports)
        ]
        with Running(commands) as clients:
            return clients.outputs(monotonic() + perftest.TIMEOUT_SECONDS)

    def _call(self, what: str, said: Said) -> None:
        self._store.set(f"{self._name}/{what}", msgspec.json.encode(said).decode())

    def _come(self, what: str) -> Said:
        key = f"{self._name}/{what}"
        self._store.wait([key], timedelta(seconds=MEET_SECONDS))
        return msgspec.json.decode(self._store.get(key), type=Said)


def _end(end: RdmaEnd, tcp_port: int) -> End:
    return End(end.device, end.port, end.gid_index, tcp_port)


def _free_ports(count: int) -> tuple[int, ...]:
    """Ports that were free a moment ago; perftest opens its own."""
    sockets = [create_server(("", 0)) for _ in range(count)]
    ports = tuple(each.getsockname()[1] for each in sockets)
    for each in sockets:
        each.close()
    return ports
