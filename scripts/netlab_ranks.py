"""Ranks on a lab's nodes: one on each, met as people do it, and everything they print told apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
import subprocess
import sys
from threading import Lock, Thread
from typing import IO, Any, Literal

from netlab_nodes import INTERFACE, Lab
import psutil

Meeting = Literal["static", "c10d", "by hand"]
PORT = 29500
JOIN_SECONDS = 60
GRACE_SECONDS = 5.0


def environment(lab: Lab, node: int) -> dict[str, str]:
    """What the node adds to a rank's environment: by these alone it can join, without a launcher."""
    return {
        "RANK": str(node - 1),
        "WORLD_SIZE": str(lab.count),
        "LOCAL_RANK": "0",
        "MASTER_ADDR": lab.address(1),
        "MASTER_PORT": str(PORT),
        "GLOO_SOCKET_IFNAME": INTERFACE,
        "NCCL_SOCKET_IFNAME": INTERFACE,
        "OMP_NUM_THREADS": "1",
        "TORCH_CPP_LOG_LEVEL": "ERROR",  # else torchrun warns that no name server knows its peers
    }


def torchrun(lab: Lab, node: int, script: Sequence[str], meeting: Meeting = "static") -> list[str]:
    """The words that start one rank of `script` on this node, once they are started on every node.

    c10d needs to be told who the host is and what this node's address is: left alone it goes by the host's name.
    """
    if meeting == "c10d":
        where = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{lab.address(1)}:{PORT}", "--local-addr"]
        meet = [*where, lab.address(node), "--rdzv-conf", f"is_host={int(node == 1)},timeout={JOIN_SECONDS}"]
    else:
        where = ["--master-addr", lab.address(1), "--master-port", str(PORT), "--node-rank", str(node - 1)]
        meet = [*where, "--rdzv-conf", f"timeout={JOIN_SECONDS}"]
    of_all = ["--nnodes", str(lab.count), "--nproc-per-node", "1"]
    return [sys.executable, "-m", "torch.distributed.run", *of_all, *meet, "--", *script]


def run_ranks(
    lab: Lab,
    script: Sequence[str],
    meeting: Meeting = "static",
    extra_environment: Mapping[str, str] | None = None,
    **pipes: Any,
) -> list[subprocess.Popen[str]]:
    """Starts one rank of a Python program on every node, in order: its torchrun, or by hand the rank itself.

    `extra_environment` wins over the node's; `pipes` are Popen's.
    """
    by_hand = [sys.executable, *script]
    return start_everywhere(
        lab,
        lambda node: by_hand if meeting == "by hand" else torchrun(lab, node, script, meeting),
        extra_environment,
        **pipes,
    )


def start_everywhere(
    lab: Lab,
    words: Callable[[int], Sequence[str]],
    extra_environment: Mapping[str, str] | None = None,
    **pipes: Any,
) -> list[subprocess.Popen[str]]:
    """Starts `words` of the node on every node, in order, with a rank's environment."""
    started = []
    try:
        for node in lab.nodes:
            added = {**environment(lab, node), **(extra_environment or {})}
            started.append(lab.start(node, words(node), added, **pipes))
    except BaseException:
        end(started)
        raise
    return started


def end(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Ends those of these processes that run, with all that they started: asks, and after a grace period kills."""
    everyone = []
    for process in processes:
        if process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                root = psutil.Process(process.pid)
                everyone += [root, *root.children(recursive=True)]
    for one in everyone:
        with suppress(psutil.NoSuchProcess):
            one.terminate()
    _, left = psutil.wait_procs(everyone, GRACE_SECONDS)
    for survivor in left:
        with suppress(psutil.NoSuchProcess):
            survivor.kill()
    for process in processes:
        process.wait()


def pass_on(processes: Mapping[str, subprocess.Popen[str]]) -> int:
    """Prints every line of these processes' stdout and stderr (both pipes) behind the process's name until all end.

    Returns the status of the first that failed, in their order, else 0; 128 + N for one that signal N ended. Whatever
    interrupts it ends them.
    """
    lock = Lock()

    def copy(name: str, source: IO[str], to: IO[str]) -> None:
        with source:
            for line in source:
                with lock:
                    print(f"{name}: {line.rstrip()}", file=to, flush=True)

    readers = []
    try:
        for name, process in processes.items():
            for source, to in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
                assert source is not None
                reader = Thread(target=copy, args=(name, source, to), daemon=True)
                reader.start()
                readers.append(reader)
        for process in processes.values():
            process.wait()
    finally:
        end(list(processes.values()))
        for reader in readers:
            reader.join(GRACE_SECONDS)
    statuses = [process.returncode for process in processes.values()]
    first = next((status for status in statuses if status), 0)
    return first if first >= 0 else 128 - first
