"""Synthetic samplings of a unit under load, generated from what is known of GB10's states; no real unit was recorded.

A sampling is a list of lines. `healthy` makes one; the other functions change a part of it, as a state of the unit
would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
import json
from pathlib import Path
import random
from typing import Any

from roofprobe.telemetry import Sampling, read_sampling

Line = dict[str, Any]
RATES = {"gemv": 232.0, "copy": 222.0, "matmul": 84.0}


def healthy(
    seconds: float = 60,
    *,
    every: float = 1.0,
    sentinel_every: float | None = 5.0,
    noise: float = 0.01,
    seed: int = 0,
    rates: dict[str, float] | None = None,
    clock: float = 2405,
    power: float = 62,
    utilization: float = 96,
    reasons: tuple[str, ...] = (),
    idle: float = 0,
) -> list[Line]:
    """A unit that works from `idle` on for `seconds`, idle before and after, each sentinel once every so often."""
    rng = random.Random(seed)

    def about(value: float) -> float:
        return round(value * (1 + noise * max(-2.0, min(2.0, rng.gauss(0, 1)))), 2)

    lines: list[Line] = []
    for at in range(int((seconds + 2 * idle) / every)):
        t = at * every
        if not idle <= t < idle + seconds:
            lines.append(sample(t, 0, 208, 4.5, 41, ("gpu_idle",), state="P8"))
            continue
        warm = 48 + 24 * min(1.0, (t - idle) / 120)
        lines.append(sample(t, min(100.0, about(utilization)), about(clock), about(power), about(warm), reasons))
    if sentinel_every is not None:
        for at in range(int(seconds / sentinel_every)):
            for offset, (kind, rate) in enumerate((RATES if rates is None else rates).items()):
                lines.append(result(idle + at * sentinel_every + 0.1 * (offset + 1), kind, about(rate)))
    return sorted(lines, key=lambda line: line["t_s"])


def sample(
    t: float, utilization: float, clock: float, power: float, warm: float, reasons: Iterable[str], state: str = "P0"
) -> Line:
    return {
        "t_s": round(t, 3),
        "utilization_pct": utilization,
        "sm_clock_mhz": clock,
        "power_w": power,
        "temperature_c": warm,
        "p_state": state,
        "reasons": list(reasons),
    }


def result(t: float, kind: str, rate: float) -> Line:
    return {"t_s": round(t, 3), "sentinel": kind, _unit(kind): rate}


def scaled(lines: list[Line], factor: float, *kinds: str, start: float = 0, end: float = 1e9) -> list[Line]:
    """The sentinels' rates of these kinds (all where none is named) times `factor` from `start` to `end`."""

    def change(line: Line) -> Line:
        kind = line.get("sentinel")
        if kind is None or (kinds and kind not in kinds) or not start <= line["t_s"] < end:
            return line
        return {**line, _unit(kind): line[_unit(kind)] * factor}

    return [change(line) for line in lines]


def saying(lines: list[Line], start: float = 0, end: float = 1e9, **fields: Any) -> list[Line]:
    """The samples from `start` to `end` with these fields; a function gets the moment."""

    def value(field: Any, t: float) -> Any:
        return field(t) if isinstance(field, Callable) else field  # type: ignore[arg-type]

    return [
        {**line, **{name: value(field, line["t_s"]) for name, field in fields.items()}}
        if "sentinel" not in line and start <= line["t_s"] < end
        else line
        for line in lines
    ]


def without(lines: list[Line], *fields: str) -> list[Line]:
    """As NVML tells it that does not support these fields."""
    return [{name: value for name, value in line.items() if name not in fields} for line in lines]


def cut(lines: list[Line], start: float, end: float) -> list[Line]:
    """With nothing recorded between two moments."""
    return [line for line in lines if not start < line["t_s"] < end]


def stalled(seconds: float, at: Iterable[float], length: float = 25, **how: Any) -> list[Line]:
    """Work nearly stops for `length` seconds at these moments, while NVML says that the GPU is busy."""
    lines = healthy(seconds, **how)
    for start in at:
        lines = scaled(lines, 0.05, start=start, end=start + length)
    return lines


def written(folder: Path, lines: list[Line], host: str = "unit1") -> Path:
    path = folder / f"telemetry-{host}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read(folder: Path, lines: list[Line], host: str = "unit1") -> Sampling:
    return read_sampling(written(folder, lines, host), host)


def _unit(kind: str) -> str:
    return "tflop_per_s" if kind == "matmul" else "gb_per_s"
