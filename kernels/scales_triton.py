"""Device functions for block scales: where they lie in either layout, and what a scale byte is worth."""

import triton
import triton.language as tl

from roofprobe.kernels.decode import e4m3_x2, e8m0


@triton.jit
def swizzled_row(row, columns):
    """Offset of row `row`'s first scale in the 128x4 layout of a matrix with `columns` scales a row; in row's type."""
    return row // 128 * ((columns + 3) // 4 * 512) + row % 32 * 16 + row % 128 // 32 * 4


@triton.jit
def swizzled_column(column):
    """What scale `column` adds to its row's offset in the 128x4 layout; even and odd neighbours are adjacent."""
    return column // 4 * 512 + column % 4


@triton.jit
def block_scale_x2(pair, FORMAT: tl.constexpr, MODE: tl.constexpr):
    """The block scales in the two low bytes of a uint32 word, as float32, exactly; the upper bytes are ignored."""
    if FORMAT == "mxfp4":
        values = e8m0(pair & 0xFF), e8m0((pair >> 8) & 0xFF)
    else:
        values = e4m3_x2(pair, MODE)
    return values
