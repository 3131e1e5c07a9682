"""What weights a safetensors header describes, by their tensors' names, types and shapes.

    ModelOpt NVFP4            X.weight U8 [N, K/2], X.weight_scale F8_E4M3 [N, K/16], X.weight_scale_2 F32 (multiplies)
    ModelOpt MXFP4            X.weight U8 [N, K/2], X.weight_scale U8 or F8_E8M0 [N, K/32]
    compressed-tensors NVFP4  X.weight_packed, X.weight_scale as above, X.weight_global_scale F32 (divides)
    compressed-tensors MXFP4  X.weight_packed, X.weight_scale U8 or F8_E8M0 [N, K/32]
    gpt-oss MXFP4             Y_blocks U8 [E, N, K/32, 16], Y_scales U8 [E, N, K/32]: a stack of E experts
    FP8                       X.weight F8_E4M3 [N, K], X.weight_scale F32, BF16 or F16: one, or one a row
    BF16                      any BF16 tensor [N, K]

Codes may also be typed F4, two a byte, with the shape [N, K]. Activation scales (`input_scale`) are left alone.
Source of the names: the checkpoints that these tools write.
"""

from __future__ import annotations

from dataclasses import dataclass

E4M3, E8M0, CODES = ("F8_E4M3",), ("U8", "F8_E8M0"), ("U8", "F4")
FLOATS = ("F32", "BF16", "F16")
NVFP4_BLOCK, MXFP4_BLOCK = 16, 32

Header = dict[str, tuple[str, tuple[int, ...]]]
"""Tensor's name -> type as safetensors spells it, and shape."""


@dataclass(frozen=True)
class StoredWeight:
    """One weight of a file, known by its header to be whole."""

    name: str
    """Of the tensor that holds its values or codes."""
    format: str
    """``bf16``, ``fp8``, ``nvfp4`` or ``mxfp4``."""
    maker: str
    """Whose conventions it follows: ``ModelOpt``, ``compressed-tensors``, ``gpt-oss``, ``plain``."""
    shape: tuple[int, int]
    """[N, K], of one expert."""
    scale: str | None = None
    """The tensor of its block scales, or of FP8's scale."""
    global_scale: str | None = None
    experts: int | None = None

    @property
    def elements(self) -> int:
        """Weights that one `load` gives."""
        return self.shape[0] * self.shape[1]


def module_of(name: str) -> str:
    """``a.b`` of ``a.b.weight`` and ``a.b.weight_packed``; ``a.b`` of ``a.b_blocks``; else the name itself."""
    for suffix in (".weight", ".weight_packed", "_blocks"):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def recognise(header: Header, name: str) -> StoredWeight | None:
    """The weight whose values or codes `name` holds, or None where it holds none.

    Raises ValueError naming the tensor, what was expected and what is there, where a weight is not whole.
    """
    dtype, shape = header[name]
    stem, _, last = name.rpartition(".")
    prefix = f"{stem}." if stem else ""
    if last.endswith("_blocks") and (dtype in CODES or f"{name.removesuffix('blocks')}scales" in header):
        return _gpt_oss(header, name)
    if last == "weight_packed":
        return _fp4(header, name, "compressed-tensors", f"{prefix}weight_scale", f"{prefix}weight_global_scale")
    scale, second = f"{prefix}weight_scale", f"{prefix}weight_scale_2"
    if last == "weight" and dtype == "F8_E4M3":
        return _fp8(header, name, scale)
    if last == "weight" and (dtype in CODES or second in header):
        return _fp4(header, name, "ModelOpt", scale, second)
    if last == "weight" and scale in header:
        raise ValueError(f"{name!r}: expected U8 (FP4) or F8_E4M3 (FP8) beside {scale!r}, got {dtype}")
    if dtype == "BF16" and len(shape) == 2 and not last.startswith("weight_"):
        n, k = _matrix(header, name, "[N, K]")
        return StoredWeight(name, "bf16", "plain", (n, k))
    return None


def _fp4(header: Header, name: str, maker: str, scale: str, second: str) -> StoredWeight:
    _expect_type(header, name, CODES)
    n, k = _matrix(header, name, "[N, K/2]")
    k = k if header[name][0] == "F4" else 2 * k
    _expect_type(header, scale, (*E4M3, *E8M0), beside=name)
    nvfp4 = header[scale][0] in E4M3
    block = NVFP4_BLOCK if nvfp4 else MXFP4_BLOCK
    if k % block:
        raise ValueError(f"{name!r}: expected K a multiple of the block of {block}, got K = {k}")
    _expect_shape(header, scale, (n, k // block))
    if not nvfp4:
        if second in header:
            raise ValueError(f"{scale!r}: expected F8_E4M3 beside {second!r}, got {header[scale][0]}")
        return StoredWeight(name, "mxfp4", maker, (n, k), scale)
    _expect_type(header, second, ("F32",), beside=name)
    _expect_shape(header, second, (), (1,))
    return StoredWeight(name, "nvfp4", maker, (n, k), scale, second)


def _fp8(header: Header, name: str, scale: str) -> StoredWeight:
    n, k = _matrix(header, name, "[N, K]")
    blocked = f"{scale}_inv"
    if scale not in header and blocked in header:
        raise ValueError(
            f"{name!r}: expected a scale for the tensor or for each row, got scales of blocks ({blocked!r})"
        )
    _expect_type(header, scale, FLOATS, beside=name)
    _expect_shape(header, scale, (), (1,), (n,), (n, 1), (1, 1))
    return StoredWeight(name, "fp8", "plain", (n, k), scale)


def _gpt_oss(header: Header, name: str) -> StoredWeight:
    _expect_type(header, name, ("U8",))
    shape = header[name][1]
    if len(shape) != 4 or shape[3] != MXFP4_BLOCK // 2 or 0 in shape:
        raise ValueError(f"{name!r}: expected shape [E, N, K/32, 16], got {list(shape)}")
    scale = f"{name.removesuffix('blocks')}scales"
    _expect_type(header, scale, E8M0, beside=name)
    _expect_shape(header, scale, shape[:3])
    experts, n, blocks, _ = shape
    return StoredWeight(name, "mxfp4", "gpt-oss", (n, blocks * MXFP4_BLOCK), scale, experts=experts)


def _matrix(header: Header, name: str, expected: str) -> tuple[int, int]:
    shape = header[name][1]
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"{name!r}: expected shape {expected} without zeros, got {list(shape)}")
    return shape[0], shape[1]


def _expect_type(header: Header, name: str, types: tuple[str, ...], beside: str | None = None) -> None:
    if name not in header:
        raise ValueError(f"{name!r}: expected {' or '.join(types)} beside {beside!r}, got no such tensor")
    if header[name][0] not in types:
        raise ValueError(f"{name!r}: expected {' or '.join(types)}, got {header[name][0]}")


def _expect_shape(header: Header, name: str, *shapes: tuple[int, ...]) -> None:
    shape = header[name][1]
    if shape not in shapes:
        expected = " or ".join(str(list(each)) for each in shapes)
        raise ValueError(f"{name!r}: expected shape {expected}, got {list(shape)}")
