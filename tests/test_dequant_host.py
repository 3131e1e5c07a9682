"""NVFP4 dequantization on the CPU, bit for bit against torch's E4M3 and ml_dtypes' E2M1."""

from host_weights import assert_same_bits
import ml_dtypes
import numpy as np
import pytest
import torch

from roofprobe.kernels.dequant_host import dequantize_nvfp4
from roofprobe.kernels.host_memory import allocate
from roofprobe.kernels.host_threads import HostConfig, allowed_cpus
from roofprobe.kernels.tables_host import bf16_bits, e2m1_values, e4m3_values

DTYPES = [torch.bfloat16, torch.float16, torch.float32]


def expected(
    codes: torch.Tensor, scales: torch.Tensor, global_scale: float, divide: bool, dtype: torch.dtype
) -> torch.Tensor:
    """RN_out(RN(q * s * g)) by other people's decoders: ml_dtypes for E2M1, torch for E4M3 and all rounding."""
    nibbles = torch.stack([codes & 15, codes >> 4], dim=-1).reshape(codes.shape[0], -1)
    q = torch.from_numpy(nibbles.numpy().view(ml_dtypes.float4_e2m1fn).astype(np.float32))
    s = scales.view(torch.float8_e4m3fn).float().repeat_interleave(16, dim=1)
    g = torch.tensor(global_scale, dtype=torch.float32)
    return (q * s / g if divide else q * s * g).to(dtype)


