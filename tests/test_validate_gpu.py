"""scripts/validate_gpu: parts that hang, crash, flood and lie; what a run keeps; the kernels' parts dry."""

from __future__ import annotations

from collections.abc import Iterator
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time
from typing import Any
from zipfile import ZipFile

from gpu_checks.pool import Pool
from gpu_checks.results import MOST_LINES, Part, document, exit_status
import msgspec
import pytest
import results_model
import validate_gpu

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-P", str(ROOT / "scripts" / "validate_gpu.py")]
LINE = '{"case": "a", "status": "ok", "figures": {"us": 1.5}}'


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    kept = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, kept)


def fake_parts(monkeypatch: pytest.MonkeyPatch, folder: Path, **bodies: str) -> None:
    """Parts that run these statements; any other prints one good line."""
    script = folder / "part.py"
    script.write_text(f"import json, os, signal, sys, time\nbodies = {bodies!r}\nline = {LINE!r}\n" + FAKE)
    monkeypatch.setattr(validate_gpu, "PART", script)


FAKE = "exec(bodies.get(sys.argv[1], 'print(line)'))\n"


def run(out: Path, *flags: str) -> tuple[int, dict[str, Any]]:
    status = validate_gpu.main(["--dry-run", "--out", str(out), *flags])
    (path,) = out.glob("dry-run-*.json")
    return status, json.loads(path.read_text())


