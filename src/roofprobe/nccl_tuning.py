"""Which NCCL setting to use for all-reduce: what was measured against NCCL's own choice, and when that is believed.

A setting's time is divided by the defaults' time, measured just before and after it in processes of their own, one
ratio a round. It is better at a size where the 95 % interval of the median ratio lies at or below 1 - `BETTER`, and no
worse where it lies at or below 1 + `WORSE`. A size without an interval (fewer than 6 rounds) is neither.

Two things can be adopted, since NCCL can be told in two ways. `everywhere` holds for all sizes at once, as environment
variables do: better at some size and no worse at any. `bands` hold for some of them, as the rules of NCCL's example
tuner do: better at each measured size of theirs. That tuner leaves a size without a rule on a
single channel, so a band where the defaults are kept has to spell out what NCCL chooses there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from math import fsum, log
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

BETTER = 0.05
WORSE = 0.03

Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]
Algorithm = Literal["ring", "tree"]
Protocol = Literal["ll", "ll128", "simple"]


class NcclSetting(msgspec.Struct, frozen=True, kw_only=True):
    """What NCCL is told; None leaves the choice to it, so that an empty setting means the defaults."""

    algorithm: Algorithm | None = None
    protocol: Protocol | None = None
    channels: Count | None = None
    merge_nics: bool | None = None
    """Whether the two halves of a dual-port NIC count as one device."""

    @property
    def is_rule(self) -> bool:
        """Whether a tuner's rule can say it, which names algorithm, protocol and channels and nothing else."""
        return None not in (self.algorithm, self.protocol, self.channels) and self.merge_nics is None

    def environment(self) -> dict[str, str]:
        """The variables that NCCL reads (its user guide, "Environment Variables"; 2.24 and later).

        Algorithm and protocol are set for all-reduce alone: other collectives have no tree, and would fail. The number
        of channels can only be set for all.
        """
        found = {}
        if self.algorithm is not None:
            found["NCCL_ALGO"] = f"allreduce:{self.algorithm}"
        if self.protocol is not None:
            found["NCCL_PROTO"] = f"allreduce:{self.protocol}"
        if self.channels is not None:
            found["NCCL_MIN_NCHANNELS"] = found["NCCL_MAX_NCHANNELS"] = str(self.channels)
        if self.merge_nics is not None:
            found["NCCL_IB_MERGE_NICS"] = str(int(self.merge_nics))
        return found

    def __str__(self) -> str:
        """``NCCL_ALGO=allreduce:ring NCCL_PROTO=allreduce:ll``, or ``the defaults``."""
        return " ".join(f"{name}={value}" for name, value in self.environment().items()) or "the defaults"


DEFAULTS = NcclSetting()


class NcclRatio(msgspec.Struct, frozen=True, kw_only=True):
    """One message size: a setting's time over the defaults', below 1 where it is faster."""

    bytes: Count
    ratio: Positive
    """Median over the rounds."""
    interval: tuple[Positive, Positive] | None
    """95 % interval of the median; null for fewer than 6 rounds."""

    @property
    def is_better(self) -> bool:
        return self.interval is not None and self.interval[1] <= 1 - BETTER

    @property
    def is_no_worse(self) -> bool:
        return self.interval is not None and self.interval[1] <= 1 + WORSE


class NcclCandidate(msgspec.Struct, frozen=True, kw_only=True):
    """One setting, how it compared, or why it is out of the question."""

    setting: NcclSetting
    rounds: int
    ratios: tuple[NcclRatio, ...] = ()
    """In order of size."""
    problem: str | None = None

    def at(self, n_bytes: int) -> NcclRatio:
        """Raises KeyError for a size that was not measured."""
        for ratio in self.ratios:
            if ratio.bytes == n_bytes:
                return ratio
        raise KeyError(n_bytes)

    @property
    def is_adoptable(self) -> bool:
        """Better at some size, no worse at any."""
        return any(r.is_better for r in self.ratios) and all(r.is_no_worse for r in self.ratios)

    @property
    def mean_ratio(self) -> float:
        """Geometric mean over the sizes, in logarithm."""
        return fsum(log(r.ratio) for r in self.ratios) / len(self.ratios)


