"""Page-aligned memory for the host kernels, and the checks of the tensors that they are given."""

import contextlib
import mmap
from typing import Any

import torch

_HUGE_PAGE = 2 << 20


def allocate(n_bytes: int) -> torch.Tensor:
    """uint8 [n_bytes], zero, page-aligned, in huge pages where the system has them; freed with its last view.

    Nothing is touched here, so each page comes into being on the first thread that writes to it.
    Raises ValueError for n_bytes < 1, MemoryError when the system has no room for it.
    """
    if n_bytes < 1:
        raise ValueError(f"n_bytes: expected at least 1, got {n_bytes}")
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    try:
        # One huge page more than asked for: older kernels align a mapping to 4 KiB only.
        memory = mmap.mmap(-1, n_bytes + _HUGE_PAGE, flags=flags)
    except OSError as error:
        raise MemoryError(f"no room for {n_bytes / 2**20:.0f} MiB of host memory: {error.strerror}") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel built without huge pages; small ones work too
            memory.madvise(mmap.MADV_HUGEPAGE)
    base = torch.frombuffer(memory, dtype=torch.uint8)
    return base[-base.data_ptr() % _HUGE_PAGE :][:n_bytes]


def require(
    name: str,
    tensor: torch.Tensor,
    dtypes: tuple[torch.dtype, ...],
    shape: tuple[int | None, ...],
) -> None:
    """Raise ValueError naming the tensor, what was expected and what came, unless it is a contiguous CPU tensor
    of one of `dtypes` with this shape (None stands for any length)."""

    def refuse(expected: str, got: str) -> None:
        raise ValueError(f"{name}: expected {expected}, got {got}")

    if tensor.device.type != "cpu":
        refuse("a CPU tensor", f"one on {tensor.device}")
    if tensor.dtype not in dtypes:
        refuse(" or ".join(str(dtype) for dtype in dtypes), str(tensor.dtype))
    wrong = len(tensor.shape) != len(shape) or any(
        want not in (None, got) for want, got in zip(shape, tensor.shape, strict=False)
    )
    if wrong:
        refuse(f"shape [{', '.join('any' if want is None else str(want) for want in shape)}]", str(list(tensor.shape)))
    if not tensor.is_contiguous():
        refuse("a contiguous tensor", f"strides {list(tensor.stride())}")


_SAME_WIDTH = {1: torch.uint8, 2: torch.uint16, 4: torch.uint32}


def bits(tensor: torch.Tensor) -> Any:
    """The contiguous tensor's memory as a flat numpy array of unsigned integers of the element's width."""
    return tensor.detach().view(_SAME_WIDTH[tensor.element_size()]).reshape(-1).numpy()


def floats(tensor: torch.Tensor) -> Any:
    """The contiguous float32 tensor's memory as a flat numpy array."""
    return tensor.detach().reshape(-1).numpy()
