"""Which implementation runs: `triton` for CUDA tensors, `host` for CPU tensors, `torch` as the eager reference."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Literal, TypeVar, cast

import torch

Backend = Literal["triton", "host", "torch"]
ConfigT = TypeVar("ConfigT")
ConfigFields = Mapping[str, int | str | None]
"""A configuration as plain data, the form in which a tuning profile holds it."""


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
    """`config`, the default `expected()` where it is None, or what its fields make where it is a mapping.

    Raises ValueError for another backend's config, and for a field or value that `expected` does not have.
    """
    if config is None:
        return expected()
    if isinstance(config, Mapping):
        return _from_fields(config, expected)
    if not isinstance(config, expected):
        raise ValueError(f"config: expected {expected.__name__} for this backend, got {type(config).__name__}")
    return config


def _from_fields(config: Mapping[str, object], expected: type[ConfigT]) -> ConfigT:
    import msgspec  # for this alone: the kernels themselves need torch and Triton and nothing else

    assert is_dataclass(expected)
    known = [field.name for field in fields(expected)]
    for name in config:
        if name not in known:
            raise ValueError(f"config: expected {expected.__name__}'s {', '.join(known)}, got the field {name!r}")
    try:
        return msgspec.convert(dict(config), expected)
    except msgspec.ValidationError as error:
        raise ValueError(f"config: {expected.__name__}: {error}") from None


def no_config(config: object) -> None:
    """Raises ValueError unless `config` is None: the eager reference has nothing to configure."""
    if config is not None:
        raise ValueError(f"config: backend 'torch' takes none, got {type(config).__name__}")
