"""Tuned kernel configurations as the arguments of ``triton.Config``, in JSON: data, so that reading it runs nothing.

    entries = json.load(open("triton.json"))["entries"]
    configs = [triton.Config(**entry["config"]) for entry in entries if entry["kernel"] == "gemv_kernel"]

An entry's ``kwargs`` are the compile-time arguments of the kernel that depend on the configuration, for the shape that
was tuned, with activations and results in bfloat16, as tuning has them; the rest (FORMAT, BATCH, layouts) is the
caller's. They follow `constants` of gemv_triton.py and dequant_triton.py, to which a test holds them. Where the default
was not clearly beaten, the default is what the entry holds.
"""

from __future__ import annotations

from typing import Any

from roofprobe.errors import BadInput, CannotMeasure
from roofprobe.lane_registers import stated_registers
from roofprobe.profile import TuningProfile
from roofprobe.tuned import ConfigFields, TunedKernel

SCHEMA = "roofprobe/triton-configs/1"
NUM_STAGES = 3
"""Triton's default, with which every kernel was measured: the GEMV's loop has its own STAGES."""
WEIGHTS_A_BYTE = {"bf16": 0.5, "fp8": 1, "nvfp4": 2, "mxfp4": 2}


def triton_configs(profile: TuningProfile) -> dict[str, Any]:
    """The document. Raises CannotMeasure where no Triton kernel was tuned, BadInput for a configuration it can't be."""
    tuned = [entry for entry in profile.tuned if entry.backend == "triton"]
    if not tuned:
        others = f" ({len(profile.tuned)} entries are the host's)" if profile.tuned else ""
        raise CannotMeasure(f"no GPU kernel was tuned{others}; `roofprobe tune --profile PATH` does it on a GPU")
    devices = profile.environment.devices
    return {
        "schema": SCHEMA,
        "device": devices[0].name if devices else None,
        "compute_capability": devices[0].compute_capability if devices else None,
        "triton": profile.environment.triton,
        "launch": {"enable_fp_fusion": False},
        "entries": [_entry(t) for t in tuned],
    }


def _entry(t: TunedKernel) -> dict[str, Any]:
    fields = t.default if t.keep_default else t.config
    if t.op in ("gemv", "grouped_gemv"):
        kernel, config, grid = _gemv(t, _row(t), fields)
    elif t.op == "dequant":
        kernel, config, grid = _dequant(t, _row(t), fields)
    else:
        kernel, config, grid = _stream(t, fields)
    return {
        "op": t.op,
        "format": t.format,
        "n": t.n,
        "k": t.k,
        "batch": t.batch,
        "experts": t.experts,
        "top_k": t.top_k,
        "kernel": kernel,
        "is_default": t.keep_default,
        "reason": _reason(t),
        "grid": grid,
        "config": {**config, "num_stages": NUM_STAGES},
    }


def _gemv(t: TunedKernel, k: int, fields: ConfigFields) -> tuple[str, dict[str, Any], str]:
    """(kernel, arguments of the configuration, its grid)."""
    if t.format not in WEIGHTS_A_BYTE:
        raise BadInput(f"tuned {t.op}: format: expected {', '.join(WEIGHTS_A_BYTE)}, got {t.format}")
    warps, groups, stages = _power(t, fields, "warps"), _power(t, fields, "row_groups"), _count(t, fields, "stages")
    tile_bytes = _power(t, fields, "tile_bytes", 32, 512 * warps)
    mode, density = _mode(t, fields), WEIGHTS_A_BYTE[t.format]
    word_bytes = next((size for size in (4, 2, 1) if size * density >= 1 and k % (size * density) == 0), None)
    if word_bytes is None:
        raise BadInput(f"tuned {t.op} {t.format}: k: expected a whole number of bytes a row, got {k}")
    tile, per_word = tile_bytes // 4, int(word_bytes * density)
    kwargs = {
        "MODE": mode,
        "WHOLE_TILES": k // per_word % tile == 0,
        "GROUPS": groups,
        "LANE_ROWS": 512 * warps // tile_bytes,
        "TILE": tile,
    }
    kernel = "gemv_mma_kernel" if mode == "mma" else "gemv_kernel"
    if mode != "mma":
        kwargs |= {"PAIRS": "bf16x2" if mode == "fhfma" and per_word > 1 else "", "STAGES": stages}
    rows = "cdiv(n, GROUPS * LANE_ROWS)"
    if t.op == "grouped_gemv":
        kernel, rows = "grouped_gemv_kernel", f"top_k, tokens, {rows}"
    registers = stated_registers(t.format, warps, groups, 1 if t.op == "grouped_gemv" else t.batch)
    stated = {} if registers is None else {"maxnreg": registers}
    return kernel, {"kwargs": kwargs, "num_warps": warps, **stated}, rows


def _dequant(t: TunedKernel, k: int, fields: ConfigFields) -> tuple[str, dict[str, Any], str]:
    """As `_gemv`."""
    per_word = 8 if t.format != "fp8" else next(size for size in (4, 2, 1) if k % size == 0)
    warps, words = _power(t, fields, "warps"), _power(t, fields, "words")
    kwargs = {"MODE": _mode(t, fields), "WORDS": words, "TILE": 32 * warps * (8 // per_word)}
    return "dequantize_kernel", {"kwargs": kwargs, "num_warps": warps}, "cdiv(words, WORDS * TILE)"


def _stream(t: TunedKernel, fields: ConfigFields) -> tuple[str, dict[str, Any], str]:
    """As `_gemv`."""
    warps = _power(t, fields, "warps")
    config = {"kwargs": {"BLOCK": warps * 32 * 4 * _power(t, fields, "accesses")}, "num_warps": warps}
    if t.op == "read":
        programs = _count(t, fields, "programs_per_multiprocessor")
        return "read_kernel", config, f"min(cdiv(n, BLOCK), {programs} * multiprocessors)"
    return "transfer_kernel", config, "cdiv(n, BLOCK)"


def _row(t: TunedKernel) -> int:
    if t.k is None:
        raise BadInput(f"tuned {t.op} {t.format} {t.n}: k: expected a whole number above 0, got null")
    return t.k


def _mode(t: TunedKernel, fields: ConfigFields) -> str:
    mode = fields.get("decode")
    if not isinstance(mode, str):
        raise BadInput(f"tuned {t.op} {t.format} {t.n}x{t.k}: decode: expected a mode, got {mode!r}")
    return mode


def _count(t: TunedKernel, fields: ConfigFields, name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or value < 1:
        raise BadInput(f"tuned {t.op} {t.format} {t.n}x{t.k}: {name}: expected a whole number above 0, got {value!r}")
    return value


def _power(t: TunedKernel, fields: ConfigFields, name: str, least: int = 1, most: int = 16) -> int:
    value = _count(t, fields, name)
    if not least <= value <= most or value & (value - 1):
        where = f"tuned {t.op} {t.format} {t.n}x{t.k}"
        raise BadInput(f"{where}: {name}: expected a power of two from {least} to {most}, got {value}")
    return value


def _reason(t: TunedKernel) -> str:
    if t.speedup is None:
        return f"keep the default: none of {t.tried} configurations was faster"
    low, high = t.interval or (t.speedup, t.speedup)
    found = f"{t.speedup:.3f}x the default [{low:.3f}, {high:.3f}], best of {t.tried}"
    if t.contended:
        return f"keep the default: {found}, while other work disturbed the measurement"
    return f"keep the default: {found} does not clear {1 + t.margin:.3f}" if t.keep_default else found
