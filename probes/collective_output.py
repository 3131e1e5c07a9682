"""Rank 0's voice: the table as it grows, the JSON file kept whole, and at the end the fit and the raw record."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
import json
import sys
from typing import TextIO

import msgspec

from roofprobe import __version__
from roofprobe.alpha_beta import Fit, describe, fit
from roofprobe.collectives.collective import Collective
from roofprobe.collectives.nccl_json import Header, document
from roofprobe.collectives.results import Row
from roofprobe.collectives.table import footer, format_row, header, name_wrong, preamble
from roofprobe.files import write_whole
from roofprobe.measurement import CollectiveMeasurement, CollectivePoint
from roofprobe.probes.collective_flags import Request


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
        self._out: TextIO = sys.stderr if request.json else sys.stdout

    def begin(self) -> None:
        import torch

        nccl = "none" if self._head.nccl_version is None else str(self._head.nccl_version)
        version = f"{__version__} torch={torch.__version__} nccl-library={nccl}"
        notes = [f"{self._collective.out_of_place_note}; in place: the collective alone"]
        if not self._head.plan.blocking:
            notes.append(
                "time: mean of a loop that waits for nothing between operations, on the same buffers each time"
            )
        notes.append(f"transport: {self._head.transport}")
        self._say(preamble(self._collective.name, version, self._head.plan, self._head.ranks, notes))
        self._say(header(self._head.plan.per_iteration))

    def row(self, row: Row) -> None:
        self._rows.append(row)
        self._say([format_row(row, self._head.plan, self._head.bus_factor)])
        self._keep(None, None)

    def end(self, complete: bool) -> None:
        """Footer and fit. `complete` is False where the time limit cut the sizes short."""
        factor = self._head.bus_factor
        found = fit([(row.bytes, row.in_place.seconds) for row in self._rows], factor)
        ended = datetime.now()
        self._keep(found, ended)
        self._say(footer(self._collective.name, self._rows, factor))
        if not complete:
            self._say([f"# stopped after {self._rows[-1].bytes} B: the next size would pass the time limit"])
        self._say([f"# wrong: {line}" for line in name_wrong(self._rows, self._head.ranks)])
        self._say([f"# fit: T(S) = alpha + {factor:g} S / beta, to the in-place medians; in brackets 95 % intervals"])
        self._say([f"# fit: {line}" for line in describe(found)])
        if self._request.json:
            print(json.dumps(document(self._head, self._rows, found, ended), indent=1))
        if self._request.record is not None:
            measured = _record(self._collective.name, self._head, self._rows, found, self._backend)
            write_whole(self._request.record, msgspec.json.encode(measured))

    def _say(self, lines: Sequence[str]) -> None:
        for line in lines:
            print(line, file=self._out, flush=True)

    def _keep(self, found: Fit | None, ended: datetime | None) -> None:
        if self._request.output_file is not None:
            text = json.dumps(document(self._head, self._rows, found, ended), indent=1)
            write_whole(self._request.output_file, text + "\n")


def _record(name: str, head: Header, rows: Sequence[Row], found: Fit, backend: str) -> CollectiveMeasurement:
    return CollectiveMeasurement(
        op=name,
        world_size=len(head.ranks),
        backend=backend,
        transport=head.transport,
        dtype=head.plan.dtype,
        bus_factor=head.bus_factor,
        points=tuple(
            CollectivePoint(
                bytes=row.bytes,
                count=row.count,
                out_of_place_seconds=row.out_of_place.seconds,
                in_place_seconds=row.in_place.seconds,
                wrong=row.wrong,
            )
            for row in rows
        ),
        fit=found.segments,
    )
