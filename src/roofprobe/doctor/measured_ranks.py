"""What roofprobe itself found while it measured: a slow rank, and the faults that its proof of the transport shows."""

from __future__ import annotations

from collections.abc import Iterator
import re

from roofprobe.doctor.case import Case
from roofprobe.finding import Finding

_SLOW_RANK = re.compile(r"slow rank \d{1,7} on (\S{1,255}?):")


def slow_rank(case: Case) -> Iterator[Finding]:
    """One a host: the others wait for it in every collective, which the collective's own time can't tell."""
    told: set[str] = set()
    for link in case.links:
        for said in link.slow_ranks:
            found = _SLOW_RANK.match(said)
            if found is None or found[1] in told:
                continue
            told.add(found[1])
            yield Finding(
                id="unit.slow-rank",
                severity="fault",
                host=found[1],
                evidence=f"{link.source}: {said}",
                remedy=f"Run roofprobe accept --quick on {found[1]} alone: its memory, clock and power tell whether the"
                " unit is slow; end other work on it (top, nvidia-smi), and power-cycle it where it stays slow.",
            )


def proven_faults(case: Case) -> Iterator[Finding]:
    """As the document has them, each once."""
    yield from dict.fromkeys(fault for link in case.measured for fault in link.faults)
