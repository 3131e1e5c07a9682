"""What a failed check means: the fault's stable id and what mends it.

Where the doctor found a fault that explains the failure, that one is named; the id here stands where nothing does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from roofprobe.finding import Finding

_UNIT = (
    "unit.low-power-state",
    "unit.thermal",
    "unit.power-brake",
    "unit.hidden-slow-state",
    "unit.slow-memory",
    "unit.periodic-stall",
)


@dataclass(frozen=True)
class Fault:
    """What a check's failure is called when nothing else explains it."""

    id: str
    remedy: str
    explained_by: tuple[str, ...] = ()
    """Ids, or beginnings of ids that end in a dot, of the doctor's faults that are the cause."""


_POWER_CYCLE = (
    "End every other program that uses the machine (nvidia-smi lists the GPU's), then shut it down, unplug its power"
    " for a minute, use the supply that it came with, and accept again; if it stays slow, ask its maker."
)
_KERNEL = (
    "Run `roofprobe tune` for this machine and `roofprobe doctor` for its Triton and ptxas, then accept again; if"
    " copies keep their rate and this stays several times slower, power the unit off completely once."
)
_LINK = (
    "Run `roofprobe doctor` on every node (one half unused, a port at 100G, PCIe narrowed, sockets instead of RDMA),"
    " then swap the cable and exchange its ends to see whether the fault moves with it."
)
_WRONG = (
    "Do not use the machine for work: run `roofprobe accept` again after a full power cycle, and if results are wrong"
    " again, report it with measurements.jsonl and ask the maker for another unit."
)

SLOW_MEMORY = Fault("unit.slow-memory", _POWER_CYCLE, _UNIT)
SLOW_KERNEL = Fault("kernel.slow", _KERNEL, (*_UNIT, "software."))
HIDDEN_STATE = Fault("unit.hidden-slow-state", _POWER_CYCLE, _UNIT)
SLOW_COMPUTE = Fault("unit.slow-compute", _POWER_CYCLE, _UNIT)
UNSTABLE = Fault(
    "unit.unstable",
    "Clear the air inlets and outlets, let the machine cool down, end other programs, and run"
    " `roofprobe accept --soak 35m`; if the rate falls again, ask the maker.",
    _UNIT,
)
SLOW_CPU = Fault(
    "unit.slow-cpu-memory",
    "End other programs, set the CPU governor to performance (`sudo cpupower frequency-set -g performance`), update the"
    " firmware, and accept again.",
    _UNIT,
)
WRONG_RESULT = Fault("result.wrong", _WRONG)
IMPLAUSIBLE = Fault(
    "reading.implausible",
    "Check that --platform names this machine, then measure again with more memory (`roofprobe memory --memory SIZE`):"
    " a rate above the nominal ceiling comes from a cache or a wrong byte count.",
)
SOCKETS = Fault(
    "link.socket-fallback",
    "Give NCCL the RoCE devices: install rdma-core, pass /dev/infiniband and --ulimit memlock=-1 to a container, set"
    " NCCL_IB_HCA=rocep1s0f0,roceP2p1s0f0, and look for `NET/IB : Using` in its log.",
    ("link.", "nccl."),
)
ONE_HALF = Fault(
    "link.one-half",
    "Name both halves of the port, NCCL_IB_HCA=rocep1s0f0,roceP2p1s0f0 (…f1 for the second port), give each interface"
    " an address on a subnet of its own, and see that both are up (`ip -br link`).",
    ("link.",),
)
SLOW_LINK = Fault("link.nic-slow", _LINK, ("link.", "nccl.", "unit."))
SLOW_SMALL = Fault(
    "link.slow-small-messages",
    "Run `roofprobe allreduce --latency --pairwise` across the nodes to find the slow rank or link, end other work on"
    " every node, and see that no NCCL_* setting is left over (`env | grep NCCL`).",
    ("link.", "nccl.", "unit."),
)
WRONG_COLLECTIVE = Fault(
    "collective.wrong",
    "Do not use the cluster for work: measure every pair alone (`roofprobe allreduce --pairwise`), exchange the cable"
    " of the pair that is wrong, and update the firmware and NCCL to the same version on every node.",
)

OF_CHECK: dict[str, Fault] = {
    "gpu-read": SLOW_MEMORY,
    "gpu-copy": SLOW_MEMORY,
    "gpu-matmul-bf16": SLOW_COMPUTE,
    "gpu-stable-gemv": UNSTABLE,
    "gpu-stable-copy": UNSTABLE,
    "cpu-stable-gemv": UNSTABLE,
    "cpu-stable-copy": UNSTABLE,
    "cpu-read": SLOW_CPU,
    "cpu-copy": SLOW_CPU,
    "contention": SLOW_MEMORY,
    "memory-kinds": WRONG_RESULT,
    "link-rdma": SOCKETS,
    "link-halves": ONE_HALF,
    "all-gather-busbw": SLOW_LINK,
    "all-reduce-busbw": SLOW_LINK,
    "all-reduce-small": SLOW_SMALL,
    "collectives-correct": WRONG_COLLECTIVE,
}
"""Of the kernels' checks it is SLOW_KERNEL."""


def faults_of(fault: Fault, host: str, evidence: str, found: Sequence[Finding]) -> tuple[Finding, ...]:
    """The doctor's faults that explain a failure, with what was measured; else the failure's own."""
    causes = [f for f in found if f.severity == "fault" and any(_names(f.id, name) for name in fault.explained_by)]
    if causes:
        return tuple(causes)
    return (Finding(id=fault.id, severity="fault", host=host, evidence=evidence, remedy=fault.remedy),)


def _names(id_: str, name: str) -> bool:
    return id_.startswith(name) if name.endswith(".") else id_ == name
