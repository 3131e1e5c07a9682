"""BASE against NEW, case by case, like with like: what changed, what did not, and what can't be told.

    regression, improvement, unchanged, inconclusive    by `regression_rule`
    wrong           NEW's result is wrong where BASE's was right
    missing         BASE measured the case and one side has no usable row of it: nothing passes on missing data
    not compared    BASE did not measure it, or wrongly where NEW's result is right

Rows are compared if machine and case agree. A driver, a library or a setting may differ, which is what people compare
for, and is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import Literal

from roofprobe.comparison.comparable import CaseKey, Reading
from roofprobe.comparison.regression_rule import TELLING_PROCESSES, Change, Verdict, change
from roofprobe.errors import FAILED, NOT_MEASURED, OK
from roofprobe.measurement import Environment
from roofprobe.robust import median

Outcome = Literal[Verdict, "wrong", "missing", "not compared"]
OUTCOMES: tuple[Outcome, ...] = (
    "regression",
    "wrong",
    "missing",
    "improvement",
    "inconclusive",
    "unchanged",
    "not compared",
)
JUDGED = ("regression", "improvement", "unchanged", "inconclusive")
SAID = (
    "host",
    "platform",
    "kernel",
    "driver",
    "cuda",
    "nccl",
    "torch",
    "triton",
    "numba",
    "cupy",
    "python",
    "interpreter",
    "roofprobe",
    "variables",
)
"""What may differ between two runs, and is said."""
UNSURE = (
    "a rate without a reference, never calibrated: a machine that is in another state minutes later looks so too;"
    f" {TELLING_PROCESSES} processes a side, taken in turn, tell"
)
NAMED = 4
"""Kinds of case that a remark names; a run has up to a hundred."""


@dataclass(frozen=True)
class Process:
    """What one process measured."""

    source: str
    """Its file, for people."""
    environment: Environment
    readings: tuple[Reading, ...]


@dataclass(frozen=True)
class Compared:
    """One case."""

    key: CaseKey
    outcome: Outcome
    base: float | None
    """Median share of its reference, or GB/s where it has none; None without a usable row."""
    new: float | None
    processes: tuple[int, int]
    """Usable ones, of BASE and of NEW."""
    change: Change | None = None
    spread: float | None = None
    """This machine's own, as a logarithm; None where it was never calibrated."""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Every case of BASE or NEW, and what the two sides as a whole have to say."""

    cases: tuple[Compared, ...]
    remarks: tuple[str, ...]

    @property
    def exit_status(self) -> int:
        """1 for a regression or a wrong result; else 3 where a case of BASE has no answer in NEW, or nothing at all
        could be told; else 0."""
        outcomes = [case.outcome for case in self.cases]
        if "regression" in outcomes or "wrong" in outcomes:
            return FAILED
        told = [outcome for outcome in outcomes if outcome in JUDGED and outcome != "inconclusive"]
        return NOT_MEASURED if "missing" in outcomes or not told else OK


def compare(base: Sequence[Process], new: Sequence[Process], spreads: Mapping[str, float]) -> Comparison:
    """spreads: a case kind (`CaseKey.kind`) -> its A/A spread on this machine, as a logarithm.

    Both sides have at least one process.
    """
    like = base[0].environment
    keys = dict.fromkeys(reading.key for process in (*base, *new) for reading in process.readings)
    cases = [_compare(key, _side(key, base, like), _side(key, new, like), spreads.get(key.kind)) for key in keys]
    return Comparison(
        tuple(sorted(cases, key=lambda case: OUTCOMES.index(case.outcome))),
        (*_differences(base, new), *_uncalibrated(cases)),
    )


@dataclass(frozen=True)
class _Side:
    samples: list[Sequence[float]]
    """Of each usable process."""
    why_not: list[str]
    """One reason for each process that measured the case but can't be used."""
    is_wrong: bool
    configs: list[object]

    @property
    def value(self) -> float | None:
        return exp(median([median(process) for process in self.samples])) if self.samples else None


