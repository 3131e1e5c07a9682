"""Several machines' profiles as one profile of the cluster that they form.

The machines have to be alike: one figure of a cluster of unlike ones would be none of its machines'. Where like ones
disagree, what a job over all of them can count on stands, and each machine's own value is named as a conflict:

    ceilings, kernels   the slowest machine's, whom the others wait for; readings that were disturbed only where there
                        is no other. Machines whose 95 % intervals meet do not disagree.
    collectives         once where every machine measured the same, median times within 10 % at every common size;
                        else the slower one
    tuned               the default, unless every machine that tuned the shape came to the same configuration
    nccl                the latest
    unknown keys        the first machine's

What only some of the machines measured is taken as it is. Host names need not be unique: the second `spark` is spark#2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import fsum
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from roofprobe.errors import BadInput
from roofprobe.measurement import Environment
from roofprobe.nccl_tuning import NcclTuning
from roofprobe.profile_figures import CeilingFigure, CollectiveResult, Conflict, KernelFigure
from roofprobe.tuned import TunedKernel

if TYPE_CHECKING:
    from roofprobe.profile import TuningProfile

ALIKE = 0.10
"""Medians of one collective differ by so much between repeats on a shared machine."""

EntryT = TypeVar("EntryT")
FigureT = TypeVar("FigureT", CeilingFigure, KernelFigure)
Named = list[tuple[str, EntryT]]
"""(machine, its entry) for one thing that several may have measured."""


def merged(profiles: Sequence[TuningProfile]) -> TuningProfile:
    """By this module's rules. Raises BadInput where two machines are not alike, naming the field and both values."""
    names = _names(profiles)
    _require_alike([(name, profile.environment) for name, profile in zip(names, profiles)])
    conflicts = [conflict for profile in profiles for conflict in profile.conflicts]

    def collected(
        read: Callable[[TuningProfile], Sequence[EntryT]],
        place: Callable[[EntryT], tuple[Any, ...]],
        choose: Callable[[Named[EntryT]], tuple[EntryT, Conflict | None]],
    ) -> tuple[EntryT, ...]:
        by_place: dict[tuple[Any, ...], Named[EntryT]] = {}
        for name, profile in zip(names, profiles):
            for entry in read(profile):
                by_place.setdefault(place(entry), []).append((name, entry))
        chosen = [choose(entries) for entries in by_place.values()]
        conflicts.extend(conflict for _, conflict in chosen if conflict is not None)
        return tuple(entry for entry, _ in chosen)

    ceilings: dict[Any, dict[Any, CeilingFigure]] = {}
    for side, op in dict.fromkeys((side, op) for p in profiles for side, ops in p.ceilings.items() for op in ops):
        having = [(name, p.ceilings[side][op]) for name, p in zip(names, profiles) if op in p.ceilings.get(side, {})]
        figure, conflict = _slowest(f"ceilings.{side}.{op}.gb_per_s", having)
        ceilings.setdefault(side, {})[op] = figure
        conflicts += [] if conflict is None else [conflict]
    unknown: dict[str, Any] = {}
    for key in dict.fromkeys(key for profile in profiles for key in profile.unknown):
        held = {name: p.unknown[key] for name, p in zip(names, profiles) if key in p.unknown}
        owner, unknown[key] = next(iter(held.items()))
        if any(value != unknown[key] for value in held.values()):
            conflicts.append(Conflict(field=f"unknown keys: {key}", values=held, kept=f"{owner}'s, the first"))
    first = profiles[0]
    return msgspec.structs.replace(
        first,
        created=max(profile.created for profile in profiles),
        ceilings=ceilings,
        kernels=collected(lambda p: p.kernels, _kernel_place, _slowest_kernel),
        collectives=collected(lambda p: p.collectives, _collective_place, _collective),
        tuned=collected(lambda p: p.tuned, lambda t: (*t.place, t.backend), _tuned),
        nccl=collected(lambda p: p.nccl, lambda t: (t.world_size, t.transport), _nccl),
        hosts=tuple(host for profile in profiles for host in profile.hosts or (profile.environment,)),
        conflicts=tuple(conflicts),
        unknown=unknown,
    )


def _names(profiles: Sequence[TuningProfile]) -> list[str]:
    names: list[str] = []
    for profile in profiles:
        name = "+".join(host.host for host in profile.hosts or (profile.environment,))
        names.append(name if name not in names else f"{name}#{1 + sum(n.split('#')[0] == name for n in names)}")
    return names


