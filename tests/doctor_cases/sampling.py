"""Recorded samplings: what NVML says under load, and the sentinels' results between."""

from __future__ import annotations

from collections.abc import Callable, Iterable
import json
from typing import Any

Line = dict[str, Any]


def samples(seconds: float, step: float = 1.0, **changes: object) -> list[Line]:
    """A healthy GB10 under a memory-bound load; a change may be a value, a function of time, None for unsupported."""
    base: dict[str, object] = {
        "utilization_pct": 96.0,
        "sm_clock_mhz": lambda t: 2411.0 + 6 * (int(t) % 3),
        "power_w": lambda t: 61.5 + int(t) % 4,
        "temperature_c": lambda t: min(48.0 + t / 10, 71.0),
        "p_state": "P0",
        "reasons": (),
    }
    found = []
    for index in range(int(seconds / step) + 1):
        t = index * step
        line: Line = {"t_s": round(t, 3)}
        for name, value in (base | changes).items():
            value = value(t) if callable(value) else value
            if value is not None:
                line[name] = list(value) if isinstance(value, tuple) else value
        found.append(line)
    return found


def sentinels(
    seconds: float,
    every: float = 10.0,
    gemv: float | Callable[[float], float] | None = 223.0,
    copy: float | Callable[[float], float] | None = 221.0,
    matmul: float | Callable[[float], float] | None = 84.0,
) -> list[Line]:
    """One result of each kind in turn every `every` seconds, with a spread of one percent."""
    found = []
    for index in range(int(seconds / every) + 1):
        t = index * every
        for offset, (kind, rate) in enumerate((("gemv", gemv), ("copy", copy), ("matmul", matmul))):
            if rate is not None:
                value = (rate(t) if callable(rate) else rate) * (1 + 0.005 * (index % 3 - 1))
                unit = "tflop_per_s" if kind == "matmul" else "gb_per_s"
                found.append({"t_s": round(t + offset * 0.3, 3), "sentinel": kind, unit: round(value, 2)})
    return found


def jsonl(*parts: Iterable[Line]) -> str:
    """In order of time, as a recorder appends."""
    lines = sorted((line for part in parts for line in part), key=lambda line: float(line["t_s"]))
    return "".join(json.dumps(line) + "\n" for line in lines)


def healthy(seconds: float = 120.0, **changes: object) -> str:
    return jsonl(samples(seconds, **changes), sentinels(seconds))
