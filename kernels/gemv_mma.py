"""GEMV of NVFP4 and MXFP4 on tensor cores, for 16-bit x: the device side, decode mode "mma".

An exact float32 sum costs a GPU without a mixed FMA (cc 8.9, 9.0) a widening and an FMA a weight: 4 lane-instructions a
byte before anything is loaded. One mma.m16n8k16 multiplies 256 pairs of 16-bit numbers, exactly, and sums in float32.

Who holds what. Lane 4 g + t of a warp holds 16 bytes of code, a *chunk*, of row g of each group of 8 rows; the four
lanes of a row have four neighbouring chunks. An instruction takes four weights of each chunk and two groups of rows (A)
and the activations that face them (B). Order along K is free as long as both agree, so nothing is exchanged between
lanes. Columns 2 t and 2 t + 1 of B hold the activations of two vectors that face the chunk of lane t, and zeros
elsewhere: so the sums of row g in lane (g, t) are of that lane's own chunk, where the lane has its block scales. The
layouts are Gluon's explicit ones, which the compiler may not change.

Values. E2M1 is put into the lowest exponent bits of a bfloat16 (the value times 2^-126) or float16 (times 2^-14), where
subnormals are right by themselves; bfloat16 activations are multiplied by 2^64, so that their products are normal.
Exact for float16, and for bfloat16 where 2^-79 <= |x| < 2^64 or x = 0; above, the result is infinite or NaN. The power
of two is put back with the block's sum (MXFP4) or at the end (NVFP4).

Sums. A chain of two instructions sums 8 products, two chains (NVFP4) or four (MXFP4) make a block, whose sum meets the
block scale in one FMA with the lane's total; then lanes and warps add up in a tree. A tensor core aligns the 5 numbers
that are not zero to the largest and cuts off the rest: with the two extra bits of cc 9.0 at most 4 times 0.5 u, and 2 u
for the result (u = 2^-24), so a chain counts for at most 9 roundings, a block for 11. With the K / 64 FMAs of a lane,
the tree's and the scale's 8 at most, that is within ceil(K/32) + 16 from K = 256, and below as soon as two warps
share a row. Without extra bits (the first tensor cores) a chain counts for 20; the tests sum in that way too.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from roofprobe.kernels.decode import e8m0, rounded_to, with_scale
from roofprobe.kernels.scales_triton import swizzled_column, swizzled_row


@gluon.constexpr_function
def _vectors(batch, pair):
    """Vectors that the pair holds: 2, or 1 for the last of an odd batch."""
    return min(2, batch - 2 * pair)


@gluon.constexpr_function
def _place(batch, groups, vector, group):
    """Where the sums of a vector and a group of rows are: by pairs of vectors, in them by groups."""
    return vector // 2 * 2 * groups + group * min(2, batch - vector // 2 * 2) + vector % 2


@gluon.jit
def _bfloat16_codes(word):
    """Eight E2M1 codes of a uint32 word times 2^-126, as four words of two bfloat16: k and k + 4 for k from 0 to 3.

    A code times 2^12 + 2^6 has its sign where a bfloat16 has it, and its other bits at the exponent's two lowest and
    the significand's highest.
    """
    return gl.inline_asm_elementwise(
        """{ .reg .b32 high, t;
        shr.u32 high, $4, 8;
        and.b32 t, $4, 0x000F000F; mul.lo.u32 t, t, 4160; and.b32 $0, t, 0x81C081C0;
        and.b32 t, $4, 0x00F000F0; mul.lo.u32 t, t, 260; and.b32 $1, t, 0x81C081C0;
        and.b32 t, high, 0x000F000F; mul.lo.u32 t, t, 4160; and.b32 $2, t, 0x81C081C0;
        and.b32 t, high, 0x00F000F0; mul.lo.u32 t, t, 260; and.b32 $3, t, 0x81C081C0; }""",
        "=&r,=&r,=&r,=&r,r", [word], dtype=(gl.uint32, gl.uint32, gl.uint32, gl.uint32), is_pure=True, pack=1,
    )  # fmt: skip


@gluon.jit
def _float16_codes(word):
    """The same as four words of two float16, times 2^-14: all of a code lies in the upper byte."""
    return gl.inline_asm_elementwise(
        """{ .reg .b32 signs, even, odd;
        and.b32 signs, $4, 0x88888888;
        shr.b32 odd, $4, 3; lop3.b32 odd, odd, signs, 0x0E0E0E0E, 0xE4;
        shl.b32 signs, signs, 4;
        shl.b32 even, $4, 1; lop3.b32 even, even, signs, 0x0E0E0E0E, 0xE4;
        prmt.b32 $0, even, 0, 0x2404; prmt.b32 $1, odd, 0, 0x2404;
        and.b32 $2, even, 0xFF00FF00; and.b32 $3, odd, 0xFF00FF00; }""",
        "=&r,=&r,=&r,=&r,r", [word], dtype=(gl.uint32, gl.uint32, gl.uint32, gl.uint32), is_pure=True, pack=1,
    )  # fmt: skip


@gluon.jit
def _paired(w0, w1, w2, w3, BFLOAT16: gl.constexpr):
    """Eight activations in four words as (k, k + 4), as the codes lie; bfloat16 times 2^64."""
    if BFLOAT16:
        pairs = gl.inline_asm_elementwise(
            """{ .reg .b32 p, q, r, s, factor, zero;
            mov.b32 factor, 0x5F805F80; mov.b32 zero, 0x80008000;
            prmt.b32 p, $4, $6, 0x5410; prmt.b32 q, $4, $6, 0x7632;
            prmt.b32 r, $5, $7, 0x5410; prmt.b32 s, $5, $7, 0x7632;
            fma.rn.bf16x2 $0, p, factor, zero; fma.rn.bf16x2 $1, q, factor, zero;
            fma.rn.bf16x2 $2, r, factor, zero; fma.rn.bf16x2 $3, s, factor, zero; }""",
            "=&r,=&r,=&r,=&r,r,r,r,r", [w0, w1, w2, w3], dtype=(gl.uint32, gl.uint32, gl.uint32, gl.uint32),
            is_pure=True, pack=1,
        )  # fmt: skip
    else:
        pairs = gl.inline_asm_elementwise(
            """prmt.b32 $0, $4, $6, 0x5410; prmt.b32 $1, $4, $6, 0x7632;
            prmt.b32 $2, $5, $7, 0x5410; prmt.b32 $3, $5, $7, 0x7632;""",
            "=&r,=&r,=&r,=&r,r,r,r,r", [w0, w1, w2, w3], dtype=(gl.uint32, gl.uint32, gl.uint32, gl.uint32),
            is_pure=True, pack=1,
        )  # fmt: skip
    return pairs


@gluon.jit
def _products(a, b, x, BFLOAT16: gl.constexpr):
    """Sums of 8 products of a lane's own weights and activations: (row a, vector 0), (a, 1), (b, 0), (b, 1)."""
    KIND: gl.constexpr = "bf16.bf16" if BFLOAT16 else "f16.f16"
    MMA: gl.constexpr = "mma.sync.aligned.m16n8k16.row.col.f32." + KIND + ".f32"
    return gl.inline_asm_elementwise(
        "{ .reg .f32 z; mov.f32 z, 0f00000000; "
        + MMA + " {$0, $1, $2, $3}, {$4, $8, $5, $9}, {$12, $13}, {z, z, z, z}; "
        + MMA + " {$0, $1, $2, $3}, {$6, $10, $7, $11}, {$14, $15}, {$0, $1, $2, $3}; }",
        "=&f,=&f,=&f,=&f,r,r,r,r,r,r,r,r,r,r,r,r",
        [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], x[0], x[1], x[2], x[3]],
        dtype=(gl.float32, gl.float32, gl.float32, gl.float32), is_pure=True, pack=1,
    )  # fmt: skip


