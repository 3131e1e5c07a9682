"""Nominal ceilings: what a machine's memory could move at best, each figure with the place where it was read.

A platform file (data/platforms/*.toml) says how to recognise a machine, what its memory and link are, and what an
acceptance asks of it (`acceptance.limits`; `platform_file` reads it). A machine that none of them matches has no
nominal ceiling: its rows then show the ceiling measured in the same run and nothing else.
The peak is never computed from a clock attribute: on GB10 that arithmetic gives twice the truth.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from roofprobe.acceptance.limits import CHECKS, Amount, CheckLimit, Limit, Source
from roofprobe.errors import BadInput
from roofprobe.measurement import Side
from roofprobe.platform_file import convert, read_tables

PLATFORM_FOLDER = Path(__file__).parent / "data" / "platforms"
Topology = Literal["cable", "ring", "switch"]
"""How the nodes of a cluster are joined; those that need less to be bought come first."""


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A number and where it was read."""

    value: Amount
    source: Source


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a machine is recognised: the GPU's name, and the product name of its firmware where several share a GPU."""

    gpu: tuple[str, ...] = ()
    """Empty for what CUDA never reports."""
    product: tuple[str, ...] = ()


class Memory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The memory that the GPU reads, and the CPU too where it is unified."""

    name: str
    unified: bool
    nominal_gb_per_s: Figure | None = None
    """None where nothing is known of it: then readings are held against each other only."""
    usable_gib: Figure | None = None


class Link(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A port that joins units to a cluster."""

    port_gbit_per_s: Figure
    """The port as a whole; on GB10 two halves share it."""
    halves: Annotated[int, Meta(ge=1, le=8)] = 1
    """PCI functions of one port, each with a network interface and an RDMA device of its own."""


