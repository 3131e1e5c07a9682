"""The life of one rank of a collective probe: read the flags, join, sweep, and never hang at the end."""

from __future__ import annotations

from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import datetime
import os
from pathlib import Path
import signal
import sys
import tempfile
from typing import NoReturn

from roofprobe.collectives.all_reduce import ALL_REDUCE
from roofprobe.collectives.buffers import buffer_bytes, moved_as_bytes
from roofprobe.collectives.collective import Collective, Counts
from roofprobe.collectives.exact import NO_REDUCTION, Pattern
from roofprobe.collectives.local_ranks import PARENT, die_with_parent, run_first
from roofprobe.collectives.nccl_debug import NcclDebug
from roofprobe.collectives.nccl_json import Header
from roofprobe.collectives.process_group import Group, Place, first_line, joined
from roofprobe.collectives.results import SweepPlan
from roofprobe.collectives.sizes import require_memory, sweep_counts
from roofprobe.collectives.sweep import sweep
from roofprobe.collectives.sweep_counters import look_if_first, since
from roofprobe.collectives.watch import Watch
from roofprobe.environment import nccl_version
from roofprobe.errors import FAILED, BadInput, RoofprobeError
from roofprobe.probes.collective_faults import keep_for_rank_0, keep_without_results, same_on_every_rank
from roofprobe.probes.collective_flags import parse
from roofprobe.probes.collective_network import Network, look_at_network
from roofprobe.probes.collective_output import Speaker, conclude
from roofprobe.probes.collective_request import Program, Request
from roofprobe.probes.latency_rank import measure_latency
from roofprobe.tree import this_machine

FLOAT8_NCCL = 22400
"""The first NCCL that reduces float8, coded as nccl-tests does."""


def run_as_rank(program: Program, arguments: list[str], place: Place) -> NoReturn:
    """Ends the process with the exit status: after a failure nothing is cleaned up.

    Leaving a process group waits for peers that may be gone or stopped, up to its timeout. Bad input is the same on
    every rank, so rank 0 alone speaks of it; a fault is told by the watch, on every rank with a stderr of its own.
    After success the group has been left, and Python's own end is left out: on a busy machine a rank was now and then
    ended by SIGABRT there ("terminate called without an active exception", torch 2.13), its results long printed.
    """
    name = program.name
    watch: Watch | None = None
    # Python would hold both signals back for as long as a collective waits in C++.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent()
    # torch's C++ side otherwise adds warnings of its own to each line about a rank that is late or gone.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    try:
        with ExitStack() as quiet:
            if place.rank:
                nowhere = quiet.enter_context(open(os.devnull, "w"))
                quiet.enter_context(redirect_stdout(nowhere))
                quiet.enter_context(redirect_stderr(nowhere))
            request = parse(program, arguments)
        if request.ranks not in (None, place.world_size):
            raise BadInput(f"--ranks {request.ranks}, but the launcher started {place.world_size}; leave --ranks out")
        if place.rank == 0:
            require_writable(request)
        # Before the watch begins: it takes seconds, in which no other thread runs.
        import torch.distributed  # noqa: F401

        if PARENT in os.environ:
            run_first(place.world_size)
        watch = Watch(name, place.rank, request.timeout_seconds, speaks_for_all=PARENT in os.environ)
        if place.rank == 0:
            watch.on_fault = keep_without_results(request, place, (name, *arguments))
        debug = NcclDebug(os.environ)
        with joined(place, request.timeout_seconds, same_on_every_rank(request), watch) as group:
            status = _measure(request, group, (name, *arguments), debug)
    except BadInput as error:
        if place.rank == 0:
            print(f"{name}: {error}", file=sys.stderr)
        if watch is not None:
            watch.close()
        _end_now(error.exit_status)
    except Exception as error:  # noqa: BLE001 - torch raises RuntimeError, MemoryError and types of its own
        reason = str(error) if isinstance(error, RoofprobeError) else first_line(error)
        if watch is not None:
            watch.failed(reason)
        print(f"{name}: rank {place.rank}: {reason}", file=sys.stderr)
        _end_now(FAILED)
    _end_now(status)


def require_writable(request: Request) -> None:
    """Raises BadInput now rather than after minutes of measuring; leaves nothing behind."""
    for path in (request.record, *(request.output_for(collective) for collective in request.collectives)):
        if path is not None:
            _require_writable(path)


