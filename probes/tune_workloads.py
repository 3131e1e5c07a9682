"""What there is to tune on a side, and the operands that every configuration of it runs on.

Weights are laid out as the kernel probes lay them: in as many copies as outgrow the caches, or cut to the rows that
the memory at hand holds, which the entry in the profile then shows. The default writes to outputs of its own, so that
a check of a configuration's outputs sees what that configuration wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from roofprobe.measurement import IMPOSSIBLE_ABOVE
from roofprobe.probes.configs import config_record
from roofprobe.probes.memory import SCALAR
from roofprobe.probes.rotation import Rotation
from roofprobe.probes.sides import ROW_BYTES
from roofprobe.probes.tune_search import Subject, Trial
from roofprobe.probes.weights import Placement, Shape, place
from roofprobe.timing import HostStopwatch
from roofprobe.tuned import ConfigFields, TunedOp

if TYPE_CHECKING:
    import torch

    from roofprobe.probes.sides import MeasuredSide

BYTES_PER_OUTPUT = 2
"""bfloat16, in and out."""


@dataclass(frozen=True)
class Target:
    """One kernel at one shape on one side: what one entry of a profile is about."""

    op: TunedOp
    format: str
    n: int
    k: int | None
    batch: int
    side: MeasuredSide
    bytes: int
    subject: Subject
    experts: int | None = None
    top_k: int | None = None


@dataclass
class Operands:
    """Inputs in `copies` copies, and how a configuration runs on one of them and is checked."""

    op: str
    side: MeasuredSide
    copies: int
    poison: float
    make_output: Callable[[Any], torch.Tensor]
    run: Callable[[int, torch.Tensor, Any], object]
    """Copy, output and configuration."""
    count_wrong: Callable[[int, torch.Tensor], int]
    _outputs: dict[bool, list[torch.Tensor]] = field(default_factory=dict)

    def trial(self, config: ConfigFields, is_default: bool) -> Trial:
        """`config` over these operands. Raises ValueError for one that the kernel does not take."""
        from roofprobe.kernels.backend import config_for
        from roofprobe.kernels.search import config_class

        built = config_for(config, config_class(self.op, self.side.side))
        if is_default not in self._outputs or self.op == "read":  # how many partial sums follows from the configuration
            self._outputs[is_default] = [self.make_output(built) for _ in range(self.copies)]
        outputs = self._outputs[is_default]
        rotation = Rotation(lambda copy: self.run(copy, outputs[copy], built), outputs, self.poison)
        return Trial(
            launch=rotation.launch,
            poison=rotation.poison,
            count_wrong=lambda: sum(self.count_wrong(copy, outputs[copy]) for copy in rotation.written()),
            stopwatch=HostStopwatch(cpus=built.threads) if self.side.side == "host" else self.side.stopwatch,
        )


def weight_target(op: TunedOp, weight_format: str, shape: Shape, side: MeasuredSide, seconds: float) -> Target:
    """A GEMV, or a dequantization to bfloat16, of one weight; the batch of the latter is 1."""
    from roofprobe.kernels import search

    is_gemv = op == "gemv"
    at = place(shape, weight_format, side, bytes_per_output=0 if is_gemv else BYTES_PER_OUTPUT)
    stored = stored_bytes(weight_format, at.n, at.k)
    written = BYTES_PER_OUTPUT * (at.batch * (at.n + at.k) if is_gemv else at.n * at.k)
    if side.side == "host":
        space: Sequence[object] = search.host_space(op, stored if is_gemv else written)
    elif is_gemv:
        space = search.gemv_space(weight_format, at.n, at.k, at.batch, *gpu(side))
    else:
        space = search.dequant_space(at.n, at.k, *gpu(side))
    make = _gemv_operands if is_gemv else _dequant_operands
    name = f"{side.side} {op} {weight_format} {at.n}x{at.k}" + (f" b{at.batch}" if is_gemv else "")
    moved = stored + written
    tuned = subject(name, space, lambda seed: make(side, at, weight_format, seed), side, seconds, moved)
    return Target(op, weight_format, at.n, at.k, at.batch if is_gemv else 1, side, moved, tuned)


def stream_target(op: TunedOp, side: MeasuredSide, seconds: float) -> Target:
    """One memory pattern over arrays as large as the memory probe's, or as fit with a second output beside them."""
    from roofprobe.kernels import search
    from roofprobe.kernels.stream import ELEMENT_BYTES, STREAM_OPS

    counted = STREAM_OPS[op]
    arrays = counted.reads + 2 * counted.writes
    n_bytes = min(side.array_bytes, max(1, 3 * side.array_bytes // arrays // ROW_BYTES) * ROW_BYTES)
    n = n_bytes // ELEMENT_BYTES
    on_host = side.side == "host"
    space: Sequence[object] = search.host_space(op, n_bytes) if on_host else search.stream_space(op, n, gpu(side)[0])
    useful = counted.useful_bytes(n)
    name = f"{side.side} {op} float32 {n}"
    tuned = subject(name, space, lambda seed: _stream_operands(side, op, n, seed), side, seconds, useful)
    return Target(op, "float32", n, None, 1, side, useful, tuned)


def subject(
    name: str, space: Sequence[object], make: Callable[[int], Operands], side: MeasuredSide, seconds: float, moved: int
) -> Subject:
    """What is tuned, `moved` bytes with every launch."""
    cannot_run: tuple[type[Exception], ...] = (ValueError, RuntimeError)
    if side.side == "device":
        from triton.errors import TritonError

        cannot_run += (TritonError,)
    nominal = side.nominal_gb_per_s
    return Subject(
        name=name,
        space=[config_record(config) for config in space],
        open=make,
        limits=side.limits(seconds),
        margin=side.precision,
        fastest_seconds=0.0 if nominal is None else moved / (IMPOSSIBLE_ABOVE * nominal * 1e9),
        cannot_run=cannot_run,
    )


def gpu(side: MeasuredSide) -> tuple[int, str]:
    """Multiprocessors, and the decode mode."""
    from roofprobe.kernels.launch import device_mode, multiprocessors

    return multiprocessors(side.device), device_mode(side.device)


def stored_bytes(weight_format: str, n: int, k: int) -> int:
    """Of a weight that need not be there: one row's bytes, and those that each further row adds."""
    from roofprobe.kernels import formats

    one, two = (formats.stored_bytes(formats.random_weight(weight_format, rows, k, 0, "cpu")) for rows in (1, 2))
    return one + (n - 1) * (two - one)


def _gemv_operands(side: MeasuredSide, at: Placement, weight_format: str, seed: int) -> Operands:
    import torch

    from roofprobe.kernels.formats import random_weight
    from roofprobe.kernels.gemv import gemv
    from roofprobe.kernels.gemv_check import count_wrong

    generator = torch.Generator(device="cpu").manual_seed(seed)
    x = torch.randn(at.batch, at.k, generator=generator).to(torch.bfloat16).to(side.device)
    weights = [random_weight(weight_format, at.n, at.k, seed + i, side.device) for i in range(at.copies)]
    return Operands(
        op="gemv",
        side=side,
        copies=at.copies,
        poison=float("nan"),
        make_output=lambda _: torch.empty(at.batch, at.n, dtype=torch.bfloat16, device=side.device),
        run=lambda copy, out, config: gemv(weights[copy], x, out=out, config=config, backend=side.backend),
        count_wrong=lambda copy, out: count_wrong(weights[copy], x, out),
    )


def _dequant_operands(side: MeasuredSide, at: Placement, weight_format: str, seed: int) -> Operands:
    import torch

    from roofprobe.kernels.dequant import dequantize
    from roofprobe.kernels.dequant_check import count_wrong
    from roofprobe.kernels.formats import random_weight

    weights: list[Any] = [random_weight(weight_format, at.n, at.k, seed + i, side.device) for i in range(at.copies)]
    return Operands(
        op="dequant",
        side=side,
        copies=at.copies,
        poison=float("nan"),
        make_output=lambda _: torch.empty(at.n, at.k, dtype=torch.bfloat16, device=side.device),
        run=lambda copy, out, config: dequantize(weights[copy], out=out, config=config, backend=side.backend),
        count_wrong=lambda copy, out: count_wrong(weights[copy], out),
    )


def _stream_operands(side: MeasuredSide, op: str, n: int, seed: int) -> Operands:
    import torch

    from roofprobe.kernels import stream
    from roofprobe.kernels.stream_check import count_wrong

    def array() -> torch.Tensor:
        if side.side == "host":
            from roofprobe.kernels import host_memory

            return host_memory.allocate(stream.ELEMENT_BYTES * n).view(torch.float32)
        return torch.empty(n, dtype=torch.float32, device=side.device)

    backend = side.backend
    inputs = [stream.fill(array(), seed + i, backend=backend) for i in range(stream.STREAM_OPS[op].reads)]
    run: dict[str, Callable[[torch.Tensor, Any], object]] = {
        "read": lambda out, config: stream.read(inputs[0], out=out, config=config, backend=backend),
        "copy": lambda out, config: stream.copy(inputs[0], out=out, config=config, backend=backend),
        "write": lambda out, config: stream.write(out.view(torch.int32), seed, config=config, backend=backend),
        "triad": lambda out, config: stream.triad(
            inputs[0], inputs[1], SCALAR, out=out, config=config, backend=backend
        ),
    }
    seeds = [seed + i for i in range(len(inputs) or 1)]
    return Operands(
        op=op,
        side=side,
        copies=1,
        poison=-7.0,  # no value of a result, and an integer, as read's partial sums are
        make_output=lambda config: stream.read(inputs[0], config=config, backend=backend) if op == "read" else array(),
        run=lambda _, out, config: run[op](out, config),
        count_wrong=lambda _, out: count_wrong(op, out, n, seeds, SCALAR),
    )
