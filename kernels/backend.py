"""Which implementation runs: `triton` for CUDA tensors, `host` for CPU tensors, `torch` as the eager reference."""

from typing import Literal, TypeVar, cast

import torch

Backend = Literal["triton", "host", "torch"]
ConfigT = TypeVar("ConfigT")


def choose_backend(tensor: torch.Tensor, backend: str | None) -> Backend:
    """`backend` itself if it can take `tensor`, or the default of the tensor's device where it is None.

    Raises ValueError for an unknown name and for backend="host" on a tensor that is not on the CPU.
    """
    if backend is None:
        return "triton" if tensor.is_cuda else "host"
    if backend not in ("triton", "host", "torch"):
        raise ValueError(f"backend: expected 'triton', 'host', 'torch' or None, got {backend!r}")
    if backend == "host" and tensor.device.type != "cpu":
        raise ValueError(f"backend 'host' takes CPU tensors, got one on {tensor.device}; leave backend out")
    return cast(Backend, backend)


def config_for(config: object, expected: type[ConfigT]) -> ConfigT:
    """`config`, or the default `expected()` where it is None; raises ValueError for another backend's config."""
    if config is None:
        return expected()
    if not isinstance(config, expected):
        raise ValueError(f"config: expected {expected.__name__} for this backend, got {type(config).__name__}")
    return config


def no_config(config: object) -> None:
    """Raises ValueError unless `config` is None: the eager reference has nothing to configure."""
    if config is not None:
        raise ValueError(f"config: backend 'torch' takes none, got {type(config).__name__}")
