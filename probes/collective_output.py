"""Rank 0's voice: the table as it grows, the JSON file kept whole, and at the end the fit and the raw record."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
import json
import sys
from threading import Lock
from typing import Any, TextIO

import msgspec

from roofprobe import __version__
from roofprobe.alpha_beta import Fit, describe, fit
from roofprobe.collectives.collective import Collective
from roofprobe.collectives.faults import Fault
from roofprobe.collectives.link_baseline import baseline_lines, share_line
from roofprobe.collectives.local_ranks import runs_first
from roofprobe.collectives.nccl_json import Header, document
from roofprobe.collectives.pairwise import pair_lines
from roofprobe.collectives.results import Row, largest_bus_gb_per_s
from roofprobe.collectives.sweep_counters import HostCounters, error_lines
from roofprobe.collectives.table import footer, format_row, header, name_wrong, preamble
from roofprobe.files import write_whole
from roofprobe.latency_record import LatencyPoint
from roofprobe.measurement import CollectiveMeasurement, CollectivePoint
from roofprobe.probes import latency_lines
from roofprobe.probes.collective_request import Request

WRITE_SECONDS = 2.0
"""How long a file that is being written is waited for, when a fault has to be added to it."""


class Speaker:
    """Prints and writes for all ranks. With ``--json`` stdout holds the document alone and the table goes to stderr.

    The JSON file is replaced after every size, so that whatever ends the probe leaves a valid one behind.
    """

    def __init__(self, collective: Collective, request: Request, head: Header, backend: str) -> None:
        self._collective = collective
        self._request = request
        self._head = head
        self._backend = backend
        self._rows: list[Row] = []
        self._finished: tuple[Fit | None, datetime | None] = (None, None)
        self._latency: list[LatencyPoint] = []
        self._latency_findings: Sequence[str] = ()
        self._errors: list[str] = []
        self._counters: Sequence[HostCounters] = ()
        self._writing = Lock()
        self._out: TextIO = sys.stderr if request.json else sys.stdout

    def begin(self) -> None:
        import torch

        nccl = "none" if self._head.nccl_version is None else str(self._head.nccl_version)
        version = f"{__version__} torch={torch.__version__} nccl-library={nccl}"
        self._say(preamble(self._collective.name, version, self._head.plan, self._head.ranks, self._notes()))
        self._say(header(self._head.plan.per_iteration))

    def _notes(self) -> list[str]:
        in_place = "the collective alone" if self._collective.in_place else "no defined result, so never checked"
        notes = [f"{self._collective.out_of_place_note}; in place: {in_place}"]
        if not self._head.plan.blocking:
            notes.append(
                "time: mean of a loop that waits for nothing between operations, on the same buffers each time"
            )
        if runs_first():
            notes.append("ranks go before ordinary processes (real-time scheduling): no time is the scheduler's")
        if self._head.moved_as_bytes:
            notes.append(f"{self._head.plan.dtype}: moved as uint8, because {self._backend} takes no float8")
        network = self._head.proof.lines() if self._head.proof else [f"transport: {self._head.transport}"]
        return [*notes, *network, *baseline_lines(self._head.links), *pair_lines(self._head.pairs, self._head.ranks)]

    def row(self, row: Row) -> None:
        self._rows.append(row)
        self._say([format_row(row, self._head.plan, self._head.bus_factor)])
        self._keep()

    def end(self, counters: Sequence[HostCounters], complete: bool, last: bool = True) -> None:
        """Footer and fit. `counters` are the sweep's; `complete` is False where the time limit cut the sizes short, and
        `last` where latency follows.
        """
        self._counters = counters
        factor = self._head.bus_factor
        # A single rank's time is a copy's: no wire, whatever the bus factor.
        found = fit([(p.bytes, p.alone_seconds) for p in self._points()], factor if len(self._head.ranks) > 1 else 0.0)
        self._finished = (found, datetime.now() if last else None)
        self._keep()
        self._say(footer(self._collective.name, self._rows, factor))
        if not complete:
            self._say([f"# stopped after {self._rows[-1].bytes} B: the next size would pass the time limit"])
        self._say([f"# wrong: {line}" for line in name_wrong(self._rows, self._head.ranks)])
        where = "in-place" if self._collective.in_place else "out of place"
        self._say([f"# fit: T(S) = alpha + {factor:g} S / beta, to the {where} medians; in brackets 95 % intervals"])
        self._say([f"# fit: {line}" for line in describe(found)])
        share = share_line(self._head.links, self._collective.name, largest_bus_gb_per_s(self._rows, factor))
        warnings = self._head.proof.warnings() if self._head.proof else []
        self._say([f"# {line}" for line in (share, *error_lines(counters), *warnings) if line is not None])

    def begin_latency(self) -> None:
        """The head of the lines about latency, which follow all that nccl-tests prints."""
        self._say(latency_lines.head(len(self._head.ranks)))

    def latency(self, point: LatencyPoint) -> None:
        told = any(earlier.mode == point.mode for earlier in self._latency)
        self._latency.append(point)
        if point.samples_us or not told:
            self._say([latency_lines.row(point)])
        self._keep()

    def end_latency(self, findings: Sequence[str]) -> None:
        """What follows from all points, and the end of this collective's document."""
        self._latency_findings = findings
        self._finished = (self._finished[0], datetime.now())
        self._keep()
        self._say(latency_lines.tail(self._latency, findings, self._head.ranks))

    def fail(self, fault: Fault) -> None:
        """Keeps what was measured, and why there is no more. From any thread, as the last before the process ends."""
        self._errors.append(fault.text)
        # Not released: the main thread must not begin another file that nobody would remove.
        self._writing.acquire(timeout=WRITE_SECONDS)
        self._write()

    def document(self) -> dict[str, Any]:
        """nccl-tests' JSON of what has been measured so far."""
        latency = self._latency, self._latency_findings
        return document(self._head, self._rows, *self._finished, self._errors, *latency, self._counters)

    def record(self) -> CollectiveMeasurement:
        """The raw record, once `end` was called."""
        found, _ = self._finished
        return CollectiveMeasurement(
            op=self._collective.name,
            world_size=len(self._head.ranks),
            backend=self._backend,
            transport=self._head.transport,
            dtype=self._head.plan.dtype,
            bus_factor=self._head.bus_factor,
            points=self._points(),
            fit=() if found is None else found.segments,
            latency=tuple(self._latency),
            latency_findings=tuple(self._latency_findings),
        )

    def _points(self) -> tuple[CollectivePoint, ...]:
        return tuple(
            CollectivePoint(
                bytes=row.bytes,
                count=row.count,
                out_of_place_seconds=row.out_of_place.seconds,
                in_place_seconds=row.in_place.seconds if self._collective.in_place else (),
                wrong=row.wrong,
            )
            for row in self._rows
        )

    def _say(self, lines: Sequence[str]) -> None:
        for line in lines:
            print(line, file=self._out, flush=True)

    def _keep(self) -> None:
        with self._writing:
            self._write()

    def _write(self) -> None:
        path = self._request.output_for(self._collective)
        if path is not None:
            write_whole(path, json.dumps(self.document(), indent=1) + "\n")


def conclude(request: Request, speakers: Sequence[Speaker]) -> None:
    """What belongs to the whole run: the document on stdout (a list of several) and the raw records, a line each."""
    if request.json:
        documents = [speaker.document() for speaker in speakers]
        print(json.dumps(documents[0] if len(documents) == 1 else documents, indent=1))
    if request.record is not None:
        write_whole(request.record, b"".join(msgspec.json.encode(speaker.record()) + b"\n" for speaker in speakers))
