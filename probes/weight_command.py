"""What ``roofprobe gemv`` and ``dequant`` have in common: one side's rows for random weights or a checkpoint's."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from roofprobe.errors import run_command
from roofprobe.measurement import Measurement, Skipped
from roofprobe.probes.baselines import add_baselines_flag
from roofprobe.probes.command import add_flags, measure_sides
from roofprobe.probes.stored import add_checkpoint_flags, show_listing, stored_sources, wanted_from
from roofprobe.probes.weights import Source, add_shape_flags, random_sources, shapes_from, undivided

if TYPE_CHECKING:
    from roofprobe.probes.memory import StreamBuffers
    from roofprobe.probes.sides import MeasuredSide


class ProbeWeights(Protocol):
    """Measures every source on one side, each within `seconds`; with `baselines` other people's kernels too."""

    def __call__(
        self,
        side: MeasuredSide,
        buffers: StreamBuffers,
        sources: Sequence[Source],
        seconds: float,
        on_step: Callable[[str], None],
        on_result: Callable[[Measurement | Skipped], None],
        baselines: bool = False,
    ) -> None: ...


def add_weight_flags(top: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    """The flags of a probe of weights in these formats."""
    add_flags(top, seconds=10)
    add_shape_flags(top, formats)
    add_checkpoint_flags(top)
    add_baselines_flag(top, default=True)


def run_weights(
    name: str,
    top: argparse.ArgumentParser,
    arguments: argparse.Namespace,
    all_formats: Sequence[str],
    probe: ProbeWeights,
) -> int:
    """Runs the command on the weights that the flags name; returns the exit status."""
    formats = all_formats if arguments.format is None else (arguments.format,)
    batch = getattr(arguments, "batch", 1)
    wanted = wanted_from(top, arguments)
    shapes = () if wanted is not None else shapes_from(top, arguments)

    def command() -> int:
        if wanted is not None and wanted.list_only:
            return show_listing(wanted, arguments.json)
        sources = random_sources(shapes, formats) if wanted is None else stored_sources(wanted, formats, batch)
        return measure_sides(
            arguments,
            steps=len(sources),
            arrays=2,
            probe_side=lambda side, buffers, on_step, on_result: probe(
                side, buffers, sources, arguments.seconds, on_step, on_result, arguments.baselines
            ),
            skipped=undivided(name, shapes, formats),
        )

    return run_command(command, f"roofprobe {name}")