def every_pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Every code under every scale byte, in both halves of the byte: codes [256, 64], scales [256, 8]."""
    generator = torch.Generator().manual_seed(3)
    codes = torch.stack([torch.randperm(16, generator=generator) for _ in range(256 * 8)]).to(torch.uint8)
    codes = codes[:, ::2] | codes[:, 1::2] << 4
    return codes.reshape(256, 64), torch.arange(256, dtype=torch.uint8).repeat(8).reshape(256, 8)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("divide", [False, True], ids=["multiply", "divide"])
@pytest.mark.parametrize(
    "global_scale",
    [
        1.0,
        0.0123,  # its bfloat16 differs
        -0.7,
        1e-40,  # subnormal: with `divide` most results are infinite
        3.4e37,  # 448 * 6 * g overflows
        0.0,  # with `divide` 0 / 0 is NaN
        float("inf"),
        float("nan"),
        1.1754944e-38 / 3,  # results around the smallest normal float32
        2.0**-17,  # float16 subnormals
    ],
)
def test_every_scale_byte_and_code(global_scale: float, divide: bool, dtype: torch.dtype) -> None:
    codes, scales = every_pair()
    out = torch.full((256, 128), 7.0, dtype=dtype)
    assert dequantize_nvfp4(codes, scales, global_scale, divide, out) is out
    assert_same_bits(out, expected(codes, scales, global_scale, divide, dtype))


def test_multiplying_by_a_reciprocal_would_be_seen() -> None:
    codes, scales = every_pair()
    g = 0.0123
    divided, reciprocal = (torch.empty(256, 128) for _ in range(2))
    dequantize_nvfp4(codes, scales, g, True, divided)
    dequantize_nvfp4(codes, scales, float(np.float32(1) / np.float32(g)), False, reciprocal)
    assert not torch.equal(divided.nan_to_num(), reciprocal.nan_to_num())


@pytest.mark.parametrize("config", [HostConfig(threads=1, chunk_bytes=4096), HostConfig(stores="normal")], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("n", "k", "offset"),
    [
        (1, 16, 0),  # one block
        (1, 48, 0),  # K no multiple of 32
        (3, 80, 0),  # rows begin at odd blocks
        (5, 48, 16),  # out one block past a cache line
        (5, 48, 3),  # out on no block boundary: normal stores
        (67, 1008, 0),  # several chunks, the last one short
    ],
)
def test_shapes_and_offsets(n: int, k: int, offset: int, dtype: torch.dtype, config: HostConfig) -> None:
    generator = torch.Generator().manual_seed(n * k)
    codes = torch.randint(0, 256, (n, k // 2), dtype=torch.uint8, generator=generator)
    scales = torch.randint(0, 256, (n, k // 16), dtype=torch.uint8, generator=generator)
    whole = allocate((n * k + 128) * dtype.itemsize).view(dtype).fill_(-77)
    out = whole[64 + offset : 64 + offset + n * k].view(n, k)
    dequantize_nvfp4(codes, scales, 0.37, False, out, config)
    assert_same_bits(out, expected(codes, scales, 0.37, False, dtype))
    assert (whole[: 64 + offset] == -77).all() and (whole[64 + offset + n * k :] == -77).all()


@pytest.mark.skipif(len(allowed_cpus()) < 2, reason="this process may use one CPU only")
def test_threads_agree() -> None:
    codes = torch.randint(0, 256, (64, 512), dtype=torch.uint8)
    scales = torch.randint(0, 256, (64, 64), dtype=torch.uint8)
    one, two = (torch.empty(64, 1024, dtype=torch.bfloat16) for _ in range(2))
    dequantize_nvfp4(codes, scales, 0.5, False, one, HostConfig(threads=1))
    dequantize_nvfp4(codes, scales, 0.5, False, two, HostConfig(threads=2, chunk_bytes=4096))
    assert_same_bits(one, two)


def test_scalar_decoders() -> None:
    codes, every = np.arange(16, dtype=np.uint8), np.arange(256, dtype=np.uint8)
    q = codes.view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    assert (e2m1_values().view(np.uint32) == q.view(np.uint32)).all()  # -0 too
    s = torch.from_numpy(every).view(torch.float8_e4m3fn).float()
    assert_same_bits(torch.from_numpy(e4m3_values()), s)
    second = torch.from_numpy(every.view(ml_dtypes.float8_e4m3fn).astype(np.float32))
    assert_same_bits(torch.from_numpy(e4m3_values()), second)


def test_bfloat16_rounding() -> None:
    words = np.random.default_rng(5).integers(0, 2**32, 100_000, dtype=np.uint32)
    words[:8] = [0x3F808000, 0x3F818000, 0x7F7FFFFF, 0xFF7FFFFF, 1, 0x80000000, 0x7F800001, 0xFFFFFFFF]  # ties, NaN
    values = words.view(np.float32)
    got = torch.from_numpy(bf16_bits(values)).view(torch.bfloat16)
    assert_same_bits(got, torch.from_numpy(values).to(torch.bfloat16))


def tensors(codes: tuple[int, ...], scales: tuple[int, ...], out: tuple[int, ...]) -> list[torch.Tensor]:
    return [torch.zeros(codes, dtype=torch.uint8), torch.zeros(scales, dtype=torch.uint8), torch.zeros(out)]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 20), (2, 2), (2, 40)), "codes: expected K a multiple of the block, 16, got K = 40"),
        (((2, 8), (1, 2), (2, 16)), r"scale_bytes: expected shape \[2, 1\], got \[1, 2\]"),
        (((2, 8), (2, 1), (16, 2)), r"out: expected shape \[2, 16\], got \[16, 2\]"),
        (((8,), (1,), (16,)), r"codes: expected shape \[any, any\], got \[8\]"),
    ],
)
def test_wrong_shapes_are_named(shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    codes, scales, out = tensors(*shapes)
    with pytest.raises(ValueError, match=message):
        dequantize_nvfp4(codes, scales, 1.0, False, out)


@pytest.mark.parametrize(
    ("which", "message"),
    [
        (0, "codes: expected torch.uint8, got torch.float64"),
        (1, "scale_bytes: expected torch.uint8, got torch.float64"),
        (2, "out: expected torch.bfloat16 or torch.float16 or torch.float32, got torch.float64"),
    ],
)
def test_wrong_dtypes_are_named(which: int, message: str) -> None:
    made = tensors((2, 8), (2, 1), (2, 16))
    made[which] = made[which].double()
    codes, scales, out = made
    with pytest.raises(ValueError, match=message):
        dequantize_nvfp4(codes, scales, 1.0, False, out)
