"""NVFP4Weight refuses what is malformed, keeps both conventions, and random data is non-periodic and finite."""

import pytest
import torch

from roofprobe.kernels.formats import NVFP4Weight, check_weight, format_name, random_bf16, random_nvfp4, stored_bytes

FP8 = torch.float8_e4m3fn


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


def test_a_layout_that_no_kernel_reads_is_refused() -> None:
    codes, scales, global_scale = parts().values()
    with pytest.raises(ValueError, match="scale_layout: expected 'linear', got 'swizzled'"):
        NVFP4Weight(codes, scales, global_scale, (3, 48), scale_layout="swizzled")


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (None, "weight: expected a bfloat16 tensor or an NVFP4Weight, got NoneType"),
        (torch.zeros(2, 2), "weight: expected bfloat16 or an NVFP4Weight, got torch.float32"),
        (torch.zeros(4, dtype=torch.bfloat16), r"weight: expected shape \[N, K\]"),
        (torch.zeros(2, 4, dtype=torch.bfloat16).T, "weight: expected a contiguous tensor"),
    ],
)
def test_a_weight_of_no_known_format_is_refused(weight: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_weight(weight)


def test_stored_bytes() -> None:
    assert stored_bytes(random_nvfp4(4, 32, 1, "cpu")) == 4 * 16 + 4 * 2 + 4
    assert stored_bytes(random_bf16(4, 32, 1, "cpu")) == 4 * 32 * 2
    assert [format_name(random_nvfp4(1, 16, 1, "cpu")), format_name(random_bf16(1, 16, 1, "cpu"))] == ["nvfp4", "bf16"]


@pytest.mark.parametrize("shape", [(64, 256), (3, 48)], ids=["whole words", "bytes that no word of 8 divides"])
def test_random_data_is_finite_varied_and_follows_the_seed(shape: tuple[int, int]) -> None:
    weight, again = (random_nvfp4(*shape, 5, "cpu") for _ in range(2))
    other = random_nvfp4(*shape, 6, "cpu")
    assert torch.equal(weight.codes, again.codes) and not torch.equal(weight.codes, other.codes)
    scales = weight.block_scales.float()
    assert scales.isfinite().all() and scales.min() >= 0.25 and scales.max() <= 3.75
    values = random_bf16(*shape, 5, "cpu").float().abs()
    assert values.min() >= 0.5 and values.max() < 2


def test_random_data_uses_every_code_and_both_signs_at_every_place() -> None:
    weight = random_nvfp4(512, 16, 5, "cpu")
    for place in range(8):  # a byte of each 64-bit word: a generator that never sets the sign bit shows in the last
        assert len(weight.codes[:, place].unique()) > 200
    assert (random_bf16(512, 4, 5, "cpu") < 0).any(dim=0).all()
