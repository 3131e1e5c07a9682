"""What a platform file may ask of a machine: the checks of an acceptance, and the form of a limit.

A limit is a value in the check's own unit, or a fraction of a ceiling: the platform's nominal one, or one that was
measured in the same run. Every limit says where it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Source = Annotated[str, Meta(min_length=10, max_length=1000)]
Fraction = Annotated[float, Meta(gt=0, le=1)]
Amount = Annotated[float, Meta(gt=0, le=1e9)]
Ceiling = Literal["nominal", "read", "copy", "clock", "before"]
"""``read`` and ``copy``: of the same side in the same run; ``clock``: what a matrix product could do at the SM clock
that it had; ``before``: the same sentinel before the load."""


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One bound: `value`, or `fraction` of the ceiling `of`."""

    source: Source
    value: Amount | None = None
    fraction: Fraction | None = None
    of: Ceiling | None = None


class CheckLimit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one check asks for. Without a bound the check is one of yes or no."""

    at_least: Limit | None = None
    at_most: Limit | None = None
    suspect_above: Limit | None = None
    """A reading above it is more likely a cache's or a wrong byte count's: it decides nothing."""
    required: bool | Literal["with-gpu"] = True
    """Whether the acceptance is incomplete without it; ``with-gpu``: where the machine has an NVIDIA driver or GPU."""


@dataclass(frozen=True)
class CheckKind:
    """A check that a platform file may name."""

    title: str
    unit: str = ""
    """Of its value and so of a limit's `value`; empty for a check of yes or no."""
    ceilings: tuple[Ceiling, ...] = ()
    """What a `fraction` may be of."""
    bounds: tuple[str, ...] = ("at_least",)
    cluster: bool = False
    """Whether it takes several nodes."""


def _kernel(processor: str, op: str, format_: str) -> CheckKind:
    what, ceiling = _KERNELS[op]
    return CheckKind(f"{processor} {what} {format_}, of the measured {ceiling}", "", (ceiling,))


_KERNELS: dict[str, tuple[str, Ceiling]] = {"gemv": ("GEMV", "read"), "dequant": ("dequantization", "copy")}
GEMV_FORMATS = ("bf16", "fp8", "nvfp4", "mxfp4")
DEQUANT_FORMATS = ("fp8", "nvfp4", "mxfp4")
RATE = ("at_least", "at_most", "suspect_above")

CHECKS: dict[str, CheckKind] = {
    "gpu-read": CheckKind("GPU memory read", "GB/s", ("nominal",), RATE),
    "gpu-copy": CheckKind("GPU memory copy", "GB/s", ("nominal",), RATE),
    **{f"gpu-gemv-{name}": _kernel("GPU", "gemv", name) for name in GEMV_FORMATS},
    **{f"gpu-dequant-{name}": _kernel("GPU", "dequant", name) for name in DEQUANT_FORMATS},
    "gpu-matmul-bf16": CheckKind("GPU matrix product bf16", "TFLOP/s", ("clock",), RATE),
    "gpu-stable-gemv": CheckKind("GPU GEMV under load, of that before", "", ("before",)),
    "gpu-stable-copy": CheckKind("GPU copy under load, of that before", "", ("before",)),
    "telemetry": CheckKind("GPU state under load", "", (), ()),
    "cpu-read": CheckKind("CPU side memory read", "GB/s", ("nominal",), RATE),
    "cpu-copy": CheckKind("CPU side memory copy", "GB/s", ("nominal",), RATE),
    **{f"cpu-gemv-{name}": _kernel("CPU", "gemv", name) for name in GEMV_FORMATS},
    **{f"cpu-dequant-{name}": _kernel("CPU", "dequant", name) for name in DEQUANT_FORMATS},
    "cpu-stable-gemv": CheckKind("CPU GEMV under load, of that before", "", ("before",)),
    "cpu-stable-copy": CheckKind("CPU copy under load, of that before", "", ("before",)),
    "contention": CheckKind("memory read by GPU and CPU together", "GB/s", ("nominal", "read"), RATE),
    "memory-kinds": CheckKind("memory kinds read right", "", (), ()),
    "link-rdma": CheckKind("the link carries RDMA", "", (), (), cluster=True),
    "link-halves": CheckKind("both halves of the link are used", "", (), (), cluster=True),
    "collectives-correct": CheckKind("collectives: every element right", "", (), (), cluster=True),
    "all-gather-busbw": CheckKind("all-gather bus bandwidth, large messages", "GB/s", (), RATE, cluster=True),
    "all-reduce-busbw": CheckKind("all-reduce bus bandwidth, large messages", "GB/s", (), RATE, cluster=True),
    "all-reduce-small": CheckKind("all-reduce of 8 to 32 KiB", "us", (), ("at_most",), cluster=True),
}
"""Name -> kind, in the order in which verdicts are shown. `acceptance.always` has a few more, which need no limit."""


def complaint(name: str, limit: CheckLimit) -> tuple[str, str] | None:
    """What is wrong with a check that has the right types: (field within it, what was found and expected), or None."""
    kind = CHECKS[name]
    for bound in RATE:
        given: Limit | None = getattr(limit, bound)
        if given is None:
            continue
        if bound not in kind.bounds:
            allowed = ", ".join(kind.bounds) or "none: it is a check of yes or no"
            return bound, f"found a limit; expected one of this check's bounds ({allowed})"
        if (given.value is None) == (given.fraction is None):
            found = "neither" if given.value is None else "both"
            return bound, f"found {found} of value and fraction; expected one of them"
        if given.value is not None and not kind.unit:
            return f"{bound}.value", "found an amount; this check is a share: expected fraction and of"
        if (given.fraction is None) != (given.of is None):
            return f"{bound}.of", "fraction and of go together: a fraction of which ceiling?"
        if given.of is not None and given.of not in kind.ceilings:
            allowed = ", ".join(kind.ceilings) or "none: only a value"
            return f"{bound}.of", f"found '{given.of}'; expected this check's ceiling ({allowed})"
    if kind.bounds and limit.at_least is None and limit.at_most is None:
        return kind.bounds[0], "missing; expected a limit, or the check decides nothing"
    return None
