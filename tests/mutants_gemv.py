"""Bugs of GEMV and grouped GEMV: in the Triton kernels, their launch, the choice of mode, the reference."""

from mutation_check import Mutant

REFERENCE = ("tests/test_gemv_triton.py::test_every_type_of_vector[torch-nvfp4-torch.float32]",)
SUMS = ("tests/test_gemv_triton.py::test_exact_sums[triton-nvfp4-several whole tiles and a tail]",)
MXFP4 = ("tests/test_gemv_triton.py::test_exact_sums[triton-mxfp4-several whole tiles and a tail]",)
BATCH = ("tests/test_gemv_triton.py::test_exact_sums_of_a_batch[nvfp4-3]",)
ANY_START = ("tests/test_gemv_triton.py::test_fp8_rows_that_start_anywhere",)
SWIZZLED = ("tests/test_gemv_triton.py::test_exact_sums_with_swizzled_scales[triton-nvfp4-rows that no group divides]",)
DEFAULT = ("tests/test_gemv_triton.py::test_division_by_the_global_scale",)
EXPERTS = ("tests/test_grouped_gemv.py::test_exact_sums[nvfp4-triton]",)
SWIZZLED_EXPERTS = ("tests/test_grouped_gemv.py::test_random_data[mxfp4 swizzled-triton]",)
SCALES = ("tests/test_grouped_gemv.py::test_each_expert_has_its_own_global_scale[triton]",)

