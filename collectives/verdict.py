"""Who is to blame when the work stops.

The error that stopped a rank does not tell: when one rank dies, its neighbours' connections break, then those of ranks
that never spoke to it, and a stopped rank makes every other one time out. So the evidence about all ranks is weighed,
the surest first:

    died        its connections were closed, and it had neither taken leave nor told a fault
    silent      no sign of life from it, while others' still come in
    failed      an exception on a rank that had not been waiting for anyone
    left        it ended well while others were still at work
    late        the others wait in an operation that it has not begun, or in which it alone computes
    stuck       everybody waits in the same operation, and everybody answers
    told        SIGTERM or SIGINT: often only the launcher's answer to one of the above
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from roofprobe.collectives.faults import Certainty, Fault, Standing, who

MISSED_BEATS = 3
BUSY = 0.05
"""Of the time: a main thread that waits in gloo takes next to no CPU, one that computes takes all it can get, which on
a machine with 14 runnable processes on two cores was 0.14."""
STANDS_OUT = 5
"""Times the others' share: threads that spin while they wait for a GPU are all busy."""


@dataclass(frozen=True)
class Trouble:
    """What made this rank ask."""

    now: float
    beat_seconds: float
    timeout_seconds: float
    error: str | None = None
    """The main thread's exception, in a line."""
    signal: str | None = None
    others_told: bool = False
    """Whether another rank has told a fault: then an error here is taken for its consequence."""


def judge(ranks: Sequence[Standing], own: int, trouble: Trouble) -> Fault | None:
    """The fault as rank `own` sees it, None where it sees nothing itself; `ranks` in order of rank."""
    me = ranks[own]
    phase = me.beat.phase
    present = [s for s in ranks if s is not me and not (s.has_left or s.has_told)]
    dead = [s for s in present if s.closed is not None]
    if dead:
        first = min(dead, key=lambda s: s.closed or 0.0)
        what = f"died in {phase}: its connections closed without a word; was it killed, or out of memory?"
        return _blame(Certainty.DIED, first, own, what)
    silent = [s for s in present if trouble.now - s.heard > MISSED_BEATS * trouble.beat_seconds]
    if silent:
        return _silence(silent, present, me, trouble)
    if trouble.signal is not None:
        return _blame(Certainty.TOLD, me, own, f"was told to end by {trouble.signal} in {phase}")
    waited = trouble.now - me.moved
    left = [s for s in ranks if s is not me and s.has_left]
    if trouble.error is not None and not trouble.others_told and waited < trouble.timeout_seconds / 2:
        if left:
            return _blame(Certainty.LEFT, left[0], own, f"ended early: {who(me.info)} was still in {phase}")
        return _blame(Certainty.FAILED, me, own, f"failed in {phase}: {trouble.error}")
    if waited < trouble.timeout_seconds / (1 if trouble.error is None else 2):
        return None
    late = _late([me, *present])
    if late is not None:
        idle = trouble.now - late.moved
        busy = f"; its main thread took {late.cpu_share:.0%} of a CPU meanwhile" if late.cpu_share > BUSY else ""
        what = f"is late: no progress for {idle:.0f} s in {late.beat.phase}, and the others wait for it{busy}"
        return _blame(Certainty.LATE, late, own, what)
    reason = "" if trouble.error is None else f": {trouble.error}"
    text = (
        f"all ranks have waited for {waited:.0f} s in {phase} and each of them answers, as {who(me.info)} sees it; is"
        f" the network between them in order{reason}"
    )
    return Fault(Certainty.STUCK, None, own, text)


def _blame(certainty: Certainty, culprit: Standing, own: int, what: str) -> Fault:
    return Fault(certainty, culprit.info.rank, own, f"{who(culprit.info)} {what}")


def _silence(silent: Sequence[Standing], present: Sequence[Standing], me: Standing, trouble: Trouble) -> Fault:
    own = me.info.rank
    first = min(silent, key=lambda s: s.heard)
    seconds = trouble.now - first.heard
    phase = me.beat.phase
    if len(silent) == len(present) > 1 and all(s.is_unanswered for s in silent):
        what = f"is cut off: for {seconds:.0f} s nothing has come from any other rank, in {phase}; is its link down?"
        return _blame(Certainty.SILENT, me, own, what)
    if first.is_unanswered:
        cause = "nothing comes back from its host; is that down, or the link to it?"
    else:
        cause = "its host still does; was it stopped, or is it starved?"
    return _blame(Certainty.SILENT, first, own, f"stopped answering {seconds:.0f} s ago in {phase}: {cause}")


def _late(ranks: Sequence[Standing]) -> Standing | None:
    """The rank that the others wait for: least far, or as far as all but at work. None where nobody stands out."""
    least = min(s.beat.progress for s in ranks)
    behind = [s for s in ranks if s.beat.progress == least]
    busiest = max(behind, key=lambda s: s.cpu_share)
    idle = max((s.cpu_share for s in ranks if s is not busiest), default=0.0)
    alone = [s for s in behind if s.beat.alone]
    if len(alone) == 1:
        return alone[0]
    if busiest.cpu_share > max(BUSY, STANDS_OUT * idle):
        return busiest
    return behind[0] if len(behind) < len(ranks) else None
