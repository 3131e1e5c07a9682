"""Prints docs/results.md, which is made from docs/results/*.json."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results_model import Case, Validation, read_results

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "results"
HEAD = """# Measured on GPUs

`scripts/results_page.py` makes this page from the results in docs/results/; a test holds it to them. A result is made
on a machine with a CUDA GPU by

```sh
scripts/validate_gpu --out DIR        # 8 minutes; torch and Triton are enough, --help says what more it uses
cp DIR/*-20*.json docs/results/ && .venv/bin/python -P scripts/results_page.py > docs/results.md
```
"""
NONE = """
**No GPU has been measured yet.** Every kernel has been compiled for GPUs and its machine code audited
([sass-audit.md](sass-audit.md)), and its PTX has been run by the tests; none has run on a GPU, and roofprobe claims no
GPU figure. `scripts/validate_gpu --dry-run` shows the same command on a CPU.
"""
RATES = ("rates", "grouped")
OTHERS = ("l2_flush", "launch_cost", "all_reduce", "load", "memory_kinds", "tune")
HIDDEN = ("side", "probe", "op", "format", "backend", "shape")


def main() -> int:
    try:
        print(page(read_results(FOLDER)), end="")
    except ValueError as error:
        print(f"results_page: {error}", file=sys.stderr)
        return 2
    return 0


def page(results: Sequence[Validation]) -> str:
    """The whole page."""
    if not results:
        return HEAD + NONE
    return HEAD + "".join(_section(each) for each in results)


def _section(found: Validation) -> str:
    machine = found.machine
    facts = [
        f"compute capability {machine.compute_capability}, {machine.multiprocessors} multiprocessors",
        f"L2 {machine.l2_bytes / 2**20:.0f} MiB",
        f"{machine.memory_bytes / 2**30:.0f} GiB of {'the system' if machine.integrated else 'its own'} memory",
        f"decode modes {machine.modes}",
        machine.versions,
        f"CUDA {machine.cuda}",
        f"Python {machine.python}",
        *([f"driver {machine.driver}"] if machine.driver else []),
    ]
    rates = [case for case in found.cases(*RATES) if case.number("gb_per_s") is not None]
    ceilings = [case for case in rates if case.text("probe") == "memory"]
    kernels = [case for case in rates if case.text("probe") != "memory"]
    tables = (
        _titled("Not as it should be", ("part", "case", "status", "why"), _faults(found)),
        _titled(
            "Ceilings", ("operation", "by", "GB/s", "95 % interval", "of nominal", "remarks"), map(_ceiling, ceilings)
        ),
        _titled(
            "Kernels, each against the ceiling measured beside it",
            ("operation", "format", "shape", "by", "GB/s", "95 % interval", "of the ceiling", "of ours", "remarks"),
            [_kernel(case, kernels) for case in kernels],
        ),
        _titled("Other figures", ("part", "case", "figures", "remarks"), _others(found)),
        _titled("Checked for correctness", ("part", "case", "variants", "wrong"), _checked(found)),
        _titled("Not measured", ("part", "case", "why"), _left_out(found)),
    )
    return f"\n## {text(machine.device)}, {text(found.created[:10])}\n\n{text('; '.join(facts))}.\n{''.join(tables)}"


def _faults(found: Validation) -> list[tuple[str, ...]]:
    return [
        (part.name, case.case, case.status.upper(), case.detail)
        for part in found.parts
        for case in part.cases
        if case.status in ("wrong", "failed", "invalid")
    ]


def _ceiling(case: Case) -> tuple[str, ...]:
    percent = _percent(case.number("nominal_fraction"))
    return case.text("op"), case.text("backend"), _rate(case), _interval(case), percent, _remarks(case)


def _kernel(case: Case, others: Iterable[Case]) -> tuple[str, ...]:
    """With the rate relative to ours (``triton``) for the same operands, where it is somebody else's."""
    named = ("op", "format", "shape")
    same = [each for each in others if all(each.text(name) == case.text(name) for name in named)]
    ours = next((each.number("gb_per_s") for each in same if each.text("backend") == "triton"), None)
    rate = case.number("gb_per_s")
    compared = "" if ours is None or rate is None or case.text("backend") == "triton" else f"{rate / ours:.2f}"
    fraction = _percent(case.number("ceiling_fraction"))
    row = (*map(case.text, named), case.text("backend"), _rate(case), _interval(case), fraction, compared)
    return (*row, _remarks(case))


def _others(found: Validation) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for part in found.parts:
        for case in part.cases if part.name in OTHERS else ():
            told = ", ".join(f"{key} {_short(value)}" for key, value in case.figures.items() if key not in HIDDEN)
            if case.status != "skipped" and told:
                rows.append((part.name, case.case, told, _remarks(case)))
    return rows


def _checked(found: Validation) -> list[tuple[str, ...]]:
    return [
        (part.name, case.case, case.text("checked"), case.text("wrong"))
        for part in found.parts
        for case in part.cases
        if case.number("checked") is not None
    ]


def _left_out(found: Validation) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for part in found.parts:
        if part.ended != "whole":
            rows.append((part.name, "(the part)", part.ended))
        rows += [(part.name, case.case, case.detail) for case in part.cases if case.status == "skipped"]
    return rows


def _remarks(case: Case) -> str:
    return case.detail if case.status == "ok" else f"{case.status.upper()}: {case.detail}"


def _rate(case: Case) -> str:
    return _short(case.number("gb_per_s"))


def _interval(case: Case) -> str:
    value = case.figures.get("interval")
    return " to ".join(map(_short, value)) if isinstance(value, list) else ""


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{fraction:.1%}"


def _short(value: object) -> str:
    if isinstance(value, list):
        return " to ".join(map(_short, value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"


def _titled(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table under its title, or nothing where it would be empty."""
    lines = ["| " + " | ".join(map(text, row)) + " |" for row in rows]
    if not lines:
        return ""
    rule = "| " + " | ".join("---" for _ in head) + " |"
    return "\n".join([f"\n### {title}\n", "| " + " | ".join(head) + " |", rule, *lines, ""])


def text(value: str) -> str:
    """As one line of Markdown that says just this: neither HTML nor markup nor a table's cell border gets through."""
    safe = escape(" ".join(value.split()), quote=False)
    for mark in "\\`*[]|~":
        safe = safe.replace(mark, f"&#{ord(mark)};")
    return safe


if __name__ == "__main__":
    sys.exit(main())
