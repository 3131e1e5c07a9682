"""What stands in for libraries that a GPU's machine lacks does what they do, as far as roofprobe asks for it."""

from __future__ import annotations

import os
from pathlib import Path
import subprocess
import sys

from example_runs import faulty, gb10, save
import psutil
import pytest

from roofprobe.profile import TuningProfile, build_profile
from roofprobe.run_file import Run, read_run

ROOT = Path(__file__).resolve().parent.parent
STAND_INS = ROOT / "scripts" / "gpu_checks" / "stand_ins"


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """This Python, with the stand-ins before the libraries."""
    folders = [*map(str, STAND_INS.iterdir()), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_the_records_tests_pass_with_it() -> None:
    """Every complaint's words, too. A schema of the profile is not among what a measurement asks for."""
    files = ("measurement", "profile", "profile_lookup", "telemetry_lines", "load_record", "platform_files")
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"tests/test_{name}.py" for name in files),
                  "-k", "not schema")  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("run", [gb10(), faulty()], ids=["healthy", "faulty"])
def test_files_of_either_are_read_by_the_other(run: Run, tmp_path: Path) -> None:
    save(run, tmp_path / "theirs")
    copy = (
        "import msgspec, sys; assert 'stand_ins' in msgspec.__file__;"
        "from pathlib import Path; from roofprobe.profile import build_profile;"
        "from roofprobe.run_file import RunWriter, read_run;"
        "theirs, ours = map(Path, sys.argv[1:]); run = read_run(theirs);"
        "writer = RunWriter(ours / 'measurements.jsonl');"
        "kinds = ('measurements', 'collectives', 'skipped', 'sentinels', 'matmuls', 'contentions');"
        "records = [run.environment, *(each for kind in kinds for each in getattr(run, kind)), run.ended];"
        "[writer.write(record) for record in records if record is not None];"
        "build_profile(run).save(ours / 'profile.json')"
    )
    done = python("-P", "-c", copy, str(tmp_path / "theirs"), str(tmp_path / "ours"))
    assert done.returncode == 0, done.stderr
    assert read_run(tmp_path / "ours") == read_run(tmp_path / "theirs")
    assert TuningProfile.load(tmp_path / "ours" / "profile.json") == build_profile(read_run(tmp_path / "theirs"))


def test_memory_as_psutil_tells_it() -> None:
    done = python(
        "-P", "-c", "import psutil; m = psutil.virtual_memory(); print(m.total, m.available, psutil.__file__)"
    )
    total, available, path = done.stdout.split(maxsplit=2)
    memory = psutil.virtual_memory()
    assert int(total) == memory.total
    assert abs(int(available) - memory.available) < 0.2 * memory.total
    assert "stand_ins" in path
