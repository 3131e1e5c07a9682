"""Which configurations are worth timing, for each operation: bounded lists, the default first.

GEMV on a GPU, and grouped GEMV with the rows of every (token, expert) pair as N, at most 87:
    warps 1 to 8          programs have no barrier, so warps only say how coarsely rows are handed out
    tile_bytes 64 to 2048 bytes of a row that are read side by side: less than two 32-byte sectors wastes bandwidth,
                          more than 2 KiB no longer changes what the memory sees; no wider than a row needs
    row_groups 1 to 8     loads in flight a lane; a lane's sums and decoded weights have to fit its registers
    stages 1              above it Triton moves weights through shared memory
    decode                the GPU's own mode has the fewest instructions; the older ones under the default's sizes alone
    "mma"                 2 to 8 warps, all 64-byte segments that they can share, 2 to 8 rows a lane; the modes without
                          tensor cores under their default's sizes alone
Dequantization, at most 23: warps 1 to 16, words 1 to 8 (16 would hold 128 decoded weights a thread).
Streams, at most 20, and 64 for read: warps 1 to 16, accesses 1 to 8; for read also 2 to 32 programs a
multiprocessor with 8 to 64 warps together, since fewer can't cover the memory's latency and more are not resident.
On the host, at most 40: all, three, two and one quarter of the CPUs (memory can be saturated by fewer), chunks from
64 KiB (the shared counter's cost shows below) to 16 MiB, and both kinds of store where the result is as large as what
is read.

Whatever leaves a multiprocessor without a program is left out, unless it is the default.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from roofprobe.kernels.dequant_triton import DequantConfig
    from roofprobe.kernels.gemv_triton import GemvConfig
    from roofprobe.kernels.host_threads import HostConfig
    from roofprobe.kernels.stream_triton import StreamConfig

STREAMS = ("read", "copy", "write", "triad")
WEIGHTS_A_WORD = {"bf16": 4, "fp8": 8, "nvfp4": 16, "mxfp4": 16}
"""At most, that a lane decodes at once and holds for the whole batch."""
BYTES_A_WEIGHT = {"bf16": 2.0, "fp8": 1.0, "nvfp4": 0.5, "mxfp4": 0.5}
LANE_REGISTERS = 160
"""Of 255: for sums and decoded weights. The rest holds x, scales and addresses."""
RESIDENT_WARPS = range(8, 65)
HOST_CHUNKS = tuple(1 << bits for bits in (16, 18, 20, 22, 24))
WRITES_MUCH = ("dequant", "copy", "write", "triad")

ConfigT = TypeVar("ConfigT")


def config_class(op: str, side: str) -> type[Any]:
    """The dataclass that configures `op` on one side."""
    if side == "host":
        from roofprobe.kernels.host_threads import HostConfig

        return HostConfig
    if op in ("gemv", "grouped_gemv"):
        from roofprobe.kernels.gemv_triton import GemvConfig

        return GemvConfig
    if op == "dequant":
        from roofprobe.kernels.dequant_triton import DequantConfig

        return DequantConfig
    from roofprobe.kernels.stream_triton import StreamConfig

    return StreamConfig


def gemv_space(
    weight_format: str,
    n: int,
    k: int,
    batch: int,
    multiprocessors: int,
    decode: str = "bits",
    *,
    grouped: bool = False,
) -> tuple[GemvConfig, ...]:
    """For y[B, N] = x[B, K] W[N, K]^T with 16-bit x on a GPU whose decode mode is `decode`.

    A grouped GEMV has one vector for each expert, and no kernel for tensor cores.
    """
    import torch

    from roofprobe.kernels.gemv_triton import default_config, gemv_mode

    default = default_config(n, batch, multiprocessors, decode)
    tensor_cores = default_config(n, batch, multiprocessors, "mma")
    row_bytes = int(k * BYTES_A_WEIGHT[weight_format])
    held = batch + WEIGHTS_A_WORD[weight_format]

    def candidates() -> Iterator[GemvConfig]:
        for warps in _powers(1, 8):
            widest = max(64, min(2048, 512 * warps, 2 * row_bytes - 1))
            for tile_bytes, row_groups in product(_powers(64, widest), _powers(1, 8)):
                config = replace(default, warps=warps, tile_bytes=tile_bytes, row_groups=row_groups)
                programs = -(-n // (config.lane_rows * row_groups))
                if row_groups * held <= LANE_REGISTERS and programs >= multiprocessors:
                    yield config

    def on_tensor_cores() -> Iterator[GemvConfig]:
        for warps in _powers(2, 8):
            for tile_bytes, row_groups in product(_powers(64, 64 * warps), _powers(2, 8)):
                config = replace(tensor_cores, warps=warps, tile_bytes=tile_bytes, row_groups=row_groups)
                programs = -(-n // (config.lane_rows * row_groups))
                if row_groups * batch <= 64 and programs >= multiprocessors:
                    yield config

    older = [replace(default, decode=mode) for mode in _modes(decode)]
    if not grouped and gemv_mode(weight_format, k, torch.bfloat16, decode) == "mma":
        return _once([tensor_cores, *on_tensor_cores(), default, *older])
    return _once([default, *candidates(), *older])


def dequant_space(n: int, k: int, multiprocessors: int, decode: str = "bits") -> tuple[DequantConfig, ...]:
    """For a weight [N, K] of any quantized format on a GPU whose decode mode is `decode`."""
    from roofprobe.kernels.dequant_triton import DequantConfig

    default = DequantConfig(decode=decode)
    sizes = [replace(default, warps=warps, words=words) for warps in _powers(1, 16) for words in _powers(1, 8)]
    busy = [c for c in sizes if n * k // 8 >= multiprocessors * c.block]
    return _once([default, *busy, *(replace(default, decode=mode) for mode in _modes(decode))])


def stream_space(op: str, n: int, multiprocessors: int) -> tuple[StreamConfig, ...]:
    """For read, copy, write or triad over n elements of 4 bytes on a GPU."""
    from roofprobe.kernels.stream_triton import StreamConfig

    default = StreamConfig()

    def candidates() -> Iterator[StreamConfig]:
        resident = _powers(2, 32) if op == "read" else (default.programs_per_multiprocessor,)
        for warps, accesses, programs in product(_powers(1, 16), _powers(1, 8), resident):
            config = StreamConfig(warps, accesses, programs)
            fits = op != "read" or warps * programs in RESIDENT_WARPS
            if fits and n >= multiprocessors * config.block:
                yield config

    return _once([default, *candidates()])


def host_space(op: str, n_bytes: int) -> tuple[HostConfig, ...]:
    """For any operation on the CPU. Configurations that come to the same are listed once.

    n_bytes: of the array that the workers share out, the written one, or for GEMV and read the one that is read.
    """
    from roofprobe.kernels.host_threads import HostConfig, share, worker_cpus

    cpus = len(worker_cpus(HostConfig()))
    default = HostConfig(threads=cpus)
    both: tuple[Literal["non-temporal", "normal"], ...] = ("non-temporal", "normal")
    stores = both if op in WRITES_MUCH else (default.stores,)
    candidates = [default] + [
        HostConfig(threads=threads, chunk_bytes=chunk_bytes, stores=store)
        for threads in dict.fromkeys(-(-cpus * quarters // 4) for quarters in (4, 3, 2, 1))
        for chunk_bytes in HOST_CHUNKS
        for store in stores
    ]
    different = {(c.threads, share(c, n_bytes), c.stores): c for c in reversed(candidates)}
    return _once(c for c in candidates if c in different.values())


def _modes(decode: str) -> tuple[str, ...]:
    """Every mode that a GPU with this one has: each brings its predecessors'."""
    from roofprobe.kernels.decode import MODES

    return MODES[: MODES.index(decode) + 1]


def _powers(low: int, high: int) -> tuple[int, ...]:
    """Powers of two from `low`, itself one, to `high`."""
    return tuple(low << i for i in range((high // low).bit_length()))


def _once(configs: Iterable[ConfigT]) -> tuple[ConfigT, ...]:
    return tuple(dict.fromkeys(configs))
