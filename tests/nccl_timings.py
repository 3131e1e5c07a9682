"""All-reduce times under NCCL settings, for tests: a synthetic table in the shape of what a pair of GB10 could show.

Nothing here was measured on NCCL. The defaults follow 30 us + 21.9 GB/s; a setting's time is the defaults' times a
factor by size. `Player` gives them back with a drift of the whole link from run to run, as a real one has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
import random

from roofprobe.errors import RoofprobeError
from roofprobe.nccl_tuning import DEFAULTS, NcclSetting
from roofprobe.probes.nccl_runs import Run

SIZES = tuple(1 << bits for bits in range(10, 27, 2))
LL2 = NcclSetting(algorithm="ring", protocol="ll", channels=2)
TREE = NcclSetting(algorithm="tree", protocol="ll128", channels=4)
SIMPLE8 = NcclSetting(algorithm="ring", protocol="simple", channels=8)
REFUSED = NcclSetting(algorithm="tree", protocol="ll128", channels=1)
MERGED = NcclSetting(merge_nics=True)


def default_seconds(n_bytes: int) -> float:
    return 30e-6 + n_bytes / 21.9e9


@dataclass
class Player:
    """A runner that plays recorded factors; `fail_at` interrupts that run, as Ctrl-C would."""

    factors: dict[NcclSetting, dict[int, float]]
    own_choices: dict[int, NcclSetting] = field(default_factory=dict)
    drift: float = 0.3
    noise: float = 0.005
    fail_at: int | None = None
    defaults_fail: bool = False
    binding: str = "recorded"
    runs: list[NcclSetting] = field(default_factory=list)

    def run(self, setting: NcclSetting) -> Run:
        if len(self.runs) == self.fail_at:
            self.fail_at = None
            raise KeyboardInterrupt
        if self.defaults_fail and setting == DEFAULTS:
            raise RoofprobeError("the all-reduce fails under the defaults too: no route")
        self.runs.append(setting)
        if setting not in (DEFAULTS, *self.factors):
            return Run(seconds={}, problem="no algorithm/protocol available")
        random_ = random.Random(len(self.runs))
        # Slow enough that neighbours share it, large enough that the first and the last run do not.
        link = 1 + self.drift * len(self.runs) / 200
        factors = self.factors.get(setting, {})
        seconds = {
            n: default_seconds(n) * factors.get(n, 1.0) * link * random_.uniform(1 - self.noise, 1 + self.noise)
            for n in SIZES
        }
        return Run(seconds=seconds, world_size=2, transport="NET/IB", own_choices={})

    def defaults(self) -> Run:
        run = self.run(DEFAULTS)
        return Run(run.seconds, run.world_size, run.transport, own_choices=self.own_choices)


def factors(small: float, large: float) -> dict[int, float]:
    """One factor up to 64 KiB, another above."""
    return {n: small if n <= 1 << 16 else large for n in SIZES}
