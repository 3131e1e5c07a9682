"""Bugs of the formats, of dequantization and of streams, in Triton and in the eager reference."""

from mutation_check import Mutant

CODES = ("tests/test_dequant_triton.py::test_every_code_under_every_scale_byte",)
ROUNDING = (
    "tests/test_dequant_triton.py::test_sixteen_bit_results_round_to_nearest_even",
    "tests/test_dequant_triton.py::test_rounding_to_bfloat16_of_ties_extremes_and_nan",
)
SHAPES = (
    "tests/test_dequant_triton.py::test_whole_programs_and_a_partial_one",
    "tests/test_dequant_triton.py::test_nothing_is_written_past_the_end",
)  # fmt: skip
LAYOUTS = ("tests/test_dequant_layouts.py",)
STREAM = ("tests/test_stream_triton.py::test_every_operation", "tests/test_stream_triton.py::test_the_checker_sees")

DEQUANT_MUTANTS = [
    # -- values: codes, scales, rounding
    Mutant(
        "nibbles-swapped", "kernels/dequant_torch.py",
        "torch.stack((codes & 0xF, codes >> 4), dim=-1)", "torch.stack((codes >> 4, codes & 0xF), dim=-1)",
        CODES, "even k is taken from the high nibble",
    ),
    Mutant(
        "nan-scale-is-480", "kernels/decode.py",
        'return tl.where(magnitude == 0x7F, float("nan"), value)', "return value",
        CODES, "E4M3FN has no infinity: 0x7F is NaN, not 480",
    ),
    Mutant(
        "scale-subnormals-flushed", "kernels/decode.py",
        'return tl.where(magnitude == 0x7F, float("nan"), value)',
        'return tl.where(magnitude == 0x7F, float("nan"), tl.where(magnitude < 8, value * 0.0, value))',
        CODES, "E4M3 subnormals (0x01 to 0x07) become zero",
    ),
    Mutant(
        "negative-scale", "kernels/decode.py",
        "half = (magnitude << 7) | ((byte & 0x80) << 8)", "half = magnitude << 7",
        CODES, "the sign of a block scale is dropped",
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
        CODES, "code 8 is -0; adding 0 loses its sign",
    ),
    Mutant(
        "truncates-to-bf16", "kernels/decode.py",
        "rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16", "rounded = bits >> 16",
        ROUNDING, "float32 to bfloat16 by cutting off instead of to nearest",
    ),
    Mutant(
        "ties-away-from-zero", "kernels/decode.py",
        "rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16", "rounded = (bits + 0x8000) >> 16",
        ROUNDING, "ties go up instead of to even",
    ),
    Mutant(
        "bf16-global-scale", "kernels/dequant_torch.py",
        "scale = weight.global_scale.to(values.dtype)", "scale = weight.global_scale.bfloat16().to(values.dtype)",
        CODES, "the global scale goes through bfloat16",
    ),
    Mutant(
        "reciprocal", "kernels/dequant_torch.py",
        'return values / scale if weight.global_scale_use == "divide" else values * scale',
        'return values * (1 / scale) if weight.global_scale_use == "divide" else values * scale',
        CODES, "a rounded reciprocal in place of the division: an ulp off on most elements",
    ),
    Mutant(
        "divides-by-what-multiplies", "kernels/decode.py",
        "        scaled = tl.div_rn(value, scale)\n", "        scaled = value * scale\n",
        CODES, "compressed-tensors' global scale multiplies",
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
        CODES, "half of every block takes its neighbour's scale",
    ),
    Mutant(
        "block-of-16-for-mxfp4", "kernels/dequant_triton.py",
        'BLOCK_WORDS: tl.constexpr = 4 if FORMAT == "mxfp4" else 2', "BLOCK_WORDS: tl.constexpr = 2",
        LAYOUTS, "MXFP4's blocks are 32 wide",
    ),
    Mutant(
        "dequant-tail-mask", "kernels/dequant_triton.py",
        "mask=i < words.to(tl.int64) * UNITS)", "mask=i < words.to(tl.int64) * UNITS + 1)",
        SHAPES, "the last program writes one element past the end",
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
]  # fmt: skip
