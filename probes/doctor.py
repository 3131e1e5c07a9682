"""What is wrong with the nodes of a cluster and between them, found without load.

    torchrun --nnodes 2 --nproc-per-node 1 … probes/doctor.py             every node, compared with every other
    torchrun --nproc-per-node 2 probes/doctor.py --root 'root-{rank}.json'      recordings, one a rank
    roofprobe doctor                                                      without a launcher: this machine

The first rank of each host records it as `roofprobe doctor capture` does, and rank 0 judges them all. They meet in
torch's store alone, which is plain TCP: a link on which NCCL would hang is what this has to work on.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from datetime import timedelta
import os
from pathlib import Path
import signal
import socket
import sys
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import TYPE_CHECKING, NoReturn
import zlib

import msgspec

from roofprobe.collectives.process_group import Place, find_place, first_line, open_store
from roofprobe.doctor import command
from roofprobe.doctor.capture import capture
from roofprobe.doctor.inputs import Given, host_names, nccl_variables, read_case, silent
from roofprobe.doctor.live_software import read_software
from roofprobe.doctor.software import read_told
from roofprobe.errors import BAD_INPUT, FAILED, BadInput, RoofprobeError
from roofprobe.recording import MAX_RECORDING_BYTES, open_tree
from roofprobe.tree import this_machine

if TYPE_CHECKING:
    from torch.distributed import Store

MAX_SENT_BYTES = 4 << 20
"""Compressed; torch's store takes 8 MiB. A GB10 unit's recording is about 20 KB."""
POLL_SECONDS = 0.05
JUDGING_SECONDS = 30.0
"""Beyond the time limit for the hosts to come: rank 0 may have begun to wait later than the others."""
FAREWELL_SECONDS = 3.0
RANK = "{rank}"


class Contribution(msgspec.Struct, frozen=True):
    """What a rank tells rank 0."""

    host: str
    recording: bytes = b""
    """Compressed; empty where another rank of the host, or nobody, sends one."""
    error: str | None = None
    """Why there is none."""
    status: int = 0


def main(argv: list[str] | None = None) -> int:
    """Runs as a rank where a launcher has given this process a place among several, and else on this machine."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        place = find_place(os.environ)
    except BadInput as error:
        print(f"{command.NAME}: {error}", file=sys.stderr)
        return BAD_INPUT
    if place is None or place.world_size == 1 or "capture" in arguments[:1]:
        return command.main(arguments)
    return _run_as_rank(arguments, place)


def _run_as_rank(arguments: list[str], place: Place) -> NoReturn:
    """Ends the process with the status that is every rank's.

    Not by Python's own end: torch's threads were seen to abort a process there, its results long printed.
    """
    # Python would hold both signals back for as long as torch connects in C++.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    with ExitStack() as quiet:
        if place.rank:
            nowhere = quiet.enter_context(open(os.devnull, "w"))
            quiet.enter_context(redirect_stdout(nowhere))
            quiet.enter_context(redirect_stderr(nowhere))
        given = command.parse(arguments)
    try:
        status = _as_rank(given, place)
    except RoofprobeError as error:
        print(f"{command.NAME}: {error}", file=sys.stderr)
        status = error.exit_status
    except Exception as error:  # noqa: BLE001 - the store raises RuntimeError and types of its own
        print(f"{command.NAME}: rank {place.rank}: {first_line(error)}", file=sys.stderr)
        status = FAILED
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _as_rank(given: argparse.Namespace, place: Place) -> int:
    mine = _contribution(given, place)
    store = open_store(place, timedelta(seconds=given.timeout))
    if place.rank:
        store.set(f"doctor/{place.rank}", msgspec.json.encode(mine).decode())
        return _told(store, place, given.timeout)
    try:
        status = _judge(given, _gathered(store, mine, place.world_size, given.timeout))
    except RoofprobeError as error:
        print(f"{command.NAME}: {error}", file=sys.stderr)
        status = error.exit_status
    store.set("doctor/outcome", str(status))
    # The store may end with this process, and the others have yet to read it.
    _wait(store, [f"doctor/{rank}/bye" for rank in range(1, place.world_size)], FAREWELL_SECONDS)
    return status


