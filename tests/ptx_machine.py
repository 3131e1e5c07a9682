"""Runs the PTX of a kernel in numpy, all lanes of all its programs side by side, so that code for GPUs that are not
here can be held against the oracles.

    machine = Machine()
    address = machine.place(codes)            # a buffer in global memory
    run(ptx, machine, [address, 16], grid=(4, 1, 1))

Global memory is one range with gaps between the buffers: an access outside them, or not aligned to its own size,
raises. Lanes run in lockstep: a branch has to be uniform within a program, and a missing barrier does not show.
Instructions are those that Triton makes of the kernels here (`ptx_opcodes.py`); any other raises NotImplementedError.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ptx_floats import Bits
from ptx_opcodes import TensorCoreSum, operation, rounded_sum
from ptx_parser import Instruction, parse

BASE = 0x7F40_0000_0000
"""Addresses start past 2^32, so that one that was computed in 32 bits is outside."""
GAP = 4096
MOST_STEPS = 1_000_000


class Machine:
    """Global memory."""

    def __init__(self) -> None:
        self.bytes = np.zeros(GAP, np.uint8)
        self.owned = np.zeros(GAP, np.bool_)
        self.places: list[tuple[int, int]] = []

    def place(self, data: NDArray[Any]) -> int:
        """Copies an array to memory and returns its address, a multiple of 256."""
        raw = np.frombuffer(data.tobytes(), np.uint8)
        start = len(self.bytes)
        padding = np.full(-len(raw) % 256 + GAP, 0xA5, np.uint8)
        self.bytes = np.concatenate([self.bytes, raw, padding])
        self.owned = np.concatenate([self.owned, np.ones(len(raw), np.bool_), np.zeros(len(padding), np.bool_)])
        self.places.append((start, len(raw)))
        return BASE + start

    def read(self, address: int) -> NDArray[np.uint8]:
        """The buffer's bytes as they are now."""
        start, length = next(place for place in self.places if place[0] == address - BASE)
        return self.bytes[start : start + length].copy()


@dataclass
class _Lanes:
    """Programs that have taken the same branches: registers by name, one row a program, and where they are."""

    programs: NDArray[np.int64]
    shared: NDArray[np.uint8]
    registers: dict[str, Bits] = field(default_factory=dict)
    at: int = 0

    def part(self, which: NDArray[np.bool_]) -> "_Lanes":
        registers = {name: value[which] for name, value in self.registers.items()}
        return _Lanes(self.programs[which], self.shared[which], registers, self.at)


def run(
    ptx: str,
    machine: Machine,
    arguments: Sequence[int],
    grid: tuple[int, int, int],
    tensor_core_sum: TensorCoreSum = rounded_sum,
    shared_bytes: int = 65536,
) -> None:
    """Launches the kernel; further parameters, as Triton appends them for scratch memory, are 0."""
    code, labels, threads = parse(ptx)
    steps = [_compiled(instruction, machine, arguments, grid, threads, tensor_core_sum) for instruction in code]
    count = int(np.prod(grid))
    waiting = [_Lanes(np.arange(count), np.full((count, shared_bytes), 0xA5, np.uint8))]
    taken = 0
    while waiting:
        lanes = waiting.pop()
        while lanes.at < len(code):
            if (taken := taken + 1) > MOST_STEPS:
                raise RuntimeError(f"no end after {MOST_STEPS} instructions")
            instruction, step = code[lanes.at], steps[lanes.at]
            lanes.at += 1
            if instruction.opcode == "ret" and not instruction.guard:
                break
            if not instruction.opcode.startswith("bra"):
                step(lanes)
                continue
            jumps = _guard(lanes, instruction.guard, threads)
            if np.any(jumps != jumps[:, :1]):
                raise NotImplementedError("a branch that parts the lanes of a program")
            if jumps.all() or not jumps.any():
                lanes.at = labels[instruction.operands[0]] if jumps.all() else lanes.at
                continue
            other = lanes.part(~jumps[:, 0])
            waiting.append(other)
            lanes = lanes.part(jumps[:, 0])
            lanes.at = labels[instruction.operands[0]]


def _guard(lanes: _Lanes, guard: str, threads: int) -> NDArray[np.bool_]:
    if not guard:
        return np.ones((len(lanes.programs), threads), np.bool_)
    return (lanes.registers[guard.removeprefix("!")] != 0) ^ guard.startswith("!")