class NcclBand(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with messages of `min_bytes` to `max_bytes`, both inclusive; no upper end in the last band."""

    min_bytes: Annotated[int, Meta(ge=0)]
    max_bytes: int | None
    setting: NcclSetting | None
    """In full; where the defaults are kept, what they come to, and null where that is not known."""
    keep_default: bool


class NcclTuning(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome for all-reduce over one group of ranks."""

    world_size: Count
    nodes: Count
    transport: str
    nccl: str | None
    """Version of the library as loaded."""
    created: str
    candidates: tuple[NcclCandidate, ...]
    everywhere: NcclSetting | None
    """To be set for all sizes; null keeps the defaults."""
    bands: tuple[NcclBand, ...]

    def __post_init__(self) -> None:
        """Raises ValueError for what no measurement leaves behind: a profile may have been edited by hand."""
        if self.everywhere is not None and not any(c.setting == self.everywhere and c.ratios for c in self.candidates):
            raise ValueError("`everywhere` is none of the measured candidates")
        if any(band.setting is not None and not band.setting.is_rule for band in self.bands):
            raise ValueError("a band's setting needs algorithm, protocol and channels, and nothing else")

    @property
    def has_rules(self) -> bool:
        """Whether a tuner file helps: some band changes something, and every band is spelled out."""
        return any(not b.keep_default for b in self.bands) and all(b.setting is not None for b in self.bands)


def best_everywhere(candidates: Sequence[NcclCandidate]) -> NcclSetting | None:
    """The adoptable setting with the least mean ratio; None where there is none."""
    sound = [c for c in candidates if c.problem is None and c.is_adoptable]
    return min(sound, key=lambda c: c.mean_ratio).setting if sound else None


def bands(candidates: Sequence[NcclCandidate], own_choices: Mapping[int, NcclSetting]) -> tuple[NcclBand, ...]:
    """Bands that together hold every size from 0 up; empty without candidates.

    A change holds between sizes at which it was measured to be better, and below the smallest of all; the gap to a size
    where the defaults are kept, and everything above the largest size, keeps them.

    own_choices: message bytes -> what NCCL chooses by itself, as its log tells. Where that is not known, a setting that
    was measured to be no worse than the defaults, and not more than `WORSE` better, stands for them.
    """
    sound = [c for c in candidates if c.problem is None and c.setting.is_rule]
    sizes = sorted({r.bytes for c in sound for r in c.ratios} | set(own_choices))
    chosen = [(size, *_choice(size, sound, own_choices)) for size in sizes]
    groups = [list(group) for _, group in groupby(chosen, key=lambda choice: choice[1:])]
    found: list[NcclBand] = []
    start = 0
    for group, following in zip(groups, [*groups[1:], None]):
        last, setting, keeps = group[-1]
        end = None if following is None else following[0][0] - 1
        if not keeps and (following is None or following[0][2]):
            end = last
        found.append(NcclBand(min_bytes=start, max_bytes=end, setting=setting, keep_default=keeps))
        start = start if end is None else end + 1
    if found and found[-1].max_bytes is not None:
        beyond = _stands_for_defaults(sizes[-1], sound, own_choices)
        found.append(NcclBand(min_bytes=start, max_bytes=None, setting=beyond, keep_default=True))
    return tuple(found)


def _choice(
    size: int, sound: Sequence[NcclCandidate], own_choices: Mapping[int, NcclSetting]
) -> tuple[NcclSetting | None, bool]:
    """(setting, whether it only spells out the defaults)."""
    better = [(r.ratio, i) for i, (r, _) in enumerate(_at(size, sound)) if r.is_better]
    if better:
        return _at(size, sound)[min(better)[1]][1], False
    return _stands_for_defaults(size, sound, own_choices), True


def _stands_for_defaults(
    size: int, sound: Sequence[NcclCandidate], own_choices: Mapping[int, NcclSetting]
) -> NcclSetting | None:
    if size in own_choices:
        return own_choices[size]
    measured = _at(size, sound)
    alike = [(abs(log(r.ratio)), i) for i, (r, _) in enumerate(measured) if _is_alike(r)]
    return measured[min(alike)[1]][1] if alike else None


def _at(size: int, sound: Sequence[NcclCandidate]) -> list[tuple[NcclRatio, NcclSetting]]:
    return [(r, c.setting) for c in sound for r in c.ratios if r.bytes == size]


def _is_alike(r: NcclRatio) -> bool:
    return r.interval is not None and r.interval[0] >= 1 - WORSE and r.interval[1] <= 1 + WORSE
