"""The alpha-beta (Hockney) model of a message's time, piecewise in the message size S.

    T(S) = alpha + bus_bytes(S) / beta          bus_bytes(S) = bus_factor * S

alpha is what a message costs however small it is, beta the rate at which its bytes cross the wire. One line seldom
holds for all sizes: a library changes protocol at some of them (NCCL around 64 KiB), so the sizes are cut into a few
segments with a line each. Where to cut is found from the data (see robust_line).

Only per-size medians are fitted. Minima are too good (a shaped link lets the first burst through free) and means too
bad (a busy host's slow tail is 2 to 4 times the median). Least squares is not used: one disturbed size moves it.

Source: R. W. Hockney, "The communication challenge for MPP", Parallel Computing 20 (1994).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from roofprobe.held_out import HeldOutError, held_out_error
from roofprobe.robust import median
from roofprobe.robust_line import find_cuts, line_through

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[np.float64]

LEAST_SAMPLES = 6
"""From fewer samples of a size no 95 % interval of its median exists."""
POOR_FIT = 0.1
RESAMPLES = 400
MOST_SIZES = 48
"""More are thinned out evenly in their logarithm: pairs of sizes grow with the square, and 48 tell as much."""


class SegmentInterval(msgspec.Struct, frozen=True, kw_only=True):
    """95 % intervals of a segment's two figures, low first."""

    alpha_us: tuple[float, float]
    beta_gb_per_s: tuple[float, float]


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of the fit: what holds for messages of `min_bytes` to `max_bytes`, both inclusive.

    A segment ends just before the smallest measured size of the next one, so that every size in between has a line.
    """

    min_bytes: int
    max_bytes: int
    alpha_us: float
    beta_gb_per_s: float
    """1e9 bus bytes a second, so that it can be held against the link's rate."""
    interval: SegmentInterval | None = None
    """None where a size has fewer than 6 samples, or where the rate can't be told from the noise."""
    n_half_bytes: float | None = None
    """n1/2, the message size at which half the time goes to bytes: alpha * beta / bus_factor."""
    error_fraction: float | None = None
    """The largest relative error of the line at a measured size of the segment."""


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """Segments in order of size, and what a reader has to know about them."""

    segments: tuple[Segment, ...]
    bus_factor: float
    typical_error_fraction: float | None = None
    """The median relative error over all measured sizes."""
    held_out_error_fraction: HeldOutError | None = None
    """The errors at sizes left out of the fit; None for fewer than six sizes."""
    note: str | None = None
    """Why there are no segments, or in what way they are poor."""


def fit(samples: Sequence[tuple[int, Sequence[float]]], bus_factor: float, *, seed: int = 0) -> Fit:
    """Fits T(S) to (message bytes, seconds of each iteration) pairs; message bytes positive, in any order.

    `seed` is the bootstrap's: the same samples give the same intervals. An empty fit with a note results where the
    samples can't tell alpha from beta (one size, a single rank, times that don't grow with the size). Raises
    ValueError for a size given twice or without samples, and for a size or a time that is not positive.
    """
    import numpy as np

    samples = _thinned(sorted((size, tuple(seconds)) for size, seconds in samples))
    sizes = [size for size, _ in samples]
    if len(set(sizes)) != len(sizes):
        raise ValueError("a message size appears twice")
    if any(size <= 0 or not seconds or min(seconds) <= 0 for size, seconds in samples):
        raise ValueError("every message size and every time must be positive, and every size needs a time")
    if bus_factor <= 0:
        return Fit(segments=(), bus_factor=bus_factor, note="a single rank sends nothing over a link: no fit")
    if len(sizes) < 2:
        return Fit(segments=(), bus_factor=bus_factor, note="one size can't tell alpha from beta: no fit")
    x = np.asarray(sizes, dtype=float)
    t = np.asarray([median(seconds) for _, seconds in samples])
    cuts = find_cuts(x, t)
    if cuts is None:
        reason = f"the time does not grow measurably from {sizes[0]} to {sizes[-1]} bytes: beta can't be told, no fit"
        return Fit(segments=(), bus_factor=bus_factor, note=reason)
    resampled = _resampled_medians([seconds for _, seconds in samples], seed)
    segments = []
    for start, stop in pairwise(cuts):
        last_size = sizes[stop] - 1 if stop < len(sizes) else sizes[-1]
        part = slice(start, stop)
        many = None if resampled is None else resampled[:, part]
        segments.append(_segment(x[part], t[part], many, last_size, bus_factor, seed))
    errors = [abs(predict(segments, size, bus_factor) / seconds - 1) for size, seconds in zip(sizes, t)]
    held_out = held_out_error(x, t)
    return Fit(
        segments=tuple(segments),
        bus_factor=bus_factor,
        typical_error_fraction=float(median(errors)),
        held_out_error_fraction=held_out,
        note=_caveat(errors, held_out),
    )