def _require_writable(path: Path) -> None:
    if path.is_dir():
        raise BadInput(f"can't write {path}: it is a folder; give a file's name")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise BadInput(f"can't write {path}: {error.strerror}; give a file in a folder that can be written") from None


def _end_now(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@dataclass(frozen=True)
class _Sweep:
    """One collective, with everything that could be wrong with it already looked at."""

    collective: Collective
    plan: SweepPlan
    pattern: Pattern
    sizes: list[Counts]


def _measure(request: Request, group: Group, arguments: tuple[str, ...], debug: NcclDebug) -> int:
    _require_backend_can(request, group)
    sweeps = [_plan(collective, request, group) for collective in request.collectives]
    for each in sweeps:
        require_memory(buffer_bytes(each.sizes, request.dtype), group.ranks, request.force)
    network = look_at_network(group, request.link_baseline, request.pairwise, debug)
    status = network.exit_status
    speakers = []
    if group.rank:
        group.watch.on_fault = keep_for_rank_0(request, group)
    for each in sweeps:
        speaker = None
        if group.rank == 0:
            speaker = Speaker(
                each.collective, request, _header(each, request, group, arguments, network), group.backend
            )
            speaker.begin()
            speakers.append(speaker)
            group.watch.on_fault = speaker.fail
        before = look_if_first(group, this_machine())
        measured = 0
        for row in sweep(each.collective, each.plan, each.pattern, each.sizes, group, request.time_limit_seconds):
            status = FAILED if row.wrong else status
            measured += 1
            group.watch.enter("writing the results", alone=True)
            if speaker:
                speaker.row(row)
        group.watch.enter("reading the counters")
        counters = since(group, this_machine(), before)
        latency = request.latency if each.collective is ALL_REDUCE else None
        if speaker:
            speaker.end(counters, complete=measured == len(each.sizes), last=latency is None)
        if latency is not None and measure_latency(latency, each.pattern, group, speaker):
            status = FAILED
    if speakers:
        conclude(request, speakers)
    return status


def _plan(collective: Collective, request: Request, group: Group) -> _Sweep:
    plan = request.plan_for(collective)
    if plan.root >= group.world_size:
        raise BadInput(f"-r {plan.root} is none of the {group.world_size} ranks; they count from 0")
    pattern = Pattern(request.dtype, plan.reduction if collective.reduces else NO_REDUCTION, group.world_size)
    return _Sweep(collective, plan, pattern, sweep_counts(plan, request.dtype, collective, group.world_size))


def _header(each: _Sweep, request: Request, group: Group, arguments: tuple[str, ...], network: Network) -> Header:
    return Header(
        arguments=arguments,
        environment=os.environ,
        nccl_version=_nccl_version() if group.backend == "nccl" else None,
        plan=each.plan,
        ranks=group.ranks,
        transport=network.proof.summary,
        bus_factor=each.collective.bus_factor(group.world_size),
        started=datetime.now(),
        moved_as_bytes=moved_as_bytes(each.collective, request.dtype, group.backend),
        proof=network.proof,
        links=network.links,
        pairs=network.pairs,
    )


def _require_backend_can(request: Request, group: Group) -> None:
    reducing = [collective.name for collective in request.collectives if collective.reduces]
    if request.dtype.is_float8 and reducing:
        name = request.dtype.name
        if group.backend == "gloo":
            raise BadInput(
                f"gloo reduces no {name}: {', '.join(reducing)} N/A; use another -d, or a GPU for every rank"
            )
        if _nccl_version() < FLOAT8_NCCL:
            raise BadInput(
                f"NCCL {_nccl_version()} reduces no {name}: {', '.join(reducing)} N/A; it needs {FLOAT8_NCCL} (2.24)"
            )
    if request.plan.graph_launches and group.backend == "gloo":
        raise BadInput("-G captures CUDA graphs, and these ranks run gloo on the CPU; leave it out")


def _nccl_version() -> int:
    """As nccl-tests writes it: 22903 for 2.29.3."""
    found = nccl_version()
    assert found is not None, "asked for only where NCCL carries the data"
    major, minor, patch = found
    return major * 10000 + minor * 100 + patch
