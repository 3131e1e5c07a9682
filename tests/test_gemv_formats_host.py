"""The CPU GEMV kernels in every format and layout: exact sums, each block alone, random data inside its error bound."""

from host_weights import KINDS, assert_same_bits, assert_within_bound, fp4, make, random_bytes
import pytest
import torch

from roofprobe.kernels.gemv_host import gemv_fp8, gemv_mxfp4, gemv_nvfp4
from roofprobe.kernels.gemv_rows_host import RESIDENT, TILE
from roofprobe.kernels.host_threads import HostConfig, allowed_cpus

DEFAULT = HostConfig()
BATCHES = pytest.mark.parametrize("batch", [1, 2, 3, 16])  # alone; one pair; a pair and a padded one; the most
ANY_KIND = pytest.mark.parametrize("kind", KINDS)
SHAPES = [
    (1, 32),  # one block of 32, or two of 16
    (3, 96),  # a step of 64 and one block
    (130, 64),  # two tiles of 128 rows; several chunks a thread
    (5, 1056),
    (2, TILE + 32),  # one block in the second tile
    (6, RESIDENT + 32),  # four rows together, then two alone
]
ONE_BLOCK_OF_16 = [(1, 16), (3, 48), (129, 272)]
ODD = [(1, 1), (3, 17), (2, TILE + 65)]


def cases() -> list[tuple[str, int, int]]:
    """Each kind with every K that is a multiple of its block."""
    block = {"bf16": 1, "fp8": 1, "nvfp4": 16, "mxfp4": 32}
    shapes = SHAPES + ONE_BLOCK_OF_16 + ODD
    return [(kind, n, k) for kind in KINDS for n, k in shapes if k % block[kind.split()[0]] == 0]


EVERY_CASE = pytest.mark.parametrize(("kind", "n", "k"), cases())


def poisoned(batch: int, n: int) -> torch.Tensor:
    return torch.full((batch, n), float("nan"))


@EVERY_CASE
@BATCHES
def test_random_data(kind: str, n: int, k: int, batch: int) -> None:
    weight = make(kind, 1, n, k)
    x = torch.randn(batch, k, generator=torch.Generator().manual_seed(2))
    out = poisoned(batch, n)
    assert weight.gemv(x, out, DEFAULT) is out
    assert_within_bound(out, weight.products[0], weight.factors[0], x)


@EVERY_CASE
@BATCHES
def test_exact_sums(kind: str, n: int, k: int, batch: int) -> None:
    """Every partial sum is an integer below 2^24: any order of summing gives these bits."""
    weight = make(kind, 1, n, k, whole=True)
    x = torch.randint(-8, 9, (batch, k), generator=torch.Generator().manual_seed(k)).bfloat16()
    out = poisoned(batch, n)
    weight.gemv(x, out, DEFAULT)
    want = (x.double() @ weight.products[0].double().T) * weight.factors[0].reshape(1, -1)
    assert torch.equal(out, want.float())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "fp4" in kind])