def predict(segments: Sequence[Segment], message_bytes: float, bus_factor: float) -> float:
    """Seconds that a message of `message_bytes` takes: T(S) of the segment that holds S.

    Below the smallest and above the largest measured size the outermost line is continued. Raises ValueError for an
    empty fit.
    """
    if not segments:
        raise ValueError("an empty fit predicts nothing")
    holding = next((s for s in segments if message_bytes <= s.max_bytes), segments[-1])
    return holding.alpha_us * 1e-6 + bus_factor * message_bytes / (holding.beta_gb_per_s * 1e9)


def describe(found: Fit) -> list[str]:
    """The fit as lines for people, without any prefix."""
    from roofprobe.arguments import size_text

    lines = []
    for s in found.segments:
        alpha, beta = f"alpha {s.alpha_us:.4g} us", f"beta {s.beta_gb_per_s:.4g} GB/s"
        if s.interval is not None:
            alpha += " [{:.4g}, {:.4g}]".format(*s.interval.alpha_us)
            beta += " [{:.4g}, {:.4g}]".format(*s.interval.beta_gb_per_s)
        last = s is found.segments[-1]
        span = f"{size_text(s.min_bytes)} to " + (
            size_text(s.max_bytes) if last else f"below {size_text(s.max_bytes + 1)}"
        )
        half = "" if s.n_half_bytes is None else f", n1/2 {size_text(s.n_half_bytes)}"
        error = "" if s.error_fraction is None else f", largest error {s.error_fraction:.1%}"
        lines.append(f"{span}: {alpha}, {beta}{half}{error}")
    if (held_out := found.held_out_error_fraction) is not None:
        lines.append(
            f"at sizes left out of the fit: {held_out.typical:.1%} off at the median size,"
            f" {held_out.worst:.1%} at the worst, {size_text(held_out.worst_bytes)}"
        )
    if found.note is not None:
        lines.append(found.note)
    return lines


def _thinned(samples: list[tuple[int, tuple[float, ...]]]) -> list[tuple[int, tuple[float, ...]]]:
    if len(samples) <= MOST_SIZES:
        return samples
    import numpy as np

    logs = np.log([max(size, 1) for size, _ in samples])
    wanted = np.linspace(logs[0], logs[-1], MOST_SIZES)
    kept = {int(np.argmin(np.abs(logs - at))) for at in wanted}
    return [samples[i] for i in sorted(kept)]


def _segment(x: Array, t: Array, resampled: Array | None, last_size: int, bus_factor: float, seed: int) -> Segment:
    import numpy as np

    alpha, slope = (float(v[0]) for v in line_through(x, t[None, :]))
    interval = None
    if resampled is not None:
        alphas, slopes = line_through(x, _scattered(alpha + slope * x, t, resampled, seed))
        low, high = (float(v) for v in np.quantile(slopes, (0.025, 0.975)))
        if low > 0:
            a_low, a_high = (float(v) * 1e6 for v in np.quantile(alphas, (0.025, 0.975)))
            interval = SegmentInterval(
                alpha_us=(a_low, a_high), beta_gb_per_s=(bus_factor / high / 1e9, bus_factor / low / 1e9)
            )
    return Segment(
        min_bytes=int(x[0]),
        max_bytes=last_size,
        alpha_us=alpha * 1e6,
        beta_gb_per_s=bus_factor / slope / 1e9,
        interval=interval,
        n_half_bytes=alpha / slope,
        error_fraction=float(np.max(np.abs((alpha + slope * x) / t - 1))),
    )


def _scattered(line: Array, t: Array, resampled: Array, seed: int) -> Array:
    """The resampled medians, each moved to where another size's median lay relative to the line.

    A machine is busier during some sizes than during others, so medians scatter about the line by more than the
    samples within a size tell. Of 100 simulated sweeps with 5 % of such scatter, 65 had the true beta inside the
    interval without this step and 96 with it; across a protocol switch it was 55 and 94.
    """
    import numpy as np

    random = np.random.default_rng((seed, 1))
    ratios = t / line
    drawn = ratios[random.integers(0, len(t), size=resampled.shape)]
    moved: Array = line * drawn * resampled / t
    return moved


def _caveat(errors: Sequence[float], held_out: HeldOutError | None) -> str | None:
    if len(errors) < 3:
        return "two sizes: the line goes through both, so nothing tells how well it fits"
    if max(errors) > POOR_FIT:
        return (
            f"poor fit: {median(errors):.0%} off at the median size and {max(errors):.0%} at the worst,"
            " from noise or from a shape that no line has"
        )
    if held_out is not None and held_out.worst > POOR_FIT:
        return (
            f"poor between the sizes that were measured: {held_out.worst_bytes} bytes, left out, is missed by"
            f" {held_out.worst:.0%}, as beside a jump or where a size was disturbed"
        )
    return None


def _resampled_medians(samples: Sequence[Sequence[float]], seed: int) -> Array | None:
    """[RESAMPLES, sizes]: medians of iterations drawn with replacement, size by size."""
    import numpy as np

    if min(len(seconds) for seconds in samples) < LEAST_SAMPLES:
        return None
    random = np.random.default_rng(seed)
    columns = []
    for seconds in samples:
        drawn = random.integers(0, len(seconds), size=(RESAMPLES, len(seconds)))
        columns.append(np.median(np.asarray(seconds)[drawn], axis=1))
    return np.stack(columns, axis=1)
