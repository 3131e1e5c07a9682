"""A sampling: what a GPU said of itself and what it achieved, moment by moment, as lines of JSON.

Two kinds of line. A sample has ``t_s`` and what NVML told; a field that NVML does not support on the machine is
absent. A sentinel's line has ``t_s``, ``sentinel`` and the rate that a small known piece of work reached at that
moment. Times are seconds from the sampling's start, on one clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from roofprobe.errors import BadInput
from roofprobe.files import open_regular
from roofprobe.measurement import Side

Seconds = Annotated[float, Meta(ge=0, le=1e11)]
"""Of any clock, also one that counts from 1970."""
MAX_LINE_BYTES = 8192
MAX_LINES = 2_000_000
"""A soak of 35 minutes at ten samples a second has 21 000; a million lines take about 400 MiB and four seconds."""


class Sample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What NVML said at one moment; None is what it does not support here."""

    t_s: Seconds
    utilization_pct: Annotated[float, Meta(ge=0, le=100)] | None = None
    sm_clock_mhz: Annotated[float, Meta(ge=0, le=1e5)] | None = None
    power_w: Annotated[float, Meta(ge=0, le=1e5)] | None = None
    temperature_c: Annotated[float, Meta(ge=-100, le=300)] | None = None
    p_state: Annotated[str, Meta(pattern=r"^P[0-9]{1,2}$")] | None = None
    reasons: tuple[Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,64}$")], ...] | None = None
    """Why the clock is not higher: NVML's event reasons in lower case, ``sw_thermal_slowdown`` …"""


class SentinelResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What one run of a sentinel reached at one moment."""

    t_s: Seconds
    sentinel: Literal["gemv", "copy", "matmul"]
    gb_per_s: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    tflop_per_s: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    side: Side = "device"
    """``host`` where a CPU reached it."""

    def __post_init__(self) -> None:
        expected, other = self.gb_per_s, self.tflop_per_s
        if self.sentinel == "matmul":
            expected, other = other, expected
        if expected is None or other is not None:
            raise ValueError(f"expected {'tflop_per_s' if self.sentinel == 'matmul' else 'gb_per_s'} and no other rate")

    @property
    def rate(self) -> float:
        """GB/s, or TFLOP/s for a matmul."""
        rate = self.tflop_per_s if self.sentinel == "matmul" else self.gb_per_s
        assert rate is not None
        return rate


@dataclass(frozen=True)
class Sampling:
    """One host's, in order of time."""

    host: str
    samples: tuple[Sample, ...]
    sentinels: tuple[SentinelResult, ...]

    def of(self, sentinel: str) -> tuple[SentinelResult, ...]:
        return tuple(result for result in self.sentinels if result.sentinel == sentinel)

    def of_side(self, side: Side) -> Sampling:
        """The same samples with one side's results."""
        return Sampling(self.host, self.samples, tuple(result for result in self.sentinels if result.side == side))


class _Kind(msgspec.Struct):
    sentinel: str | None = None


_kind = msgspec.json.Decoder(_Kind)
_sample = msgspec.json.Decoder(Sample)
_result = msgspec.json.Decoder(SentinelResult)


def read_sampling(path: Path, host: str) -> Sampling:
    """Reads a recorded sampling. A torn last line, as a crash leaves it, is passed over.

    Raises BadInput naming the file, the line and what was expected for anything else that is neither kind of line.
    """
    try:
        with open_regular(path) as file:
            return _read(path, host, iter(lambda: file.readline(MAX_LINE_BYTES), b""))
    except OSError as error:
        raise BadInput(f"can't read {path}: {error.strerror}; expected a recorded sampling") from None


def _read(path: Path, host: str, lines: Iterable[bytes]) -> Sampling:
    samples, sentinels = [], []
    for number, line in enumerate(lines, start=1):
        if number > MAX_LINES:
            raise BadInput(f"{path} has more than {MAX_LINES} lines; expected a sampling of a few hours at most")
        if line.isspace():
            continue
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            raise BadInput(f"{path}: line {number} is longer than {MAX_LINE_BYTES} bytes; is it a sampling?")
        try:
            # Most lines are samples: only one that could name a sentinel, escaped or not, is read for its kind first.
            if (b"sentinel" in line or b"\\" in line) and _kind.decode(line).sentinel is not None:
                sentinels.append(_result.decode(line))
            else:
                samples.append(_sample.decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            if not line.endswith(b"\n") and (samples or sentinels):
                break
            raise BadInput(f"{path}: line {number}: {error}; expected a sample or a sentinel's result") from None
    samples.sort(key=_time)
    sentinels.sort(key=_time)
    return Sampling(host, tuple(samples), tuple(sentinels))


def _time(each: Sample | SentinelResult) -> float:
    return each.t_s
