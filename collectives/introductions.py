"""How ranks find each other: each writes down in a store who it is and with what it was called, and reads the others.

Two things come of it before any data moves: a rank that never comes is named, and so is one that was called with
another size or element type than rank 0. (gloo aborts an innocent rank then, or with two ranks gives wrong data.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
import secrets
from time import monotonic, sleep
from typing import TYPE_CHECKING

import msgspec

from roofprobe import __version__
from roofprobe.collectives.faults import who
from roofprobe.collectives.results import RankInfo
from roofprobe.environment import dotted, nccl_version
from roofprobe.errors import RoofprobeError

if TYPE_CHECKING:
    from torch.distributed import Store

POLL_SECONDS = 0.05
FAREWELL_SECONDS = 1.0


class Introduction(msgspec.Struct, frozen=True):
    """What a rank says of itself."""

    info: RankInfo
    port: int
    """Where it listens for the other ranks."""
    secret: str
    """Rank 0's is what they show it and each other."""
    call: dict[str, str]
    """What has to be the same on every rank, by name."""


def new_secret() -> str:
    return secrets.token_hex(16)


def versions() -> dict[str, str]:
    """Of the software that has to be the same on every rank."""
    import torch

    found = {"roofprobe": __version__, "torch": str(torch.__version__)}
    nccl = dotted(nccl_version())
    return found if nccl is None else found | {"NCCL": nccl}


def exchange(store: Store, mine: Introduction, world_size: int, timeout_seconds: float) -> tuple[Introduction, ...]:
    """Every rank's introduction, in order of rank. Raises RoofprobeError naming the ranks that did not come.

    What one rank found missing, the others hear from the store, since that may end with the rank that keeps it.
    """
    import torch.distributed as dist

    own = mine.info.rank
    store.set(_key(own), msgspec.json.encode(mine).decode())
    deadline = monotonic() + timeout_seconds
    missing = [rank for rank in range(world_size) if rank != own]
    try:
        while missing := [rank for rank in missing if not store.check([_key(rank)])]:
            if store.check(["fault"]):
                raise RoofprobeError(store.get("fault").decode())
            if monotonic() > deadline:
                fault = _absent(missing, world_size, f"within {timeout_seconds:g} s", mine.info)
                with suppress(dist.DistError):
                    store.set("fault", fault)
                    sleep(FAREWELL_SECONDS if own == 0 else 0.0)
                raise RoofprobeError(fault)
            sleep(POLL_SECONDS)
        return tuple(msgspec.json.decode(store.get(_key(rank)), type=Introduction) for rank in range(world_size))
    except dist.DistError:
        reason = "before rank 0, or the torchrun agent that keeps the store, ended"
        raise RoofprobeError(_absent(missing or [0], world_size, reason, mine.info)) from None


def require_same_call(introductions: Sequence[Introduction]) -> None:
    """Raises RoofprobeError naming the first rank that was called otherwise than rank 0, with both values."""
    first = introductions[0]
    for other in introductions[1:]:
        names = [name for name in {**first.call, **other.call} if first.call.get(name) != other.call.get(name)]
        if names:
            raise RoofprobeError(
                f"{who(other.info)} was called with {_values(other.call, names)}, {who(first.info)} with"
                f" {_values(first.call, names)} (seen in preflight); start every rank with the same arguments and"
                " versions"
            )


def _values(call: Mapping[str, str], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {call.get(name, 'unknown')}" for name in names)


def _key(rank: int) -> str:
    return f"rank{rank}"


def _absent(missing: Sequence[int], world_size: int, when: str, waiting: RankInfo) -> str:
    listed = ", ".join(map(str, missing))
    which = f"rank {listed} of {world_size}" if len(missing) == 1 else f"ranks {listed} of {world_size}"
    pronoun = "was it" if len(missing) == 1 else "were they"
    return (
        f"{which} did not join {when} ({who(waiting)} waited, joining); {pronoun} started, with the same MASTER_ADDR"
        " and MASTER_PORT?"
    )
