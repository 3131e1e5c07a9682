"""The audit's limits, in one table each.

Instructions a byte: a multiprocessor issues 4 warp instructions a clock, so a kernel may spend
128 * multiprocessors * clock / bandwidth lane-instructions on each byte before issuing, not memory, binds it: 54 on
GB10, 7 on an H200. The budgets are tighter: what the code was seen to need with Triton 3.9, plus 5 to 10 %.
"""

from dataclasses import dataclass

from roofprobe.kernels.compile_only import Case
from roofprobe.lane_registers import lane_registers


@dataclass(frozen=True)
class Budget:
    """Lane-instructions that a byte of weights may cost.

    decode: once, to turn it into float32. vector: for each vector, its multiply-adds. activations: for each vector, to
    load and widen the values that face the byte, shared by the rows that a lane works on.
    """

    decode: float
    vector: float
    activations: float

    def limit(self, batch: int, row_groups: int) -> float:
        return self.decode + batch * (self.vector + self.activations / row_groups)


BUDGETS = {
    # (format, decode mode, cc); beside it, the limit at batch 1 with four rows a lane
    ("bf16", "bits", 121): Budget(0.9, 0.6, 1.0),
    ("bf16", "bits", 90): Budget(0.9, 0.6, 1.0),
    ("bf16", "fhfma", 121): Budget(0.3, 0.55, 0.55),
    ("bf16", "e4m3", 90): Budget(0.9, 0.6, 1.0),
    ("fp8", "bits", 121): Budget(11.0, 1.2, 1.8),
    ("fp8", "bits", 90): Budget(11.0, 1.2, 1.8),
    ("fp8", "fhfma", 121): Budget(0.8, 1.1, 0.7),
    ("fp8", "e4m3", 90): Budget(1.9, 1.2, 1.8),
    ("nvfp4", "bits", 121): Budget(8.4, 2.3, 3.4),
    ("nvfp4", "bits", 90): Budget(8.6, 2.3, 3.4),
    ("nvfp4", "fhfma", 121): Budget(1.8, 2.3, 1.2),
    ("nvfp4", "e4m3", 90): Budget(5.6, 2.3, 3.4),
    ("nvfp4", "mma", 90): Budget(4.0, 0.6, 4.0),
    ("mxfp4", "bits", 121): Budget(8.4, 2.3, 3.4),
    ("mxfp4", "bits", 90): Budget(8.6, 2.3, 3.4),
    ("mxfp4", "fhfma", 121): Budget(1.8, 2.3, 1.2),
    ("mxfp4", "e4m3", 90): Budget(5.6, 2.3, 3.4),
    ("mxfp4", "mma", 90): Budget(4.2, 0.6, 4.0),
}
TARGETS = {("nvfp4", 121): 4.5, ("nvfp4", 90): 5.0, ("bf16", 121): 1.0}
"""What the leanest GEMV of a format should come to at batch 1, in any mode and configuration; a miss is reported."""


def budget(weight_format: str, mode: str, cc: int, batch: int, row_groups: int) -> float | None:
    """The most lane-instructions a weight byte, or None where none is stated (which is a finding)."""
    stated = BUDGETS.get((weight_format, mode, cc))
    return None if stated is None else stated.limit(batch, row_groups)


def register_limit(case: Case) -> int:
    """Registers a thread that leave room for the warps that a configuration counts on to keep the memory busy.

    GEMV: `lane_registers`. Other kernels: those with which 32 warps fit, eight programs of four.
    """
    if "GROUPS" not in case.constants:
        return 64
    return lane_registers(case.warps, int(case.constants["GROUPS"]), int(case.constants["BATCH"]))
