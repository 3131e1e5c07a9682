"""What keeps a process, mostly one in a container, from RDMA devices that work: NCCL then falls back to sockets.

So it does where its settings say so. A recording that does not hold a place says nothing about it.
"""

from __future__ import annotations

from collections.abc import Iterator
import re

from roofprobe.doctor.case import Case
from roofprobe.doctor.host import Host
from roofprobe.doctor.nccl_names import nccl_environment, used_ports
from roofprobe.finding import Finding, OwnFinding
from roofprobe.tree import Tree

VERBS_CLASS = "/sys/class/infiniband_verbs"
ENOUGH_LOCKED_BYTES = 64 << 20
"""NCCL registers some 10 MiB of buffers for each direction of each channel, and a pair has at least two channels."""
CAP_IPC_LOCK = 14
"""With this capability the limit does not count; linux/capability.h."""


def socket_fallback(case: Case) -> Iterator[Finding]:
    for host in case.hosts:
        used = used_ports(case, host)
        found = [*_no_verbs(host), *_locked_memory(host), *_settings(case, host)] if used else []
        if found:
            active = ", ".join(port.name for port in used)
            yield OwnFinding(
                id="link.socket-fallback",
                severity="fault",
                host=host.name,
                evidence=f"{'; '.join(said for said, _ in found)}, while {active} could be used",
                remedy=" ".join(remedy for _, remedy in found),
            )


def hidden_devices(tree: Tree) -> dict[str, str]:
    """Device -> uverbs device of those that /dev/infiniband lacks, while it has others."""
    nodes = _verbs(tree, "/dev/infiniband")
    hidden = [name for name in _verbs(tree, VERBS_CLASS) if name not in nodes] if nodes else []
    return {device: name for name in hidden if (device := tree.text(f"{VERBS_CLASS}/{name}/ibdev")) is not None}


def _settings(case: Case, host: Host) -> Iterator[tuple[str, str]]:
    environment = nccl_environment(case, host)
    disabled, network = environment.get("NCCL_IB_DISABLE", "").strip(), environment.get("NCCL_NET", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", disabled) and int(disabled):
        yield f"NCCL_IB_DISABLE={disabled} is set", "Unset NCCL_IB_DISABLE, in the environment and in /etc/nccl.conf."
    elif network.lower() == "socket":
        yield f"NCCL_NET={network} is set", "Unset NCCL_NET, in the environment and in /etc/nccl.conf."


def _no_verbs(host: Host) -> Iterator[tuple[str, str]]:
    """Evidence and remedy where libibverbs finds no device to open."""
    tree = host.tree
    if "infiniband_verbs" in tree.children("/sys/class") and not _verbs(tree, VERBS_CLASS):
        yield f"{VERBS_CLASS} holds no uverbs device", "Load the module: sudo modprobe ib_uverbs."
    elif _holds_dev(tree) and not _verbs(tree, "/dev/infiniband"):
        yield (
            "/dev/infiniband holds no uverbs device; expected one for each RDMA device",
            "Start the container with --device=/dev/infiniband, or load the module: sudo modprobe ib_uverbs.",
        )


def _verbs(tree: Tree, folder: str) -> list[str]:
    return [name for name in tree.children(folder) if name.startswith("uverbs")]


def _holds_dev(tree: Tree) -> bool:
    """Whether the tree holds /dev/infiniband, or /dev itself and so would: /dev/null is in every one that was seen."""
    names = tree.children("/dev")
    return bool({"infiniband", "null"} & set(names)) or (tree.is_folder("/dev") and not names)


def _locked_memory(host: Host) -> Iterator[tuple[str, str]]:
    limit = re.search(r"^Max locked memory\s+([0-9]{1,20})\s", host.tree.text("/proc/self/limits") or "", re.MULTILINE)
    if limit and int(limit[1]) < ENOUGH_LOCKED_BYTES and not _locks_freely(host.tree):
        yield (
            f"/proc/self/limits: Max locked memory is {limit[1]} bytes, expected {ENOUGH_LOCKED_BYTES} or unlimited",
            "Start the container with --ulimit memlock=-1, or set memlock to unlimited in /etc/security/limits.conf.",
        )


def _locks_freely(tree: Tree) -> bool:
    effective = re.search(r"^CapEff:\s+([0-9a-f]{1,16})$", tree.text("/proc/self/status") or "", re.MULTILINE)
    return effective is not None and bool(int(effective[1], 16) >> CAP_IPC_LOCK & 1)
