"""A recording of A/A pairs, tests/recordings/aa_pairs.json, and docs/regression-rule.md, which tells what it shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from math import log
from pathlib import Path
from textwrap import fill

import msgspec

from roofprobe.comparison.calibration import apart, binomial_interval, changes, neighbours
from roofprobe.comparison.regression_rule import (
    ASSUMED_SPREAD,
    LEAST_LIMIT,
    Process,
    aa_spread,
    as_fraction,
    change,
    least_half_width,
    limit,
)

RECORDING = Path(__file__).resolve().parent.parent / "tests" / "recordings" / "aa_pairs.json"
VERDICTS = ("regression", "improvement", "inconclusive", "unchanged")
CALIBRATION_PAIRS = 20
"""As many as `roofprobe calibrate` measures unless it is told otherwise."""
TOGETHER = 5
"""Processes a side, where there are several."""


Pair = tuple[tuple[int, ...], list[Process], list[Process]]
"""The rounds that it is of, BASE, NEW."""


class RecordedProcess(msgspec.Struct, frozen=True, kw_only=True):
    """One process; its samples are logarithms of the share of read, to 5 digits, and none where it was contended."""

    round: int
    name: str
    """``same``, ``again``, ``tenth`` or ``fortieth``."""
    gb_per_s: float
    load: float
    """Average over the minute that ended with the process."""
    samples: tuple[float, ...]


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """Processes in the order in which they ran."""

    machine: str
    case: str
    seconds: float
    """Most time for a process's row."""
    began: str
    ended: str
    processes: tuple[RecordedProcess, ...]

    def of(self, *names: str) -> list[RecordedProcess]:
        """The usable ones of these names."""
        return [process for process in self.processes if process.name in names and process.samples]

    def same(self) -> list[Pair]:
        """Processes of the same thing, one after the other."""
        pairs = zip(self.of("same", "again")[::2], self.of("same", "again")[1::2])
        return [((a.round, b.round), [a.samples], [b.samples]) for a, b in pairs]

    def slowed(self, name: str) -> list[Pair]:
        """A process as it is and a slowed one of each round that has both."""
        plain = {process.round: process for process in self.of("same", "again")}
        return [((s.round,), [plain[s.round].samples], [s.samples]) for s in self.of(name) if s.round in plain]

    def spread_near(self, rounds: Iterable[int]) -> float:
        """The A/A spread that a calibration at that time gives: of the nearest processes but those to be judged."""
        judged = set(rounds)
        middle = (min(judged) + max(judged)) / 2
        others = [process for process in self.of("same", "again") if process.round not in judged]
        nearest = sorted(others, key=lambda process: abs(process.round - middle))[: 2 * CALIBRATION_PAIRS]
        samples = [process.samples for process in others if process in nearest]
        return max(aa_spread(changes(pairs(samples))) for pairs in (neighbours, apart))


@dataclass(frozen=True)
class Judged:
    """What the rule says of many comparisons of one sort."""

    title: str
    counts: Counter[str]

    @property
    def total(self) -> int:
        return self.counts.total()

    def rate(self, *verdicts: str) -> str:
        """``3 of 100, 3.0 % [0.6 %, 8.5 %]``."""
        hits = sum(self.counts[verdict] for verdict in verdicts)
        low, high = binomial_interval(hits, self.total)
        return f"{hits} of {self.total}, {hits / self.total:.1%} [{low:.1%}, {high:.1%}]"


def read_recording() -> Recording:
    return msgspec.json.decode(RECORDING.read_bytes(), type=Recording)


