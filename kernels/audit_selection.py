"""Which kernels the audit looks at: everything that ships and a stated part of the tuning space.

For a compute capability: `compile_only.all_cases()` as far as its decode modes exist there; every format and scale
layout in the GPU's own decode mode at batch 1, 4 and 16; the grouped GEMV of each; and for each format at batch 1 every
configuration that `default_config` gives for the catalogue's projections on GB10 and H200, and a few around them.
"""

from dataclasses import replace

import triton

from roofprobe.kernels.audit_model import word_bytes
from roofprobe.kernels.compile_only import Case, all_cases, gemv_case
from roofprobe.kernels.decode import decode_mode
from roofprobe.kernels.gemv_triton import GemvConfig, default_config
from roofprobe.kernels.grouped_gemv_triton import grouped_gemv_kernel
from roofprobe.kernels.search import gemv_space

LAYOUTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("bf16", ()),
    ("fp8", ()),
    ("fp8", ("by_row",)),
    ("nvfp4", ()),
    ("nvfp4", ("swizzled",)),
    ("mxfp4", ()),
    ("mxfp4", ("swizzled",)),
)
"""Formats, and the flags of `gemv_triton.constants` that ask for other code."""
BATCHES = (1, 4, 16)
K = 4096
ROWS = (512, 1024, 2048, 4096, 8192, 16384, 28672, 152064)
"""Heights of the catalogue's projections, down to a quarter: `default_config` depends on nothing else of a shape."""
MULTIPROCESSORS = (48, 132)
"""Of GB10 and H200."""
NEIGHBOURS = (
    GemvConfig(warps=2),
    GemvConfig(warps=8),
    GemvConfig(row_groups=8),
    GemvConfig(warps=8, row_groups=2, tile_bytes=512),
)
"""More rows a lane, other program sizes, longer segments."""


def capability(cc: int) -> tuple[int, int]:
    return cc // 10, cc % 10


def exists(case: Case, cc: int) -> bool:
    """Whether the case's decode mode compiles for the compute capability."""
    lowest = {"bits": 0, "e4m3": 89, "cvt": 100, "fhfma": 100}
    return cc >= lowest[str(case.constants.get("MODE", "bits"))]


def with_config(case: Case, config: GemvConfig) -> Case:
    """A GEMV case under another configuration, its decode mode kept."""
    tile = config.tile_bytes // 4  # 16 bytes a lane are four words
    constants = case.constants | {
        "GROUPS": config.row_groups,
        "LANE_ROWS": config.lane_rows,
        "TILE": tile,
        "STAGES": config.stages,
        "WHOLE_TILES": K // int(case.constants["PER_WORD"]) % tile == 0,
    }
    turn = config.row_groups * 4 * word_bytes(case)
    return replace(case, constants=constants, warps=config.warps, weight_bytes=turn)


def configs(weight_format: str, mode: str, every: bool) -> list[GemvConfig]:
    """What `default_config` gives and its neighbours, or the whole search space."""
    if every:
        return [
            c for m in MULTIPROCESSORS for c in gemv_space(weight_format, ROWS[-1], K, 1, m, mode) if c.decode == mode
        ]
    return [*(default_config(n, 1, m) for n in ROWS for m in MULTIPROCESSORS), *NEIGHBOURS]


def grouped(case: Case) -> Case:
    """The grouped GEMV of a GEMV case: the same body, and the arguments that name the expert."""
    signature = case.signature | {"expert_ids": "*i32", "experts": "i32"}
    return replace(case, name=f"grouped_{case.name}", kernel=grouped_gemv_kernel, signature=signature)


def selection(cc: int, every: bool = False) -> list[Case]:
    """The cases for a compute capability, each once; `every` takes the whole tuning space."""
    mode = decode_mode(capability(cc), triton.__version__)
    cases = [case for case in all_cases() if exists(case, cc)]
    for weight_format, how in LAYOUTS:
        shipped = [gemv_case(weight_format, batch, decode=mode, how=how) for batch in BATCHES]
        cases += [*shipped, grouped(shipped[0])]
        if not how:
            cases.append(grouped(gemv_case(weight_format, 1)))
            cases += [with_config(shipped[0], config) for config in configs(weight_format, mode, every)]
    unique: dict[str, Case] = {}
    for case in cases:
        unique.setdefault(case_key(case), case)
    return list(unique.values())


def subset(cc: int) -> list[Case]:
    """A few of the selection, for CI: a read, NVFP4's dequantization, and the formats' GEMV in the GPU's own mode."""
    mode = decode_mode(capability(cc), triton.__version__)
    cases = [case for case in all_cases() if case.name in ("read", "dequant-nvfp4-bf16")]
    gemvs = [gemv_case(name, 1, decode=mode, how=how) for name, how in LAYOUTS if how != ("by_row",)]
    return [*cases, gemv_case("nvfp4", 1), *gemvs, grouped(gemvs[0]), grouped(gemvs[2])]


def configuration(case: Case) -> str:
    """The case's configuration in a few characters: `w4g4t128` is 4 warps, 4 rows a lane, segments of 128 bytes."""
    constants = case.constants
    mode = f"{constants['MODE']}-" if "MODE" in constants else ""
    text = f"{mode}w{case.warps}"
    if "GROUPS" in constants:
        segment = 512 * case.warps // int(constants["LANE_ROWS"])
        text += f"g{constants['GROUPS']}t{segment}" + (f"s{constants['STAGES']}" if constants["STAGES"] > 1 else "")
        return text
    return text + (f"n{constants['WORDS']}" if "WORDS" in constants else f"n{constants['BLOCK'] // (128 * case.warps)}")


def case_key(case: Case) -> str:
    """The case's name and configuration, unique among the selection; the mode is in both where it is not "bits"."""
    return f"{case.name}-{configuration(case)}"
