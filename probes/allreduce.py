"""All-reduce time and bandwidth over every rank, in nccl-tests' table, with an exact check and an alpha-beta fit.

    torchrun --nproc-per-node 2 probes/allreduce.py -b 8 -e 64M -f 2
    roofprobe allreduce --ranks 2                   without torchrun: starts the ranks of this host itself

Across hosts, start it with torchrun, srun or mpirun on each. NCCL carries the data where every rank has a GPU of its
own, gloo otherwise; the transport line says which, and a figure over loopback is never a network's.

The time column is nccl-tests': the mean over a loop in which nothing waits between operations (-z changes that).
The fit takes the same loop's iterations one by one, in place, averaged over the ranks, and fits their medians.
"""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import sys
import tempfile

import msgspec

from roofprobe.collectives.all_reduce import ALL_REDUCE
from roofprobe.collectives.local_ranks import gpu_count, run_ranks
from roofprobe.collectives.process_group import find_place
from roofprobe.errors import BAD_INPUT, BadInput, RoofprobeError, run_command
from roofprobe.measurement import CollectiveMeasurement
from roofprobe.probes.collective_flags import parse
from roofprobe.probes.collective_rank import require_writable, run_as_rank

NAME = "roofprobe allreduce"
MODULE = "roofprobe.probes.allreduce"
LOCAL_MAX_BYTES = 16 << 20
"""Large enough for beta: from a few MiB on, the bytes take nearly all of the time."""


def main(argv: list[str] | None = None) -> int:
    """Runs as a rank where a launcher has given this process a place, and otherwise starts the ranks of this host."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        place = find_place(os.environ)
    except BadInput as error:
        print(f"{NAME}: {error}", file=sys.stderr)
        return BAD_INPUT
    if place is not None:
        return run_as_rank(ALL_REDUCE, NAME, __doc__, arguments, place)
    return run_command(lambda: _start_ranks(arguments), NAME)


def measure_local(
    ranks: int,
    *,
    seconds: float | None = None,
    min_bytes: int = 8,
    max_bytes: int = LOCAL_MAX_BYTES,
    iterations: int = 20,
    on_line: Callable[[str], None] = print,
) -> CollectiveMeasurement:
    """Measures all_reduce of float32 between `ranks` processes of this host; its `transport` says over what.

    Sizes double from `min_bytes` to `max_bytes`, and none is begun that would not end within `seconds` of the first;
    the ranks take about 3 s to start. `on_line` gets each line of the table, on another thread. Wrong results are in
    the points. Raises BadInput (too little memory) or RoofprobeError (a rank died or hung), in one line; any other
    exception, Ctrl-C among them, ends the ranks first.
    """
    complaints: list[str] = []
    with tempfile.TemporaryDirectory(prefix="roofprobe-") as folder:
        record = Path(folder) / "record.json"
        flags = ["-b", min_bytes, "-e", max_bytes, "-f", 2, "-n", iterations, "--record", record]
        if seconds is not None:
            flags += ["--time-limit", seconds]
        status = run_ranks(NAME, ["-m", MODULE, *map(str, flags)], ranks, on_line, complaints.append)
        if record.exists():
            return msgspec.json.decode(record.read_bytes(), type=CollectiveMeasurement)
    told = [line.removeprefix(f"{NAME}: ") for line in complaints if line.startswith(NAME)]
    # The survivors of a dead rank tell what they saw; who died is the better reason.
    told.sort(key=lambda line: "was ended by" not in line)
    reason = (told or complaints or [f"ended with status {status} and said nothing"])[0]
    raise (BadInput if status == BAD_INPUT else RoofprobeError)(f"all-reduce over {ranks} ranks: {reason}")


def _start_ranks(arguments: list[str]) -> int:
    # What is wrong with the flags is said here, once, before any rank has spent seconds on importing torch.
    request = parse(NAME, __doc__, arguments)
    require_writable(request)
    return run_ranks(NAME, ["-m", MODULE, *arguments], request.ranks or gpu_count() or 2)


if __name__ == "__main__":
    raise SystemExit(main())
