"""The audit as a table, and as the page docs/sass-audit.md, whose table lies between two markers."""

from collections.abc import Iterable

from roofprobe.kernels.audit import Row
from roofprobe.kernels.audit_budgets import TARGETS

BEGIN, END = "<!-- audit: begin -->", "<!-- audit: end -->"
_HEAD = ("kernel", "cc", "configuration", "registers", "loads in the loop", "instructions a byte", "findings")
_TEXT = """# Machine code

`scripts/sass_audit --write-docs` renews the table; a test compiles part of it again and compares.

Configuration: decode mode, warps (w), rows a lane (g), bytes of a row that the lanes cover at once (t); for kernels
without a weight, warps and accesses a thread (n). Registers: used / the most that leave room for the warps that the
configuration counts on. Loads: count x bits of one turn of the hot loop, or of a kernel without one. Instructions a
byte: lane-instructions for each byte of weights / budget. Ragged: the weight's rows do not all start on 16 bytes (the
name has their K), so that there is no 128-bit load and no budget.

What is checked, for every kernel: no spill, no local memory, no flushed subnormal; registers that leave room for the
warps that the configuration counts on; offsets, followed through the code with tensors past 2^36 bytes (dequantization
and streams: past 2^31 elements), arrive in the right tensor and row; the bytes that the followed threads load and store
are the byte model's; a disassembly without instructions is a finding. GEMV and grouped GEMV besides: weight loads of
128 or 256 bits where the rows are aligned; exactly the model's weight and scale bytes a turn; no shared memory, barrier
or local memory in the hot loop; instructions a byte within the budget.

Dequantization loads codes by 32 bits (FP8: 64), not 128: eight codes become one 128-bit store, and the lanes of a warp
load and store consecutive pieces. A lane with 128 bits of codes has four such stores, which either lie 64 bytes from
its neighbour's, so that every store fills half sectors, or need an exchange between lanes. Compiled so, Triton 3.9
makes that exchange through shared memory, with seven barriers (FP8: one) and 0.3 to 1.4 more instructions a weight.
The audit demands that width, 128-bit stores, and for 16-bit results no shared memory or barrier in the whole kernel;
float32 results, two stores for eight codes, do go through shared memory.
"""


def cells(row: Row) -> tuple[str, ...]:
    """A row's cells as text."""
    rate = "" if row.instructions_per_byte is None else f"{row.instructions_per_byte:.2f} / {row.budget or 0:.2f}"
    registers = f"{row.registers} / {row.register_limit}"
    findings = "; ".join(row.findings) or "none"
    loads = (row.loads or "none") + (" (ragged)" if row.ragged else "")
    return row.name, str(row.cc), row.configuration, registers, loads, rate, findings


def table(rows: Iterable[Row]) -> str:
    """A Markdown table, its columns aligned for a terminal."""
    lines = [_HEAD, *(cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEAD))]
    text = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines]
    text.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(text)


def targets(rows: list[Row]) -> list[str]:
    """One line for each target: the least that a GEMV's row of that format and compute capability spends."""
    lines = []
    for (weight_format, cc), most in TARGETS.items():
        mine = [row for row in rows if (row.op, row.format, row.cc) == ("gemv", weight_format, cc)]
        rates = [row.instructions_per_byte for row in mine if row.instructions_per_byte is not None]
        if rates:
            verdict = "met" if min(rates) <= most else "missed"
            lines.append(
                f"Target {weight_format} on {cc}: {most} instructions a byte; least {min(rates):.2f}: {verdict}."
            )
    return lines


def page(rows: list[Row], old: str, triton_version: str) -> str:
    """The page with a new table; text outside the markers stays as it is in `old`."""
    before, _, rest = (old or f"{_TEXT}\n{BEGIN}{END}\n").partition(BEGIN)
    after = rest.partition(END)[2]
    reached = "\n".join(targets(rows))
    return f"{before}{BEGIN}\n\nTriton {triton_version}.\n\n{reached}\n\n{table(rows)}\n\n{END}{after}"


def page_cells(text: str) -> set[tuple[str, ...]]:
    """The rows of a page's table, as `cells` has them."""
    inside = text.partition(BEGIN)[2].partition(END)[0]
    lines = [line for line in inside.splitlines() if line.startswith("|")][2:]
    return {tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines}
