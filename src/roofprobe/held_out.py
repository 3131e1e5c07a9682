"""How well a piecewise line tells the time of a size that it has not seen.

The sizes between the smallest and the largest are dealt into four hands; each hand in turn is left out, lines and cuts
are found anew from the rest, and the error is taken at the sizes left out. Each of them has both its neighbours in the
rest, as a size that somebody asks about has. Where two segments meet with a jump, no one can tell from the neighbours
on which side of it a size lies, so the worst error there may be the whole jump.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from roofprobe.robust_line import find_cuts, line_through

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[np.float64]

HANDS = 4
FEWEST_SIZES = 6
"""Fewer leave too few to find a line from."""


class HeldOutError(msgspec.Struct, frozen=True, kw_only=True):
    """Relative errors, |predicted / measured - 1|, at sizes that the lines were not made from."""

    typical: float
    """The median over the sizes."""
    worst: float
    worst_bytes: int
    """The message size of the worst."""


def held_out_error(x: Array, t: Array) -> HeldOutError | None:
    """For message sizes `x` in order and their times `t`; None where there are too few or a rest has no rate."""
    import numpy as np

    if len(x) < FEWEST_SIZES:
        return None
    errors = np.zeros(len(x))
    inner = np.arange(1, len(x) - 1)
    for hand in range(HANDS):
        out = inner[inner % HANDS == hand]
        predicted = _predict(np.delete(x, out), np.delete(t, out), x[out])
        if predicted is None:
            return None
        errors[out] = np.abs(predicted / t[out] - 1)
    worst = int(np.argmax(errors))
    return HeldOutError(typical=float(np.median(errors[inner])), worst=float(errors[worst]), worst_bytes=int(x[worst]))


def _predict(x: Array, t: Array, asked: Array) -> Array | None:
    """The times of the sizes `asked`, by lines through (x, t); a segment ends just before the next one's first size."""
    import numpy as np

    cuts = find_cuts(x, t)
    if cuts is None:
        return None
    lines = [line_through(x[start:stop], t[None, start:stop]) for start, stop in pairwise(cuts)]
    alphas, slopes = (np.concatenate(values) for values in zip(*lines))
    holding = np.searchsorted(x[cuts[1:-1]], asked, side="right")
    predicted: Array = alphas[holding] + slopes[holding] * asked
    return predicted
