"""The 128x4 layout of block scales that cuBLAS and CUTLASS take.

Scale (r, c) of a matrix with N rows and Kb columns lies at byte
((r // 128) * ceil(Kb / 4) + c // 4) * 512 + (r % 32) * 16 + (r % 128) // 32 * 4 + c % 4: tiles of 128 rows by 4
columns, 512 bytes each, those of the same rows side by side. Rows are padded to 128 and columns to 4; no kernel
uses what the padding holds.
"""

from __future__ import annotations

import torch

ROWS, COLUMNS = 128, 4


def padded_shape(n: int, columns: int) -> tuple[int, int]:
    """Rows and columns with their padding."""
    return -(-n // ROWS) * ROWS, -(-columns // COLUMNS) * COLUMNS


def swizzled(matrix: torch.Tensor) -> torch.Tensor:
    """uint8 [N, Kb] in the 128x4 layout, flat; padding is zero."""
    n, columns = matrix.shape
    padded = matrix.new_zeros(padded_shape(n, columns))
    padded[:n, :columns] = matrix
    tiles = padded.view(padded.shape[0] // ROWS, 4, 32, padded.shape[1] // COLUMNS, COLUMNS)
    return tiles.permute(0, 3, 2, 1, 4).reshape(-1)


def linear(flat: torch.Tensor, n: int, columns: int) -> torch.Tensor:
    """uint8 [N, Kb] from the 128x4 layout: the inverse of `swizzled`, padding dropped."""
    rows, wide = padded_shape(n, columns)
    tiles = flat.view(rows // ROWS, wide // COLUMNS, 32, 4, COLUMNS)
    return tiles.permute(0, 3, 2, 1, 4).reshape(rows, wide)[:n, :columns].contiguous()