def judge_all(recording: Recording) -> dict[str, Judged]:
    """Every sort of comparison that the page tells of, by a short name."""
    same = recording.same()
    found = {}
    for kind, title, pairs in (
        ("aa", "the same", same),
        ("half", "slowed by 2.5 %", recording.slowed("fortieth")),
        ("twice", "slowed by 10 %", recording.slowed("tenth")),
    ):
        spread = recording.spread_near
        found[f"{kind}-1"] = _judge(f"{title}; 1 process a side", pairs, spread)
        found[f"{kind}-{TOGETHER}"] = _judge(f"{title}; {TOGETHER} processes a side", _groups(pairs), spread)
        found[f"{kind}-uncalibrated"] = _judge(f"{title}; 1 process a side, no calibration", pairs, lambda _: None)
    twice = recording.slowed("tenth")
    for count, pairs in ((1, twice), (TOGETHER, _groups(twice))):
        exactly = [pair for pair in pairs if limit(recording.spread_near(pair[0])) == LEAST_LIMIT]
        title = f"slowed by 10 %, where the limit was 5 %; {count} process{'es' if count > 1 else ''} a side"
        found[f"twice-{count}-exactly"] = _judge(title, exactly, recording.spread_near)
    half = len(same) // 2
    far = [((*a[0], *b[0]), a[1], b[2]) for a, b in zip(same[:half], same[half:])]
    found["aa-apart"] = _judge("the same, half the recording apart; 1 process a side", far, recording.spread_near)
    return found


def _groups(pairs: Sequence[Pair]) -> list[Pair]:
    """As many neighbouring pairs as make one comparison of TOGETHER processes a side."""
    starts = range(0, len(pairs) - TOGETHER + 1, TOGETHER)
    return [_joined(pairs[start : start + TOGETHER]) for start in starts]


def _joined(pairs: Sequence[Pair]) -> Pair:
    rounds, base, new = zip(*pairs)
    return tuple(chain(*rounds)), list(chain(*base)), list(chain(*new))


def _judge(title: str, pairs: Sequence[Pair], spread: Callable[[Iterable[int]], float | None]) -> Judged:
    return Judged(title, Counter(change(base, new, spread(rounds)).verdict for rounds, base, new in pairs))