def parts_of(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {part["name"]: part for part in found["parts"]}


def test_every_part_runs_in_order_and_all_well_is_status_0(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_parts(monkeypatch, tmp_path)
    status, found = run(tmp_path / "out")
    assert status == 0
    assert [part["name"] for part in found["parts"]] == list(validate_gpu.SHARES)
    assert {part["verdict"] for part in found["parts"]} == {"ok"}
    streamed = [json.loads(line) for line in (tmp_path / "out" / "validation.jsonl").read_text().splitlines()]
    assert [line["part"] for line in streamed] == list(validate_gpu.SHARES)


def test_a_part_that_hangs_is_stopped_and_keeps_its_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """At 0.1 minutes: the first part has 4 of the 6 s, and what is left is too little for the second."""
    fake_parts(monkeypatch, tmp_path, environment="print(line, flush=True); time.sleep(60)")
    start = time.monotonic()
    status, found = run(tmp_path / "out", "--part", "l2_flush", "--minutes", "0.1")
    assert time.monotonic() - start < 30
    hung, late = found["parts"]
    assert (status, hung["verdict"], hung["ended"]) == (3, "UNFINISHED", "stopped after 4 s")
    assert len(hung["cases"]) == 1
    assert (late["verdict"], late["ended"]) == ("UNFINISHED", "no time left")


def test_a_part_that_crashes_costs_itself_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    crash = "print(line, flush=True); print('the driver said', file=sys.stderr, flush=True); os.kill(os.getpid(), 11)"
    fake_parts(monkeypatch, tmp_path, l2_flush=crash, load="sys.exit('no such thing')")
    status, found = run(tmp_path / "out", "--part", "l2_flush", "--part", "load", "--part", "tune")
    parts = parts_of(found)
    assert status == 3
    assert parts["l2_flush"]["ended"] == "ended with SIGSEGV: the driver said"
    assert len(parts["l2_flush"]["cases"]) == 1
    assert parts["load"]["ended"] == "ended with status 1: no such thing"
    assert parts["tune"]["verdict"] == "ok"


def test_junk_and_floods_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    junk = (
        r"print('text\n[1]\n{}\n{\"case\": 1}'); print(json.dumps(json.loads(line) | {'status': 'grand'}));"
        r"print('x' * (3 << 20)); sys.stderr.write('e' * (3 << 20)); [print(line) for _ in range(1000)]"
    )
    fake_parts(monkeypatch, tmp_path, environment=junk.replace('\\"', '"'))
    status, found = run(tmp_path / "out", "--part", "environment")
    (part,) = found["parts"]
    assert (status, part["ended"], len(part["cases"])) == (0, "whole", MOST_LINES)
    assert (tmp_path / "out" / "environment.err").stat().st_size < 2 << 20


@pytest.mark.parametrize(
    ("statuses", "ended", "verdict", "status"),
    [
        (["ok", "wrong"], "stopped", "FAIL", 1),
        (["ok", "failed"], "whole", "FAIL", 1),
        (["ok", "invalid"], "whole", "INVALID", 3),
        (["ok", "skipped"], "whole", "ok", 0),
        (["skipped"], "whole", "SKIPPED", 3),
        ([], "whole", "SKIPPED", 3),
    ],
)
def test_nothing_but_ok_passes(statuses: list[str], ended: str, verdict: str, status: int) -> None:
    part = Part("rates", ended=ended, lines=[{"case": "a", "status": each, "figures": {}} for each in statuses])
    assert (part.verdict, exit_status([Part("load", lines=[{"status": "ok"}]), part])) == (verdict, status)


def test_ctrl_c_keeps_what_was_found(tmp_path: Path) -> None:
    fake = tmp_path / "part.py"
    fake.write_text(f"import os, time\nprint('{LINE}', flush=True)\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n")
    code = f"import pathlib, validate_gpu; validate_gpu.PART = pathlib.Path({str(fake)!r}); exit(validate_gpu.main())"
    command = [sys.executable, "-c", code, "--dry-run", "--out", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "us 1.5" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(timeout=30) == 3
    assert "interrupted: what was found until now is kept" in rest
    (path,) = (tmp_path / "out").glob("dry-run-*.json")
    (part,) = json.loads(path.read_text())["parts"]
    assert (part["ended"], len(part["cases"])) == ("interrupted", 1)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--minutes", "0.05"], "--minutes 0.05: expected 0.1 to 600"),
        (["--minutes", "nan"], "--minutes nan: expected 0.1 to 600"),
        (["--wheels", "/no/such"], "--wheels /no/such: no such folder"),
        (["--out", "."], "--out .: expected a folder that is empty"),
    ],
)
def test_unusable_flags_are_one_line(flags: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate_gpu.main(["--dry-run", *flags]) == 2
    assert f"scripts/validate_gpu: {told}" in capsys.readouterr().err


def test_without_a_gpu_nothing_runs(tmp_path: Path) -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [*COMMAND, "--out", str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (3, "", 1)
    assert "finds no CUDA device; nothing was run. Without a GPU: scripts/validate_gpu --dry-run" in done.stderr
    assert not (tmp_path / "out").exists()


def test_wheels_for_another_python_are_one_line_each(tmp_path: Path) -> None:
    from gpu_checks.wheels import install

    (tmp_path / "absent_thing-1.0-cp27-cp27m-win32.whl").touch()
    (tmp_path / "msgspec-0.1-py3-none-any.whl").touch()  # installed already, whatever its version
    (line,) = install(tmp_path, tmp_path / "into")
    assert line.startswith("wheels: absent_thing-1.0-cp27-cp27m-win32.whl: ")
    assert "not a supported wheel" in line


def test_a_missing_library_comes_from_its_wheel(tmp_path: Path) -> None:
    from gpu_checks.wheels import install

    with ZipFile(tmp_path / "absent_thing-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("absent_thing.py", "answer = 42")
        about = "absent_thing-1.0.dist-info"
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: absent-thing\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    assert install(tmp_path, tmp_path / "into") == ["wheels: installed for this run: absent_thing-1.0"]
    assert (tmp_path / "into" / "absent_thing.py").read_text() == "answer = 42"


WORKER = """
import json, os, sys, time
print("a library's greeting", flush=True)
print(json.dumps({"cases": ["good", "crash", "hang", "good too", "other"]}), flush=True)
for name in sys.stdin:
    name = name.strip()
    if name == "crash": print("illegal address", file=sys.stderr, flush=True); os.kill(os.getpid(), 11)
    if name == "hang": time.sleep(60)
    print("[chatter]", flush=True)
    print(json.dumps({"case": name, "status": "ok", "figures": {}}), flush=True)
    if name == "good": sys.exit("an illegal address was seen")
    print('{"ready": true}', flush=True)
"""


@pytest.mark.parametrize("workers", [1, 3])
def test_a_crashed_and_a_hung_case_cost_themselves_alone(workers: int, capsys: pytest.CaptureFixture[str]) -> None:
    pool = Pool([sys.executable, "-c", WORKER], seconds=6, only="")
    pool.run(workers)
    found = {line["case"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert {name for name, line in found.items() if line["status"] == "ok"} == {"good", "good too", "other"}
    assert found["crash"]["detail"] == "the case's process: died: SIGSEGV: illegal address"
    assert found["hang"]["detail"] == "the case's process: no answer within 3 s: hung"
    assert pool.left == []


def test_workers_that_can_not_start_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    pool = Pool([sys.executable, "-c", "raise SystemExit('no CUDA device')"], seconds=20, only="")
    pool.run(2)
    assert (pool.started, pool.problems) == (False, ["status 1: no CUDA device"] * 2)
    assert capsys.readouterr().out == ""


def test_cases_without_time_are_left_and_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    slow = WORKER.replace('if name == "crash"', 'time.sleep(0.7)\n    if name == "never"').replace("60", "0")
    pool = Pool([sys.executable, "-c", slow], seconds=2, only="o")
    pool.run(1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) + len(pool.left) == 3
    assert pool.left


ABSENT = ("msgspec", "psutil", "safetensors", "scipy", "rich", "jinja2", "matplotlib", "pynvml", "cupy")


def without(absent: tuple[str, ...], folder: Path, *flags: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """(exit status, the parts) of a dry run by a Python that has not installed `absent`."""
    (folder / "sitecustomize.py").write_text(f"absent = {absent!r}\n" + HIDES)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [*COMMAND, "--dry-run", "--out", str(folder / "out"), *flags]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    (path,) = (folder / "out").glob("dry-run-*.json")
    return done.returncode, parts_of(json.loads(path.read_text()))


HIDES = """
import sys
from importlib import metadata
from importlib.machinery import PathFinder
version = metadata.version
def version_of(name):
    if name in (*absent, "roofprobe"):  # which runs from its clone, and is not installed either
        raise metadata.PackageNotFoundError(name)
    return version(name)
metadata.version = version_of
class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        found = PathFinder.find_spec(name, path, target)
        hidden = name.partition(".")[0] in absent and found is not None and "site-packages" in str(found.origin)
        return None if hidden else found
sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
"""


def test_torch_and_triton_are_enough_for_the_kernels(tmp_path: Path) -> None:
    """With everything else away, the kernels are checked and timed; on a CPU the rates need numba, and say so."""
    parts = ("correctness", "far_offsets", "l2_flush", "launch_cost", "grouped")
    flags = [flag for part in parts for flag in ("--part", part)]
    status, found = without((*ABSENT, "numba", "llvmlite"), tmp_path, *flags, "--only", "nvfp4")
    assert [found[part]["verdict"] for part in parts] == ["ok"] * 4 + ["SKIPPED"], found
    assert status == 3
    assert found["grouped"]["cases"][0]["detail"].startswith("needs numba: a folder of wheels")
    assert {"gemv nvfp4 128x4, bits", "dequant nvfp4 linear, bits", "grouped_gemv nvfp4"} <= {
        case["case"] for case in found["correctness"]["cases"]
    }


def test_rates_records_and_collectives_need_no_more_than_their_stand_ins(tmp_path: Path) -> None:
    parts = ("rates", "grouped", "all_reduce", "memory_kinds", "tune")
    status, found = without(ABSENT, tmp_path, *(flag for part in parts for flag in ("--part", part)))
    assert [found[part]["verdict"] for part in parts] == ["ok"] * 5, found
    assert status == 0
    told = {case["case"]: case for part in found.values() for case in part["cases"]}
    assert {told[f"library {name}"]["status"] for name in ("msgspec", "psutil")} == {"ok"}
    assert told["profile.json"]["status"] == "ok"
    assert told["report.html"]["detail"].startswith("needs jinja2, matplotlib: ")


def test_a_planted_wrong_kernel_is_found(tmp_path: Path) -> None:
    """E8M0 scales twice too large, in a copy of the tree."""
    for folder in ("src", "kernels", "collectives", "probes", "scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    decode = tmp_path / "kernels" / "decode.py"
    right = decode.read_text()
    planted = right.replace("tl.maximum(byte << 23,", "tl.maximum((byte + 1) << 23,")
    assert planted != right
    decode.write_text(planted)
    script = str(tmp_path / "scripts" / "validate_gpu.py")
    flags = ["--dry-run", "--out", str(tmp_path / "out"), "--part", "correctness", "--only", "fp4 linear"]
    done = subprocess.run([sys.executable, "-P", script, *flags], capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    (path,) = (tmp_path / "out").glob("dry-run-*.json")
    part = parts_of(json.loads(path.read_text()))["correctness"]
    assert part["verdict"] == "FAIL"
    wrong = {case["case"] for case in part["cases"] if case["status"] == "wrong"}
    assert wrong == {"gemv mxfp4 linear, bits", "dequant mxfp4 linear, bits"}
    assert "WRONG  correctness: gemv mxfp4 linear, bits: first in 64x288" in done.stdout


def test_what_is_written_is_what_the_page_reads() -> None:
    """A result of a GPU has the strict type; figures of any kind that a part tells are in it."""
    part = Part("rates")
    line = {"case": "a", "status": "ok", "figures": {"interval": [1.0, 2.5], "contended": True, "side": "device"}}
    assert part.take(json.dumps(line).encode()) is not None
    machine = {"device": "NVIDIA H200", "python": "3.12.3", "versions": "torch 2.11.0", "modes": "bits", "cpus": 16}
    machine |= {"compute_capability": "9.0", "multiprocessors": 132, "l2_bytes": 1, "memory_bytes": 1}
    machine |= {"integrated": False, "devices": 1}
    first = Part("environment", lines=[{"case": "machine", "status": "ok", "figures": machine}])
    text = validate_gpu.as_text(document([first, part], dry=False))
    found = msgspec.json.decode(text, type=results_model.Validation)
    assert found.cases("rates")[0].figures == line["figures"]
    assert validate_gpu.file_name(json.loads(text)).startswith("nvidia-h200-20")
