"""Bugs of the CPU's kernels."""

from mutation_check import Mutant

DEQUANT = ("tests/test_dequant_host.py::test_every_scale_byte_and_code",)
ONE_VECTOR = ("tests/test_gemv_host.py::test_bf16_on_random_data[3-48-1-torch.bfloat16]",)
TWO_VECTORS = ("tests/test_gemv_host.py::test_bf16_on_random_data[5-1008-2-torch.bfloat16]",)
COPY = ("tests/test_stream_host.py::test_copy",)
READ = ("tests/test_stream_host.py::test_read",)

HOST_MUTANTS = [
    # -- the CPU's kernels
    Mutant(
        "host-copy-loses-its-tail", "kernels/stream_host.py",
        "        for i in range(end, out.size):\n            out[i] = source[i]\n",
        "        for i in range(end, out.size - 1):\n            out[i] = source[i]\n",
        COPY, "the last element is left to nobody",
    ),
    Mutant(
        "host-read-counts-twice", "kernels/stream_host.py",
        "total((sum0 + sum1) + (sum2 + sum3)))", "total((sum0 + sum1) + (sum2 + sum2)))",
        READ, "one accumulator of four is left out",
    ),
    Mutant(
        "host-subnormal-scales", "kernels/tables_host.py",
        "np.ldexp(8 + fraction, exponent - 10), np.ldexp(fraction, -9))",
        "np.ldexp(8 + fraction, exponent - 10), np.ldexp(fraction, -99))",
        DEQUANT, "E4M3 subnormals become next to nothing",
    ),
    Mutant(
        "host-global-scale-in-bf16", "kernels/tables_host.py",
        "g = np.float32(global_scale)",
        "g = (np.float32(global_scale).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)",
        DEQUANT, "the global scale loses its low 16 bits",
    ),
    Mutant(
        "host-last-block-dropped", "kernels/gemv_rows_host.py",
        "    for j in range(steps, whole, 16):\n", "    for j in range(steps, whole - 16, 16):\n",
        ONE_VECTOR, "K's last block of 16 does not count where K is no multiple of 64",
    ),
    Mutant(
        "host-row-off-by-one", "kernels/gemv_rows_host.py",
        "out[to + row] = _one_row(weight, offset + row, k, job.x, at)",
        "out[to + row] = _one_row(weight, offset + row // 2 * 2, k, job.x, at)",
        ONE_VECTOR, "odd rows repeat the row before",
    ),
    Mutant(
        "host-batch-swapped", "kernels/gemv_rows_host.py",
        "b0 = fma(w0, load(x, other + j), b0)", "b0 = fma(w0, load(x, one + j), b0)",
        TWO_VECTORS, "every second vector of a batch is half its neighbour",
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
        ("tests/test_grouped_gemv_host.py::test_each_pair_is_that_experts_product[5-2-3-130-96-bf16]",),
        "experts meet other tokens' vectors",
    ),
    Mutant(
        "host-result-never-copied", "kernels/gemv.py",
        "    if sums is not out:\n        out.copy_(sums)\n", "    if sums is not out:\n        out.copy_(out)\n",
        ("tests/test_dispatch.py::test_host_gemv_is_within_gamma",), "16-bit outputs keep what was there before",
    ),
]  # fmt: skip
