"""A line through sizes and times that bad sizes and noise don't move, and where one line has to end and the next begin.

Inside a segment the slope comes from the sizes at which bytes cost the time and alpha from those at which they
don't, because the two overlap in between: on a link that drains while the CPU works, T there is less than the sum.
    slope   Theil-Sen: the median over pairs of sizes, each weighted by the share of the time that bytes explain at
            the one size times that at the other, and by how far apart the two are
    alpha   the median of T - slope * bytes, each weighted by the share of its time that bytes do not explain
A pair of a small and a large size weighs little because its slope is short by alpha wherever the two overlap: over a
shaped 1 Gb/s link between busy hosts, counting such pairs fully read beta 2.5 % high.

Source: P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", JASA 63 (1968).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[np.float64]

MAX_SEGMENTS = 4
MIN_SIZES_PER_SEGMENT = 4
"""Two sizes make a line and four are the least whose line can be wrong in a way that shows."""
SPLIT_MUST_GAIN = 0.35
"""A further segment has to lower the typical relative error by this share."""
NOISE_FLOOR = 0.02
"""Relative errors below this are the clock's and the scheduler's, so no segment is spent on lowering them."""
LEAST_GROWTH = 0.1
"""The share of the largest message's time that bytes must explain for a rate to be told from the noise."""


def line_through(x: Array, t: Array) -> tuple[Array, Array]:
    """alpha (seconds, never negative) and slope (seconds a message byte) for each row of `t`, at the sizes `x`.

    The weights of the pairs need the line that they are to give: three rounds from the pairs' plain median settle it.
    """
    import numpy as np

    first, second = np.triu_indices(len(x), 1)
    run = x[second] - x[first]
    slopes = (t[:, second] - t[:, first]) / run
    slope = np.median(slopes, axis=1)
    apart = run / x[second]
    for _ in range(3):
        explained = np.clip(slope[:, None] * x / t, 0.0, 1.0)
        slope = _weighted_median(slopes, explained[:, first] * explained[:, second] * apart)
    rest = t - slope[:, None] * x
    alpha = _weighted_median(rest, np.clip(rest / t, 0.0, 1.0))
    return np.maximum(alpha, 0.0), slope


def _weighted_median(values: Array, weights: Array) -> Array:
    """Along rows; the middle of the two neighbours where the weights balance between them. Plain where all are 0."""
    import numpy as np

    weights = np.where(weights.sum(axis=1, keepdims=True) > 0, weights, 1.0)
    order = np.argsort(values, axis=1, kind="stable")
    values = np.take_along_axis(values, order, axis=1)
    share = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
    half = share[:, -1:] / 2
    rows = np.arange(len(values))
    lower = np.argmax(share >= half * (1 - 1e-12), axis=1)
    upper = np.argmax(share > half * (1 + 1e-12), axis=1)
    middle: Array = (values[rows, lower] + values[rows, upper]) / 2
    return middle


def find_cuts(x: Array, t: Array) -> list[int] | None:
    """Indices at which segments begin, with len(x) at the end; None where not even one line has a rate.

    For each number of segments the best cuts are found exactly, by dynamic programming over the summed relative
    errors; one more segment is taken only as long as each pays for itself.
    """
    import numpy as np

    n = len(x)
    cost = np.full((n, n + 1), np.inf)
    for start in range(n):
        for stop in range(start + min(MIN_SIZES_PER_SEGMENT, n), n + 1):
            cost[start, stop] = _misfit(x[start:stop], t[start:stop])
    most = max(1, min(MAX_SEGMENTS, n // MIN_SIZES_PER_SEGMENT))
    best = cost[0, :].copy()
    came_from: list[list[int]] = []
    chosen = [0, n] if np.isfinite(best[n]) else None
    typical = best[n] / n
    for segments in range(2, most + 1):
        total = best[:n, None] + cost
        came_from.append([int(i) for i in np.argmin(total, axis=0)])
        best = np.min(total, axis=0)
        # Two further segments may be needed before either pays, so the gain asked for compounds.
        have = 0 if chosen is None else len(chosen) - 1
        if best[n] / n < typical * (1 - SPLIT_MUST_GAIN) ** (segments - have):
            typical = best[n] / n
            chosen = _walk_back(came_from, n)
    return chosen


def _walk_back(came_from: list[list[int]], n: int) -> list[int]:
    cuts = [n]
    for origins in reversed(came_from):
        cuts.append(origins[cuts[-1]])
    return [0, *reversed(cuts)]


def _misfit(x: Array, t: Array) -> float:
    """Summed relative errors of the line through these sizes, each with the noise floor; infinite without a rate."""
    import numpy as np

    alphas, slopes = line_through(x, t[None, :])
    alpha, slope = float(alphas[0]), float(slopes[0])
    if slope <= 0 or slope * (x[-1] - x[0]) < LEAST_GROWTH * t[-1]:
        return float("inf")
    return float(np.sum(np.hypot(np.log(t / (alpha + slope * x)), NOISE_FLOOR)))
