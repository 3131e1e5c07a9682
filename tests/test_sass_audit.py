"""The static audit finds every planted fault, and the page that shows it is what compiling gives today.

Compiling needs processes without TRITON_INTERPRET=1; each fixture here is one, with an empty Triton cache.
"""

from dataclasses import replace
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Any

import pytest
import triton

from roofprobe.kernels.audit import Row, budget_findings, loop_findings, whole_kernel_findings
from roofprobe.kernels.audit_budgets import BUDGETS, register_limit
from roofprobe.kernels.audit_page import cells, page, page_cells, targets
from roofprobe.kernels.compile_only import Case, Compiled
from roofprobe.kernels.sass import hot_loop, instructions

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "sass_audit"
PAGE = ROOT / "docs" / "sass-audit.md"


def run(command: list[str], cache: Path) -> subprocess.CompletedProcess[str]:
    """Under the tests' own TRITON_INTERPRET=1, which the script has to deal with."""
    environment = os.environ | {"TRITON_CACHE_DIR": str(cache), "ROOFPROBE_PYTHON": sys.executable}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    command = [sys.executable, str(ROOT / "tests" / "planted_kernels.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("plant", ["none 121", "none 90", "none with scales 121"])
def test_a_kernel_without_a_fault_passes(planted: dict[str, list[str]], plant: str) -> None:
    assert planted[plant] == []


@pytest.mark.parametrize(
    ("plant", "finding"),
    [
        ("32-bit offsets 121", "are its offsets 64 bits wide?"),
        ("32-bit offsets 90", "are its offsets 64 bits wide?"),
        ("missing bytes 121", "weight: 480 bytes moved where the model has 512"),
        ("narrow loads 121", "loads weights 32 bits at a time, not 128 or 256"),
        ("shared memory 121", "in its hot loop"),
        ("scales read twice 121", "bytes of scales a turn where the model has"),
        ("spills 121", "spills "),
        ("barrier 121", "uses BAR.SYNC"),
        ("many instructions 121", "instructions a weight byte, budget"),
        ("narrow dequantization 121", "codes: accesses of 8 bits, not of 32, 128, 256"),
        ("narrow dequantization 121", "out: accesses of 32 bits, not of 128, 256"),
        ("narrow dequantization 121", "dequantizes through BAR.SYNC"),
        ("half of copy 121", "a: 128 bytes moved where the model has 256"),
        ("half of dequant 121", "codes: 32 bytes moved where the model has 64"),
        ("half of grouped 121", "bytes moved where the model has"),
    ],
)
def test_a_planted_fault_is_found(planted: dict[str, list[str]], plant: str, finding: str) -> None:
    assert any(finding in found for found in planted[plant]), planted[plant]


def test_an_empty_disassembly_is_a_finding(planted: dict[str, list[str]]) -> None:
    assert "nvdisasm shows no instruction for cc 121" in planted["empty disassembly 121"][0]


LOOP = """
.L_x_0:
        /*0010*/                   LDG.E.128 R8, desc[UR4][R6.64] ;
        /*0020*/                   LDG.E.U8 R3, desc[UR4][R4.64] ;
        /*0030*/                   LDG.E.U8 R5, desc[UR4][R4.64+0x1] ;
        /*0040*/                   LDG.E R12, desc[UR4][R2.64] ;
        /*0050*/              @!P0 BRA `(.L_x_0) ;
        /*0060*/                   EXIT ;
"""
TENSORS = {0x10: "weight", 0x20: "scales", 0x30: "scales", 0x40: "x"}
CASE = Case(
    "gemv-nvfp4",
    None,
    {"weight": "*i64"},
    {"FORMAT": "nvfp4", "BATCH": 1, "GROUPS": 1, "LANE_ROWS": 16, "TILE": 16, "ALIGN": 2},
    4,
)


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        (LOOP, []),
        (LOOP.replace("LDG.E R12", "STS R12"), ["uses STS in its hot loop"]),
        (LOOP.replace("LDG.E R12", "BAR.SYNC R12"), ["uses BAR.SYNC in its hot loop"]),
        (LOOP.replace("LDG.E R12", "LDL R12"), ["uses LDL in its hot loop"]),
        (
            LOOP.replace(".128", ".64"),
            [
                "loads weights 64 bits at a time, not 128 or 256",
                "loads 8 bytes of weights a turn where the model has 16",
                "loads 2 bytes of scales a turn where the model has 1",
            ],
        ),
        (LOOP.replace("        /*0030*/", "        //"), ["loads 1 bytes of scales a turn where the model has 2"]),
        (LOOP.replace("BRA", "NOP"), ["has no loop that loads"]),
    ],
    ids=["right", "shared", "barrier", "local", "narrow", "missing scale", "no loop"],
)
def test_faults_of_a_loop(text: str, findings: list[str]) -> None:
    assert loop_findings(CASE, hot_loop(text), TENSORS) == findings