@gluon.jit
def _e4m3_scales(pair):
    """Two E4M3FN bytes of an int16 as float32."""
    return gl.inline_asm_elementwise(
        """{ .reg .b32 halves; .reg .b16 low, high;
        cvt.rn.f16x2.e4m3x2 halves, $2; mov.b32 {low, high}, halves; cvt.f32.f16 $0, low; cvt.f32.f16 $1, high; }""",
        "=f,=f,h", [pair], dtype=(gl.float32, gl.float32), is_pure=True, pack=1,
    )  # fmt: skip


@gluon.jit
def _load(pointer, mask, MASKED: gl.constexpr):
    if MASKED:
        value = gl.load(pointer, mask=mask, other=0)
    else:
        value = gl.load(pointer)
    return value


@gluon.jit
def _words(values, LAYOUT: gl.constexpr):
    """[rows, 4 * chunks] as four tensors [rows, chunks] of uint32."""
    rows: gl.constexpr = values.shape[0]
    chunks: gl.constexpr = values.shape[1] // 4
    even, odd = gl.split(gl.reshape(values.to(gl.uint32, bitcast=True), [rows, chunks, 2, 2]))
    w0, w2 = gl.split(even)
    w1, w3 = gl.split(odd)
    return (
        gl.convert_layout(w0, LAYOUT, assert_trivial=True),
        gl.convert_layout(w1, LAYOUT, assert_trivial=True),
        gl.convert_layout(w2, LAYOUT, assert_trivial=True),
        gl.convert_layout(w3, LAYOUT, assert_trivial=True),
    )


