"""Starts the collective probes as people do: alone, under torchrun, or with every rank's place set by hand."""

from __future__ import annotations

from collections.abc import Sequence
import os
from pathlib import Path
import socket
import subprocess
import sys
import textwrap

PROBES = Path(__file__).resolve().parent.parent / "probes"
QUICK = ("-n", "6", "-w", "1")
LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
PLACES = {
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "srun": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
    "mpirun": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
}
"""Launcher -> the variables in which it tells a rank its number, how many there are, and its number on the host."""

Ended = tuple[int, str, str]
"""Exit status, stdout, stderr."""


def environment(**changes: str) -> dict[str, str]:
    """Ours without a launcher's variables, with CPU ranks only: what is tested is the gloo path, on any machine."""
    kept = {name: value for name, value in os.environ.items() if name not in LAUNCHER_VARIABLES}
    return {**kept, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **changes}


def probe(
    *arguments: str | Path, name: str = "allreduce", cwd: Path | None = None, **changes: str
) -> subprocess.CompletedProcess[str]:
    """``python probes/NAME.py ARGUMENTS``."""
    return subprocess.run(
        [sys.executable, PROBES / f"{name}.py", *arguments],
        cwd=cwd, env=environment(**changes), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def torchrun(
    launcher: Sequence[str], name: str, arguments: Sequence[str], cwd: Path
) -> subprocess.CompletedProcess[str]:
    """Two ranks; `launcher` are torchrun's own flags for the rendezvous."""
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *launcher,
         PROBES / f"{name}.py", *arguments],
        cwd=cwd, env=environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def ranks_by_hand(
    script: str,
    folder: Path,
    *arguments: str,
    name: str = "allreduce",
    ranks: int = 2,
    launcher: str = "torchrun",
) -> list[Ended]:
    """Ranks with their places set as `launcher` would, each running `script` before the probe's main()."""
    program = folder / "rank.py"
    program.write_text(
        f"{textwrap.dedent(script)}\nfrom roofprobe.probes import {name}\nraise SystemExit({name}.main())\n"
    )
    port = str(free_port())
    number, size, local = PLACES[launcher]
    processes = [
        subprocess.Popen(
            [sys.executable, program, *arguments],
            env=environment(**{number: str(rank), size: str(ranks), local: str(rank)}, MASTER_ADDR="127.0.0.1",
                            MASTER_PORT=port, GLOO_SOCKET_IFNAME="lo"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(ranks)
    ]  # fmt: skip
    try:
        # Three ranks take 6 s on a quiet machine and were seen to take 80 s beside 20 busy processes on two cores.
        told = [p.communicate(timeout=300) for p in processes]
        return [(p.returncode, *words) for p, words in zip(processes, told)]
    finally:
        for p in processes:
            p.kill()
            p.communicate()