GEMV_MUTANTS = [
    # -- sums, rows, vectors
    Mutant(
        "sums-in-bf16", "kernels/gemv_torch.py",
        "scaled(x.float() @ unscaled(weight).T, weight)",
        "scaled((x.bfloat16() @ unscaled(weight).bfloat16().T).float(), weight)",
        REFERENCE, "sums are rounded to bfloat16 before the scale",
    ),
    Mutant(
        "gemv-row-stride", "kernels/gemv_kernel.py",
        "rows += ((weight + row.to(tl.int64) * words)[:, :, None],)",
        "rows += ((weight + row.to(tl.int64) * (words // 4 * 4))[:, :, None],)",
        ANY_START, "rows are taken to begin at a multiple of 16 bytes",
    ),
    Mutant(
        "gemv-tail-mask", "kernels/gemv_kernel.py",
        "    values = _load(pointer + at, at < limit, MASKED)",
        "    values = _load(pointer + at, at < limit - 1, MASKED)",
        SUMS, "the last word of a row's tail does not count",
    ),
    Mutant(
        "gemv-tail-dropped", "kernels/gemv_kernel.py",
        "    if not WHOLE_TILES:\n", "    if not WHOLE_TILES and GROUPS == 1:\n",
        SUMS, "what is left of a row after the whole tiles is nobody's",
    ),
    Mutant(
        "gemv-last-row", "kernels/gemv_kernel.py",
        "tl.store(y + b * n + row, rounded_to(total, dtype), mask=row < n)",
        "tl.store(y + b * n + row, rounded_to(total, dtype), mask=row < n - 1)",
        SUMS, "the last row is not written",
    ),
    Mutant(
        "gemv-rows-repeated", "kernels/gemv_kernel.py",
        "row = tl.minimum(first_row + r * LANE_ROWS + tl.arange(0, LANE_ROWS)[:, None], n - 1)",
        "row = tl.minimum(first_row + tl.arange(0, LANE_ROWS)[:, None], n - 1)",
        SWIZZLED, "every group of a program reads the first one's rows",
    ),
    Mutant(
        "gemv-second-block-scale", "kernels/gemv_kernel.py",
        "total = tl.fma((chains[2] + chains[3]) * FACTOR, block_scales[2 * r + 1], total)",
        "total = tl.fma((chains[2] + chains[3]) * FACTOR, block_scales[2 * r], total)",
        SUMS, "the odd blocks take their neighbours' scales",
    ),
    Mutant(
        "gemv-scales-of-the-first-group", "kernels/gemv_kernel.py",
        "scales, scale_rows[r], chunk, columns", "scales, scale_rows[0], chunk, columns",
        SWIZZLED, "every group of rows takes the first one's scales",
    ),
    Mutant(
        "gemv-swizzled-quarters", "kernels/gemv_kernel.py",
        "(swizzled_row(row - origin, columns) // SCALE_BYTES,)", "(swizzled_row(row % 32, columns) // SCALE_BYTES,)",
        SWIZZLED, "each quarter of a 128x4 tile's rows takes the first one's scales",
    ),
    Mutant(
        "gemv-batch-swapped", "kernels/gemv_kernel.py",
        "tl.store(y + b * n + row,", "tl.store(y + (BATCH - 1 - b) * n + row,",
        BATCH, "results go to another vector's column",
    ),
    Mutant(
        "gemv-vector-stride", "kernels/gemv_kernel.py",
        "_activations(x + b * words * X_LIMIT,", "_activations(x + b // 2 * words * X_LIMIT,",
        BATCH, "two neighbours of a batch are the same vector",
    ),
    Mutant(
        "gemv-sums-transposed", "kernels/gemv_kernel.py",
        "            total = sums[b * GROUPS + r]\n", "            total = sums[r * BATCH + b]\n",
        ("tests/test_gemv_triton.py::test_every_type_of_vector[triton-nvfp4-torch.bfloat16]",),
        "accumulators of rows and of vectors are mixed up from the second tile on",
    ),
    # -- the launch and the choice of mode
    Mutant(
        "gemv-mode-without-its-factor", "kernels/gemv_kernel.py",
        'FACTOR: tl.constexpr = e2m1_factor(MODE) if FORMAT == "mxfp4" else 1.0', "FACTOR: tl.constexpr = 1.0",
        MXFP4, "the power of two by which the mode's E2M1 is too small is not put back",
    ),
    Mutant(
        "gemv-mode-fallback", "kernels/gemv.py",
        "multiprocessors(device), mode)", 'multiprocessors(device), "fhfma")',
        DEFAULT, "instructions that the hardware does not have, in place of the fallback",
    ),
    Mutant(
        "mode-of-a-newer-compiler", "kernels/decode.py",
        'return "fhfma" if version >= (3, 9) else "cvt"', 'return "fhfma"',
        ("tests/test_triton_compile.py::test_the_decode_mode_follows_gpu_and_compiler",),
        "instructions that an older Triton's ptxas does not know",
    ),
    Mutant(
        "gemv-divides-never", "kernels/gemv_triton.py",
        'how["divide"] = not isinstance(weight, MXFP4Weight) and weight.global_scale_use == "divide"',
        'how["divide"] = False',
        DEFAULT, "compressed-tensors' global scale multiplies",
    ),
    Mutant(
        "gemv-alignment-claimed", "kernels/gemv_triton.py",
        '"ALIGN": next(a for a in (4, 2, 1) if words % a == 0),', '"ALIGN": 4,',
        ANY_START, "rows whose words are no multiple of four lose the rest",
    ),
    # -- experts
    Mutant(
        "grouped-expert-of-the-first-token", "kernels/grouped_gemv_triton.py",
        "number = tl.load(expert_ids + pair)", "number = tl.load(expert_ids + tl.program_id(0))",
        EXPERTS, "every token is sent to the first one's experts",
    ),
    Mutant(
        "grouped-top-k-index", "kernels/grouped_gemv_triton.py",
        "pair = token * tl.num_programs(0) + tl.program_id(0)", "pair = token + tl.program_id(0) * tl.num_programs(1)",
        EXPERTS, "expert numbers and results in the order of the transposed matrix",
    ),
    Mutant(
        "grouped-token-index", "kernels/grouped_gemv_triton.py",
        "x + token.to(tl.int64) * words * X_STRIDE", "x + tl.program_id(0).to(tl.int64) * words * X_STRIDE",
        EXPERTS, "an expert meets the vector of another token",
    ),
    Mutant(
        "grouped-weight-of-expert-0", "kernels/grouped_gemv_triton.py",
        "tile, weight + e * n * words,", "tile, weight + e * 0,",
        EXPERTS, "every expert's codes are the first one's",
    ),
    Mutant(
        "grouped-global-scale-of-expert-0", "kernels/grouped_gemv_triton.py",
        'scale + e * (n if BY_ROW else 1 if FORMAT == "nvfp4" or FORMAT == "fp8" else 0)',
        "scale + e * (n if BY_ROW else 0)",
        SCALES, "every expert's last scale is the first one's",
    ),
    Mutant(
        "grouped-padding-of-scales", "kernels/grouped_gemv_triton.py",
        "size = (n + 127) // 128 * ((columns + 3) // 4)", "size = (n + 127) // 128 * (columns // 4)",
        SWIZZLED_EXPERTS, "an expert's scales begin before the last one's padding ends",
    ),
    Mutant(
        "grouped-reference-token-index", "kernels/grouped_gemv_torch.py",
        "gemv_torch.gemv(expert(weights, number), x[tokens], rows)",
        "gemv_torch.gemv(expert(weights, number), x[places], rows)",
        ("tests/test_grouped_gemv.py::test_exact_sums[nvfp4-torch]",), "vectors by their place among a token's experts",
    ),
    Mutant(
        "grouped-bytes-of-every-pair", "kernels/grouped_gemv.py",
        "distinct * expert_bytes(weights)", "pairs * expert_bytes(weights)",
        ("tests/test_grouped_gemv.py::test_only_chosen_experts_count_as_bytes",),
        "an expert that two tokens share counts twice",
    ),
    Mutant(
        "grouped-check-of-one-token", "kernels/grouped_gemv_check.py",
        "for number in expert_ids.unique().tolist():", "for number in expert_ids[:1].unique().tolist():",
        ("tests/test_grouped_gemv.py::test_the_check_counts_a_row_of_another_expert",),
        "experts that the first token does not take are not looked at",
    ),
    Mutant(
        "host-grouped-other-expert", "kernels/grouped_gemv_host.py",
        "return Groups(experts.astype(np.int64),", "return Groups(np.arange(experts.size),",
        ("tests/test_grouped_gemv_host.py::test_each_pair_is_that_experts_product[1-4-8-33-96-bf16]",),
        "the chosen experts are taken for the first ones of the stack",
    ),
    Mutant(
        "host-grouped-places", "kernels/grouped_gemv_host.py",
        "np.append(begins, ids.size), vectors, places)", "np.append(begins, ids.size), vectors, np.sort(places))",
        ("tests/test_grouped_gemv_host.py::test_each_pair_is_that_experts_product[5-2-3-130-96-bf16]",),
        "results in the order of the experts, not of the tokens",
    ),
    Mutant(
        "routing-takes-an-expert-twice", "probes/grouped.py",
        "generator=generator).topk(shape.top_k).indices",
        "generator=generator).topk(shape.top_k).indices // 2",
        ("tests/test_tune_experts.py::test_a_token_takes_different_experts",),
        "fewer experts are read than the bytes of top_k say",
    ),
]  # fmt: skip
