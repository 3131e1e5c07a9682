"""Joining the other ranks: who they are, which backend carries the data, and the few things ranks say to each other.

A rank's place comes from the environment that torchrun, Slurm's srun or Open MPI's mpirun sets, or that was set by
hand. All ranks first introduce themselves through the store, so that one that never comes is named, then connect to
each other to be watched (watch.py), and then all come to the same decision from the same introductions: NCCL where
every rank has a GPU of its own, gloo otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
import os
import re
import socket
from typing import TYPE_CHECKING

from roofprobe.collectives import mesh
from roofprobe.collectives.faults import who
from roofprobe.collectives.introductions import Introduction, exchange, new_secret, require_same_call, versions
from roofprobe.collectives.rank_info import introduce
from roofprobe.collectives.results import RankInfo
from roofprobe.collectives.watch import Watch
from roofprobe.errors import BadInput, RoofprobeError

if TYPE_CHECKING:
    import torch
    from torch.distributed import Store

STORE_DESCRIPTOR = "ROOFPROBE_STORE_DESCRIPTOR"
"""For rank 0 of a local launch: an inherited listening socket, so that no port has to be guessed free."""

_LAUNCHERS = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    # The step's size is set by srun alone; SLURM_NTASKS is also set in the batch script itself, which is no rank.
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
)
DEFAULT_PORT = 29500


@dataclass(frozen=True)
class Place:
    """Where this process stands among the ranks."""

    rank: int
    world_size: int
    local_rank: int | None
    address: str
    port: int


def find_place(environment: Mapping[str, str]) -> Place | None:
    """This process's place, or None where no launcher set one. Raises BadInput naming the variable that is unusable."""
    for rank_name, size_name, local_name in _LAUNCHERS:
        if rank_name not in environment or (rank_name != "RANK" and size_name not in environment):
            continue
        rank, size = _number(environment, rank_name), _number(environment, size_name)
        if not 0 <= rank < size:
            raise BadInput(f"{rank_name} is {rank} and {size_name} is {size}; expected 0 <= rank < size")
        address = environment.get("MASTER_ADDR") or ("127.0.0.1" if size == 1 else None)
        if address is None:
            raise BadInput("MASTER_ADDR is not set; expected the address of rank 0's host, the same on every rank")
        any_free_port = 0
        port = DEFAULT_PORT if size > 1 else any_free_port
        if "MASTER_PORT" in environment:
            port = _number(environment, "MASTER_PORT")
        local_rank = _number(environment, local_name) if local_name in environment else None
        return Place(rank, size, local_rank, address, port)
    return None


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name)
    if text is None or not text.isascii() or not text.isdigit():
        found = "not set" if text is None else f"'{text}'"
        raise BadInput(f"{name} is {found}; expected a whole number, as torchrun sets it")
    return int(text)


@dataclass(frozen=True)
class Group:
    """The ranks, once all have joined. Every method but `synchronize` has to be called by all of them."""

    rank: int
    backend: str
    device: torch.device
    ranks: tuple[RankInfo, ...]
    watch: Watch
    """To be told of each phase, so that a fault's message can name it."""

    @property
    def world_size(self) -> int:
        return len(self.ranks)

    def synchronize(self) -> None:
        """Waits until this rank's device has done all that it was given."""
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)

    def barrier(self) -> None:
        """Returns once every rank has come here with its device idle."""
        import torch
        import torch.distributed as dist

        # Not dist.barrier(): on NCCL that leaves the host free to run ahead.
        self.synchronize()
        dist.all_reduce(torch.zeros(1, device=self.device))
        self.synchronize()

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """Every rank's `values` (as many on each), in order of rank, on every rank."""
        import torch
        import torch.distributed as dist

        mine = torch.tensor(values, dtype=torch.float64, device=self.device)
        everyone = [torch.empty_like(mine) for _ in self.ranks]
        dist.all_gather(everyone, mine)
        return [part.tolist() for part in everyone]


NCCL_SETTINGS = {
    # torch would abort the process from a thread of its own before the watch has told who is to blame.
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "0",
    "TORCH_NCCL_ENABLE_MONITORING": "0",
    "TORCH_NCCL_DUMP_ON_TIMEOUT": "0",
    "TORCH_NCCL_PROPAGATE_ERROR": "0",
    # Waiting for each operation on the host would change what is timed.
    "TORCH_NCCL_BLOCKING_WAIT": "0",
}