def page(recording: Recording, judged: dict[str, Judged]) -> str:
    """Markdown; `judged` is what `judge_all` says of the recording."""
    rows = [_row(each) for each in sorted(judged.values(), key=lambda each: each.title)]
    header = [
        "| NEW against BASE | comparisons | " + " | ".join(VERDICTS) + " |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    parts = [_RULE, *_conditions(recording), *header, *rows, "", *_rates(judged), "", _BRACKETS]
    return "\n".join(parts) + "\n"


def _conditions(recording: Recording) -> list[str]:
    same = recording.of("same", "again")
    spreads = {
        "share of read, paired": [process.samples for process in same],
        "GB/s alone": [(log(process.gb_per_s),) for process in same],
    }
    loads = sorted(process.load for process in recording.processes)
    contended = sum(not process.samples for process in recording.processes)
    where = (
        f"{recording.machine}, {recording.began} to {recording.ended} (UTC). Other people's builds and tests ran beside"
        f" it: the load was {loads[0]:.1f} to {loads[-1]:.1f}, {loads[len(loads) // 2]:.1f} in the median."
    )
    case = (
        f"The case: {recording.case}, for {recording.seconds:g} s at most. A slowed process copied 1.025 or 1.10 times"
        " the elements in one launch and claimed the bytes of 1. A round ran the same twice, and in most rounds both"
        " slowed ones, in random order."
        f" {contended} of {len(recording.processes)} processes were contended: not judged, and run again."
    )
    sorts = {"the same": recording.same(), "the slowed ones": recording.slowed("tenth")}
    told = [f"{_limits(recording, pairs)} for {name}" for name, pairs in sorts.items()]
    limits = (
        f"Every comparison below is judged with the spread of the {CALIBRATION_PAIRS} pairs nearest to it in time, its"
        f" own left out, as if the machine had been calibrated then. The limit was {'; '.join(told)}."
    )
    least = [as_fraction(LEAST_LIMIT + least_half_width(n, n, ASSUMED_SPREAD)) for n in (1, TOGETHER)]
    tells = (
        "A slowdown has to exceed the limit by half an interval to be told. Where the spread is a third of 5 %, that is"
        f" {least[0]:.1%} or more with 1 process a side, {least[1]:.1%} with {TOGETHER}."
    )
    table = [
        f"| {name} | {as_fraction(aa_spread(changes(neighbours(values)))):.2%}"
        f" | {as_fraction(aa_spread(changes(apart(values)))):.2%} |"
        for name, values in spreads.items()
    ]
    header = ["| A/A spread of | one after the other | half the recording apart |", "| --- | --- | --- |"]
    return [_wrapped(where), "", _wrapped(case), "", *header, *table, "", _wrapped(f"{limits} {tells}"), ""]


def _limits(recording: Recording, pairs: Sequence[Pair]) -> str:
    limits = sorted(as_fraction(limit(recording.spread_near(rounds))) for rounds, _, _ in pairs)
    return f"{limits[0]:.1%} to {limits[-1]:.1%}, {limits[len(limits) // 2]:.1%} in the median,"


def _rates(judged: dict[str, Judged]) -> list[str]:
    alarm = "regression", "improvement"
    several = f"{TOGETHER} processes"
    found = (
        f"- False alarms (a regression or an improvement, of the same): {judged['aa-1'].rate(*alarm)};"
        f" half the recording apart {judged['aa-apart'].rate(*alarm)}."
    )
    twice = (
        "- The slowdown of 10 % is found where that is twice the limit:"
        f" {judged['twice-1-exactly'].rate('regression')} with 1 process a side,"
        f" {judged[f'twice-{TOGETHER}-exactly'].rate('regression')} with {several}."
    )
    half = (
        f"- The slowdown of 2.5 % is called a regression: {judged['half-1'].rate('regression')} with 1 process a side,"
        f" {judged[f'half-{TOGETHER}'].rate('regression')} with {several}."
    )
    return [_wrapped(line, "  ") for line in (found, twice, half)]


def _wrapped(text: str, indent: str = "") -> str:
    return fill(text, 120, subsequent_indent=indent, break_on_hyphens=False)


def _row(judged: Judged) -> str:
    return f"| {judged.title} | {judged.total} | " + " | ".join(str(judged.counts[v]) for v in VERDICTS) + " |"


_RULE = """# When a change is a regression

`scripts/aa_pairs.py page` prints this page from `tests/recordings/aa_pairs.json`; a test holds it against them.

`roofprobe compare BASE NEW` compares case by case. What is compared is the logarithm of NEW's rate over BASE's: of the
share of the reference that a row was paired with (a GEMV's of read, a dequantization's of copy), or of GB/s where there
is no reference: memory's read, and collectives. A machine that slows down as a whole is seen in its read, once, and not
in every kernel.

- **Interval**: 95 % of the change under a hierarchical bootstrap, processes first, then their samples. It is never
  narrower than what this machine's repeats of the same case differ by, 1.96 x A/A spread with one process a side: a
  process's own samples can't tell how the next process will differ.
- **Limit**: 5 %, or 3 x the A/A spread if that is more, which `roofprobe calibrate` measures and keeps for the machine.
  Slower by 5 % is 1.05 times the time.
- **A/A spread**: the standard deviation, by the median absolute value, of the change between two fresh processes of the
  same thing, one after the other or half the calibration apart, whichever is more.
- **Regression**: the whole interval is beyond the limit. **Unchanged**: the whole interval is within it.
  **Inconclusive**: neither; more processes a side narrow the interval.
- **Without a calibration** the limit is 5 % and repeats are taken to differ by a third of that, which is said; a rate
  without a reference, by as much as its own samples differ if that is more: nothing takes the machine's drift out of
  it. From 5 processes a side on, the bootstrap alone decides. A machine that changes its state minutes later can still
  raise an alarm over such a rate with fewer, which the alarm then says: take the processes of both sides in turn.
- **Time limit**: a row that its time limit stopped has the wider interval that it came to, and that decides: what it
  can't tell is inconclusive.
- **Not compared**: rows that are contended, unchecked, wrong or above the nominal ceiling, and rows of another machine
  (processor, GPUs, product). Another driver, NCCL, torch or setting is said: it is often what is being compared.
- **History**: `roofprobe run` adds its rows' medians to the machine's history, unless `--no-history` is given;
  `roofprobe compare --against-history NEW` takes the earlier runs there as BASE, a process each.
- **Missing**: a case that BASE measured and of which BASE or NEW has no usable row. Nothing passes on missing data: the
  status is 3.

Status: 1 for a regression or a result that has become wrong; else 3 where a case is missing, or none could be told;
else 0. A case that is inconclusive beside others that are not does not change the status: the table shows it.

## What it does on a noisy machine
"""
_BRACKETS = "Brackets are exact 95 % intervals of the rate."
