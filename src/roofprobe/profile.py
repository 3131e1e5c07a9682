"""The tuning profile: what a machine was measured to do, as one JSON document that other software can rely on.

Built from a run's records; every figure is defined in `roofprobe.measurement`. Readings that are invalid (a wrong
result, a busy machine, more than the memory can do) are in the records, never here.
"""

from __future__ import annotations

from pathlib import Path
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from roofprobe.alpha_beta import Segment
from roofprobe.errors import BadInput
from roofprobe.files import write_whole
from roofprobe.latency_record import LatencyMode
from roofprobe.measurement import CollectiveMeasurement, Environment, Measurement, Run
from roofprobe.nccl_tuning import NcclTuning
from roofprobe.robust import median
from roofprobe.tuned import ConfigFields, TunedKernel, nearest

SCHEMA = "roofprobe/profile/1"

Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Side = Literal["device", "host"]
StreamOp = Literal["read", "copy", "write", "triad"]
KernelOp = Literal["gemv", "grouped_gemv", "dequant"]


class CeilingFigure(msgspec.Struct, frozen=True, kw_only=True):
    """What one side's memory was measured to do in one of STREAM's patterns."""

    gb_per_s: Positive
    """Useful bytes over the median time, 1e9 bytes a second."""
    best_gb_per_s: Positive
    nominal_gb_per_s: Positive | None
    """The platform's; null for an unknown machine."""
    interval: tuple[Positive, Positive] | None
    """95 % interval of `gb_per_s`, low first; null where there were too few samples."""
    contended: bool = False
    """Whether other work on the machine disturbed nearly every sample: a floor then, not a ceiling."""


class KernelFigure(msgspec.Struct, frozen=True, kw_only=True):
    """One kernel at one shape, y[N] = W[N, K] x[K] for a GEMV, [N, K] for a dequantization.

    A grouped GEMV's shape is one expert's; each of `batch` tokens takes `top_k` of the layer's `experts`.
    """

    op: KernelOp
    format: str
    n: Count
    k: Count
    batch: Count
    experts: Count | None = None
    top_k: Count | None = None
    side: Side
    backend: str
    config: dict[str, Any]
    seconds: Positive
    """Median time of one call."""
    bytes: Count
    """Algorithmic bytes: weights, scales, inputs and outputs, each once."""
    gb_per_s: Positive
    interval: tuple[Positive, Positive] | None
    ceiling_fraction: Positive | None
    """Paired median ratio against the read (gemv) or copy (dequant) ceiling measured in the same run."""
    verified: bool
    """Whether every element of the timed output was checked and right."""
    contended: bool = False


class CollectiveFigure(msgspec.Struct, frozen=True, kw_only=True):
    """One message size. torch reduces and broadcasts in place: out of place, it is a copy and the collective."""

    bytes: Count
    seconds: Positive
    """Median time of the collective alone: in place where it has that form. What the fit is made from."""
    out_of_place_seconds: Positive
    busbw_gb_per_s: Annotated[float, Meta(ge=0)]
    """0 in a group of one, where nothing crosses a wire."""
    wrong: int | None


class LatencyFigure(msgspec.Struct, frozen=True, kw_only=True):
    """The median time of one message size, every sample of which began with all ranks ready."""

    bytes: Count
    mode: LatencyMode
    p50_us: Positive


class CollectiveResult(msgspec.Struct, frozen=True, kw_only=True):
    """One collective over one group of ranks, with its fit T(S) = alpha + bus bytes(S) / beta."""

    op: str
    world_size: Count
    backend: str
    transport: str
    dtype: str
    fit: tuple[Segment, ...]
    points: tuple[CollectiveFigure, ...]
    latency: tuple[LatencyFigure, ...] = ()
    """Of small messages, by mode; empty where it was not asked for."""


