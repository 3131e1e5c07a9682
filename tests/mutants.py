"""The bugs that `scripts/mutation_check` plants, each of a kind that quantized kernels have had, and the tests for it.

A selection is as narrow as it can be and still catch its bug. `test_mutation_check.py` keeps every text findable.
"""

from mutation_check import Mutant

DEQUANT = ("tests/test_dequant_triton.py",)
LAYOUTS = ("tests/test_dequant_layouts.py",)
GEMV = ("tests/test_gemv_triton.py",)
STREAM = ("tests/test_stream_triton.py",)
CHECKS = ("tests/test_kernel_checks.py",)
HOST_DEQUANT = ("tests/test_dequant_host.py",)
HOST_GEMV = ("tests/test_gemv_host.py",)
HOST_STREAM = ("tests/test_stream_host.py",)
CHECKPOINT = ("tests/test_checkpoint.py::test_every_layout_gives_its_values",)

MUTANTS = [
    # -- values: codes, scales, rounding
    Mutant(
        "nibbles-swapped", "kernels/dequant_torch.py",
        "torch.stack((codes & 0xF, codes >> 4), dim=-1)", "torch.stack((codes >> 4, codes & 0xF), dim=-1)",
        DEQUANT, "even k is taken from the high nibble",
    ),
    Mutant(
        "nan-scale-is-480", "kernels/decode.py",
        'return tl.where(magnitude == 0x7F, float("nan"), value)', "return value",
        DEQUANT, "E4M3FN has no infinity: 0x7F is NaN, not 480",
    ),
    Mutant(
        "scale-subnormals-flushed", "kernels/decode.py",
        'return tl.where(magnitude == 0x7F, float("nan"), value)',
        'return tl.where(magnitude == 0x7F, float("nan"), tl.where(magnitude < 8, value * 0.0, value))',
        DEQUANT, "E4M3 subnormals (0x01 to 0x07) become zero",
    ),
    Mutant(
        "negative-scale", "kernels/decode.py",
        "half = (magnitude << 7) | ((byte & 0x80) << 8)", "half = magnitude << 7",
        DEQUANT, "the sign of a block scale is dropped",
    ),
    Mutant(
        "e8m0-zero", "kernels/decode.py",
        "bits = tl.maximum(byte << 23, 0x00400000)", "bits = byte << 23",
        LAYOUTS, "E8M0 0x00 is 2^-127, a float32 subnormal, not 0",
    ),
    Mutant(
        "e8m0-nan", "kernels/decode.py",
        "tl.where(byte == 0xFF, 0x7FC00000, bits)", "tl.where(byte == 0x100, 0x7FC00000, bits)",
        LAYOUTS, "E8M0 0xFF is NaN, not infinity",
    ),
    Mutant(
        "sign-of-zero", "kernels/dequant_triton.py",
        "        results += (value,)\n", "        results += (value + 0.0,)\n",
        DEQUANT, "code 8 is -0; adding 0 loses its sign",
    ),
    Mutant(
        "truncates-to-bf16", "kernels/decode.py",
        "rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16", "rounded = bits >> 16",
        DEQUANT, "float32 to bfloat16 by cutting off instead of to nearest",
    ),
    Mutant(
        "ties-away-from-zero", "kernels/decode.py",
        "rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16", "rounded = (bits + 0x8000) >> 16",
        DEQUANT, "ties go up instead of to even",
    ),
    Mutant(
        "bf16-global-scale", "kernels/dequant_torch.py",
        "scale = weight.global_scale.to(values.dtype)", "scale = weight.global_scale.bfloat16().to(values.dtype)",
        DEQUANT, "the global scale goes through bfloat16",
    ),
    Mutant(
        "reciprocal", "kernels/dequant_torch.py",
        'return values / scale if weight.global_scale_use == "divide" else values * scale',
        'return values * (1 / scale) if weight.global_scale_use == "divide" else values * scale',
        DEQUANT, "a rounded reciprocal in place of the division: an ulp off on most elements",
    ),
    Mutant(
        "divides-by-what-multiplies", "kernels/decode.py",
        "        scaled = tl.div_rn(value, scale)\n", "        scaled = value * scale\n",
        DEQUANT, "compressed-tensors' global scale multiplies",
    ),
    Mutant(
        "convention-lost", "kernels/quantized.py",
        'return cls(weight_packed, weight_scale, scale, shape, global_scale_use="divide")',
        "return cls(weight_packed, weight_scale, scale, shape)",
        ("tests/test_formats.py",), "from_compressed_tensors forgets that its scale divides",
    ),
    # -- indices: blocks, rows, tails, layouts
    Mutant(
        "scale-of-the-next-block", "kernels/dequant_triton.py",
        "_load(scales + word // BLOCK_WORDS, word < words, WHOLE)",
        "_load(scales + (word + 1) // BLOCK_WORDS, word < words, WHOLE)",
        DEQUANT, "half of every block takes its neighbour's scale",
    ),
    Mutant(
        "block-of-16-for-mxfp4", "kernels/dequant_triton.py",
        'BLOCK_WORDS: tl.constexpr = 4 if FORMAT == "mxfp4" else 2', "BLOCK_WORDS: tl.constexpr = 2",
        LAYOUTS, "MXFP4's blocks are 32 wide",
    ),
    Mutant(
        "dequant-tail-mask", "kernels/dequant_triton.py",
        "mask=i < words.to(tl.int64) * UNITS)", "mask=i < words.to(tl.int64) * UNITS + 1)",
        DEQUANT, "the last program writes one element past the end",
    ),
    Mutant(
        "swizzle-quarters", "kernels/scales_triton.py",
        "row % 32 * 16 + row % 128 // 32 * 4", "row % 32 * 4 + row % 128 // 32 * 128",
        LAYOUTS, "rows of a 128x4 tile in plain order",
    ),
    Mutant(
        "swizzle-columns", "kernels/scales_triton.py",
        "return column // 4 * 512 + column % 4", "return column // 4 * 512 + (3 - column % 4)",
        LAYOUTS, "the four columns of a 128x4 tile mirrored",
    ),
    Mutant(
        "swizzle-padding-ignored", "kernels/scales_triton.py",
        "((columns + 3) // 4 * 512)", "(columns // 4 * 512)",
        LAYOUTS, "columns padded to four are not counted: shows where K / block is no multiple of 4",
    ),
    Mutant(
        "copy-loses-its-tail", "kernels/stream_triton.py",
        "tl.store(pointer + i, value, mask=i < n)", "tl.store(pointer + i, value, mask=i < n - 1)",
        STREAM, "the last element of a partial block is not written",
    ),
    Mutant(
        "read-drops-the-last-block", "kernels/stream_triton.py",
        "if whole_blocks % programs == program:", "if whole_blocks % programs == program + programs:",
        STREAM, "the partial block belongs to no program",
    ),
    Mutant(
        "seed-ignored", "kernels/stream_triton.py",
        " * HASH + seed.to(tl.uint32, bitcast=True)", " * HASH + seed.to(tl.uint32, bitcast=True) * 0",
        STREAM, "the answer to an earlier seed: what a stale output looks like",
    ),
    # -- the CPU's kernels
    Mutant(
        "host-copy-loses-its-tail", "kernels/stream_host.py",
        "        for i in range(end, out.size):\n            out[i] = source[i]\n",
        "        for i in range(end, out.size - 1):\n            out[i] = source[i]\n",
        HOST_STREAM, "the last element is left to nobody",
    ),
    Mutant(
        "host-read-counts-twice", "kernels/stream_host.py",
        "total((sum0 + sum1) + (sum2 + sum3)))", "total((sum0 + sum1) + (sum2 + sum2)))",
        HOST_STREAM, "one accumulator of four is left out",
    ),
    Mutant(
        "host-subnormal-scales", "kernels/tables_host.py",
        "np.ldexp(8 + fraction, exponent - 10), np.ldexp(fraction, -9))",
        "np.ldexp(8 + fraction, exponent - 10), np.ldexp(fraction, -99))",
        HOST_DEQUANT, "E4M3 subnormals become next to nothing",
    ),
    Mutant(
        "host-global-scale-in-bf16", "kernels/tables_host.py",
        "g = np.float32(global_scale)",
        "g = (np.float32(global_scale).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)",
        HOST_DEQUANT, "the global scale loses its low 16 bits",
    ),
    Mutant(
        "host-last-block-dropped", "kernels/gemv_rows_host.py",
        "    for j in range(steps, whole, 16):\n", "    for j in range(steps, whole - 16, 16):\n",
        HOST_GEMV, "K's last block of 16 does not count where K is no multiple of 64",
    ),
    Mutant(
        "host-row-off-by-one", "kernels/gemv_rows_host.py",
        "out[to + row] = _one_row(weight, offset + row, k, job.x, at)",
        "out[to + row] = _one_row(weight, offset + row // 2 * 2, k, job.x, at)",
        HOST_GEMV, "odd rows repeat the row before",
    ),
    Mutant(
        "host-batch-swapped", "kernels/gemv_rows_host.py",
        "b0 = fma(w0, load(x, other + j), b0)", "b0 = fma(w0, load(x, one + j), b0)",
        HOST_GEMV, "every second vector of a batch is half its neighbour",
    ),
    Mutant(
        "host-swizzled-tiles", "kernels/weights_host.py",
        "return ((row >> 7) * tiles << 9) + ((row & 31) << 4) + ((row >> 5 & 3) << 2)",
        "return ((row >> 7) * tiles << 9) + ((row & 127) << 2)",
        ("tests/test_dequant_formats_host.py::test_nvfp4_in_the_swizzled_layout",),
        "rows of a 128x4 tile in plain order",
    ),
    Mutant(
        "host-e8m0-nan", "kernels/tables_host.py",
        "np.arange(255) - 127), np.float32(np.nan))", "np.arange(255) - 127), np.float32(np.inf))",
        ("tests/test_dequant_formats_host.py::test_mxfp4_every_scale_byte_and_code",), "E8M0 0xFF is NaN, not infinity",
    ),
    Mutant(
        "host-fp8-row-scale", "kernels/dequant_host.py",
        "splat(weight.scales[np.uint64(scales)])", "splat(weight.scales[np.uint64(scales // 2)])",
        ("tests/test_dequant_formats_host.py::test_fp8_shapes",), "FP8 rows share their neighbours' scales",
    ),
    Mutant(
        "host-fp8-sign", "kernels/vector_math.py",
        "moved = builder.and_(spread, constant(I16, [0xBF80] * LANES))",
        "moved = builder.and_(spread, constant(I16, [0x3F80] * LANES))",
        ("tests/test_conversions_host.py::test_e4m3",), "E4M3 values lose their sign",
    ),
    Mutant(
        "host-int32-offset", "kernels/gemv_rows_host.py",
        "    first, scales = row * k, scale_row(weight, row, k)\n    sum0",
        "    first, scales = np.int64(np.int32(row * k)), scale_row(weight, row, k)\n    sum0",
        ("tests/test_large_host.py::test_fp8_gemv",), "row * K in 32 bits: wraps past 2^31 weights",
    ),
    Mutant(
        "host-expert-tokens", "kernels/grouped_gemv_host.py",
        "vectors = places // expert_ids.shape[1] if", "vectors = places % expert_ids.shape[0] if",
        ("tests/test_grouped_gemv_host.py::test_each_pair_is_that_experts_product",),
        "experts meet other tokens' vectors",
    ),
    Mutant(
        "host-result-never-copied", "kernels/gemv.py",
        "    if sums is not out:\n        out.copy_(sums)\n", "    if sums is not out:\n        out.copy_(out)\n",
        ("tests/test_dispatch.py::test_host_gemv_is_within_gamma",), "16-bit outputs keep what was there before",
    ),
    # -- sums
    Mutant(
        "sums-in-bf16", "kernels/gemv_torch.py",
        "scaled(x.float() @ unscaled(weight).T, weight)",
        "scaled((x.bfloat16() @ unscaled(weight).bfloat16().T).float(), weight)",
        GEMV, "sums are rounded to bfloat16 before the scale",
    ),
    # -- the checks themselves
    Mutant(
        "check-ignores-nan", "kernels/gemv_check.py",
        "wrong += (~((low <= found) & (found <= high))).sum()", "wrong += ((found < low) | (found > high)).sum()",
        CHECKS, "a NaN compares false with everything: poison passes",
    ),
    Mutant(
        "check-too-wide", "kernels/gemv_check.py",
        "UNIT_ROUNDOFF = 2.0**-24", "UNIT_ROUNDOFF = 2.0**-12",
        CHECKS, "the tolerance of a 12-bit sum",
    ),
    Mutant(
        "check-sees-one-chunk", "kernels/rows.py",
        "for start in range(0, n, step):", "for start in range(0, min(n, step), step):",
        CHECKS, "rows after the first chunk are never looked at",
    ),
    Mutant(
        "check-forgives-any-nan", "kernels/dequant_check.py",
        "both_nan = found.isnan() & expected.isnan()", "both_nan = found.isnan() | expected.isnan()",
        CHECKS, "a NaN in place of a number passes",
    ),
    Mutant(
        "stream-check-by-value", "kernels/stream_check.py",
        "(inputs[0] + scalar * inputs[1] if op == \"triad\" else inputs[0]).view(torch.int32)",
        "(inputs[0] + scalar * inputs[0] if op == \"triad\" else inputs[0]).view(torch.int32)",
        STREAM, "triad is replayed with one array for both",
    ),
    Mutant(
        "no-poison", "probes/case.py",
        "        for out in operands.outputs:\n            out.fill_(POISON)\n", "        pass\n",
        ("tests/test_probes.py::test_a_kernel_that_stops_writing_after_its_warm_up_is_caught",),
        "what the warm-up left passes for what was timed",
    ),
    # -- checkpoints
    Mutant(
        "expert-zero-for-all", "kernels/checkpoint.py",
        "tensor = tensor[expert]", "tensor = tensor[0]",
        CHECKPOINT, "every expert is the first",
    ),
    Mutant(
        "makers-confused", "kernels/checkpoint.py",
        'if weight.maker == "ModelOpt" else', 'if weight.maker != "ModelOpt" else',
        CHECKPOINT, "ModelOpt's scale divides and compressed-tensors' multiplies",
    ),
]  # fmt: skip