def test_faults_of_a_whole_kernel() -> None:
    limit = register_limit(CASE)
    assert limit == 128  # 65536 registers for 16 warps
    eight_rows = replace(CASE, constants=CASE.constants | {"GROUPS": 8})
    assert register_limit(eight_rows) == 255  # for 8 warps, which have as many bytes in flight
    bad = Compiled(CASE, 121, b"", "mul.ftz.f32 %r1;", LOOP, limit + 8, 16, 0)
    assert whole_kernel_findings(bad, instructions(LOOP)[0]) == [
        "spills 16 bytes",
        "flushes subnormals to zero",
        "takes 136 registers, 128 leave room for the warps it counts on",
    ]
    good = Compiled(CASE, 121, b"", "", LOOP, limit, 0, 0)
    assert whole_kernel_findings(good, instructions(LOOP)[0]) == []


def test_budgets() -> None:
    assert budget_findings(4.6, 4.5) == ["spends 4.60 instructions a weight byte, budget 4.5"]
    assert budget_findings(4.5, 4.5) == []
    assert budget_findings(1.0, None) == ["has no budget of instructions a byte"]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    keep = tmp_path_factory.mktemp("cubins")
    command = [str(SCRIPT), "--subset", "--cc", "121", "--cc", "90", "--json", "--keep", str(keep)]
    done = run(command, tmp_path_factory.mktemp("cache"))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"kept": sorted(path.name for path in keep.iterdir() if path.stat().st_size > 999)}


def rows(document: dict[str, Any]) -> list[Row]:
    return [Row(**row | {"findings": tuple(row["findings"])}) for row in document["rows"]]


def test_nothing_is_found_in_the_subset(document: dict[str, Any]) -> None:
    assert document["findings"] == []
    assert {(row.op, row.cc) for row in rows(document)} >= {
        (op, cc) for op in ("read", "dequant", "gemv", "grouped_gemv") for cc in (90, 121)
    }
    assert {row.cc for row in rows(document)} == {90, 121}


def test_every_cubin_is_kept_under_its_name(document: dict[str, Any]) -> None:
    assert document["kept"] == sorted(row.file_name for row in rows(document))


def test_the_page_is_what_compiling_gives(document: dict[str, Any]) -> None:
    text = PAGE.read_text()
    if f"Triton {triton.__version__}." not in text:
        pytest.skip(f"the page was made with another Triton than {triton.__version__}")
    missing = {cells(row) for row in rows(document)} - page_cells(text)
    assert not missing, "run scripts/sass_audit --write-docs"


def test_the_page_keeps_the_text_around_its_table() -> None:
    row = Row("gemv-bf16", "gemv", "bf16", 121, "w4", 48, 128, 0, 32, "5x128", False, 1.33, 1.42, ("one",))
    first = page([row], "", "3.9.0")
    second = page([row, row], first.replace("# Machine code", "# My title") + "below\n", "3.9.1")
    assert second.startswith("# My title") and second.endswith("below\n")
    assert "Triton 3.9.1." in second and "3.9.0" not in second
    assert page_cells(second) == {cells(row)}


def test_a_target_is_met_by_the_fastest_mode_and_a_miss_is_said() -> None:
    slow = Row("gemv-nvfp4", "gemv", "nvfp4", 121, "w4", 48, 128, 0, 32, "5x128", False, 4.6, 9.0, ())
    assert targets([slow]) == ["Target nvfp4 on 121: 4.5 instructions a byte; least 4.60: missed."]
    assert targets([slow, replace(slow, instructions_per_byte=4.5)])[0].endswith("least 4.50: met.")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--cc", "1"], "--cc: invalid choice: 1"),
        (["--all", "--subset"], "not allowed with argument"),
        (["--subset", "--write-docs"], "--write-docs: "),
        (["--jobs", "0"], "--jobs: expected at least 1, got 0"),
        (["--keep", "/dev/null/x"], "--keep: can't make the folder"),
    ],
    ids=" ".join,
)
def test_bad_flags(flags: list[str], message: str, tmp_path: Path) -> None:
    done = run([str(SCRIPT), *flags], tmp_path)
    assert done.returncode == 2 and message in done.stderr
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1


def test_without_a_venv_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    copy = shutil.copy(SCRIPT, tmp_path / "scripts")
    environment = {name: value for name, value in os.environ.items() if name != "ROOFPROBE_PYTHON"}
    done = subprocess.run([copy], env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "run scripts/bench --help, which sets .venv up" in done.stderr


def test_every_budget_is_for_a_known_format() -> None:
    assert {weight_format for weight_format, _, _ in BUDGETS} <= {"bf16", "fp8", "nvfp4", "mxfp4"}
