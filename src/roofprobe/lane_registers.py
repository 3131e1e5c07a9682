"""How many registers a lane of a GEMV may take: what its launch states, and what an exported configuration states."""


def lane_registers(warps: int, row_groups: int, batch: int) -> int:
    """The most 32-bit registers a lane that leave a multiprocessor room for the warps that a configuration counts on.

    Up to two vectors: as many as keep 32 KiB of weights in flight at 16 bytes a row of a lane, from 8 to 16 warps (the
    four programs that the default configuration sizes grids for). Above, where decoding binds and not memory: 8.
    """
    resident = min(16, max(8, 64 // row_groups)) if batch <= 2 else 8
    return min(255, 65536 // (32 * max(resident, warps)))


def stated_registers(weight_format: str, warps: int, row_groups: int, batch: int) -> int | None:
    """What the compiler is told: `lane_registers`; nothing for bf16.

    Untold, ptxas aims at more warps than that and spills: 8 to 24 bytes at 48 to 96 registers in 11 of 778 kernels
    (Triton 3.9, cc 121 and 90). bf16 has nothing to decode, never spilled, and told so takes up to 8 % more
    instructions on cc 90.
    """
    return None if weight_format == "bf16" else lane_registers(warps, row_groups, batch)