def _contribution(given: argparse.Namespace, place: Place) -> Contribution:
    host = socket.gethostname()
    try:
        if given.before:
            raise BadInput("--before goes with recordings on one machine; leave it out under a launcher")
        if given.root:
            if len(given.root) > 1 or RANK not in str(given.root[0]):
                raise BadInput(f"under a launcher --root takes one path with {RANK} in it, such as 'root-{RANK}.json'")
            path = Path(str(given.root[0]).replace(RANK, str(place.rank)))
            tree = open_tree(path)
            told = read_told(path, tree)
            (host,) = host_names([path])
            recording = capture(tree, told.software, told.environment)
        elif place.local_rank:
            return Contribution(host)
        else:
            tree = this_machine()
            recording = capture(tree, read_software(tree), nccl_variables())
    except RoofprobeError as error:
        return Contribution(host, error=str(error), status=error.exit_status)
    sent = zlib.compress(recording)
    if len(sent) > MAX_SENT_BYTES:
        return Contribution(host, error=f"the recording has {len(sent)} bytes, compressed", status=FAILED)
    return Contribution(host, sent)


def _gathered(store: Store, mine: Contribution, world_size: int, timeout: float) -> list[Contribution]:
    """Every rank's. Raises RoofprobeError naming the ranks that did not come."""
    missing = _wait(store, [f"doctor/{rank}" for rank in range(1, world_size)], timeout)
    if missing:
        ranks = ", ".join(key.removeprefix("doctor/") for key in missing)
        raise RoofprobeError(
            f"no word from rank {ranks} of {world_size} within {timeout:g} s; were all started, with the same"
            " MASTER_ADDR and MASTER_PORT? `roofprobe doctor` on a node judges it alone"
        )
    others = (store.get(f"doctor/{rank}") for rank in range(1, world_size))
    return [mine, *(msgspec.json.decode(other, type=Contribution) for other in others)]


def _judge(given: argparse.Namespace, contributions: list[Contribution]) -> int:
    for rank, each in enumerate(contributions):
        if each.error is not None:
            wrong = BadInput if each.status == BAD_INPUT else RoofprobeError
            raise wrong(f"rank {rank} on {each.host}: {each.error}")
    with TemporaryDirectory(prefix="roofprobe-") as folder:
        roots = []
        for rank, each in enumerate(contributions):
            if each.recording:
                # Two hosts of one name are then told apart by their rank.
                path = Path(folder) / f"rank {rank}" / f"{each.host.replace('/', '_')[:200]}.json"
                path.parent.mkdir()
                path.write_bytes(zlib.decompressobj().decompress(each.recording, MAX_RECORDING_BYTES))
                roots.append(path)
        files = command.given_files(given)
        files = Given(tuple(roots), (), files.nccl_logs, files.telemetry, files.measured, files.platform)
        case = read_case(files)
        return command.report(case, silent(files, case), as_document=given.json)


def _told(store: Store, place: Place, timeout: float) -> int:
    """The status that rank 0 came to. Raises RoofprobeError where it came to none."""
    limit = timeout + JUDGING_SECONDS
    if _wait(store, ["doctor/outcome"], limit):
        raise RoofprobeError(f"rank {place.rank} on {socket.gethostname()} heard nothing of rank 0 within {limit:g} s")
    status = int(store.get("doctor/outcome"))
    store.set(f"doctor/{place.rank}/bye", "")
    return status


def _wait(store: Store, keys: list[str], seconds: float) -> list[str]:
    """Those of the keys that were not set within the time, or before the store ended."""
    import torch.distributed as dist

    deadline = monotonic() + seconds
    with suppress(dist.DistError):
        while keys := [key for key in keys if not store.check([key])]:
            if monotonic() > deadline:
                break
            sleep(POLL_SECONDS)
    return keys


if __name__ == "__main__":
    raise SystemExit(main())
