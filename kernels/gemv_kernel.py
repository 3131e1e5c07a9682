"""The device side of GEMV: one kernel for every weight format, scale layout, decode mode and batch.

A program takes GROUPS groups of LANE_ROWS rows and walks along K. Its lanes lie on a tile of rows by *chunks*: 16 bytes
of weight, four words of 32 bits (fewer where rows start anywhere). x is loaded at the tile's full shape, four elements
or words at a time: with a narrower shape Triton gives it another layout and moves it through shared memory in the loop.
A chunk's x serves every group, and a decoded weight the whole batch.

Sums. A chunk is multiplied in chains of 8 weights (4 where words hold one); the chains of a block are added, the
block's sum meets the block scale in one FMA with the lane's total, and the lanes' totals are added in a tree. The
longest chain of roundings is 8 + K / (weights that the lanes of a row cover) + the tree's + 2: at most ceil(K/32) + 16
with `tile_bytes` of 64 and more (128 where K is odd), which is the bound for kernels with 32 sums a row.
Every product is exact in float32 for 16-bit x (11 by 2, 4 or 8 bits), and FMAs round sums alone; float32 x rounds
within the FMA. "bits" and "e4m3" give E2M1 divided by a power of two (`e2m1_factor`), which is put back before the
block scale: exact as long as no |x| is below 2^-100, where float32 would underflow.
"""

import triton
import triton.language as tl

from roofprobe.kernels.decode import (
    e2m1_factor,
    e2m1_pairs,
    e2m1_x8,
    e4m3_pairs,
    e4m3_x2,
    e4m3_x4,
    fma_pair,
    rounded_to,
    sixteen_bit_pair,
    with_scale,
)
from roofprobe.kernels.scales_triton import block_scale_x2, swizzled_column, swizzled_row


@triton.jit
def _load(pointer, mask, MASKED: tl.constexpr):
    if MASKED:
        value = tl.load(pointer, mask=mask, other=0)
    else:
        value = tl.load(pointer)
    return value


@triton.jit
def _load4(pointer, position, limit, MASKED: tl.constexpr):
    """Elements 4 * position to 4 * position + 3, those below `limit`, as four tensors of position's shape."""
    at = position[:, :, None] * 4 + tl.arange(0, 4)[None, None, :]
    values = _load(pointer + at, at < limit, MASKED)
    even, odd = tl.split(tl.reshape(values, [position.shape[0], position.shape[1], 2, 2]))
    v0, v2 = tl.split(even)
    v1, v3 = tl.split(odd)
    return v0, v1, v2, v3


@triton.jit
def _decoded(words, FORMAT: tl.constexpr, MODE: tl.constexpr, PER_WORD: tl.constexpr, PAIRS: tl.constexpr):
    """A chunk's weights in the order of k, as words of two (PAIRS: "bf16x2" or "fp16x2") or as float32."""
    values = ()
    for j in tl.static_range(4):
        word = words[j].to(tl.uint32)
        if FORMAT == "bf16":
            if PAIRS != "":
                values += (word,)
            elif PER_WORD == 2:
                values += sixteen_bit_pair(word, True)
            else:
                values += (sixteen_bit_pair(word, True)[0],)
        elif FORMAT == "fp8":
            if PAIRS != "":
                pairs = e4m3_pairs(word, PAIRS == "bf16x2")
                values += pairs if PER_WORD == 4 else (pairs[0],)
            elif PER_WORD == 4:
                values += e4m3_x4(word, MODE)
            elif PER_WORD == 2:
                values += e4m3_x2(word, MODE)
            else:
                values += (e4m3_x2(word, MODE)[0],)
        elif PAIRS != "":
            values += e2m1_pairs(word, PAIRS == "bf16x2")
        else:
            values += e2m1_x8(word, MODE)
    return values


@triton.jit
def _activations(x, chunk, limit, MASKED: tl.constexpr, PER_WORD: tl.constexpr, X: tl.constexpr, PAIRS: tl.constexpr):
    """The activations that face a chunk, as words of two or as float32; X says what x holds."""
    values = ()
    LOADS: tl.constexpr = PER_WORD if X == "elements" else PER_WORD // 2
    for j in tl.static_range(LOADS):
        loaded = _load4(x, chunk * LOADS + j, limit, MASKED)
        for i in tl.static_range(4):
            if X == "elements":
                values += (loaded[i].to(tl.float32),)
            elif PAIRS != "":
                values += (loaded[i].to(tl.uint32, bitcast=True),)
            else:
                values += sixteen_bit_pair(loaded[i].to(tl.uint32, bitcast=True), X == "bf16x2")
    return values


