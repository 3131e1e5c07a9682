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

from roofprobe.collectives.all_reduce import ALL_REDUCE
from roofprobe.collectives.latency_plan import LatencyPlan
from roofprobe.errors import RoofprobeError
from roofprobe.measurement import CollectiveMeasurement
from roofprobe.probes.collective_request import Program
from roofprobe.probes.collective_start import measure_on_this_host, start

LOCAL_MAX_BYTES = 16 << 20
"""Large enough for beta: from a few MiB on, the bytes take nearly all of the time."""

PROGRAM = Program("roofprobe allreduce", "roofprobe.probes.allreduce", __doc__, ALL_REDUCE)


def main(argv: list[str] | None = None) -> int:
    """Runs as a rank where a launcher has given this process a place, and otherwise starts the ranks of this host."""
    return start(PROGRAM, argv)


def measure_local(
    ranks: int,
    *,
    seconds: float | None = None,
    min_bytes: int = 8,
    max_bytes: int = LOCAL_MAX_BYTES,
    iterations: int = 20,
    latency: LatencyPlan | None = None,
    on_line: Callable[[str], None] = print,
) -> CollectiveMeasurement:
    """Measures all_reduce of float32 between `ranks` processes of this host; its `transport` says over what.

    Sizes double from `min_bytes` to `max_bytes`, and none is begun that would not end within `seconds` of the first;
    the ranks take about 3 s to start. `latency` asks for that of small messages too, after them. `on_line` gets each
    line of the table, on another thread. Wrong results are in the points. Raises BadInput (too little memory) or
    RoofprobeError (a rank died or hung), in one line; any other exception, Ctrl-C among them, ends the ranks first.
    """
    flags = ["-b", str(min_bytes), "-e", str(max_bytes), "-f", "2", "-n", str(iterations)]
    if seconds is not None:
        flags += ["--time-limit", str(seconds)]
    if latency is not None:
        sizes = ",".join(map(str, latency.sizes))
        flags += ["--latency", "--latency-sizes", sizes, "--latency-samples", str(latency.samples)]
        flags += [] if latency.seconds is None else ["--latency-limit", str(latency.seconds)]
    try:
        (measured,) = measure_on_this_host(PROGRAM, ranks, flags, on_line)
    except RoofprobeError as error:
        raise type(error)(f"all-reduce over {ranks} ranks: {error}") from None
    return measured


if __name__ == "__main__":
    raise SystemExit(main())
