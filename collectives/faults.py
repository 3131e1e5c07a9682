"""What ranks tell each other besides the data: signs of life, faults, leave. Plain records, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import msgspec

from roofprobe.collectives.results import RankInfo


class Certainty(IntEnum):
    """How sure a fault's cause is: where ranks report several faults, the highest holds for all. See verdict.py."""

    TOLD = 0
    STUCK = 1
    LATE = 2
    LEFT = 3
    SILENT = 4
    FAILED = 5
    DIED = 6


class Fault(msgspec.Struct, frozen=True, tag="fault"):
    """Why the job ends, in words that name rank, host and phase."""

    certainty: Certainty
    culprit: int | None
    """None where no rank is to blame."""
    reporter: int
    text: str


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """A rank's sign of life."""

    progress: int
    """Phases entered and operations begun in the last: equal on ranks that are equally far, larger further on."""
    phase: str
    alone: bool
    """Whether the phase waits for nobody, and may take as long as it likes."""
    cpu_seconds: float
    """The main thread's, since it started."""


class Bye(msgspec.Struct, frozen=True, tag="bye"):
    """Taking leave after all went well."""


Message = Beat | Fault | Bye


@dataclass
class Standing:
    """The last that is known of one rank; all times are on this rank's monotonic clock."""

    info: RankInfo
    heard: float
    moved: float
    """When its progress last changed."""
    beat: Beat
    moved_cpu_seconds: float = 0.0
    """Its CPU time then."""
    closed: float | None = None
    """When its connection ended."""
    has_left: bool = False
    has_told: bool = False
    """A fault: what happens to its connection afterwards says nothing."""
    is_unanswered: bool = False
    """Not even its host has acknowledged what was sent to it last."""

    def hear(self, beat: Beat, now: float) -> None:
        self.heard = now
        if beat.progress != self.beat.progress:
            self.moved, self.moved_cpu_seconds = now, beat.cpu_seconds
        self.beat = beat

    @property
    def cpu_share(self) -> float:
        """The main thread's, of the time since its progress last changed."""
        return (self.beat.cpu_seconds - self.moved_cpu_seconds) / max(1e-3, self.heard - self.moved)


def who(info: RankInfo) -> str:
    """``rank 2 on node3 (10.77.0.3)``."""
    return f"rank {info.rank} on {info.host}" + (f" ({info.address})" if info.address else "")
