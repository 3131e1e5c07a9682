"""All the collectives, in nccl-tests' order of use, and how to find one by name."""

from __future__ import annotations

from roofprobe.collectives.all_gather import ALL_GATHER
from roofprobe.collectives.all_reduce import ALL_REDUCE
from roofprobe.collectives.all_to_all import ALL_TO_ALL
from roofprobe.collectives.broadcast import BROADCAST
from roofprobe.collectives.collective import Collective
from roofprobe.collectives.reduce import REDUCE
from roofprobe.collectives.reduce_scatter import REDUCE_SCATTER
from roofprobe.collectives.sendrecv import SENDRECV
from roofprobe.errors import BadInput

EVERY = (ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, BROADCAST, REDUCE, ALL_TO_ALL, SENDRECV)

_OTHER_NAMES = {"alltoall": "all_to_all", "send_recv": "sendrecv"}


def find_collectives(names: str) -> tuple[Collective, ...]:
    """``all``, or names separated by commas. Raises BadInput for a name that none has or that comes twice."""
    if names == "all":
        return EVERY
    by_name = {collective.name: collective for collective in EVERY}
    found: list[Collective] = []
    for given in names.split(","):
        name = given.strip().lower().replace("-", "_")
        collective = by_name.get(_OTHER_NAMES.get(name, name))
        if collective is None:
            raise BadInput(f"no such collective: '{given}'; expected all, or some of {', '.join(by_name)}")
        if collective in found:
            raise BadInput(f"--collective has {collective.name} twice; name it once")
        found.append(collective)
    return tuple(found)