def _side(key: CaseKey, processes: Sequence[Process], like: Environment) -> _Side:
    found = _Side([], [], any(r.is_wrong for p in processes for r in p.readings if r.key == key), [])
    for process in processes:
        rows = [reading for reading in process.readings if reading.key == key]
        reasons = [other_machine(key, like, process.environment), *(row.unusable for row in rows)]
        samples = [sample for row in rows for sample in row.samples]
        reason = next((reason for reason in reasons if reason), None)
        if rows and reason is None:
            found.samples.append(samples)
            found.configs.extend(row.config for row in rows if row.config is not None)
        elif rows:
            found.why_not.append(f"{process.source}: {reason}")
    return found


def _compare(key: CaseKey, base: _Side, new: _Side, spread: float | None) -> Compared:
    found = None
    if base.samples and new.samples:
        found = change(base.samples, new.samples, spread, has_reference=key.reference is not None)
    remarks = [f"left out: {reason}" for reason in (*base.why_not, *new.why_not)]
    outcome: Outcome
    if new.is_wrong and not base.is_wrong:
        outcome, found = "wrong", None
    elif found is not None:
        outcome = found.verdict
        few = min(len(base.samples), len(new.samples)) < TELLING_PROCESSES
        if outcome in ("regression", "improvement") and key.reference is None and spread is None and few:
            remarks.append(UNSURE)
        if base.configs and new.configs and base.configs[0] != new.configs[0]:
            remarks.append(f"configuration: {base.configs[0]} -> {new.configs[0]}")
    elif base.samples or (base.why_not and not (base.is_wrong and new.samples)):
        outcome = "missing"
        remarks = remarks or ["NEW did not measure it"]
    else:
        outcome = "not compared"
        remarks = remarks or ["BASE did not measure it"]
    processes = len(base.samples), len(new.samples)
    return Compared(key, outcome, base.value, new.value, processes, found, spread, tuple(remarks))


def other_machine(key: CaseKey, like: Environment, environment: Environment) -> str | None:
    """Why a row of that machine can't be compared with this one's, or None: its own side of it has to be the same."""
    names = ["architecture", "product"]
    if like.platform is not None and environment.platform is not None:
        names.append("platform")  # a machine that an older roofprobe did not know is no other machine
    if key.side != "device":
        names += ["cpu_model", "cpus"]
    for name in names:
        before, now = getattr(like, name), getattr(environment, name)
        if before != now:
            return f"another machine: {name} {before} there, {now} here"
    gpus = [tuple(device.name for device in e.devices) for e in (like, environment)]
    if key.side != "host" and gpus[0] != gpus[1]:
        return f"another machine: GPUs {', '.join(gpus[0]) or 'none'} there, {', '.join(gpus[1]) or 'none'} here"
    return None


def _differences(base: Sequence[Process], new: Sequence[Process]) -> Iterable[str]:
    for name in SAID:
        before, now = ([_text(getattr(p.environment, name)) for p in side] for side in (base, new))
        if set(before) != set(now):
            yield f"{name}: {', '.join(sorted(set(before)))} -> {', '.join(sorted(set(now)))}"


def _text(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={setting}" for name, setting in sorted(value.items())) or "none"
    return "none" if value is None else str(value)


def _uncalibrated(cases: Sequence[Compared]) -> Iterable[str]:
    kinds = sorted({case.key.kind for case in cases if case.change is not None and case.spread is None})
    if kinds:
        more = "" if len(kinds) <= NAMED else f" and {len(kinds) - NAMED} more"
        yield (
            f"not calibrated on this machine: {', '.join(kinds[:NAMED])}{more}; 5 % is their limit, and repeats of them"
            " are taken to differ by a third of that, a rate without a reference by as much as its samples do;"
            " `roofprobe calibrate` measures it of memory and kernels, several processes a side tell it of any case"
        )