@triton.jit
def _chain(weights, values, BASE: tl.constexpr, AT: tl.constexpr, LENGTH: tl.constexpr, PAIRS: tl.constexpr):
    """The sum of LENGTH products of weights[BASE + AT] and values[AT] and their followers, in the order of k."""
    if PAIRS != "":
        total = fma_pair(
            weights[BASE + AT], values[AT], tl.zeros_like(weights[BASE + AT]).to(tl.float32), PAIRS == "bf16x2"
        )
        for j in tl.static_range(1, LENGTH // 2):
            total = fma_pair(weights[BASE + AT + j], values[AT + j], total, PAIRS == "bf16x2")
    else:
        total = weights[BASE + AT] * values[AT]
        for j in tl.static_range(1, LENGTH):
            total = tl.fma(weights[BASE + AT + j], values[AT + j], total)
    return total


@triton.jit
def _block_scales(
    scales, row_start, chunk, columns, MASKED: tl.constexpr, FORMAT: tl.constexpr, MODE: tl.constexpr,
    SWIZZLED: tl.constexpr, SCALE_BYTES: tl.constexpr,
):  # fmt: skip
    """The chunk's two block scales as float32, times `e2m1_factor` for NVFP4; the first one counts for MXFP4.

    row_start counts loads of SCALE_BYTES: 2 where NVFP4 rows hold whole pairs. Masked padding must not be used: it may
    be NaN.
    """
    if FORMAT == "mxfp4":
        at = swizzled_column(chunk) if SWIZZLED else chunk
        s0, _ = block_scale_x2(_load(scales + (row_start + at), chunk < columns, MASKED).to(tl.uint32), FORMAT, MODE)
        result = s0, s0
    elif SCALE_BYTES == 2:
        at = swizzled_column(chunk * 2) // 2 if SWIZZLED else chunk
        pair = _load(scales + (row_start + at), chunk * 2 < columns, MASKED).to(tl.uint32)
        s0, s1 = block_scale_x2(pair, FORMAT, MODE)
        result = s0 * e2m1_factor(MODE), s1 * e2m1_factor(MODE)
    else:
        column = chunk * 2
        at = swizzled_column(column) if SWIZZLED else column
        first = _load(scales + (row_start + at), column < columns, MASKED).to(tl.uint32)
        second = _load(scales + (row_start + at + 1), column + 1 < columns, MASKED).to(tl.uint32)
        s0, s1 = block_scale_x2(first | (second << 8), FORMAT, MODE)
        result = s0 * e2m1_factor(MODE), s1 * e2m1_factor(MODE)
    return result


@triton.jit
def _step(
    sums, rows, scales, scale_rows, x, chunk, words, MASKED: tl.constexpr,
    FORMAT: tl.constexpr, MODE: tl.constexpr, X: tl.constexpr, PAIRS: tl.constexpr, SWIZZLED: tl.constexpr,
    SCALE_BYTES: tl.constexpr, PER_WORD: tl.constexpr, GROUPS: tl.constexpr, BATCH: tl.constexpr,
):  # fmt: skip
    """`sums` plus the products of one tile of chunks."""
    PER_VALUE: tl.constexpr = 1 if PAIRS == "" else 2
    CHAIN: tl.constexpr = 8 if PER_WORD > 1 else 4
    CHAINS: tl.constexpr = 4 * PER_WORD // CHAIN
    HELD: tl.constexpr = 4 * PER_WORD // PER_VALUE  # values that hold a chunk's weights
    # E8M0 reaches 2^127, which a factor would make overflow: there it meets the sums instead
    FACTOR: tl.constexpr = e2m1_factor(MODE) if FORMAT == "mxfp4" else 1.0
    weights = ()
    block_scales = ()
    for r in tl.static_range(GROUPS):
        weights += _decoded(_load4(rows[r], chunk, words, MASKED), FORMAT, MODE, PER_WORD, PAIRS)
        if FORMAT == "nvfp4" or FORMAT == "mxfp4":
            columns = words // 2 if FORMAT == "nvfp4" else words // 4
            block_scales += _block_scales(
                scales, scale_rows[r], chunk, columns, MASKED, FORMAT, MODE, SWIZZLED, SCALE_BYTES
            )
    updated = ()
    X_LIMIT: tl.constexpr = PER_WORD if X == "elements" else PER_WORD // 2
    for b in tl.static_range(BATCH):
        values = _activations(x + b * words * X_LIMIT, chunk, words * X_LIMIT, MASKED, PER_WORD, X, PAIRS)
        for r in tl.static_range(GROUPS):
            total = sums[b * GROUPS + r]
            chains = ()
            for c in tl.static_range(CHAINS):
                chains += (_chain(weights, values, r * HELD, c * CHAIN // PER_VALUE, CHAIN, PAIRS),)
            if FORMAT == "nvfp4" or FORMAT == "mxfp4":
                total = tl.fma((chains[0] + chains[1]) * FACTOR, block_scales[2 * r], total)
                total = tl.fma((chains[2] + chains[3]) * FACTOR, block_scales[2 * r + 1], total)
            elif CHAINS == 2:
                total += chains[0] + chains[1]
            else:
                total += chains[0]
            updated += (total,)
    return updated


@triton.jit
def gemv_rows(
    tile, weight, scales, scale, x, y, n, words,
    FORMAT: tl.constexpr, MODE: tl.constexpr, X: tl.constexpr, PAIRS: tl.constexpr, dtype: tl.constexpr,
    DIVIDE: tl.constexpr, BY_ROW: tl.constexpr, SWIZZLED: tl.constexpr, SCALE_BYTES: tl.constexpr,
    PER_WORD: tl.constexpr, WHOLE_TILES: tl.constexpr, BATCH: tl.constexpr,
    GROUPS: tl.constexpr, LANE_ROWS: tl.constexpr, TILE: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """The rows of program `tile`: all of the kernel; also the body of the grouped GEMV's, for one expert and token."""
    columns = words // 2 if FORMAT == "nvfp4" else words // 4
    CHUNKS: tl.constexpr = TILE // 4
    first_row = tile * (GROUPS * LANE_ROWS)
    # offsets from the program's first row, or first tile of 128, fit into 32 bits: a register less a row and tensor
    origin = first_row // 128 * 128 if SWIZZLED else first_row
    if SWIZZLED:
        scales += swizzled_row(origin.to(tl.int64), columns) // SCALE_BYTES
    else:
        scales += origin.to(tl.int64) * (columns // SCALE_BYTES)
    rows = ()
    scale_rows = ()
    sums = ()
    for r in tl.static_range(GROUPS):
        row = tl.minimum(first_row + r * LANE_ROWS + tl.arange(0, LANE_ROWS)[:, None], n - 1)
        rows += ((weight + row.to(tl.int64) * words)[:, :, None],)
        if SWIZZLED:
            scale_rows += (swizzled_row(row - origin, columns) // SCALE_BYTES,)
        else:
            scale_rows += ((row - origin) * (columns // SCALE_BYTES),)
    for _ in tl.static_range(BATCH * GROUPS):
        sums += (tl.zeros([LANE_ROWS, CHUNKS], tl.float32),)
    # zero times the rows keeps masks and x at the weights' shape, and so in their layout
    lane_chunk = tl.arange(0, CHUNKS)[None, :] + tl.arange(0, LANE_ROWS)[:, None] * 0
    whole = words // TILE * CHUNKS
    for start in tl.range(0, whole, CHUNKS, num_stages=STAGES):
        sums = _step(
            sums, rows, scales, scale_rows, x, start + lane_chunk, words, False,
            FORMAT, MODE, X, PAIRS, SWIZZLED, SCALE_BYTES, PER_WORD, GROUPS, BATCH,
        )  # fmt: skip
    if not WHOLE_TILES:
        sums = _step(
            sums, rows, scales, scale_rows, x, whole + lane_chunk, words, True,
            FORMAT, MODE, X, PAIRS, SWIZZLED, SCALE_BYTES, PER_WORD, GROUPS, BATCH,
        )  # fmt: skip
    for r in tl.static_range(GROUPS):
        row = first_row + r * LANE_ROWS + tl.arange(0, LANE_ROWS)
        for b in tl.static_range(BATCH):
            total = tl.sum(sums[b * GROUPS + r], axis=1)
            if BY_ROW:
                total = with_scale(total, tl.load(scale + row, mask=row < n, other=0), DIVIDE)
            elif FORMAT == "nvfp4" or FORMAT == "fp8":
                total = with_scale(total, tl.load(scale), DIVIDE)
            tl.store(y + b * n + row, rounded_to(total, dtype), mask=row < n)


@triton.jit(do_not_specialize=["n", "aligned_words"])
def gemv_kernel(
    weight, scales, scale, x, y, n, aligned_words,
    FORMAT: tl.constexpr, MODE: tl.constexpr, X: tl.constexpr, PAIRS: tl.constexpr, dtype: tl.constexpr,
    DIVIDE: tl.constexpr, BY_ROW: tl.constexpr, SWIZZLED: tl.constexpr, SCALE_BYTES: tl.constexpr,
    PER_WORD: tl.constexpr, ALIGN: tl.constexpr, WHOLE_TILES: tl.constexpr, BATCH: tl.constexpr,
    GROUPS: tl.constexpr, LANE_ROWS: tl.constexpr, TILE: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """weight words [n, aligned_words * ALIGN]; ALIGN tells Triton how far rows are aligned, TILE counts words."""
    gemv_rows(
        tl.program_id(0), weight, scales, scale, x, y, n, aligned_words * ALIGN,
        FORMAT, MODE, X, PAIRS, dtype, DIVIDE, BY_ROW, SWIZZLED, SCALE_BYTES,
        PER_WORD, WHOLE_TILES, BATCH, GROUPS, LANE_ROWS, TILE, STAGES,
    )  # fmt: skip
