"""The tuning profile: what a machine was measured to do, as one JSON document that other software can rely on.

Built from a run's records; every figure is defined in `roofprobe.measurement`. Readings that are invalid (a wrong
result, a busy machine, more than the memory can do) are in the records, never here.
"""

from __future__ import annotations

from pathlib import Path
import re
from typing import Any

import msgspec

from roofprobe.all_reduce_time import message_seconds, preferred
from roofprobe.errors import BadInput
from roofprobe.files import write_whole
from roofprobe.measurement import CollectiveMeasurement, Environment, Measurement
from roofprobe.nccl_tuning import NcclTuning
from roofprobe.profile_figures import (
    STREAM_OPS,
    CeilingFigure,
    CollectiveFigure,
    CollectiveResult,
    Conflict,
    KernelFigure,
    KernelOp,
    LatencyFigure,
    Side,
    StreamOp,
)
from roofprobe.profile_merge import merged
from roofprobe.robust import median
from roofprobe.run_file import Run
from roofprobe.tuned import ConfigFields, TunedKernel, nearest
from roofprobe.unknown_keys import unknown_keys, with_unknown

SCHEMA = "roofprobe/profile/1"


class TuningProfile(msgspec.Struct, frozen=True, kw_only=True):
    """Ceilings, kernels and collectives of one machine, or of several like it that `merge` put together."""

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
    hosts: tuple[Environment, ...] = ()
    """Of a merged profile: every machine's, in the order given; `environment` is the first one's."""
    conflicts: tuple[Conflict, ...] = ()
    """Of a merged profile: where its machines disagree."""
    unknown: dict[str, Any] = {}
    """What a file held that this version does not know. Never a key of a file: `save` puts each back in its place."""

    def ceiling(self, kind: StreamOp, side: Side | None = None) -> float | None:
        """GB/s that memory was measured to do in one of STREAM's patterns, useful bytes over the median time.

        kind: ``read``, ``copy``, ``write`` or ``triad``. side: by default the GPU's where the profile has any ceiling
        of a GPU's, else the host's; one is never shown for the other. None where that was not measured. Raises
        ValueError for another kind.
        """
        if kind not in STREAM_OPS:
            raise ValueError(f"kind: expected {', '.join(STREAM_OPS)}, got {kind!r}")
        side = side or ("device" if self.ceilings.get("device") else "host")
        figure = self.ceilings.get(side, {}).get(kind)
        return None if figure is None else figure.gb_per_s

    def all_reduce_seconds(
        self,
        bytes: int,  # noqa: A002 - as records call it
        world_size: int,
        transport: str | None = None,
    ) -> float | None:
        """Seconds of one all-reduce of `bytes` over `world_size` ranks, alone and in place.

        At a size that was measured, its median; between and beyond, the fit's T(S), the outermost line continued;
        without a fit, the next larger size's time, and the largest one's rate above it. transport: a part of its
        text, such as ``NET/IB``; without, one between hosts stands before one on this host, then NCCL before others.
        None where no all-reduce of so many ranks (over that transport) was measured. Raises ValueError for bytes or
        ranks below 1.
        """
        if min(bytes, world_size) < 1:
            raise ValueError(f"expected at least 1 byte and 1 rank, got {bytes} bytes and {world_size} ranks")
        found = preferred(self.collectives, world_size, transport)
        return None if found is None else message_seconds(found, bytes)

    def merge(self, *others: TuningProfile) -> TuningProfile:
        """One profile of a cluster from those of its machines, as `roofprobe.profile_merge` says.

        ``first.merge(second)`` or ``TuningProfile.merge(first, second)``. Where machines disagree the cautious value
        stands and `conflicts` names the field and each machine's value. Raises BadInput naming field and values for
        machines that are not alike.
        """
        return merged((self, *others))

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
        malformed, truncated or of a newer schema. Keys that this version does not know are kept for `save`.
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
            document = msgspec.json.decode(data)
            profile = msgspec.convert({key: value for key, value in document.items() if key != "unknown"}, cls)
            return msgspec.structs.replace(profile, unknown=unknown_keys(document, profile._known()))
        except msgspec.ValidationError as error:
            raise BadInput(f"{path}: {_field_first(str(error))}") from None
        except msgspec.DecodeError as error:
            raise BadInput(f"{path}: not a whole JSON document ({error}); measure again with `roofprobe run`") from None
        except RecursionError:
            raise BadInput(f"{path}: nested far deeper than any profile; is this a roofprobe profile?") from None
        except UnicodeDecodeError:
            raise BadInput(f"{path}: not UTF-8 text; is this a profile?") from None

    def save(self, path: str | Path) -> None:
        """Writes the profile whole or not at all, with the keys that `load` found and this version does not know."""
        document = with_unknown(self._known(), self.unknown)
        write_whole(Path(path), msgspec.json.format(msgspec.json.encode(document)) + b"\n")

    def _known(self) -> dict[str, Any]:
        """As a file holds it, but for unknown keys."""
        document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        del document["unknown"]
        return document


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
    del schema["$defs"]["TuningProfile"]["properties"]["unknown"]
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
