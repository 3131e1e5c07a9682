"""Which kernels the audit looks at: everything that ships and a stated part of the tuning space.

For a compute capability: `compile_only.all_cases()` as far as its decode modes exist there; each format's
dequantization in the GPU's own decode mode; every format and scale layout's GEMV in it at batch 1, 4 and 16; the
grouped GEMV of each; and for each format at batch 1 every configuration that `default_config` gives for the catalogue's
projections on GB10 and H200, and a few around them.
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import product

import torch
import triton

from roofprobe.kernels.compile_only import Case, all_cases, dequant_case, gemv_case, stream_case
from roofprobe.kernels.decode import decode_mode
from roofprobe.kernels.dequant_triton import DequantConfig
from roofprobe.kernels.formats import FORMAT_NAMES
from roofprobe.kernels.gemv_triton import GemvConfig, default_config, gemv_mode
from roofprobe.kernels.grouped_gemv_triton import grouped_gemv_kernel
from roofprobe.kernels.search import STREAMS, dequant_space, gemv_space, stream_space
from roofprobe.lane_registers import stated_registers

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
    lowest = {"bits": 0, "e4m3": 89, "mma": 89, "cvt": 100, "fhfma": 100}
    return cc >= lowest[str(case.constants.get("MODE", "bits"))]


def with_config(case: Case, config: GemvConfig) -> Case:
    """A GEMV case under another configuration, its decode mode kept."""
    tile = config.tile_bytes // 4  # 16 bytes a lane are four words
    constants = case.constants | {
        "GROUPS": config.row_groups,
        "LANE_ROWS": config.lane_rows,
        "TILE": tile,
        "WHOLE_TILES": K // int(case.constants["PER_WORD"]) % tile == 0,
    }
    if "STAGES" in constants:
        constants["STAGES"] = config.stages
    registers = stated_registers(str(constants["FORMAT"]), config.warps, config.row_groups, int(constants["BATCH"]))
    return replace(case, constants=constants, warps=config.warps, registers=registers)


def grouped(case: Case) -> Case:
    """The grouped GEMV of a GEMV case: the same body, and the arguments that name the expert."""
    signature = case.signature | {"expert_ids": "*i32", "experts": "i32"}
    return replace(case, name=f"grouped_{case.name}", kernel=grouped_gemv_kernel, signature=signature)


def selection(cc: int) -> list[Case]:
    """The cases for a compute capability, each once."""
    mode = decode_mode(capability(cc), triton.__version__)
    cases = [case for case in all_cases() if exists(case, cc)]
    cases += [dequant_case(name, torch.bfloat16, config=DequantConfig(decode=mode)) for name in FORMAT_NAMES[1:]]
    for weight_format, how in LAYOUTS:
        cases.append(grouped(gemv_case(weight_format, 1, decode=mode, how=how)))
        if not how:
            cases.append(grouped(gemv_case(weight_format, 1)))
        for used in dict.fromkeys((gemv_mode(weight_format, K, torch.bfloat16, mode), mode)):
            shipped = [gemv_case(weight_format, batch, decode=used, how=how) for batch in BATCHES]
            cases += shipped
            configs = [*(default_config(n, 1, m, used) for n in ROWS for m in MULTIPROCESSORS), *NEIGHBOURS]
            cases += [with_config(shipped[0], config) for config in ([] if how else configs)]
    return _once(cases)


def everything(cc: int) -> list[Case]:
    """The selection, and what `search` offers for streams and for a tall weight of each format at batch 1, 4 and 16."""
    mode = decode_mode(capability(cc), triton.__version__)
    cases = selection(cc)
    for multiprocessors in MULTIPROCESSORS:
        for weight_format, batch in product(FORMAT_NAMES, BATCHES):
            for config in gemv_space(weight_format, ROWS[-1], K, batch, multiprocessors, mode):
                cases.append(with_config(gemv_case(weight_format, batch, decode=config.decode), config))
        for weight_format in FORMAT_NAMES[1:]:
            space = dequant_space(ROWS[-1], K, multiprocessors, mode)
            cases += [dequant_case(weight_format, torch.bfloat16, config=config) for config in space]
        for op in STREAMS:
            cases += [stream_case(op, config) for config in stream_space(op, 1 << 28, multiprocessors)]
    return _once(cases)


def _once(cases: Iterable[Case]) -> list[Case]:
    unique: dict[str, Case] = {}
    for case in cases:
        unique.setdefault(case_key(case), case)
    return list(unique.values())


def subset(cc: int) -> list[Case]:
    """A few of the selection, for CI: a read, NVFP4's dequantization, and the formats' GEMV in the GPU's own modes."""
    mode = decode_mode(capability(cc), triton.__version__)
    cases = [case for case in all_cases() if case.name in ("read", "dequant-nvfp4-bf16")]
    gemvs = [gemv_case(name, 1, decode=mode, how=how) for name, how in LAYOUTS if how != ("by_row",)]
    own = gemv_case("nvfp4", 1, decode=gemv_mode("nvfp4", K, torch.bfloat16, mode))
    return _once([*cases, gemv_case("nvfp4", 1), own, *gemvs, grouped(gemvs[0]), grouped(gemvs[2])])


def configuration(case: Case) -> str:
    """The case's configuration in a few characters: `w4g4t128` is 4 warps, 4 rows a lane, segments of 128 bytes."""
    constants = case.constants
    mode = f"{constants['MODE']}-" if "MODE" in constants else ""
    text = f"{mode}w{case.warps}"
    if "GROUPS" in constants:
        segment = 512 * case.warps // int(constants["LANE_ROWS"])
        text += f"g{constants['GROUPS']}t{segment}" + (
            f"s{constants['STAGES']}" if constants.get("STAGES", 1) > 1 else ""
        )
        return text
    return text + (f"n{constants['WORDS']}" if "WORDS" in constants else f"n{constants['BLOCK'] // (128 * case.warps)}")


def case_key(case: Case) -> str:
    """The case's name and configuration, unique among the selection; the mode is in both where it is not "bits"."""
    return f"{case.name}-{configuration(case)}"
