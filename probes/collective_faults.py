"""What is left of a collective probe's measurements when a fault ends the job: its JSON file, with the fault in it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
import json
import os
from pathlib import Path

from roofprobe.collectives.faults import Fault
from roofprobe.collectives.nccl_json import Header
from roofprobe.collectives.process_group import Group, Place
from roofprobe.files import write_whole
from roofprobe.probes.collective_output import Speaker
from roofprobe.probes.collective_request import Request


def same_on_every_rank(request: Request) -> dict[str, str]:
    """What ranks have to have been called with alike, by name."""
    names = ",".join(collective.name for collective in request.collectives)
    steps = {name: str(getattr(request, name)) for name in ("latency", "link_baseline", "pairwise")}
    return {"collectives": names, **steps, **{name: str(value) for name, value in asdict(request.plan).items()}}


def keep_without_results(request: Request, place: Place, arguments: tuple[str, ...]) -> Callable[[Fault], None]:
    """For rank 0: writes the documents of a job whose ranks never came together."""

    def keep(fault: Fault) -> None:
        for collective in request.collectives:
            head = Header(
                arguments=arguments,
                environment=os.environ,
                nccl_version=None,
                plan=request.plan_for(collective),
                ranks=(),
                transport="none: the ranks did not join",
                bus_factor=collective.bus_factor(place.world_size),
                started=datetime.now(),
            )
            Speaker(collective, request, head, "none").fail(fault)

    return keep


def keep_for_rank_0(request: Request, group: Group) -> Callable[[Fault], None]:
    """For the others: where rank 0 is to blame, one rank of its machine adds the fault to the file that it left.

    Ranks of other machines can't: the file is out of their reach, whole, up to the last size that was measured.
    """
    first = group.ranks[0]
    heirs = [rank.rank for rank in group.ranks[1:] if rank.machine == first.machine]

    def keep(fault: Fault) -> None:
        if fault.culprit == 0 and heirs and heirs[0] == group.rank:
            for collective in request.collectives:
                path = request.output_for(collective)
                if path is not None:
                    _add(fault, path, first.pid)

    return keep


def _add(fault: Fault, path: Path, pid: int) -> None:
    with suppress(OSError, ValueError, LookupError, TypeError):
        document = json.loads(path.read_text())
        # Not an earlier job's, nor one that is complete, nor one to which rank 0 could still add the fault itself.
        left_by_rank_0 = document["config"]["devices"][0]["pid"] == pid
        if left_by_rank_0 and document["end_time"] is None and not document["errors"]:
            document["errors"].append(fault.text)
            write_whole(path, json.dumps(document, indent=1) + "\n")
