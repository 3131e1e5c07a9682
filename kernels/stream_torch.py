"""The stream operations as plain torch expressions: the reference, on any device."""

import torch

HASH = 2654435761  # Knuth's multiplicative hash: consecutive indices become non-periodic bit patterns


def pattern(n: int, seed: int, device: torch.device | str, start: int = 0) -> torch.Tensor:
    """uint32(start + i) * HASH + uint32(seed) modulo 2^32 as int32 bits [n]."""
    index = torch.arange(start, start + n, dtype=torch.int64, device=device)
    return (index * HASH + seed).to(torch.int32)  # int64 overflow and the narrowing both keep the low 32 bits


def fill(out: torch.Tensor, seed: int) -> None:
    """out[i] = float32(pattern[i] >> 12)."""
    out.copy_((pattern(out.numel(), seed, out.device) >> 12) & 0xFFFFF)


def read_partials(source: torch.Tensor) -> int:  # noqa: ARG001 - the other backends' number depends on it
    """Number of partial sums that `read` makes."""
    return 1


def read(source: torch.Tensor, out: torch.Tensor) -> None:
    """out[0] = sum of the source's 32-bit words modulo 2^32."""
    out.copy_(source.view(torch.int32).sum(dtype=torch.int64).to(torch.int32))


def copy(source: torch.Tensor, out: torch.Tensor) -> None:
    """out[i] = source[i]."""
    out.copy_(source)


def write(out: torch.Tensor, seed: int) -> None:
    """out[i] = pattern[i]."""
    out.copy_(pattern(out.numel(), seed, out.device))


def triad(b: torch.Tensor, c: torch.Tensor, scalar: float, out: torch.Tensor) -> None:
    """out[i] = b[i] + scalar * c[i]."""
    torch.add(b, c, alpha=scalar, out=out)
