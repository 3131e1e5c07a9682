"""Quantized weights refuse what is malformed and keep what checkpoints say; random data is non-periodic and finite."""

from collections.abc import Callable

from oracles import swizzled_places
import pytest
import torch

from roofprobe.kernels.dequant import dequantize
from roofprobe.kernels.formats import (
    FORMAT_NAMES,
    FP8Weight,
    MXFP4Weight,
    NVFP4Weight,
    check_weight,
    format_name,
    random_bf16,
    random_fp8,
    random_mxfp4,
    random_nvfp4,
    random_weight,
    stored_bytes,
)
from roofprobe.kernels.swizzle import linear, swizzled

FP8 = torch.float8_e4m3fn
ZEROS = torch.zeros(96, dtype=torch.uint8)


def parts(n: int = 3, k: int = 48) -> dict[str, torch.Tensor]:
    weight = random_nvfp4(n, k, 1, "cpu")
    return {"weight": weight.codes, "weight_scale": weight.block_scales, "weight_scale_2": weight.global_scale}


def test_both_conventions_stay_in_the_record() -> None:
    multiplied = NVFP4Weight.from_modelopt(**parts())
    codes, scales, global_scale = parts().values()
    divided = NVFP4Weight.from_compressed_tensors(codes, scales, global_scale.reshape(1))
    assert (multiplied.global_scale_use, divided.global_scale_use) == ("multiply", "divide")
    assert multiplied.shape == divided.shape == (3, 48)
    assert divided.global_scale.shape == ()


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("weight", torch.zeros(3, 24, dtype=torch.int8), "codes: expected torch.uint8, got torch.int8"),
        ("weight", torch.zeros(24, dtype=torch.uint8), r"weight: expected shape \[N, K/2\], got \[24\]"),
        ("weight", torch.zeros(3, 20, dtype=torch.uint8), "K a multiple of 16, got N=3, K=40"),
        ("weight", torch.zeros(3, 0, dtype=torch.uint8), "K a multiple of 16, got N=3, K=0"),
        ("weight", torch.zeros(24, 3, dtype=torch.uint8).T, "codes: expected a contiguous tensor"),
        ("weight_scale", torch.zeros(3, 3), "block_scales: expected torch.float8_e4m3fn, got torch.float32"),
        (
            "weight_scale",
            torch.zeros(3, 4, dtype=torch.uint8).view(FP8),
            r"block_scales: expected shape \[3, 3\], got \[3, 4\]",
        ),
        ("weight_scale_2", torch.ones(2), r"weight_scale_2: expected one float32, got shape \[2\]"),
        ("weight_scale_2", torch.ones((), dtype=torch.bfloat16), "weight_scale_2: expected torch.float32, got"),
    ],
)
def test_a_malformed_tensor_is_named(name: str, tensor: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        NVFP4Weight.from_modelopt(**(parts() | {name: tensor}))
    assert "\n" not in str(caught.value)


def test_scale_layouts() -> None:
    codes, scales, global_scale = parts().values()
    padded = torch.zeros(128, 4, dtype=torch.uint8).view(FP8)
    for laid_out in (padded, padded.view(-1)):
        weight = NVFP4Weight(codes, laid_out, global_scale, (3, 48), scale_layout="swizzled")
        assert weight.block_scale_bytes.shape == (512,)
    with pytest.raises(ValueError, match=r"block_scales: expected shape \[512\], got \[9\]"):
        NVFP4Weight(codes, scales.view(-1), global_scale, (3, 48), scale_layout="swizzled")
    with pytest.raises(ValueError, match="scale_layout: expected 'linear' or 'swizzled', got 'blocked'"):
        NVFP4Weight(codes, scales, global_scale, (3, 48), scale_layout="blocked")


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (130, 5), (256, 8)])
def test_the_swizzled_layout_follows_its_formula(n: int, columns: int) -> None:
    matrix = torch.randint(1, 256, (n, columns), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    flat = swizzled(matrix)
    places = torch.from_numpy(swizzled_places(n, columns))
    assert torch.equal(flat[places], matrix)
    assert int((flat != 0).sum()) == n * columns  # padding is zero
    assert torch.equal(linear(flat, n, columns), matrix)


CODES, SCALES, VALUES, ONES = ZEROS.view(3, 32), ZEROS[:6].view(3, 2), ZEROS.view(3, 32).view(FP8), torch.ones(3)


def mxfp4(codes: torch.Tensor = CODES, scales: torch.Tensor = SCALES) -> MXFP4Weight:
    return MXFP4Weight(codes, scales, (3, 64))


def fp8(values: torch.Tensor = VALUES, scale: torch.Tensor = ONES) -> FP8Weight:
    return FP8Weight(values, scale)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mxfp4(codes=ZEROS.view(6, 16)), r"codes: expected shape \[3, 32\], got \[6, 16\]"),
        (lambda: mxfp4(scales=torch.ones(3, 2)), "block_scales: expected torch.uint8 or torch.float8_e8m0fnu, got"),
        (lambda: mxfp4(scales=ZEROS[:6].view(2, 3)), r"block_scales: expected shape \[3, 2\], got \[2, 3\]"),
        (lambda: MXFP4Weight(ZEROS[:72].view(3, 24), ZEROS[:6], (3, 48)), "K a multiple of 32, got N=3, K=48"),
        (lambda: MXFP4Weight.from_gpt_oss(ZEROS.view(3, 32), ZEROS), r"blocks: expected shape \[N, K/32, 16\]"),
        (lambda: MXFP4Weight.from_gpt_oss(ZEROS.view(3, 2, 16), ZEROS[:3]), r"scales: expected shape \[3, 2\]"),
        (lambda: fp8(values=ZEROS.view(3, 32)), "values: expected torch.float8_e4m3fn, got torch.uint8"),
        (lambda: fp8(values=ZEROS.view(FP8)), r"values: expected shape \[N, K\] without zeros, got \[96\]"),
        (lambda: fp8(scale=torch.ones(3, 1)), r"scale: expected shape \[\] or \[3\], got \[3, 1\]"),
        (lambda: fp8(scale=torch.ones(3, dtype=torch.float64)), "scale: expected torch.float32, got torch.float64"),
        (lambda: fp8(scale=torch.ones(3, device="meta")), "scale: expected on cpu like the weight, got meta"),
        (
            lambda: FP8Weight.from_compressed_tensors(ZEROS.view(3, 32).view(FP8), torch.ones(1, 2)),
            r"weight_scale: expected shape \[\], \[1\], \[3\] or \[3, 1\], got \[1, 2\]",
        ),
    ],
)
def test_malformed_mxfp4_and_fp8_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_gpt_oss_blocks_are_views_in_the_order_of_k() -> None:
    blocks = torch.zeros(1, 2, 16, dtype=torch.uint8)
    blocks[0, 1, 3] = 0x72  # k = 32 + 6 is code 2, k = 32 + 7 code 7
    weight = MXFP4Weight.from_gpt_oss(blocks, torch.tensor([[127, 128]], dtype=torch.uint8))
    assert weight.codes.data_ptr() == blocks.data_ptr()
    values = dequantize(weight, torch.float32, backend="torch")[0]
    assert (values[38], values[39], int((values != 0).sum())) == (2 * 1.0, 2 * 6.0, 2)