@pytest.mark.parametrize("batch", [1, 3])
def test_each_block_alone_with_every_scale_byte(kind: str, batch: int) -> None:
    """x is one power of two in one place, so y is one weight times it, exactly: NaN, subnormal and infinite too."""
    n, k, block = 256, 96, 16 if kind.startswith("nvfp4") else 32
    codes = random_bytes((1, n, k // 2), 5)
    for column in range(k // block):
        scales = torch.full((1, n, k // block), 0x38 if block == 16 else 127, dtype=torch.uint8)
        scales[0, :, column] = torch.arange(256, dtype=torch.uint8)
        weight = fp4(kind, codes, scales, torch.tensor([0.5 if block == 16 else 1.0]))
        for place in (column * block, column * block + 7, column * block + block - 1):
            x = torch.zeros(batch, k)
            x[-1, place] = 0.25
            out = poisoned(batch, n)
            weight.gemv(x, out, DEFAULT)
            want = (weight.products[0] * x[-1]).double().sum(1) * weight.factors[0, :, 0]
            assert_same_bits(out[-1] + 0.0, want.float() + 0.0)  # a sum of zeros is 0 whatever their signs


@pytest.mark.parametrize("by_row", [False, True], ids=["per tensor", "per row"])
@pytest.mark.parametrize("batch", [1, 3])
def test_each_fp8_byte_alone(by_row: bool, batch: int) -> None:
    k = 83  # a whole step of 64, a vector, and three more
    values = torch.arange(256, dtype=torch.uint8)[:, None].repeat(1, k)
    scale = 2.0 ** (torch.arange(256) % 5 - 2) if by_row else torch.tensor(0.5)
    decoded = values.view(torch.float8_e4m3fn).float()
    for place in (0, 63, 64, 79, 80, 82):
        x = torch.zeros(batch, k)
        x[-1, place] = 4.0
        out = poisoned(batch, 256)
        gemv_fp8(values, scale, x, out)
        assert_same_bits(out[-1] + 0.0, decoded[:, place] * 4 * scale + 0.0)


@ANY_KIND
def test_zeros_sum_to_zero(kind: str) -> None:
    weight = make(kind, 1, 3, 96)
    out = poisoned(3, 3)
    weight.gemv(torch.zeros(3, 96), out, DEFAULT)
    assert (out == 0).all()


def test_the_global_scale_is_no_bfloat16_and_comes_last() -> None:
    """One weight, one product: RN(RN(q s x) g), and neither of its neighbours."""
    codes, scales = torch.tensor([[7, *[0] * 7]], dtype=torch.uint8), torch.tensor([[0x7E]], dtype=torch.uint8)
    x, out, g = torch.zeros(1, 16), poisoned(1, 1), torch.tensor(0.0123)
    x[0, 0] = 1.1
    gemv_nvfp4(codes, scales, g.item(), False, x, out)
    assert out[0, 0] == torch.tensor(6 * 448.0) * x[0, 0] * g
    gemv_nvfp4(codes, scales, g.item(), True, x, out)
    assert out[0, 0] == torch.tensor(6 * 448.0) * x[0, 0] / g


@pytest.mark.skipif(len(allowed_cpus()) < 2, reason="this process may use one CPU only")
@ANY_KIND
@pytest.mark.parametrize("batch", [1, 3])
def test_threads_give_the_same_bits(kind: str, batch: int) -> None:
    weight = make(kind, 1, 301, 512)
    x = torch.randn(batch, 512, generator=torch.Generator().manual_seed(2))
    one, two = poisoned(batch, 301), poisoned(batch, 301)
    weight.gemv(x, one, HostConfig(threads=1))
    weight.gemv(x, two, HostConfig(threads=2, chunk_bytes=4096))
    assert torch.equal(one, two)


def test_wrong_arguments_are_named() -> None:
    codes, x, out = torch.zeros(2, 16, dtype=torch.uint8), torch.zeros(1, 32), torch.zeros(1, 2)
    with pytest.raises(ValueError, match=r"scale_bytes: expected shape \[2, 1\], got \[512\]"):
        gemv_mxfp4(codes, torch.zeros(512, dtype=torch.uint8), x, out)
    with pytest.raises(ValueError, match=r"scale_bytes: expected shape \[512\], got \[2, 2\]"):
        gemv_nvfp4(codes, torch.zeros(2, 2, dtype=torch.uint8), 1.0, False, x, out, swizzled=True)
    with pytest.raises(ValueError, match=r"scale: expected shape \[2\], got \[1\]"):
        gemv_fp8(torch.zeros(2, 32, dtype=torch.uint8), torch.ones(1), x, out)
    with pytest.raises(ValueError, match="x: expected 1 to 16 vectors, got 17"):
        gemv_fp8(torch.zeros(2, 32, dtype=torch.uint8), torch.ones(()), torch.zeros(17, 32), torch.zeros(17, 2))
