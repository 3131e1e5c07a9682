"""Checkpoints: every layout is read to the right values, and a file that is not whole is one clear line."""

from __future__ import annotations

import json
from pathlib import Path
import pickle
from typing import Any

from checkpoints import (
    K,
    N,
    Tensors,
    bf16,
    compressed_mxfp4,
    compressed_nvfp4,
    e4m3,
    fp8,
    gpt_oss,
    modelopt_nvfp4,
    random_bytes,
    raw,
    saved,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import numpy as np
import oracles
import pytest
from records import environment
import torch

from roofprobe.kernels.checkpoint import load, read_checkpoint
from roofprobe.kernels.dequant import dequantize
from roofprobe.probes.dequant import main as dequant_main
from roofprobe.probes.gemv import main as gemv_main


def e2m1(packed: torch.Tensor) -> Any:
    return oracles.e2m1_by_arithmetic(oracles.codes_by_k(packed.numpy()))


def expected_values(kind: str, tensors: Tensors, expert: int = 0) -> Any:
    """The weight in float32 by arithmetic that shares nothing with the package."""
    parts = {name.rpartition(".")[2]: tensor for name, tensor in tensors.items()}
    if kind == "bf16":
        return parts["weight"].float().numpy()
    if kind.startswith("fp8"):
        return (parts["weight"].float() * parts["weight_scale"].float()).numpy()
    if kind == "gpt-oss":
        blocks, scales = parts["gate_up_proj_blocks"][expert], parts["gate_up_proj_scales"][expert]
        return e2m1(blocks.reshape(N, K // 2)) * np.repeat(np.exp2(scales.numpy() - 127.0), 32, axis=1)
    packed, scales = parts.get("weight_packed", parts.get("weight")), parts["weight_scale"]
    assert packed is not None
    if kind == "mxfp4":
        return e2m1(packed) * np.repeat(np.exp2(scales.numpy() - 127.0), 32, axis=1)
    products = e2m1(packed) * np.repeat(scales.float().numpy(), 16, axis=1)
    if kind == "modelopt":
        return products * parts["weight_scale_2"].numpy()
    return products / parts["weight_global_scale"].numpy()


LAYOUTS: dict[str, tuple[Tensors, str]] = {
    "modelopt": (modelopt_nvfp4(), "nvfp4"),
    "compressed-tensors": (compressed_nvfp4(), "nvfp4"),
    "mxfp4": (compressed_mxfp4(), "mxfp4"),
    "gpt-oss": (gpt_oss(), "mxfp4"),
    "fp8": (fp8(), "fp8"),
    "fp8 per row": (fp8(per_row=True), "fp8"),
    "bf16": (bf16(), "bf16"),
}


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("rows", [None, 4], ids=["whole", "four rows"])
def test_every_layout_gives_its_values(kind: str, rows: int | None, tmp_path: Path) -> None:
    tensors, weight_format = LAYOUTS[kind]
    checkpoint = read_checkpoint(saved(tmp_path / "x.safetensors", tensors, {"norm.weight": torch.ones(K).bfloat16()}))
    assert checkpoint.problems == {}
    (stored,) = checkpoint.weights
    assert (stored.format, stored.shape) == (weight_format, (N, K))
    for expert in range(stored.experts or 1):
        weight = load(checkpoint, stored, rows=rows, expert=expert)
        values = weight if isinstance(weight, torch.Tensor) else dequantize(weight, torch.float32, backend="torch")
        expected = torch.from_numpy(expected_values(kind, tensors, expert).astype(np.float32))
        assert torch.equal(values.float(), expected[:rows])


def test_fp4_codes_and_e8m0_scales_under_their_own_types(tmp_path: Path) -> None:
    plain = compressed_mxfp4()
    typed = {
        "x.weight_packed": plain["x.weight_packed"].view(torch.float4_e2m1fn_x2),
        "x.weight_scale": plain["x.weight_scale"].view(torch.float8_e8m0fnu),
    }
    header = {
        "x.weight_packed": {"dtype": "F4", "shape": [N, K], "data_offsets": [0, N * K // 2]},
        "x.weight_scale": {"dtype": "F8_E8M0", "shape": [N, K // 32], "data_offsets": [N * K // 2, N * K // 2 + N * 3]},
    }
    data = b"".join(tensor.view(torch.uint8).numpy().tobytes() for tensor in typed.values())
    checkpoint = read_checkpoint(raw(tmp_path / "x.safetensors", header, data))
    weight = load(checkpoint, checkpoint.weights[0])
    assert checkpoint.weights[0].shape == (N, K)
    assert torch.equal(weight.codes, plain["x.weight_packed"])  # type: ignore[union-attr]


def test_what_is_loaded_is_aligned_and_no_view_of_the_file(tmp_path: Path) -> None:
    odd = {"a": torch.zeros(3, dtype=torch.uint8)}  # so that what follows lies at odd addresses
    path = saved(tmp_path / "x.safetensors", odd, modelopt_nvfp4())
    checkpoint = read_checkpoint(path)
    weight = load(checkpoint, checkpoint.weights[0])
    before = weight.codes.clone()  # type: ignore[union-attr]
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(weight.codes, before)  # type: ignore[union-attr]
    assert weight.codes.data_ptr() % 16 == 0 and weight.block_scales.data_ptr() % 16 == 0  # type: ignore[union-attr]


def test_only_what_the_kernels_read_is_found_and_the_largest_comes_first(tmp_path: Path) -> None:
    others = {
        "a.weight": torch.zeros(N, K),  # float32
        "b.bias": torch.zeros(N).bfloat16(),
        "c.running": torch.zeros(2, dtype=torch.int64),
        "d.conv.weight": torch.zeros(2, 2, 2).bfloat16(),
        "kv.k_scale": torch.tensor(1.0),
    }
    path = saved(tmp_path / "x.safetensors", others, bf16("small.", k=32), bf16("large.", n=64), modelopt_nvfp4())
    checkpoint = read_checkpoint(path)
    assert [w.name for w in checkpoint.weights] == ["large.weight", "m.weight", "small.weight"]
    assert checkpoint.problems == {}


@pytest.mark.parametrize("name", ["m", "m.weight", "m.weight_scale", "m.weight_scale_2"])
def test_a_weight_goes_by_its_module_and_by_its_tensors(name: str, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(saved(tmp_path / "x.safetensors", modelopt_nvfp4(), bf16()))
    assert checkpoint.find(name).name == "m.weight"


def test_an_unknown_name_meets_the_closest(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(saved(tmp_path / "x.safetensors", modelopt_nvfp4("model.layers.0.up_proj.")))
    with pytest.raises(ValueError, match=r"no weight 'layers.0.up' .* closest is 'model.layers.0.up_proj.weight'"):
        checkpoint.find("layers.0.up")


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


MALFORMED: dict[str, tuple[Tensors, str]] = {
    "codes of another type": (
        changed(modelopt_nvfp4(), weight=random_bytes(N, K // 2).view(torch.int8)),
        r"'m.weight': expected U8 or F4, got I8",
    ),
    "packed codes of another type": (
        changed(compressed_nvfp4(), weight_packed=torch.zeros(N, K // 8, dtype=torch.int32)),
        r"'c.weight_packed': expected U8 or F4, got I32",
    ),
    "K not a multiple of the block": (
        changed(modelopt_nvfp4(), weight=random_bytes(N, 20)),
        r"'m.weight': expected K a multiple of the block of 16, got K = 40",
    ),
    "K not a multiple of MXFP4's block": (
        changed(compressed_mxfp4(), weight_packed=random_bytes(N, 24)),
        r"'x.weight_packed': expected K a multiple of the block of 32, got K = 48",
    ),
    "scales of another type": (
        changed(modelopt_nvfp4(), weight_scale=torch.zeros(N, K // 16)),
        r"'m.weight_scale': expected F8_E4M3 or U8 or F8_E8M0, got F32",
    ),
    "scales of another shape": (
        changed(modelopt_nvfp4(), weight_scale=e4m3(N, K // 16 - 1)),
        r"'m.weight_scale': expected shape \[6, 6\], got \[6, 5\]",
    ),
    "transposed scales": (
        changed(compressed_mxfp4(), weight_scale=random_bytes(K // 32, N)),
        r"'x.weight_scale': expected shape \[6, 3\], got \[3, 6\]",
    ),
    "no scales": (
        changed(modelopt_nvfp4(), weight_scale=None),
        r"'m.weight_scale': expected F8_E4M3 or U8 or F8_E8M0 beside 'm.weight', got no such tensor",
    ),
    "no global scale": (
        changed(compressed_nvfp4(), weight_global_scale=None),
        r"'c.weight_global_scale': expected F32 beside 'c.weight_packed', got no such tensor",
    ),
    "several global scales": (
        changed(modelopt_nvfp4(), weight_scale_2=torch.ones(2)),
        r"'m.weight_scale_2': expected shape \[\] or \[1\], got \[2\]",
    ),
    "a global scale of another type": (
        changed(modelopt_nvfp4(), weight_scale_2=torch.tensor(1.0).bfloat16()),
        r"'m.weight_scale_2': expected F32, got BF16",
    ),
    "E8M0 scales beside a global scale": (
        changed(compressed_nvfp4(), weight_scale=random_bytes(N, K // 32)),
        r"'c.weight_scale': expected F8_E4M3 beside 'c.weight_global_scale', got U8",
    ),
    "codes that are no matrix": (
        changed(modelopt_nvfp4(), weight=random_bytes(N * K // 2)),
        r"'m.weight': expected shape \[N, K/2\] without zeros, got \[288\]",
    ),
    "an empty matrix": (
        changed(bf16(), weight=torch.zeros(0, K).bfloat16()),
        r"'b.weight': expected shape \[N, K\] without zeros, got \[0, 96\]",
    ),
    "FP8 without its scale": (
        changed(fp8(), weight_scale=None),
        r"'f.weight_scale': expected F32 or BF16 or F16 beside 'f.weight', got no such tensor",
    ),
    "FP8 with a scale a column": (
        changed(fp8(), weight_scale=torch.ones(K)),
        r"'f.weight_scale': expected shape \[\] or \[1\] or \[6\] or \[6, 1\] or \[1, 1\], got \[96\]",
    ),
    "FP8 with scales of blocks": (
        changed(fp8(), weight_scale=None) | {"f.weight_scale_inv": torch.ones(1, 1)},
        r"'f.weight': expected a scale for the tensor or for each row, got scales of blocks \('f.weight_scale_inv'\)",
    ),
    "a scaled weight of another type": (
        changed(fp8(), weight=torch.zeros(N, K, dtype=torch.int8)),
        r"'f.weight': expected U8 \(FP4\) or F8_E4M3 \(FP8\) beside 'f.weight_scale', got I8",
    ),
    "gpt-oss blocks of another shape": (
        changed(gpt_oss(), gate_up_proj_blocks=random_bytes(3, N, K // 2)),
        r"'e.gate_up_proj_blocks': expected shape \[E, N, K/32, 16\], got \[3, 6, 48\]",
    ),
    "gpt-oss without scales": (
        changed(gpt_oss(), gate_up_proj_scales=None),
        r"'e.gate_up_proj_scales': expected U8 or F8_E8M0 beside 'e.gate_up_proj_blocks', got no such tensor",
    ),
    "gpt-oss scales of other experts": (
        changed(gpt_oss(), gate_up_proj_scales=random_bytes(2, N, K // 32)),
        r"'e.gate_up_proj_scales': expected shape \[3, 6, 3\], got \[2, 6, 3\]",
    ),
    "gpt-oss blocks of another type": (
        changed(gpt_oss(), gate_up_proj_blocks=torch.zeros(3, N, K // 32, 16, dtype=torch.int16)),
        r"'e.gate_up_proj_blocks': expected U8, got I16",
    ),
}


@pytest.mark.parametrize(("tensors", "message"), MALFORMED.values(), ids=MALFORMED)
def test_a_weight_that_is_not_whole_is_named(tensors: Tensors, message: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "x.safetensors", tensors, bf16("good.", n=2))
    checkpoint = read_checkpoint(path)
    assert [w.name for w in checkpoint.weights] == ["good.weight"], "and the others are still there"
    (name,) = checkpoint.problems
    with pytest.raises(ValueError, match=message) as caught:
        checkpoint.find(name)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


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


def test_an_expert_that_is_not_there(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(saved(tmp_path / "x.safetensors", gpt_oss()))
    with pytest.raises(ValueError, match="expected an expert from 0 to 2, got 3"):
        load(checkpoint, checkpoint.weights[0], expert=3)


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


SMALL = ["--side", "host", "--seconds", "0.1", "--memory", "16M", "--no-baselines"]


@pytest.fixture
def small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roofprobe.environment.read_environment", environment)


@pytest.mark.usefixtures("small_cache")
@pytest.mark.parametrize("main", [gemv_main, dequant_main], ids=["gemv", "dequant"])
def test_the_probes_measure_a_checkpoint(main: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = (modelopt_nvfp4(), compressed_nvfp4(n=8), compressed_mxfp4(), gpt_oss(n=4), fp8(per_row=True), bf16())
    path = saved(tmp_path / "x.safetensors", *parts, modelopt_nvfp4("again."))
    assert main([*SMALL, "--checkpoint", str(path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["measurements"]
    assert len(rows) == 4, "one of each format and shape, four at most"
    assert all(row["verified"] for row in rows)
    assert rows[0]["note"].startswith("c.weight_packed"), "the largest first"
    assert main([*SMALL, "--checkpoint", str(path), "--json", "--tensor", "e.gate_up_proj", "--expert", "2"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["measurements"]
    assert (row["format"], row["n"], row["k"], row["verified"]) == ("mxfp4", 4, K, True)
    assert row["note"].startswith("e.gate_up_proj_blocks[2]")


@pytest.mark.usefixtures("small_cache")
def test_the_listing_names_every_weight_and_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = changed(modelopt_nvfp4("bad."), weight_scale=None)
    path = saved(tmp_path / "x.safetensors", modelopt_nvfp4(), gpt_oss(), broken)
    assert gemv_main(["--checkpoint", str(path), "--list"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in printed[:2]] == ["e.gate_up_proj_blocks", "m.weight"]
    assert "unusable" in printed[2] and "bad.weight_scale" in printed[2]
    assert gemv_main(["--checkpoint", str(path), "--list", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["weights"]) == 2


@pytest.mark.usefixtures("small_cache")
@pytest.mark.parametrize(
    ("tensors", "flags", "message"),
    [
        (modelopt_nvfp4(), ["--tensor", "nothing"], "no weight 'nothing'"),
        (gpt_oss(), ["--expert", "3"], "has 3, got 3"),
        (bf16(), ["--format", "fp8"], "expected fp8, got bf16"),
        ({"a": torch.zeros(3)}, [], "got no weight that the kernels read"),
        (changed(modelopt_nvfp4(), weight_scale=None) | bf16(), [], "'m.weight_scale': expected"),
    ],
    ids=["unknown name", "unknown expert", "another format", "no weight", "one that is not whole"],
)
def test_a_request_that_can_not_be_met_is_one_line(
    tensors: Tensors, flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "x.safetensors", tensors)
    assert gemv_main([*SMALL, "--checkpoint", str(path), *flags]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and printed.out == ""


@pytest.mark.parametrize("flags", [["--tensor", "x"], ["--list"], ["--expert", "0"], ["--checkpoint", "/no/such/file"]])
def test_flags_that_go_with_a_checkpoint(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        gemv_main(flags)
    assert ended.value.code == 2 and capsys.readouterr().err.count("\n") == 1
