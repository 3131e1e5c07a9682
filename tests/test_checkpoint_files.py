"""Files that are no checkpoint, whatever they are instead: one clear line, and nothing of theirs is ever run."""

from __future__ import annotations

import json
from pathlib import Path
import pickle
from typing import Any

from checkpoints import bf16, modelopt_nvfp4, raw, saved
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import torch

from roofprobe.kernels.checkpoint import load, read_checkpoint


class Bomb:
    """Ends the test run where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("import os; os._exit(7)",)


GOOD_HEADER = {"b.weight": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}}
NO_CHECKPOINTS: dict[str, Any] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("hello, this is no checkpoint at all\n"),
    "a pickle": lambda path: path.write_bytes(pickle.dumps(Bomb())),
    "a torch archive": lambda path: torch.save({"weight": torch.zeros(2, 2)}, path),
    "cut short in the data": lambda path: raw(path, GOOD_HEADER, b"\0" * 7),
    "cut short in the header": lambda path: raw(path, b'{"b.wei', length=60),
    "too long": lambda path: raw(path, GOOD_HEADER, b"\0" * 9),
    "a header of 2^60 bytes": lambda path: raw(path, GOOD_HEADER, b"\0" * 8, length=1 << 60),
    "offsets that lie": lambda path: raw(
        path, {"b.weight": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 6]}}, b"\0" * 6
    ),
    "offsets beyond the end": lambda path: raw(
        path, {"b.weight": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [1 << 40, (1 << 40) + 8]}}, b"\0" * 8
    ),
    "a shape that overflows": lambda path: raw(
        path, {"b.weight": {"dtype": "BF16", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 8]}}, b"\0" * 8
    ),
    "tensors that overlap": lambda path: raw(path, GOOD_HEADER | {"c.weight": GOOD_HEADER["b.weight"]}, b"\0" * 8),
    "a type that is none": lambda path: raw(
        path, {"b.weight": {"dtype": "BF17", "shape": [2, 2], "data_offsets": [0, 8]}}, b"\0" * 8
    ),
    "a list": lambda path: raw(path, [1, 2]),
    "not UTF-8": lambda path: raw(path, b'{"\xff\xfe": 1}'),
    "a folder": lambda path: path.mkdir(),
    "nothing": lambda path: None,  # noqa: ARG005
}


@pytest.mark.parametrize("make", NO_CHECKPOINTS.values(), ids=NO_CHECKPOINTS)
def test_a_file_that_is_no_checkpoint_is_one_line(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    make(path)
    with pytest.raises(ValueError, match="not a whole safetensors file") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_file_that_changes_under_the_reader_is_one_line(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.safetensors", modelopt_nvfp4())
    checkpoint = read_checkpoint(path)
    saved(path, bf16())
    with pytest.raises(ValueError, match=r"'m\.weight"):
        load(checkpoint, checkpoint.weights[0])


NAMES = st.sampled_from(
    ["m.weight", "m.weight_scale", "m.weight_scale_2", "m.weight_packed", "m.weight_global_scale", "weight", ".weight",
     "e_blocks", "e_scales", "_blocks", "_scales", "", "a\nb.weight", "__metadata__"]
)  # fmt: skip
TYPES = {"U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "BF16": 2, "F16": 2, "F32": 4, "I64": 8, "BOOL": 1}
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 16, 32]), max_size=4)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file whose header agrees with its data, mostly, with bytes changed or cut off in some."""
    header: dict[str, Any] = {}
    at = 0
    for name in draw(st.lists(NAMES, max_size=6, unique=True)):
        dtype, shape = draw(st.sampled_from(list(TYPES))), draw(SHAPES)
        size = TYPES[dtype] * int(np.prod(shape))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    whole = bytearray(len(text).to_bytes(8, "little") + text + bytes(at))
    for _ in range(draw(st.integers(0, 3))):
        whole[draw(st.integers(0, len(whole) - 1))] = draw(st.integers(0, 255))
    return bytes(whole[: draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=files())
def test_no_header_gets_further_than_a_value_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    message = ""
    try:
        checkpoint = read_checkpoint(path)
        weights = [load(checkpoint, stored) for stored in checkpoint.weights]
    except ValueError as error:
        message = str(error)
    assert "\n" not in message
    if message:
        return
    assert [tuple(w.shape) for w in weights] == [stored.shape for stored in checkpoint.weights]
    assert all("\n" not in problem for problem in checkpoint.problems.values())