def _require_alike(machines: Named[Environment]) -> None:
    (first, there), *others = machines
    for name, here in others:
        for field in ("platform", "architecture", "cpu_model", "devices"):
            one, two = ([d.name for d in m.devices] if field == "devices" else getattr(m, field) for m in (there, here))
            if one != two:
                raise BadInput(
                    f"environment.{field}: {first} has {one!r}, {name} has {two!r};"
                    " a cluster's profile is of like machines: keep one for each kind"
                )


def _slowest(field: str, having: Named[FigureT]) -> tuple[FigureT, Conflict | None]:
    sound = [figure for _, figure in having if not figure.contended] or [figure for _, figure in having]
    slowest = min(sound, key=lambda figure: figure.gb_per_s)
    if all(_meet(one, two) for (_, one), (_, two) in combinations(having, 2)):
        return slowest, None
    values = {name: figure.gb_per_s for name, figure in having}
    kept = f"{slowest.gb_per_s:.4g} GB/s, the slowest machine's, whom the others wait for"
    return slowest, Conflict(field=field, values=values, kept=kept)


def _meet(one: FigureT, two: FigureT) -> bool:
    (low, high), (other_low, other_high) = (f.interval or (f.gb_per_s, f.gb_per_s) for f in (one, two))
    return low <= other_high and other_low <= high


def _kernel_place(kernel: KernelFigure) -> tuple[Any, ...]:
    k = kernel
    return k.op, k.format, k.n, k.k, k.batch, k.experts, k.top_k, k.side, k.backend


def _slowest_kernel(having: Named[KernelFigure]) -> tuple[KernelFigure, Conflict | None]:
    k = having[0][1]
    return _slowest(f"kernels: {k.side} {k.op} {k.format} {k.n}x{k.k} b{k.batch}: gb_per_s", having)


def _collective_place(c: CollectiveResult) -> tuple[Any, ...]:
    return c.op, c.world_size, c.backend, c.transport, c.dtype


def _collective(having: Named[CollectiveResult]) -> tuple[CollectiveResult, Conflict | None]:
    (_, first), *others = having
    times = [(name, c, {point.bytes: point.seconds for point in c.points}) for name, c in having]
    common = sorted(set.intersection(*(set(seconds) for _, _, seconds in times)))
    if all(c == first for _, c in others):
        return first, None
    spread = {n: max(s[n] for *_, s in times) / min(s[n] for *_, s in times) for n in common}
    slowest = max(times, key=lambda entry: fsum(entry[2][n] / times[0][2][n] for n in common))
    if common and max(spread.values()) <= 1 + ALIKE:
        return first, None
    at = max(common, key=lambda n: spread[n], default=None)
    field = f"collectives: {first.op}, {first.world_size} ranks, {first.transport}"
    if at is None:
        values: dict[str, Any] = {name: [point.bytes for point in c.points] for name, c in having}
        return first, Conflict(field=f"{field}: sizes", values=values, kept="the first, for want of a common size")
    return slowest[1], Conflict(
        field=f"{field}: seconds at {at} bytes",
        values={name: seconds[at] for name, _, seconds in times},
        kept=f"{slowest[0]}'s, the slower over all sizes",
    )


def _tuned(having: Named[TunedKernel]) -> tuple[TunedKernel, Conflict | None]:
    name, t = having[0]
    found = {name: None if entry.keep_default else entry.config for name, entry in having}
    if all(config == found[name] for config in found.values()):
        return t, None
    shape = f"{t.side} {t.op} {t.format} {t.n}" + ("" if t.k is None else f"x{t.k} b{t.batch}")
    conflict = Conflict(field=f"tuned: {shape}: config", values=found, kept="the default, since they do not agree")
    return msgspec.structs.replace(t, keep_default=True), conflict


def _nccl(having: Named[NcclTuning]) -> tuple[NcclTuning, Conflict | None]:
    name, latest = max(having, key=lambda entry: entry[1].created)
    if all((t.everywhere, t.bands) == (latest.everywhere, latest.bands) for _, t in having):
        return latest, None
    values = {name: "the defaults" if t.everywhere is None else str(t.everywhere) for name, t in having}
    field = f"nccl: {latest.world_size} ranks, {latest.transport}: settings"
    return latest, Conflict(field=field, values=values, kept=f"{name}'s, the latest ({latest.created})")
