"""The verdicts of an acceptance: what a check found, against what limit, and what follows for the exit status.

    PASS          the interval's lower end clears the limit (of an upper bound, its upper end stays below)
    FAIL          its upper end is below the limit (of an upper bound, its lower end above): with the fault's id
    INCONCLUSIVE  neither, or the reading is not one to judge by: disturbed, throttled, unchecked, another's kernel
    SKIP          there is nothing to judge, with the reason

Any FAIL is status 1; else a required check that is INCONCLUSIVE or SKIP is 3; else 0. Missing data never passes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from roofprobe.errors import FAILED, NOT_MEASURED, OK
from roofprobe.finding import Finding

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "SKIP"]


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """A limit as it applied: in the check's unit."""

    kind: Literal["at_least", "at_most"]
    value: float
    text: str
    """As people read it: ``at least 218.5 GB/s (80 % of nominal)``."""
    source: str


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check, judged."""

    check: str
    """Its stable name."""
    title: str
    verdict: Verdict
    required: bool = True
    reason: str | None = None
    """Why it is INCONCLUSIVE or SKIP; beside a PASS or FAIL, what else is to be known."""
    unit: str = ""
    """Of the three figures below; empty for a share of 1, or where nothing is measured."""
    measured: float | None = None
    interval: tuple[float, float] | None = None
    """95 %, low first."""
    limits: tuple[Bound, ...] = ()
    processes: int = 0
    """How many processes' measurements the interval comes from."""
    faults: tuple[Finding, ...] = ()
    """Of a FAIL, at least one: what is wrong, what shows it, what mends it."""

    @property
    def open(self) -> bool:
        """Whether it was required and nothing was decided."""
        return self.required and self.verdict in ("INCONCLUSIVE", "SKIP")


def decide(
    interval: tuple[float, float] | None, at_least: float | None = None, at_most: float | None = None
) -> Verdict:
    """The protocol's rule. Both bounds have to be cleared; one that is clearly missed is enough to fail."""
    if interval is None or (at_least is None and at_most is None):
        return "INCONCLUSIVE"
    low, high = interval
    if not low <= high:  # not a number, or turned around: no interval
        return "INCONCLUSIVE"
    if (at_least is not None and high < at_least) or (at_most is not None and low > at_most):
        return "FAIL"
    cleared = (at_least is None or low >= at_least) and (at_most is None or high <= at_most)
    return "PASS" if cleared else "INCONCLUSIVE"


def exit_status(checks: Iterable[Check]) -> int:
    """1 with a FAIL; else 3 with an open required check, or without any PASS; else 0."""
    judged = list(checks)
    if any(check.verdict == "FAIL" for check in judged):
        return FAILED
    if any(check.open for check in judged) or not any(check.verdict == "PASS" for check in judged):
        return NOT_MEASURED
    return OK


def overall(checks: Iterable[Check]) -> Verdict:
    """The same as a word."""
    words: dict[int, Verdict] = {FAILED: "FAIL", NOT_MEASURED: "INCONCLUSIVE", OK: "PASS"}
    return words[exit_status(checks)]