def test_fp8_scales_of_checkpoints() -> None:
    values = ZEROS.view(3, 32).view(FP8)
    assert FP8Weight.from_modelopt(values, torch.ones(1)).scale.shape == ()
    scale = torch.tensor([[0.1], [0.2], [0.3]], dtype=torch.bfloat16)
    weight = FP8Weight.from_compressed_tensors(values, scale)
    assert weight.scale.dtype == torch.float32 and torch.equal(weight.scale, scale.float().view(3))


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (None, "weight: expected a bfloat16 tensor, NVFP4Weight, MXFP4Weight or FP8Weight, got NoneType"),
        (torch.zeros(2, 2), "weight: expected a bfloat16 tensor, .* got torch.float32"),
        (torch.zeros(4, dtype=torch.bfloat16), r"weight: expected shape \[N, K\]"),
        (torch.zeros(2, 4, dtype=torch.bfloat16).T, "weight: expected a contiguous tensor"),
    ],
)
def test_a_weight_of_no_known_format_is_refused(weight: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_weight(weight)


def test_stored_bytes() -> None:
    assert stored_bytes(random_nvfp4(4, 32, 1, "cpu")) == 4 * 16 + 4 * 2 + 4
    assert stored_bytes(random_nvfp4(4, 32, 1, "cpu", "swizzled")) == 4 * 16 + 4 * 2 + 4  # its padding is not read
    assert stored_bytes(random_mxfp4(4, 64, 1, "cpu")) == 4 * 32 + 4 * 2
    assert stored_bytes(random_fp8(4, 32, 1, "cpu")) == 4 * 32 + 4
    assert stored_bytes(random_fp8(4, 32, 1, "cpu", per_row=True)) == 4 * 32 + 4 * 4
    assert stored_bytes(random_bf16(4, 32, 1, "cpu")) == 4 * 32 * 2


def test_random_weights_have_the_format_asked_for() -> None:
    assert tuple(format_name(random_weight(name, 2, 32, 1, "cpu")) for name in FORMAT_NAMES) == FORMAT_NAMES
    with pytest.raises(ValueError, match="format: expected one of bf16, fp8, nvfp4, mxfp4, got 'int4'"):
        random_weight("int4", 2, 32, 1, "cpu")


@pytest.mark.parametrize("shape", [(64, 256), (3, 48)], ids=["whole words", "bytes that no word of 8 divides"])
def test_random_data_is_finite_varied_and_follows_the_seed(shape: tuple[int, int]) -> None:
    weight, again = (random_nvfp4(*shape, 5, "cpu") for _ in range(2))
    other = random_nvfp4(*shape, 6, "cpu")
    assert torch.equal(weight.codes, again.codes) and not torch.equal(weight.codes, other.codes)
    scales = weight.block_scales.float()
    assert scales.isfinite().all() and scales.min() >= 0.25 and scales.max() <= 3.75
    values = random_bf16(*shape, 5, "cpu").float().abs()
    assert values.min() >= 0.5 and values.max() < 2
    magnitudes = random_fp8(*shape, 5, "cpu").values.float().abs()
    assert magnitudes.min() >= 2**-6 and magnitudes.max() <= 3.75


def test_random_data_uses_every_code_and_both_signs_at_every_place() -> None:
    weight = random_nvfp4(512, 16, 5, "cpu")
    for place in range(8):  # a byte of each 64-bit word: a generator that never sets the sign bit shows in the last
        assert len(weight.codes[:, place].unique()) > 200
    assert (random_bf16(512, 4, 5, "cpu") < 0).any(dim=0).all()