class Platform(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of machine, or of several joined to a cluster."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
    title: Annotated[str, Meta(min_length=1, max_length=200)]
    match: Match
    memory: Memory
    link: Link | None = None
    base: str | None = None
    """The platform whose file this one's was laid over."""
    nodes: Annotated[int, Meta(ge=1, le=64)] = 1
    topology: Topology | None = None
    checks: dict[str, CheckLimit] = {}
    """By their names in `acceptance.limits.CHECKS`."""

    @property
    def is_gb10(self) -> bool:
        """Whether its GPU is GB10's, whoever made the box."""
        return "NVIDIA GB10" in self.match.gpu

    def has_product(self, product: str) -> bool:
        """Whether a firmware's product name holds one of this platform's.

        Makers write the same name with spaces, underscores or neither, so only letters and digits are compared.
        """
        return any(_letters(name) in _letters(product) for name in self.match.product)

    def nominal_gb_per_s(self, side: Side) -> float | None:
        """The ceiling of one side: the host has the device's only where they share the memory."""
        if side == "host" and not self.memory.unified:
            return None
        return None if self.memory.nominal_gb_per_s is None else self.memory.nominal_gb_per_s.value


def load_platform(path: Path) -> Platform:
    """Reads one platform file. Raises BadInput naming the file, the field, what was expected and what was found."""
    platform = convert(path, read_tables(path, PLATFORM_FOLDER), Platform)
    for name, check in platform.checks.items():
        _check_limits(f"{path}: checks.{name}", platform, name, check)
    return platform


def _check_limits(where: str, platform: Platform, name: str, check: CheckLimit) -> None:
    """Raises BadInput for limits that no reading can meet, or whose ceiling this platform does not have."""
    limits = (check.at_least, check.at_most, check.suspect_above)
    of_nominal = any(limit is not None and limit.of == "nominal" for limit in limits)
    nominal = platform.nominal_gb_per_s("device" if name.startswith("gpu-") else "host")
    if of_nominal and platform.memory.nominal_gb_per_s is None:
        raise BadInput(f"{where}: a fraction of nominal, but memory.nominal_gb_per_s is not given")
    if of_nominal and nominal is None:
        raise BadInput(f"{where}: a fraction of nominal, which is the GPU's: memory.unified is false; expected a value")
    ceiling = nominal if "nominal" in CHECKS[name].ceilings else None
    least, most, suspect = (_known(limit, nominal) for limit in limits)
    for above, bound in (("at_most", most), ("suspect_above", suspect), ("the nominal ceiling", ceiling)):
        if least is not None and bound is not None and least > bound:
            raise BadInput(
                f"{where}.at_least: found {least:g}; expected at most {above}, {bound:g}: nothing could pass"
            )


def _known(limit: Limit | None, nominal: float | None) -> float | None:
    """A limit in the check's unit, as far as that is known before anything is measured."""
    if limit is None or limit.fraction is None:
        return None if limit is None else limit.value
    return limit.fraction * nominal if limit.of == "nominal" and nominal is not None else None


@cache
def platforms() -> tuple[Platform, ...]:
    """Every platform file that ships with roofprobe."""
    return tuple(load_platform(path) for path in sorted(PLATFORM_FOLDER.glob("*.toml")))


def find_platform(gpu: str | None, product: str | None) -> Platform | None:
    """The platform with this GPU; where several share it, the one whose product name is part of this machine's.

    A GB10 of an unknown make still has GB10's memory: the platform without a product list stands for it.
    """
    with_gpu = [p for p in platforms() if p.nodes == 1 and gpu is not None and gpu in p.match.gpu]
    by_product = [p for p in with_gpu if p.has_product(product or "")]
    return next(iter(by_product or [p for p in with_gpu if not p.match.product]), None)


def product_platform(product: str) -> Platform | None:
    """The platform whose own name, title or product name `product` holds, where nothing tells the GPU."""
    found = _letters(product)
    exact = (p for p in platforms() if found and found in (_letters(p.name), _letters(p.title)))
    held = (p for p in platforms() if p.nodes == 1 and p.has_product(product))
    return next(exact, None) or next(held, None)


def choose_platform(text: str) -> Platform:
    """A platform by its name, or of a file of one's own. Raises BadInput naming what there is."""
    named = next((p for p in platforms() if p.name == text), None)
    if named is not None:
        return named
    names = [p.name for p in platforms()]
    if not text.endswith(".toml"):
        raise BadInput(f"no platform '{text}'; there are {', '.join(names)}, and FILE.toml for one of your own")
    own = load_platform(Path(text))
    if own.name in names:
        raise BadInput(f"{text}: name: found '{own.name}', which is a shipped platform's; expected one of its own")
    return own


def for_nodes(platform: Platform, nodes: int) -> Platform:
    """What `nodes` units of this platform make: the cluster's own platform, or, where none fits and this one has checks
    of a link itself, this one. Of several clusters the one that needs least: a cable, then a ring, then a switch. Units
    of a file of one's own keep its checks, and take those of the link that it does not have from the cluster.

    Raises BadInput naming the clusters that there are.
    """
    if platform.nodes == nodes:
        return platform
    family = platform.base or platform.name
    order = get_args(Topology)
    clusters = [p for p in platforms() if p.nodes > 1 and family in (p.base, p.name)]
    fitting = sorted((p for p in clusters if p.nodes == nodes), key=lambda p: order.index(p.topology or order[-1]))
    if platform.nodes == 1 and fitting:
        return fitting[0] if platform in platforms() else _joined(platform, fitting[0])
    if platform.nodes == 1 and any(CHECKS[name].cluster for name in platform.checks):
        return msgspec.structs.replace(platform, nodes=nodes)
    there = ", ".join(f"{p.name} ({p.nodes})" for p in clusters) or "none for this platform"
    raise BadInput(
        f"--nodes {nodes} does not go with platform {platform.name}; clusters: {there}, or a file of your own"
    )


def _joined(unit: Platform, cluster: Platform) -> Platform:
    link = {name: check for name, check in cluster.checks.items() if CHECKS[name].cluster}
    return msgspec.structs.replace(unit, nodes=cluster.nodes, topology=cluster.topology, checks={**link, **unit.checks})


def _letters(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())
