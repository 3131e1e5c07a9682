"""Holds a kernel's machine code against what it is meant to be: the checks of the static audit.

Two views of the same code. The hot loop as text: its load widths, shared and local memory, instructions. And a few
threads followed through it with tensors past 2^36 bytes (`sass_walk`): which tensor every load is in, whether far
offsets survive, how many bytes move.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from roofprobe.kernels.audit_budgets import budget, register_limit
from roofprobe.kernels.audit_model import (
    BASES,
    SCALE_BYTES_PER_WEIGHT_BYTE,
    Scenario,
    arguments,
    code_bits,
    constant_bank,
    is_gemv,
    rows_aligned,
    scenario,
    sixteen_bit_results,
    turn_bytes,
    weight_format,
)
from roofprobe.kernels.audit_selection import configuration
from roofprobe.kernels.compile_only import Case, Compiled
from roofprobe.kernels.sass import LOCAL_MEMORY, SHARED_MEMORY, Instruction, executed, hot_loop, instructions, uses
from roofprobe.kernels.sass_walk import Access, walk

WIDE = (128, 256)
"""Bits of a load that keep DRAM busy with the fewest instructions."""


@dataclass(frozen=True)
class Row:
    """One kernel for one compute capability: what the audit saw, and what it finds wrong, a sentence each.

    instructions_per_byte: lane-instructions a byte of weight in the hot loop, limited by `budget`; None where the
    kernel has no weight or its rows are not aligned. loads: global loads by width, of the loop where there is one.
    ragged: no 128-bit load fits the weight's rows, since they do not all start on 16 bytes.
    """

    name: str
    op: str
    format: str
    cc: int
    configuration: str
    registers: int
    register_limit: int
    spilled: int
    shared: int
    loads: str
    ragged: bool
    instructions_per_byte: float | None
    budget: float | None
    findings: tuple[str, ...]

    @property
    def file_name(self) -> str:
        """OP-FORMAT-CC-CONFIG.cubin."""
        rest = self.name.removeprefix(self.op).lstrip("-").removeprefix(self.format).lstrip("-")
        config = f"{rest}-{self.configuration}" if rest else self.configuration
        return f"{self.op}-{self.format}-{self.cc}-{config}.cubin"


def audit(compiled: Compiled) -> Row:
    """Every check that applies to the kernel."""
    case, cc = compiled.case, compiled.cc
    code, _ = instructions(compiled.sass)
    body = hot_loop(compiled.sass) or code
    findings = whole_kernel_findings(compiled, code)
    rate = limit = None
    try:
        launch = scenario(case)
        traces = [walk_launch(compiled, launch, thread) for thread in launch.threads]
    except (KeyError, RuntimeError) as error:
        findings.append(f"can't be followed: {error!r}")
    else:
        names = dict(zip(BASES.values(), (name for name, _ in arguments(case))))
        findings += walk_findings([access for trace in traces for access in trace], launch, names)
        if is_gemv(case):
            tensors = tensor_of_each_load(traces[0], names)
            findings += loop_findings(case, hot_loop(compiled.sass), tensors)
            if rows_aligned(case):
                rate = rate_of(body, tensors)
                limit = budget_of(case, cc)
                findings += budget_findings(rate, limit)
        else:
            findings += width_findings(case, traces[0], names)
            if sixteen_bit_results(case) and (used := uses(code, SHARED_MEMORY)):
                findings.append(f"dequantizes through {', '.join(used)}")
    widths = Counter(i.access_bits for i in body if i.name == "LDG")
    return Row(
        name=case.name,
        op=case.name.split("-")[0],
        format=weight_format(case),
        cc=cc,
        configuration=configuration(case),
        registers=compiled.registers,
        register_limit=register_limit(case),
        spilled=compiled.spilled,
        shared=compiled.shared,
        loads=" ".join(f"{count}x{bits}" for bits, count in sorted(widths.items(), reverse=True)),
        ragged=is_gemv(case) and not rows_aligned(case),
        instructions_per_byte=None if rate is None else round(rate, 2),
        budget=None if limit is None else round(limit, 2),
        findings=tuple(findings),
    )


def walk_launch(compiled: Compiled, launch: Scenario, thread: int) -> list[Access]:
    """What one thread of the scenario's program loads and stores."""
    held = {BASES[i]: launch.memory.get(name) for i, (name, _) in enumerate(arguments(compiled.case))}
    bank = constant_bank(compiled.case, compiled.cc, launch)
    return walk(compiled.sass, bank, launch.program, thread, lambda address, _size: held.get(_base(address)))


def whole_kernel_findings(compiled: Compiled, code: Iterable[Instruction]) -> list[str]:
    """Spills, flushed subnormals, and registers that leave no room for the warps that the configuration counts on."""
    findings = []
    if compiled.spilled or uses(code, LOCAL_MEMORY):
        findings.append(f"spills {compiled.spilled} bytes")
    if ".ftz" in compiled.ptx:
        findings.append("flushes subnormals to zero")
    if compiled.registers > (limit := register_limit(compiled.case)):
        findings.append(f"takes {compiled.registers} registers, {limit} leave room for the warps it counts on")
    return findings