class TuningProfile(msgspec.Struct, frozen=True, kw_only=True):
    """Ceilings, kernels and collectives of one machine."""

    schema: str
    created: str
    environment: Environment
    ceilings: dict[Side, dict[StreamOp, CeilingFigure]]
    kernels: tuple[KernelFigure, ...]
    collectives: tuple[CollectiveResult, ...]
    tuned: tuple[TunedKernel, ...] = ()
    """What `roofprobe tune` found; a profile without it is as valid."""
    nccl: tuple[NcclTuning, ...] = ()
    """What `roofprobe tune --nccl` found, one entry a world size and transport."""

    def kernel_config(
        self,
        op: str,
        format: str,  # noqa: A002 - as records call it
        n: int,
        k: int | None = None,
        batch: int = 1,
        *,
        side: Side = "device",
    ) -> ConfigFields | None:
        """What to pass as a kernel's ``config`` for W[N, K]: ``gemv(w, x, config=profile.kernel_config(...))``.

        op: ``gemv``, ``grouped_gemv`` (one expert's n and k, ``batch`` tokens), ``dequant`` (``batch`` 1), ``read``,
        ``copy``, ``write`` or ``triad`` (``format`` float32, no k).
        None, which means the kernel's own default, where nothing was tuned or the default was not clearly beaten. A
        shape that was not tuned takes the nearest one's, by the rule of `roofprobe.tuned`. Plain data: the kernel
        makes its dataclass of it, and raises ValueError for a field or value that it does not know.
        """
        found = nearest(self.tuned, op, format, n, k, batch, side)
        return None if found is None or found.keep_default else dict(found.config)

    @classmethod
    def load(cls, path: str | Path) -> TuningProfile:
        """Reads and validates a profile.

        Raises BadInput naming the file, the field, what was expected and what was found, for a file that is missing,
        malformed, truncated or of a newer schema.
        """
        path = Path(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise BadInput(f"can't read profile {path}: {error.strerror}; `roofprobe run` makes one") from None
        try:
            schema = msgspec.json.decode(data, type=_SchemaOnly).schema
            if schema != SCHEMA:
                raise BadInput(f"{path}: schema: expected {SCHEMA}, got {schema}; {_advice(schema)}")
            return msgspec.json.decode(data, type=cls)
        except msgspec.ValidationError as error:
            raise BadInput(f"{path}: {_field_first(str(error))}") from None
        except msgspec.DecodeError as error:
            raise BadInput(f"{path}: not a whole JSON document ({error}); measure again with `roofprobe run`") from None
        except UnicodeDecodeError:
            raise BadInput(f"{path}: not UTF-8 text; is this a profile?") from None

    def save(self, path: str | Path) -> None:
        """Writes the profile whole or not at all."""
        write_whole(Path(path), msgspec.json.format(msgspec.json.encode(self)) + b"\n")


class _SchemaOnly(msgspec.Struct):
    schema: str


def _advice(schema: str) -> str:
    name, _, number = schema.rpartition("/")
    if name == "roofprobe/profile" and number.isdigit() and int(number) > int(SCHEMA.rpartition("/")[2]):
        return "a newer roofprobe wrote it: upgrade this one"
    return "is this a roofprobe profile?"


def _field_first(message: str) -> str:
    """msgspec's ``Expected `int`, got `str` - at `$.a.b``` as ``a.b: expected `int`, got `str```."""
    text, _, where = message.partition(" - at ")
    missing = re.fullmatch(r"Object missing required field `(\w+)`", text)
    if missing:
        field = f"{where.strip('`')}.{missing[1]}"
        return f"{field.removeprefix('$').removeprefix('.')}: expected this field, got none"
    field = where.strip("`").removeprefix("$").removeprefix(".")
    return f"{field or 'document'}: {text[:1].lower()}{text[1:]}"


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of profile.json."""
    schema = msgspec.json.schema(TuningProfile)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": SCHEMA, **schema}


def build_profile(run: Run) -> TuningProfile:
    """The profile that a run's records support, invalid readings left out.

    Of two memory rows with the same side and pattern the faster median stands: that is what a ceiling means.
    """
    valid = [m for m in run.measurements if m.invalid is None]
    ceilings: dict[Side, dict[StreamOp, CeilingFigure]] = {}
    for measurement in sorted((m for m in valid if m.probe == "memory"), key=lambda m: m.gb_per_s):
        op = msgspec.convert(measurement.op, StreamOp)
        ceilings.setdefault(measurement.side, {})[op] = _ceiling(measurement)
    return TuningProfile(
        schema=SCHEMA,
        created=run.environment.created,
        environment=run.environment,
        ceilings=ceilings,
        kernels=tuple(_kernel(m) for m in valid if m.probe != "memory" and m.residency == "cold" and not m.is_baseline),
        collectives=tuple(_collective(c) for c in run.collectives),
    )


def _ceiling(m: Measurement) -> CeilingFigure:
    return CeilingFigure(
        gb_per_s=m.gb_per_s,
        best_gb_per_s=m.best_gb_per_s,
        nominal_gb_per_s=m.nominal_gb_per_s,
        interval=m.interval,
        contended=m.timing.contended,
    )


def _kernel(m: Measurement) -> KernelFigure:
    assert m.k is not None
    return KernelFigure(
        op=msgspec.convert(m.op, KernelOp),
        format=m.format,
        n=m.n,
        k=m.k,
        batch=m.batch or 1,
        experts=m.experts,
        top_k=m.top_k,
        side=m.side,
        backend=m.backend,
        config=m.config,
        seconds=m.seconds,
        bytes=m.useful_bytes,
        gb_per_s=m.gb_per_s,
        interval=m.interval,
        ceiling_fraction=m.ceiling_fraction,
        verified=m.verified,
        contended=m.timing.contended,
    )


def _collective(c: CollectiveMeasurement) -> CollectiveResult:
    points = []
    for point in c.points:
        seconds = median(point.alone_seconds)
        points.append(
            CollectiveFigure(
                bytes=point.bytes,
                seconds=seconds,
                out_of_place_seconds=median(point.out_of_place_seconds),
                busbw_gb_per_s=point.bytes * c.bus_factor / seconds / 1e9,
                wrong=point.wrong,
            )
        )
    return CollectiveResult(
        op=c.op,
        world_size=c.world_size,
        backend=c.backend,
        transport=c.transport,
        dtype=c.dtype,
        fit=c.fit,
        points=tuple(points),
        latency=tuple(
            LatencyFigure(bytes=point.bytes, mode=point.mode, p50_us=p50)
            for point in c.latency
            if not point.wrong and (p50 := point.percentile(50.0)) is not None
        ),
    )
