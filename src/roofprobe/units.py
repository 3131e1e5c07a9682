"""Numbers as people read them: one way to write a rate, a share, a size and a time, each with its unit.

GB and MB are powers of ten (what a link or a memory moves); KiB, MiB and GiB powers of two (what a buffer
holds). A figure that does not exist is written as a dash, never as zero.
"""

from __future__ import annotations

from collections.abc import Mapping

ABSENT = "—"


def number(value: float | None) -> str:
    """Three significant digits, four from 100 on: what a 1 % interval can carry."""
    if value is None:
        return ABSENT
    if value >= 1000:
        return f"{value:.0f}"
    if value >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.995 or value == 0 else f"{value:.2g}"


def rate(gb_per_s: float | None) -> str:
    """``231.4 GB/s``."""
    return ABSENT if gb_per_s is None else f"{number(gb_per_s)} GB/s"


def percent(fraction: float | None, digits: int = 0) -> str:
    """``85 %``; with `digits` = 1 ``84.7 %``."""
    return ABSENT if fraction is None else f"{100 * fraction:.{digits}f} %"


def between(bounds: tuple[float, float] | None) -> str:
    """A 95 % interval as ``[229.8, 232.6]``."""
    return "no interval" if bounds is None else f"[{number(bounds[0])}, {number(bounds[1])}]"


def percent_between(bounds: tuple[float, float] | None) -> str:
    """A 95 % interval of a share as ``[96.1, 97.4] %``."""
    return "no interval" if bounds is None else f"[{100 * bounds[0]:.1f}, {100 * bounds[1]:.1f}] %"


def size(count: float | None) -> str:
    """Bytes with a binary unit: ``8 B``, ``1.5 KiB``, ``64 MiB``."""
    if count is None:
        return ABSENT
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1023.5 or unit == "GiB":
            return f"{count:.3g} {unit}" if count < 999.5 else f"{count:.0f} {unit}"
        count /= 1024
    raise AssertionError("unreachable: GiB takes every size")


def billions(count: float | None) -> str:
    """A count over 1e9, as ``3.59``: GB of a number of bytes."""
    return number(None if count is None else count / 1e9)


def duration(seconds: float | None) -> str:
    """Seconds with the unit that leaves one to three digits before the point: ``28.3 µs``, ``1.42 ms``."""
    if seconds is None:
        return ABSENT
    for unit, scale in (("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds:.3g} s" if seconds < 999.5 else f"{seconds:.0f} s"


def settings(config: Mapping[str, object]) -> str:
    """A kernel's config as ``block_n=64, warps=4``; a dash where it has none."""
    return ", ".join(f"{name}={value}" for name, value in config.items()) or ABSENT