def walk_findings(accesses: list[Access], launch: Scenario, names: Mapping[int, str]) -> list[str]:
    """Accesses outside what the program may touch, as a lost upper half of an offset makes them, and bytes missing."""
    findings = []
    moved: Counter[str] = Counter()
    outside: dict[str, int] = {}
    unknown = 0
    for access in accesses:
        if access.address is None:
            unknown += 1
            continue
        name = names.get(_base(access.address), "")
        offset = access.address - _base(access.address)
        extent = launch.extents.get(name)
        if not name or (extent and not extent.first <= offset <= extent.end - access.size):
            outside.setdefault(name or "no tensor", offset)
        moved[name] += access.size
    if unknown:
        findings.append(f"{unknown} accesses have an address that can't be followed")
    for name, offset in outside.items():
        wanted = launch.extents.get(name)
        place = f"bytes {wanted.first} to {wanted.end}" if wanted else "any tensor"
        findings.append(f"{name}: accesses byte {offset}, outside {place}: are its offsets 64 bits wide?")
    for name, extent in launch.extents.items():
        if extent.moved is not None and moved[name] != extent.moved:
            findings.append(f"{name}: {moved[name]} bytes moved where the model has {extent.moved}")
    return findings


def tensor_of_each_load(trace: Iterable[Access], names: Mapping[int, str]) -> dict[int, str]:
    """Tensor by code address, for the loads of a followed thread."""
    known = ((access.instruction.address, access.address) for access in trace if access.is_load)
    return {code: names.get(_base(address), "") for code, address in known if address is not None}


def loop_findings(case: Case, body: list[Instruction], tensors: Mapping[int, str]) -> list[str]:
    """The GEMV loop: 128- or 256-bit weight loads, exactly the model's bytes a turn, no shared or local memory."""
    if not body:
        return ["has no loop that loads"]
    findings = []
    loads = [i for i in body if tensors.get(i.address) == "weight"]
    weight = sum(i.access_bits for i in loads) // 8
    scales = sum(i.access_bits for i in body if tensors.get(i.address) == "scales") // 8
    if rows_aligned(case) and (narrow := sorted({i.access_bits for i in loads} - set(WIDE))):
        findings.append(f"loads weights {', '.join(map(str, narrow))} bits at a time, not 128 or 256")
    turn = turn_bytes(case)
    if not weight or weight % turn:
        findings.append(f"loads {weight} bytes of weights a turn where the model has {turn}")
    model = weight * SCALE_BYTES_PER_WEIGHT_BYTE[weight_format(case)]
    if scales != model:
        findings.append(f"loads {scales} bytes of scales a turn where the model has {model:g}")
    if used := uses(body, SHARED_MEMORY | LOCAL_MEMORY):
        findings.append(f"uses {', '.join(used)} in its hot loop")
    return findings


def rate_of(body: list[Instruction], tensors: Mapping[int, str]) -> float | None:
    """Lane-instructions a byte of weight; None where the loop loads none."""
    weight = sum(i.access_bits for i in body if tensors.get(i.address) == "weight") // 8
    return executed(body) / weight if weight else None


def budget_of(case: Case, cc: int) -> float | None:
    batch, groups = int(case.constants["BATCH"]), int(case.constants["GROUPS"])
    return budget(weight_format(case), str(case.constants["MODE"]), cc, batch, groups)


def budget_findings(rate: float | None, limit: float | None) -> list[str]:
    if limit is None:
        return ["has no budget of instructions a byte"]
    if rate is not None and rate > limit:
        return [f"spends {rate:.2f} instructions a weight byte, budget {limit:g}"]
    return []


def width_findings(case: Case, trace: Iterable[Access], names: Mapping[int, str]) -> list[str]:
    """Kernels without a GEMV's loop move whole arrays by 128 bits, but for scales and the sums of a read.

    Dequantization loads the codes of one 128-bit store of 16-bit results at once (`code_bits`): its stores are the wide
    side, and a lane with 128 bits of codes would have to hand results to its neighbours through shared memory.
    """
    by_tensor: dict[str, set[int]] = {}
    for access in trace:
        if access.address is not None:
            by_tensor.setdefault(names.get(_base(access.address), ""), set()).add(access.instruction.access_bits)
    small = {"scales", "scale"} | ({"out"} if "source" in by_tensor else set())
    findings = []
    for name, widths in by_tensor.items():
        allowed = (*WIDE, code_bits(weight_format(case))) if name == "codes" else WIDE
        if name not in small and (narrow := sorted(widths - set(allowed))):
            found, wanted = (", ".join(map(str, bits)) for bits in (narrow, sorted(allowed)))
            findings.append(f"{name}: accesses of {found} bits, not of {wanted}")
    return findings


def _base(address: int) -> int:
    return address >> 40 << 40
