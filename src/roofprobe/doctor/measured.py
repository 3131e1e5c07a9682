"""Reads --measured FILE: nccl-tests' JSON, as its -J writes it and as `roofprobe collectives` does.

Roofprobe's own has more than nccl-tests': the transport and its faults, why a run ended early, and which rank was slow.
Of several collectives it prints a list of documents.
"""

from __future__ import annotations

from math import isfinite
from pathlib import Path
import re

import msgspec

from roofprobe.doctor.case import MeasuredLink
from roofprobe.doctor.nccl_table import best_of, keep_best
from roofprobe.errors import BadInput
from roofprobe.files import open_regular
from roofprobe.finding import Finding

MAX_BYTES = 256 << 20
"""With -I and 10 000 iterations, a sweep of 30 sizes over 4 processes is a tenth of it."""
_COLLECTIVE = re.compile(
    r"(?:^|[/\s,=])(all_?reduce|all_?gather|reduce_?scatter|all_?to_?all|broadcast|reduce|sendrecv)\b"
)


class _Rate(msgspec.Struct):
    bus_bw: float | str | None = None
    """A text where it is not a number."""


class _Result(msgspec.Struct):
    size: int
    out_of_place: _Rate | None = None
    in_place: _Rate | None = None


class _Device(msgspec.Struct):
    hostname: str = ""
    device_info: str = ""


class _Config(msgspec.Struct):
    devices: list[_Device] = []


class _Document(msgspec.Struct):
    version: int
    results: list[_Result]
    args: list[str] = []
    config: _Config = msgspec.field(default_factory=_Config)
    transport: str | None = None
    latency_findings: list[str] = []
    errors: list[str] = []
    faults: list[Finding] = []


def read_measured(path: Path) -> tuple[MeasuredLink, ...]:
    """One entry a document. Raises BadInput naming the file, what was found and what was expected."""
    expected = "expected nccl-tests' JSON, as its -J FILE and roofprobe collectives --json write it"
    try:
        with open_regular(path) as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise BadInput(f"{path} has more than {MAX_BYTES >> 20} MiB; {expected}")
        found = msgspec.json.decode(content, type=_Document | list[_Document])
    except OSError as error:
        raise BadInput(f"can't read {path}: {error.strerror}; {expected}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{path}: {error}; {expected}") from None
    return tuple(_link(path, each) for each in (found if isinstance(found, list) else [found]))


def _link(path: Path, document: _Document) -> MeasuredLink:
    best: dict[bool, tuple[float, int]] = {}
    for result in document.results:
        for placement in (result.out_of_place, result.in_place):
            rate = placement.bus_bw if placement is not None else None
            if isinstance(rate, float) and isfinite(rate) and rate > 0:
                keep_best(best, result.size, rate)
    rate, size = best_of(best)
    devices = document.config.devices
    named = next(filter(None, map(_COLLECTIVE.search, document.args)), None)
    return MeasuredLink(
        source=path.name,
        collective=named[1] if named else None,
        ranks=len(devices) or None,
        bytes=size,
        busbw_gb_per_s=rate,
        hosts=tuple(dict.fromkeys(device.hostname for device in devices if device.hostname)),
        gpu=devices[0].device_info if devices else None,
        transport=document.transport,
        slow_ranks=tuple(said for said in document.latency_findings if said.startswith("slow rank ")),
        hangs=tuple(document.errors),
        faults=tuple(document.faults),
    )
