"""Real weights: one at a time out of a safetensors file, as the kernels take them.

`read_checkpoint` looks at the header only and holds every weight against it; `load` memory-maps the file and copies
one weight out. Nothing in the file is ever executed: a safetensors file is JSON and numbers. Which checkpoints are
understood, and how: `checkpoint_header`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import safetensors
import torch

from roofprobe.kernels.checkpoint_header import Header, StoredWeight, module_of, recognise
from roofprobe.kernels.formats import FP8Weight, MXFP4Weight, NVFP4Weight, Weight


@dataclass(frozen=True)
class Checkpoint:
    """A file's weights, largest first, and what is wrong with the tensors that look like weights and are none."""

    path: Path
    weights: tuple[StoredWeight, ...]
    problems: dict[str, str]

    def find(self, name: str) -> StoredWeight:
        """The weight that `name` names: its module, or one of its tensors. Raises ValueError if there is none."""
        for weight in self.weights:
            if name in (weight.name, weight.scale, weight.global_scale, module_of(weight.name)):
                return weight
        for problem, message in self.problems.items():
            if name in (problem, module_of(problem)):
                raise ValueError(message)
        close = get_close_matches(name, [w.name for w in self.weights], n=1, cutoff=0)
        hint = f"; the closest is {close[0]!r}" if close else ""
        raise ValueError(f"{self.path}: no weight {name!r} in a format that the kernels read{hint}")


def read_checkpoint(path: Path) -> Checkpoint:
    """Finds the weights of a safetensors file by its header.

    Raises ValueError for a file that is none, is cut short, or whose header contradicts itself.
    """
    header = _read_header(path)
    weights: list[StoredWeight] = []
    problems: dict[str, str] = {}
    for name in header:
        try:
            weight = recognise(header, name)
        except ValueError as error:
            problems[name] = f"{path}: {error}"
            continue
        if weight is not None:
            weights.append(weight)
    weights.sort(key=lambda w: (-w.elements, w.name))
    return Checkpoint(path, tuple(weights), problems)


def load(
    checkpoint: Checkpoint,
    weight: StoredWeight,
    device: torch.device | str = "cpu",
    *,
    rows: int | None = None,
    expert: int = 0,
) -> Weight:
    """A copy of one weight, or of its first `rows` rows, in fresh memory on `device`.

    `expert` chooses among the experts of a stack. Raises ValueError for an expert that it does not have, and where the
    file has changed under the header that was read.
    """
    if not 0 <= expert < (weight.experts or 1):
        raise ValueError(f"{weight.name!r}: expected an expert from 0 to {(weight.experts or 1) - 1}, got {expert}")
    n = weight.shape[0] if rows is None else min(rows, weight.shape[0])
    part = slice(n)
    try:
        with safetensors.safe_open(checkpoint.path, framework="pt") as file:

            def copied(name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
                tensor: torch.Tensor = file.get_tensor(name)
                if weight.experts is not None:
                    tensor = tensor[expert]
                tensor = tensor if dtype is None else tensor.view(dtype)
                # A tensor may lie at any address in the file; the kernels want theirs aligned.
                return (tensor if tensor.numel() == 1 else tensor[part]).to(device, copy=True).contiguous()

            return _assemble(weight, n, copied)
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{checkpoint.path}: {weight.name!r}: {_one_line(error)}") from None


def _read_header(path: Path) -> Header:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a whole safetensors file: {_one_line(error)}") from None


def _assemble(weight: StoredWeight, n: int, copied: Callable[..., torch.Tensor]) -> Weight:
    k = weight.shape[1]
    if weight.format == "bf16":
        return copied(weight.name)
    assert weight.scale is not None
    if weight.format == "fp8":
        return FP8Weight.from_compressed_tensors(copied(weight.name), copied(weight.scale))
    codes = copied(weight.name, torch.uint8).view(n, k // 2)
    if weight.format == "mxfp4":
        return MXFP4Weight(codes, copied(weight.scale, torch.uint8), (n, k))
    assert weight.global_scale is not None
    make = NVFP4Weight.from_modelopt if weight.maker == "ModelOpt" else NVFP4Weight.from_compressed_tensors
    return make(codes, copied(weight.scale), copied(weight.global_scale))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
