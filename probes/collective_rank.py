"""The life of one rank of a collective probe: read the flags, join, sweep, and never hang at the end."""

from __future__ import annotations

from contextlib import ExitStack, redirect_stderr, redirect_stdout
from datetime import datetime
import os
from pathlib import Path
import signal
import sys
import tempfile
from typing import NoReturn

from roofprobe.collectives.collective import Collective
from roofprobe.collectives.exact import Pattern
from roofprobe.collectives.local_ranks import die_with_parent
from roofprobe.collectives.nccl_json import Header
from roofprobe.collectives.process_group import Group, Place, first_line, joined, transport
from roofprobe.collectives.sizes import require_memory, sweep_counts
from roofprobe.collectives.sweep import buffer_bytes, sweep
from roofprobe.errors import FAILED, OK, BadInput, RoofprobeError
from roofprobe.probes.collective_flags import Request, parse
from roofprobe.probes.collective_output import Speaker


def run_as_rank(collective: Collective, name: str, description: str, arguments: list[str], place: Place) -> int:
    """Returns the exit status, or ends the process: after a failure nothing is cleaned up.

    Leaving a process group waits for peers that may be gone or stopped, up to its timeout. Bad input is the same on
    every rank, so rank 0 alone speaks of it; a fault is told by every rank that sees it.
    """
    # Python would hold both signals back for as long as a collective waits in C++.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent()
    # torch's C++ side otherwise adds warnings of its own to each line about a rank that is late or gone.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        with ExitStack() as quiet:
            if place.rank:
                nowhere = quiet.enter_context(open(os.devnull, "w"))
                quiet.enter_context(redirect_stdout(nowhere))
                quiet.enter_context(redirect_stderr(nowhere))
            request = parse(name, description, arguments)
        if request.ranks not in (None, place.world_size):
            raise BadInput(f"--ranks {request.ranks}, but the launcher started {place.world_size}; leave --ranks out")
        if place.rank == 0:
            require_writable(request)
        with joined(place, request.timeout_seconds) as group:
            return _measure(collective, request, group, (name, *arguments))
    except BadInput as error:
        if place.rank == 0:
            print(f"{name}: {error}", file=sys.stderr)
        _end_now(error.exit_status)
    except RoofprobeError as error:
        print(f"{name}: {error}", file=sys.stderr)
        _end_now(error.exit_status)
    except Exception as error:  # noqa: BLE001 - torch raises RuntimeError, MemoryError and types of its own
        print(f"{name}: rank {place.rank}: {first_line(error)}", file=sys.stderr)
        _end_now(FAILED)


def require_writable(request: Request) -> None:
    """Raises BadInput now rather than after minutes of measuring; leaves nothing behind."""
    for path in (request.output_file, request.record):
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


def _measure(collective: Collective, request: Request, group: Group, arguments: tuple[str, ...]) -> int:
    plan, dtype = request.plan, request.dtype
    _require_backend_can(request, group)
    counts = sweep_counts(plan, dtype)
    pattern = Pattern(dtype, plan.reduction, group.world_size)
    require_memory(buffer_bytes(counts, dtype), group.ranks)
    speaker = None
    if group.rank == 0:
        head = Header(
            arguments=arguments,
            environment=os.environ,
            nccl_version=_nccl_version() if group.backend == "nccl" else None,
            plan=plan,
            ranks=group.ranks,
            transport=transport(group),
            bus_factor=collective.bus_factor(group.world_size),
            started=datetime.now(),
        )
        speaker = Speaker(collective, request, head, group.backend)
        speaker.begin()
    wrong = measured = 0
    for row in sweep(collective, plan, pattern, counts, group, request.time_limit_seconds):
        wrong += row.wrong or 0
        measured += 1
        if speaker:
            speaker.row(row)
    if speaker:
        speaker.end(complete=measured == len(counts))
    return FAILED if wrong else OK


def _require_backend_can(request: Request, group: Group) -> None:
    if group.backend == "nccl":
        return
    if request.dtype.name.startswith("f8"):
        raise BadInput(f"gloo reduces no {request.dtype.name}; use another -d, or a GPU for every rank")
    if request.plan.reduction == "avg":
        raise BadInput("gloo has no avg; use -o sum, or a GPU for every rank")
    if request.plan.graph_launches:
        raise BadInput("-G captures CUDA graphs, and these ranks run gloo on the CPU; leave it out")


def _nccl_version() -> int:
    """As nccl-tests writes it: 22903 for 2.29.3."""
    import torch

    major, minor, patch = (int(part) for part in torch.cuda.nccl.version()[:3])
    return major * 10000 + minor * 100 + patch
