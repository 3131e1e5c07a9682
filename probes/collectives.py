"""Time and bandwidth of any collective over every rank, in nccl-tests' tables, with exact checks and alpha-beta fits.

    torchrun --nproc-per-node 2 probes/collectives.py --collective all_gather,reduce_scatter -b 1K -e 64M -f 2
    roofprobe collectives --collective all --ranks 2    without torchrun: starts the ranks of this host itself

One table after the other, each as complete as nccl-tests' own output: a program that reads only one table a run is
given one collective a run, and reads that unchanged. Sizes, factors and buffers are nccl-tests' too: for all_gather,
reduce_scatter and all_to_all the size is the total of n parts, each a multiple of 16 bytes; sendrecv is a ring.
all_to_all and sendrecv have no defined result in place: that column's check says N/A.
"""

from __future__ import annotations

from roofprobe.probes.collective_request import Program
from roofprobe.probes.collective_start import start

PROGRAM = Program("roofprobe collectives", "roofprobe.probes.collectives", __doc__, None)


def main(argv: list[str] | None = None) -> int:
    """Runs as a rank where a launcher has given this process a place, and otherwise starts the ranks of this host."""
    return start(PROGRAM, argv)


if __name__ == "__main__":
    raise SystemExit(main())
