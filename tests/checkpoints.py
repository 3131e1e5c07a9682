"""Tiny checkpoints in every layout that the readers know, and ways to spoil them."""

from __future__ import annotations

import json
from pathlib import Path
import struct
from typing import Any

from safetensors.torch import save_file
import torch

Tensors = dict[str, torch.Tensor]
N, K = 6, 96  # three blocks of 32, six of 16; N is no multiple of anything that a kernel likes


def random_bytes(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def e4m3(*shape: int, seed: int = 2) -> torch.Tensor:
    """Every byte but the NaNs."""
    return (random_bytes(*shape, seed=seed) & 0xBE).view(torch.float8_e4m3fn)


def modelopt_nvfp4(prefix: str = "m.", n: int = N, k: int = K) -> Tensors:
    return {
        f"{prefix}weight": random_bytes(n, k // 2),
        f"{prefix}weight_scale": e4m3(n, k // 16),
        f"{prefix}weight_scale_2": torch.tensor(0.0123),
        f"{prefix}input_scale": torch.tensor(0.5),
    }


def compressed_nvfp4(prefix: str = "c.", n: int = N, k: int = K) -> Tensors:
    return {
        f"{prefix}weight_packed": random_bytes(n, k // 2),
        f"{prefix}weight_scale": e4m3(n, k // 16),
        f"{prefix}weight_global_scale": torch.tensor([81.3]),
    }


def compressed_mxfp4(prefix: str = "x.", n: int = N, k: int = K) -> Tensors:
    return {
        f"{prefix}weight_packed": random_bytes(n, k // 2),
        f"{prefix}weight_scale": random_bytes(n, k // 32, seed=3) % 16 + 120,
    }


def gpt_oss(prefix: str = "e.gate_up_proj", experts: int = 3, n: int = N, k: int = K) -> Tensors:
    return {
        f"{prefix}_blocks": random_bytes(experts, n, k // 32, 16),
        f"{prefix}_scales": random_bytes(experts, n, k // 32, seed=3) % 16 + 120,
    }


def fp8(prefix: str = "f.", per_row: bool = False, n: int = N, k: int = K) -> Tensors:
    scale = torch.rand(n, 1, generator=torch.Generator().manual_seed(4)) if per_row else torch.tensor(0.25)
    return {f"{prefix}weight": e4m3(n, k), f"{prefix}weight_scale": scale}


def bf16(prefix: str = "b.", n: int = N, k: int = K) -> Tensors:
    return {f"{prefix}weight": torch.randn(n, k, generator=torch.Generator().manual_seed(5)).to(torch.bfloat16)}


def saved(path: Path, *parts: Tensors) -> Path:
    save_file({name: tensor for part in parts for name, tensor in part.items()}, path)
    return path


def raw(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    """A file with exactly this header: an object as JSON, or bytes as they are."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def changed(tensors: Tensors, **changes: torch.Tensor | None) -> Tensors:
    """The tensors with those of these last names replaced, or taken away where None."""
    found = dict(tensors)
    for name in tensors:
        last = name.rpartition(".")[2]
        if last in changes:
            replacement = changes[last]
            del found[name]
            if replacement is not None:
                found[name] = replacement
    return found
