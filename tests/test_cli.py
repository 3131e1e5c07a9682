"""``roofprobe …`` as a person meets it: help, versions, and one line for anything unusable."""

from pathlib import Path
import re
import subprocess
import sys

import pytest

from roofprobe.cli import COMMANDS


def roofprobe(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "roofprobe", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=60, check=False)


def one_line(text: str) -> bool:
    return text.count("\n") == 1 and "Traceback" not in text


def test_help_names_every_command() -> None:
    shown = roofprobe("--help")
    assert shown.returncode == 0
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", shown.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(name: str) -> None:
    shown = roofprobe(name, "--help")
    assert shown.returncode == 0
    assert "usage:" in shown.stdout


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from roofprobe.cli import main; main(['--help']);"
        "heavy = {'torch', 'numba', 'triton', 'matplotlib', 'scipy', 'numpy', 'rich'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert shown.returncode == 0, shown.stderr


def test_version_names_what_it_found() -> None:
    import torch

    shown = roofprobe("--version")
    assert shown.returncode == 0
    assert shown.stdout.startswith("roofprobe ")
    assert re.search(rf"^  torch +{re.escape(torch.__version__)}$", shown.stdout, re.MULTILINE)
    assert re.search(r"^  nccl +", shown.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu"], "did you mean 'run'?"),
        (["--nonsense"], "no such flag"),
        (["run", "--unknown-flag"], "--unknown-flag"),
        (["run", "--memory", "12Q"], "'12Q' is not a size"),
        (["run", "--quick", "--full"], "not allowed with"),
        (["run", "--out", "/proc/none/here"], "can't write"),
        (["gemv", "--k", "17", "--format", "nvfp4"], "multiple of"),
        (["gemv", "--batch", "17"], "above 16"),
        (["memory", "--seconds", "soon"], "not a duration"),
        (["profile", "show", "missing.json"], "missing.json"),
        (["profile", "validate", "missing.json"], "missing.json"),
        (["profile", "export", "nothing"], "nothing"),
        (["report", "missing"], "missing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_unusable_input_is_one_line_with_status_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    shown = roofprobe(*arguments, cwd=tmp_path)
    assert shown.returncode == 2
    assert said in shown.stderr and one_line(shown.stderr), shown.stderr
    assert shown.stdout == ""
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_no_command_shows_help_with_status_2() -> None:
    shown = roofprobe()
    assert shown.returncode == 2
    assert "usage:" in shown.stdout


def test_schema_goes_to_a_file(tmp_path: Path) -> None:
    shown = roofprobe("profile", "export", "schema", "-o", str(tmp_path / "schema.json"))
    assert (shown.returncode, shown.stdout) == (0, "")
    assert '"roofprobe/profile/1"' in (tmp_path / "schema.json").read_text()
