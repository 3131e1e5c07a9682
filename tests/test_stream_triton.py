"""The stream kernels (Triton's and the eager reference), and a checker that no displaced or stale element escapes."""

from numerics import DEVICE
import pytest
import torch

from roofprobe.kernels import stream
from roofprobe.kernels.stream_check import CPU_CHUNK, count_wrong
from roofprobe.kernels.stream_triton import StreamConfig

SMALL = StreamConfig(warps=1, accesses=1)  # blocks of 128 elements
LENGTHS = {1: "less than a vector", 128: "one whole block", 1003: "blocks and a tail"}


@pytest.mark.parametrize("seed", [1, 0xFFFFFFFF], ids=["small", "beyond int32"])
@pytest.mark.parametrize("n", LENGTHS, ids=LENGTHS.values())
@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_every_operation(backend: str, n: int, seed: int) -> None:
    config = SMALL if backend == "triton" else None
    b, c = (torch.full((n,), -1.0, device=DEVICE) for _ in range(2))
    stream.fill(b, seed, config=config, backend=backend)
    stream.fill(c, seed + 1, config=config, backend=backend)
    index = torch.arange(n, dtype=torch.int64)
    expected = ((index * 2654435761 + seed) % 2**32 // 2**12).float()
    assert torch.equal(b.cpu(), expected)
    sums = torch.full((stream.read_partials(b, config=config, backend=backend),), -1, dtype=torch.int32, device=DEVICE)
    stream.read(b, out=sums, config=config, backend=backend)
    copied, written = torch.full_like(b, -1), torch.full((n,), -1, dtype=torch.int32, device=DEVICE)
    stream.copy(b, out=copied, config=config, backend=backend)
    stream.write(written, seed, config=config, backend=backend)
    added = stream.triad(b, c, 3.0, out=torch.full_like(b, -1), config=config, backend=backend)
    assert count_wrong("read", sums, n, [seed]) == 0
    assert count_wrong("copy", copied, n, [seed]) == 0
    assert count_wrong("write", written, n, [seed]) == 0
    assert count_wrong("triad", added, n, [seed, seed + 1], 3.0) == 0
    assert int(sums.sum(dtype=torch.int64)) % 2**32 == int(b.view(torch.int32).sum(dtype=torch.int64)) % 2**32


def test_read_shares_blocks_among_fewer_programs() -> None:
    source = torch.full((5 * 128 + 3,), 1, dtype=torch.int32, device=DEVICE)
    config = StreamConfig(warps=1, accesses=1, programs_per_multiprocessor=1)
    out = torch.zeros(1 if DEVICE == "cpu" else 6, dtype=torch.int32, device=DEVICE)
    assert int(stream.read(source, out=out, config=config, backend="triton").sum()) == source.numel()


def expected_output(op: str, n: int, seed: int) -> torch.Tensor:
    b, c = torch.empty(n), torch.empty(n)
    stream.fill(b, seed, backend="torch")
    stream.fill(c, seed + 1, backend="torch")
    match op:
        case "read":
            return stream.read(b, backend="torch")
        case "copy":
            return b
        case "write":
            return stream.write(torch.empty(n, dtype=torch.int32), seed, backend="torch")
        case _:
            return stream.triad(b, c, 3.0, backend="torch")


DAMAGE = {
    "two elements swapped": lambda t: t[[*range(9), 10, 9, *range(11, len(t))]],
    "shifted by one": lambda t: t.roll(1),
    "shifted by a period of 2^20": lambda t: t.roll(1 << 20),
    "one bit": lambda t: torch.where(torch.arange(len(t)) == 77, t.view(torch.int32) ^ 1, t.view(torch.int32)),
    "last element stale": lambda t: torch.cat((t[:-1], t[:1])),
}
N = (1 << 20) + 1003  # many chunks and a part of one; more than one period of the index's low 20 bits


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("op", ["copy", "write", "triad"])
def test_the_checker_sees(op: str, damage: object) -> None:
    answer = expected_output(op, N, 11)
    seeds = [11, 12] if op == "triad" else [11]
    assert count_wrong(op, answer, N, seeds) == 0
    assert count_wrong(op, damage(answer), N, seeds) > 0  # type: ignore[operator]


@pytest.mark.parametrize("op", stream.STREAM_OPS)
def test_the_checker_sees_the_answer_to_an_earlier_seed(op: str) -> None:
    assert count_wrong(op, expected_output(op, N, 11), N, [12, 13] if op == "triad" else [12]) > 0


def test_the_checker_counts_single_elements() -> None:
    answer = expected_output("copy", N, 11)
    answer[[0, CPU_CHUNK, N - 1]] += 1
    assert count_wrong("copy", answer, N, [11]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("scale", torch.zeros(4), 4, [1]), "op: expected one of"),
        (("triad", torch.zeros(4), 4, [1]), "seeds: expected 2 for triad, got 1"),
        (("copy", torch.zeros(3), 4, [1]), "out: expected 4 elements, got 3"),
        (("read", torch.zeros(0, dtype=torch.int32), 4, [1]), "out: expected at least one"),
    ],
)
def test_the_checker_refuses(arguments: tuple[str, torch.Tensor, int, list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        count_wrong(*arguments)


def test_byte_counts_are_streams() -> None:
    useful = {op: counts.useful_bytes(1000) for op, counts in stream.STREAM_OPS.items()}
    assert useful == {"read": 4000, "copy": 8000, "write": 4000, "triad": 12000}
    bus = {op: counts.bus_bytes(1000, write_allocate=True) for op, counts in stream.STREAM_OPS.items()}
    assert bus == {"read": 4000, "copy": 12000, "write": 8000, "triad": 16000}


@pytest.mark.parametrize(
    "values", [{"warps": 3}, {"warps": 32}, {"accesses": 0}, {"programs_per_multiprocessor": 0}], ids=str
)
def test_a_config_out_of_range_is_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(values))}: expected .* got {next(iter(values.values()))}"):
        StreamConfig(**values)


def test_unaligned_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="source: expected 16-byte aligned data, got an address 4 past"):
        stream.copy(torch.zeros(9, device=DEVICE)[1:], backend="triton")