@contextmanager
def joined(place: Place, timeout_seconds: float, call: Mapping[str, str], watch: Watch) -> Iterator[Group]:
    """Joins the ranks, and leaves them when the block ends well.

    After a failure the group is not left but abandoned: leaving waits for peers that may be gone, so the process has
    to end with `Watch.failed`. `timeout_seconds` bounds joining and every single collective; `call` is what has to be
    the same on all ranks, by name. Raises RoofprobeError naming the rank that did not come or was called otherwise.
    """
    import torch
    import torch.distributed as dist

    timeout = timedelta(seconds=timeout_seconds)
    watch.complain(f"can't reach rank 0 at {place.address}:{place.port}")
    address = mesh.own_address(place.address, place.port)
    listener = mesh.listen(address, place.address, place.world_size)
    store = open_store(place, timeout)
    watch.complain(f"has no word from rank 0 at {place.address}:{place.port}")
    introductions = exchange(
        store,
        Introduction(
            introduce(place.rank, place.local_rank, address),
            listener.getsockname()[1],
            new_secret(),
            {**call, **versions()},
        ),
        place.world_size,
        timeout_seconds,
    )
    require_same_call(introductions)
    ranks = tuple(introduction.info for introduction in introductions)
    watch.complain("did not connect to all other ranks")
    watch.attach(ranks, _connected(place, listener, introductions, timeout_seconds))
    watch.enter("joining the process group")
    own = ranks[place.rank]
    ids = [rank.device_id for rank in ranks]
    if all(ids) and len(set(ids)) == len(ids) and dist.is_nccl_available():
        backend, device = "nccl", torch.device("cuda", own.device_index)
        torch.cuda.set_device(device)
        os.environ.update(NCCL_SETTINGS)  # torchrun and users set some of them otherwise
        # torch counts from when an operation is enqueued, and a loop enqueues all of its own at once.
        timeout = timedelta(days=1)
    else:
        backend, device = "gloo", torch.device("cpu")
        torch.set_num_threads(1)
    dist.init_process_group(
        backend,
        store=store,
        rank=place.rank,
        world_size=place.world_size,
        timeout=timeout,
        device_id=device if backend == "nccl" else None,
    )
    world = dist.distributed_c10d._get_default_group()
    # Counts collectives as each begins, on gloo sends and receives too; torch's stubs leave it out.
    watch.count(world._get_sequence_number_for_group)  # type: ignore[attr-defined]
    group = Group(place.rank, backend, device, ranks, watch)
    # Nobody may leave, not even for bad input, while another still needs the store to connect.
    group.barrier()
    yield group
    watch.enter("leaving")
    group.barrier()
    dist.destroy_process_group()
    watch.close()


def _connected(
    place: Place, listener: socket.socket, introductions: Sequence[Introduction], timeout_seconds: float
) -> Mapping[int, mesh.Line]:
    own = introductions[place.rank].info
    addresses = []
    for introduction in introductions:
        info, address = introduction.info, introduction.info.address
        if mesh.is_loopback(address) and info.network != own.network:
            # It runs where the store does, and knows itself by a loopback address only.
            address = place.address
        addresses.append((address, introduction.port))
    names = [who(introduction.info) for introduction in introductions]
    return mesh.connect(place.rank, listener, addresses, introductions[0].secret, timeout_seconds, names.__getitem__)


def open_store(place: Place, timeout: timedelta) -> Store:
    """The store through which ranks find each other. Raises RoofprobeError where rank 0 can't be reached."""
    import torch.distributed as dist

    # torchrun keeps the store in its agent, and one agent may start several rounds of ranks on it.
    agent_has_it = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    descriptor = os.environ.get(STORE_DESCRIPTOR)
    try:
        store = dist.TCPStore(
            place.address,
            place.port,
            is_master=place.rank == 0 and not agent_has_it,
            timeout=timeout,
            wait_for_workers=False,
            master_listen_fd=int(descriptor) if descriptor and place.rank == 0 else None,
        )
    except dist.DistError as error:
        own = f"rank {place.rank} on {socket.gethostname()}, joining,"
        what = f"{own} can't reach rank 0 at {place.address}:{place.port}"
        if place.rank == 0:
            what = f"{own} can't open port {place.port}"
        raise RoofprobeError(f"{what} within {timeout.seconds} s: {first_line(error)}") from None
    round_of_ranks = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"roofprobe/{round_of_ranks}", store)


def first_line(error: BaseException) -> str:
    """An error's first line without the C++ source position before it, and without what torch adds after it."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return re.sub(r"^\[[^\]]*:\d+\]\s*", "", line).split(" This may indicate")[0]
