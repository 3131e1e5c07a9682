"""How a collective probe begins: as a rank where a launcher says so, and else by starting the ranks of this host."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import sys
import tempfile

import msgspec

from roofprobe.collectives.local_ranks import gpu_count, run_ranks
from roofprobe.collectives.process_group import find_place
from roofprobe.errors import BAD_INPUT, BadInput, RoofprobeError, run_command
from roofprobe.measurement import CollectiveMeasurement
from roofprobe.probes.collective_flags import parse
from roofprobe.probes.collective_rank import require_writable, run_as_rank
from roofprobe.probes.collective_request import Program


def start(program: Program, argv: list[str] | None) -> int:
    """The `main` of every collective probe; returns its exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        place = find_place(os.environ)
    except BadInput as error:
        print(f"{program.name}: {error}", file=sys.stderr)
        return BAD_INPUT
    if place is not None:
        return run_as_rank(program, arguments, place)
    return run_command(lambda: _start_ranks(program, arguments), program.name)


def _start_ranks(program: Program, arguments: list[str]) -> int:
    # What is wrong with the flags is said here, once, before any rank has spent seconds on importing torch.
    request = parse(program, arguments)
    require_writable(request)
    return run_ranks(program.name, ["-m", program.module, *arguments], request.ranks or gpu_count() or 2)


def measure_on_this_host(
    program: Program, ranks: int, flags: list[str], on_line: Callable[[str], None]
) -> list[CollectiveMeasurement]:
    """Runs `program` as `ranks` processes of this host; returns the records, a collective each.

    `on_line` gets each line of the table, on another thread. Raises BadInput or RoofprobeError, in one line, with
    what the ranks complained of; any other exception, Ctrl-C among them, ends the ranks first.
    """
    complaints: list[str] = []
    with tempfile.TemporaryDirectory(prefix="roofprobe-") as folder:
        record = Path(folder) / "record.jsonl"
        arguments = ["-m", program.module, *flags, "--record", str(record)]
        status = run_ranks(program.name, arguments, ranks, on_line, complaints.append)
        if record.exists():
            lines = record.read_bytes().splitlines()
            return [msgspec.json.decode(line, type=CollectiveMeasurement) for line in lines]
    told = [line.removeprefix(f"{program.name}: ") for line in complaints if line.startswith(program.name)]
    # The survivors of a dead rank tell what they saw; who died is the better reason.
    told.sort(key=lambda line: "was ended by" not in line)
    reason = (told or complaints or [f"ended with status {status} and said nothing"])[0]
    raise (BadInput if status == BAD_INPUT else RoofprobeError)(reason)
