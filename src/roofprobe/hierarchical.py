"""The interval of a median over several processes: their spread counts as well as that of the samples within each.

Samples of one process are alike (one memory layout, one clock, one neighbour), so that pooling them makes an interval
that the next process falls out of. Here processes are drawn first and then the samples of each drawn process.

Source: A. C. Davison and D. V. Hinkley, Bootstrap Methods and their Application, section 3.8 (hierarchical data).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from roofprobe.robust import median, median_interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 2000
SEED = 20250117
"""The same samples give the same interval, wherever and however often they are judged."""
LEAST_SAMPLES = 6
"""Of a process: from fewer no 95 % interval of its median exists."""
MOST_SAMPLES = 2000
"""Of a process: as many as the timing takes at most. More are thinned out evenly, so that memory stays bounded."""


def typical(groups: Sequence[Sequence[float]]) -> float:
    """The median of the processes' medians."""
    return median([median(group) for group in groups])


def interval(groups: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """95 % interval of `typical`, low first; None where a process has fewer than six samples.

    One process: order statistics of its samples. Several: the hierarchical bootstrap.
    """
    if not groups or any(len(group) < LEAST_SAMPLES for group in groups):
        return None
    if len(groups) == 1:
        return median_interval(groups[0])
    return _quantiles(_resampled(groups, SEED))


def ratio_interval(groups: Sequence[Sequence[float]], to: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """95 % interval of ``typical(groups) / typical(to)``, both resampled; None likewise."""
    if not groups or not to or any(len(group) < LEAST_SAMPLES for group in (*groups, *to)):
        return None
    return _quantiles(_resampled(groups, SEED) / _resampled(to, SEED + 1))


def _resampled(groups: Sequence[Sequence[float]], seed: int) -> NDArray[np.float64]:
    """RESAMPLES values of `typical`, of processes and samples drawn with replacement."""
    import numpy as np

    generator = np.random.default_rng(seed)
    arrays = [np.asarray(group[:: 1 + (len(group) - 1) // MOST_SAMPLES], dtype=float) for group in groups]
    drawn = generator.integers(len(arrays), size=(RESAMPLES, len(arrays)))
    medians = np.empty(drawn.shape)
    for number, array in enumerate(arrays):
        places = drawn == number
        picks = generator.integers(len(array), size=(int(places.sum()), len(array)))
        medians[places] = np.median(array[picks], axis=1)
    return np.asarray(np.median(medians, axis=1))


def _quantiles(values: NDArray[np.float64]) -> tuple[float, float]:
    import numpy as np

    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