@gluon.jit
def _step(
    sums, rows, scale_rows, facing, own, start, words, wide_column, column, MASKED: gl.constexpr,
    FORMAT: gl.constexpr, BFLOAT16: gl.constexpr, SWIZZLED: gl.constexpr,
    GROUPS: gl.constexpr, BATCH: gl.constexpr, LAYOUT: gl.constexpr,
):  # fmt: skip
    """`sums` plus the products of the tile of chunks from `start` on.

    rows, scale_rows: pointers to the lanes' first codes and scales, by groups; facing: to the first activations; own:
    which lanes take any for a pair of vectors, and for the first one alone.
    """
    FACTOR: gl.constexpr = 2.0**62 if BFLOAT16 else 2.0**14
    chunk = start + column
    wide_chunk = start + wide_column // 4
    inside = wide_chunk * 4 < words
    codes = ()
    block_scales = ()
    for r in gl.static_range(GROUPS):
        loaded = _words(_load(rows[r] + start * 4, inside, MASKED), LAYOUT)
        for j in gl.static_range(4):
            codes += (_bfloat16_codes(loaded[j]) if BFLOAT16 else _float16_codes(loaded[j]),)
        at = (
            start * 1
            if not SWIZZLED
            else swizzled_column(chunk)
            if FORMAT == "mxfp4"
            else swizzled_column(chunk * 2) // 2
        )
        loaded_scales = _load(scale_rows[r] + at, chunk * 4 < words, MASKED)
        if FORMAT == "mxfp4":
            block_scales += (e8m0(loaded_scales.to(gl.uint32)), 0)
        else:
            block_scales += _e4m3_scales(loaded_scales)
    updated = ()
    for p in gl.static_range((BATCH + 1) // 2):
        wanted = own[0] if _vectors(BATCH, p) == 2 else own[1]
        values = ()
        for j in gl.static_range(4):
            place = facing + (p * words * 8 + start * 16) + 4 * j
            w = _words(gl.load(place, mask=wanted & inside if MASKED else wanted, other=0), LAYOUT)
            values += (_paired(w[0], w[1], w[2], w[3], BFLOAT16),)
        for q in gl.static_range(GROUPS // 2):
            parts = ()
            for j in gl.static_range(4):
                parts += (_products(codes[8 * q + j], codes[8 * q + 4 + j], values[j], BFLOAT16),)
            for i in gl.static_range(2):
                for v in gl.static_range(_vectors(BATCH, p)):
                    total = sums[_place(BATCH, GROUPS, 2 * p + v, 2 * q + i)]
                    first = parts[0][2 * i + v] + parts[1][2 * i + v]
                    second = parts[2][2 * i + v] + parts[3][2 * i + v]
                    if FORMAT == "mxfp4":
                        total = gl.fma((first + second) * FACTOR, block_scales[4 * q + 2 * i], total)
                    else:
                        total = gl.fma(first, block_scales[4 * q + 2 * i], total)
                        total = gl.fma(second, block_scales[4 * q + 2 * i + 1], total)
                    updated += (total,)
    return updated


@gluon.jit(do_not_specialize=["n", "aligned_words"])
def gemv_mma_kernel(
    weight, scales, scale, x, y, n, aligned_words,
    FORMAT: gl.constexpr, MODE: gl.constexpr, X: gl.constexpr, dtype: gl.constexpr, DIVIDE: gl.constexpr,
    SWIZZLED: gl.constexpr, SCALE_BYTES: gl.constexpr, PER_WORD: gl.constexpr, ALIGN: gl.constexpr,
    WHOLE_TILES: gl.constexpr, BATCH: gl.constexpr, GROUPS: gl.constexpr, LANE_ROWS: gl.constexpr, TILE: gl.constexpr,
):  # fmt: skip
    """As `gemv_kernel`, for rows of whole chunks: an even number of GROUPS of LANE_ROWS rows, TILE words of each."""
    gl.static_assert(MODE == "mma" and PER_WORD == 8 and ALIGN == 4 and GROUPS % 2 == 0)
    BFLOAT16: gl.constexpr = X == "bf16x2"
    CHUNKS: gl.constexpr = TILE // 4
    LAYOUT: gl.constexpr = gl.BlockedLayout([1, 1], [8, 4], [LANE_ROWS // 8, CHUNKS // 4], [1, 0])
    WIDE: gl.constexpr = gl.BlockedLayout([1, 4], [8, 4], [LANE_ROWS // 8, CHUNKS // 4], [1, 0])
    words = aligned_words * ALIGN
    columns = words // 2 if FORMAT == "nvfp4" else words // 4
    first_row = gl.program_id(0) * (GROUPS * LANE_ROWS)
    origin = first_row // 128 * 128 if SWIZZLED else first_row
    if SWIZZLED:
        scales += swizzled_row(origin.to(gl.int64), columns) // SCALE_BYTES
    else:
        scales += origin.to(gl.int64) * (columns // SCALE_BYTES)
    wide_row = gl.arange(0, LANE_ROWS, layout=gl.SliceLayout(1, WIDE))[:, None]
    wide_column = gl.arange(0, TILE, layout=gl.SliceLayout(0, WIDE))[None, :]
    lane_row = gl.arange(0, LANE_ROWS, layout=gl.SliceLayout(1, LAYOUT))[:, None]
    column = gl.arange(0, CHUNKS, layout=gl.SliceLayout(0, LAYOUT))[None, :]
    rows = ()
    scale_rows = ()
    sums = ()
    for r in gl.static_range(GROUPS):
        row = gl.minimum(first_row + r * LANE_ROWS + wide_row, n - 1)
        rows += (weight + (row.to(gl.int64) * words + wide_column),)
        row = gl.minimum(first_row + r * LANE_ROWS + lane_row, n - 1)
        if SWIZZLED:
            scale_rows += (scales + swizzled_row(row - origin, columns) // SCALE_BYTES,)
        else:
            scale_rows += (scales + ((row - origin) * (columns // SCALE_BYTES) + column),)
    for _ in gl.static_range(BATCH * GROUPS):
        sums += (gl.zeros([LANE_ROWS, CHUNKS], gl.float32, layout=LAYOUT),)
    takes = wide_row % 8 // 2 == wide_column // 4 % 4
    own = (takes, takes & (wide_row % 2 == 0))
    facing = x + (wide_row % 2 * words * 4 + wide_column // 4 * 16 + wide_column % 4)
    whole = words // TILE * CHUNKS
    for start in range(0, whole, CHUNKS):
        sums = _step(
            sums, rows, scale_rows, facing, own, start, words, wide_column, column, False,
            FORMAT, BFLOAT16, SWIZZLED, GROUPS, BATCH, LAYOUT,
        )  # fmt: skip
    if not WHOLE_TILES:
        sums = _step(
            sums, rows, scale_rows, facing, own, whole, words, wide_column, column, True,
            FORMAT, BFLOAT16, SWIZZLED, GROUPS, BATCH, LAYOUT,
        )  # fmt: skip
    row_in_group = gl.arange(0, LANE_ROWS, layout=gl.SliceLayout(1, LAYOUT))
    for r in gl.static_range(GROUPS):
        row = first_row + r * LANE_ROWS + row_in_group
        for b in gl.static_range(BATCH):
            total = gl.sum(sums[_place(BATCH, GROUPS, b, r)], axis=1)
            if FORMAT == "nvfp4":
                total = with_scale(total * (2.0**62 if BFLOAT16 else 2.0**14), gl.load(scale), DIVIDE)
            gl.store(y + b * n + row, rounded_to(total, dtype), mask=row < n)
