"""The order of runs that lets NCCL settings be compared: each between two runs, or beside one, with the defaults.

A link's and a machine's speed drift over the minutes that a sweep takes. So nothing is compared but neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import random

from roofprobe.nccl_tuning import BETTER, NcclCandidate, NcclRatio, NcclSetting
from roofprobe.probes.nccl_run_log import Comparison, RunLog
from roofprobe.probes.nccl_runs import Runner
from roofprobe.robust import median, median_interval

FINALISTS = 4
SEED = 0x2C1


def screen(
    runner: Runner, settings: Sequence[NcclSetting], log: RunLog, on_step: Callable[[str], None]
) -> list[NcclCandidate]:
    """One run each, between two with the defaults (which serve the neighbour too), in a shuffled order."""
    order = list(settings)
    random.Random(SEED).shuffle(order)
    found = []
    before: dict[int, float] | None = None
    for i, setting in enumerate(order, start=1):
        on_step(f"screening {i} of {len(order)}: {setting}")
        known = log.find("screen", setting, 0)
        if known is None:
            before = before or runner.defaults().seconds
            run = runner.run(setting)
            after = runner.run(NcclSetting()).seconds
            middle = {n: (before[n] + after[n]) / 2 for n in after}
            known = Comparison(
                phase="screen",
                setting=setting,
                round=0,
                seconds=run.seconds,
                default_seconds=middle,
                problem=run.problem,
            )
            log.add(known)
            before = after
        found.append(_candidate(setting, [known]))
    return found


def finalists(screened: Sequence[NcclCandidate]) -> list[NcclSetting]:
    """The settings that look best at some size, those that do so at most sizes first.

    A setting has to look at least half as good as it must turn out to be; of the first impressions most are luck.
    """
    sound = [c for c in screened if c.problem is None]
    wins: dict[int, int] = {}
    for n_bytes in sorted({r.bytes for c in sound for r in c.ratios}):
        ratio, best = min((c.at(n_bytes).ratio, i) for i, c in enumerate(sound))
        if ratio <= 1 - BETTER / 2:
            wins[best] = wins.get(best, 0) + 1
    ordered = sorted(wins, key=lambda i: (-wins[i], sound[i].mean_ratio))
    return [sound[i].setting for i in ordered[:FINALISTS]]


def confirm(
    runner: Runner, settings: Sequence[NcclSetting], rounds: int, log: RunLog, on_step: Callable[[str], None]
) -> list[NcclCandidate]:
    """`rounds` comparisons each, the finalists in turn; a finalist and the defaults take turns at going first."""
    made: dict[NcclSetting, list[Comparison]] = {setting: [] for setting in settings}
    for round_ in range(rounds):
        for setting in settings:
            on_step(f"round {round_ + 1} of {rounds}: {setting}")
            known = log.find("confirm", setting, round_)
            if known is None:
                pair = [NcclSetting(), setting]
                if round_ % 2:
                    pair.reverse()
                runs = {each: runner.run(each) for each in pair}
                known = Comparison(
                    phase="confirm",
                    setting=setting,
                    round=round_,
                    seconds=runs[setting].seconds,
                    default_seconds=runs[NcclSetting()].seconds,
                    problem=runs[setting].problem,
                )
                log.add(known)
            made[setting].append(known)
    return [_candidate(setting, comparisons) for setting, comparisons in made.items()]


def _candidate(setting: NcclSetting, comparisons: Sequence[Comparison]) -> NcclCandidate:
    problem = next((c.problem for c in comparisons if c.problem is not None), None)
    if problem is not None:
        return NcclCandidate(setting=setting, rounds=len(comparisons), problem=problem)
    ratios = []
    for n_bytes in sorted(comparisons[0].seconds):
        values = [c.seconds[n_bytes] / c.default_seconds[n_bytes] for c in comparisons]
        ratios.append(NcclRatio(bytes=n_bytes, ratio=median(values), interval=median_interval(values)))
    return NcclCandidate(setting=setting, rounds=len(comparisons), ratios=tuple(ratios))
