"""What of an all-reduce's latency is measured: the sizes of decoding, how many samples of each, and for how long.

The sizes are the band in which decoding's messages lie, and the very ones of the models in the catalogue. A
tensor-parallel layer all-reduces the hidden state of every sequence in the batch, in 16 bits:

    bytes = batch * hidden * 2, twice a layer
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import ceil

from roofprobe.latency_record import LatencyMode
from roofprobe.models import models

BAND = tuple(1024 << i for i in range(9))
"""1 KiB to 256 KiB."""
BATCHES = (1, 4)
"""One person's stream, and a few at once."""
BYTES_PER_ELEMENT = 2
QUICK_SIZES = (5760, 16384, 65536)
"""For a look: the messages of gpt-oss and of Llama 3.1 70B for one sequence, and of the latter for four."""
BATCHED = 10
"""A sample of many operations stands for ten samples of one: a tenth as many are taken."""
SECONDS_A_SAMPLE = 5e-4
"""Without a time limit every mode but `isolated` ends after so long a sample: on a CPU, a load that takes the cores
from the ranks makes each operation cost several of the scheduler's turns."""
SHARES: dict[LatencyMode, float] = {"pipelined": 1, "isolated": 4, "chain": 1, "graph": 1, "loaded": 2}
"""How a time limit is shared among the modes."""


@dataclass(frozen=True)
class Limits:
    """When to stop: at so many samples, or when rank 0's clock has passed so many seconds. One is always taken."""

    samples: int
    seconds: float | None = None


@dataclass(frozen=True)
class LatencyPlan:
    """What is asked for."""

    sizes: tuple[int, ...]
    """Message bytes; one that is no whole number of elements is rounded down."""
    samples: int
    """Of one operation a size."""
    seconds: float | None = None
    """The most time for all sizes; samples are then cut to fit, and every point says how many it has."""

    def limits(self, mode: LatencyMode, operations: int) -> Limits:
        """Where a mode of so many operations a sample stops at one size."""
        samples = self.samples if operations == 1 else ceil(self.samples / BATCHED)
        if self.seconds is not None:
            return Limits(samples, self.seconds * SHARES[mode] / (len(self.sizes) * sum(SHARES.values())))
        return Limits(samples, None if mode == "isolated" else SECONDS_A_SAMPLE * self.samples)


@cache
def model_sizes() -> dict[int, str]:
    """Message bytes -> the models that send them, in words."""
    names: dict[int, list[str]] = {}
    for batch in BATCHES:
        for model in models():
            text = model.name if batch == 1 else f"{model.name} x{batch}"
            names.setdefault(batch * model.architecture.hidden * BYTES_PER_ELEMENT, []).append(text)
    return {n_bytes: ", ".join(found) for n_bytes, found in names.items()}


def decode_sizes() -> tuple[int, ...]:
    """The band and the models' sizes, each once, ascending."""
    return tuple(sorted({*BAND, *model_sizes()}))