def _compiled(
    instruction: Instruction,
    machine: Machine,
    arguments: Sequence[int],
    grid: tuple[int, int, int],
    threads: int,
    tensor_core_sum: TensorCoreSum,
) -> Callable[[_Lanes], None]:
    """The instruction as a function on lanes."""
    opcode, operands = instruction.opcode, instruction.operands

    def get(lanes: _Lanes, operand: str) -> Bits:
        if operand in lanes.registers:
            return lanes.registers[operand]
        shape = (len(lanes.programs), threads)
        if operand.startswith("%ctaid."):
            x, y, _ = grid
            place = {"x": lanes.programs % x, "y": lanes.programs // x % y, "z": lanes.programs // (x * y)}
            return np.broadcast_to(place[operand[-1]].astype(np.uint64)[:, None], shape)
        if operand in ("%tid.x", "%laneid"):
            ids = np.arange(threads, dtype=np.uint64) % np.uint64(threads if operand == "%tid.x" else 32)
            return np.broadcast_to(ids, shape)
        return np.full(shape, _immediate(operand), np.uint64)

    def put(lanes: _Lanes, name: str, value: Bits) -> None:
        if instruction.guard and name in lanes.registers:
            value = np.where(_guard(lanes, instruction.guard, threads), value, lanes.registers[name])
        lanes.registers[name] = value

    def set_all(lanes: _Lanes, names: list[str], bits: int, value: Bits) -> None:
        """One destination, or the parts of a vector from the lowest bits up."""
        if len(names) == 1:
            put(lanes, names[0], value)
            return
        for i, name in enumerate(names):
            if name != "_":
                put(lanes, name, value >> np.uint64(i * bits) & np.uint64((1 << bits) - 1))

    if opcode.startswith(("bra", "ret", "bar.sync", "bar.warp.sync")):  # `run` branches; lanes are always together
        return lambda _: None
    if opcode.startswith("ld.param"):
        index = int(re.search(r"_param_(\d+)\]", operands[1])[1])  # type: ignore[index]
        value = arguments[index] if index < len(arguments) else 0
        number = value & (1 << int(opcode[-2:])) - 1
        if opcode.endswith(".s32"):  # a load into a wider register extends the sign
            number = (value & 0xFFFFFFFF ^ 0x80000000) - 0x80000000 & 0xFFFFFFFFFFFFFFFF
        return lambda lanes: put(lanes, operands[0], get(lanes, str(number)))
    if match := re.fullmatch(r"(ld|st)\.(global|shared)(?:\.v([248]))?\.[bus](8|16|32|64)", opcode):
        return _access(instruction, match, machine, threads, get, put)
    if opcode in ("shfl.sync.bfly.b32", "shfl.sync.idx.b32"):
        if operands[3:] != ("31", "-1"):
            raise NotImplementedError(str(instruction))
        lane = np.arange(threads)

        def shuffle(lanes: _Lanes) -> None:
            other = get(lanes, operands[2]).astype(np.int64)
            other = lane ^ other if ".bfly." in opcode else lane // 32 * 32 + other % 32
            put(lanes, operands[0], np.take_along_axis(get(lanes, operands[1]), other, axis=1))

        return shuffle
    if opcode.startswith("mov.b") and (operands[0][0] == "{" or operands[1][0] == "{"):
        whole = int(opcode[5:])
        to, source = _parts(operands[0]), _parts(operands[1])
        bits = whole // len(source)

        def move(lanes: _Lanes) -> None:
            value = get(lanes, source[0])
            for i, name in enumerate(source[1:], 1):
                value = value | get(lanes, name) << np.uint64(i * bits)
            set_all(lanes, to, whole // len(to), value)

        return move
    compute = operation(opcode, tensor_core_sum)
    destinations = _parts(operands[0])
    sources = [name for operand in operands[1:] for name in _parts(operand)]

    def step(lanes: _Lanes) -> None:
        for name, value in zip(destinations, compute(*(get(lanes, source) for source in sources)), strict=True):
            put(lanes, name, value)

    return step


def _parts(operand: str) -> list[str]:
    return [part.strip() for part in operand[1:-1].split(",")] if operand[0] == "{" else [operand]


def _immediate(operand: str) -> int:
    if operand == "global_smem":
        return 0
    if operand.startswith("0f"):
        return int(operand[2:], 16)
    return int(operand.removesuffix("U"), 0) & 0xFFFFFFFFFFFFFFFF


def _access(
    instruction: Instruction,
    match: re.Match[str],
    machine: Machine,
    threads: int,
    get: Callable[[_Lanes, str], Bits],
    put: Callable[[_Lanes, str, Bits], None],
) -> Callable[[_Lanes], None]:
    """A load or store of one to eight numbers a lane."""
    load, count, size = match[1] == "ld", int(match[3] or 1), int(match[4]) // 8
    where, what = instruction.operands[::-1] if load else instruction.operands
    address = re.fullmatch(r"\[\s*(\S+?)\s*(?:\+\s*(-?\d+))?\s*\]", where)
    names = _parts(what)
    if address is None or len(names) != count:
        raise NotImplementedError(str(instruction))
    register, offset = address[1], int(address[2] or 0)
    unsigned = np.dtype(f"u{size}")

    def step(lanes: _Lanes) -> None:
        active = _guard(lanes, instruction.guard, threads)
        start = get(lanes, register).astype(np.int64) + offset
        if np.any(start[active] % (size * count)):
            raise RuntimeError(f"not aligned: {instruction}")
        memory = machine.bytes
        if match[2] == "shared":
            memory = lanes.shared.reshape(-1)
            start = start + np.arange(len(start))[:, None] * lanes.shared.shape[1]
        else:
            start = start - BASE
            inside = (start >= 0) & (start + size * count <= len(memory))
            if np.any(active & ~inside):
                raise RuntimeError(f"outside every buffer: {instruction}")
        places = start[active][:, None] + np.arange(size * count)
        if match[2] == "global" and not machine.owned[places].all():
            raise RuntimeError(f"outside every buffer: {instruction}")
        if load:
            found = memory[places].view(unsigned).astype(np.uint64)
            for i, name in enumerate(names):
                value = np.zeros(active.shape, np.uint64)
                value[active] = found[:, i]
                put(lanes, name, value)
        else:
            values = np.stack([get(lanes, name)[active] for name in names], axis=-1).astype(unsigned)
            memory[places] = values.view(np.uint8).reshape(places.shape)

    return step
