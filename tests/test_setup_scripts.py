"""scripts/bench and scripts/test on fresh, half-prepared, broken and unsuitable machines (see fake_machine.py)."""

from pathlib import Path
import shlex
import signal
import subprocess
import sys

from fake_machine import PYTHON, Machine
import pytest


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_first_run_installs_and_second_does_nothing(machine: Machine) -> None:
    first = machine.run("bench", "--quick", "two words")
    assert (first.returncode, first.stdout) == (0, "roofprobe run --quick two words\n")
    assert "making .venv" in first.stderr
    assert machine.done() == ["venv", machine.pip_line("cpu.txt", ".")]
    second = machine.run("bench", "--help")
    assert (second.stdout, second.stderr) == ("roofprobe run --help\n", "")
    assert machine.done() == []


def test_a_link_to_the_script_finds_the_clone(machine: Machine) -> None:
    (machine.bin / "bench").symlink_to(machine.clone / "scripts" / "bench")
    done = subprocess.run(["bench"], env=machine.environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "roofprobe run\n"), done.stderr
    assert (machine.clone / ".venv" / "roofprobe-setup").exists()


def test_each_script_adds_only_what_it_lacks(machine: Machine) -> None:
    machine.run("bench")
    machine.done()
    assert machine.run("test", "-k", "x").stdout == f"pytest in {machine.clone}: -k x\n"
    assert machine.done() == [machine.pip_line("cpu.txt", ".[test]")]
    for script in ("bench", "test"):
        assert machine.run(script).stderr == ""
    assert machine.done() == []


@pytest.mark.parametrize("file", ["pyproject.toml", "constraints/cpu.txt", "constraints/gpu.txt"])
def test_changed_requirements_are_installed_into_the_same_venv(machine: Machine, file: str) -> None:
    machine.run("bench")
    machine.done()
    with (machine.clone / file).open("a") as requirements:
        requirements.write("# changed\n")
    assert machine.run("bench").returncode == 0
    assert machine.done() == [machine.pip_line("cpu.txt", ".")]


def test_two_terminals_set_up_once(machine: Machine) -> None:
    command = [str(machine.clone / "scripts" / "bench")]
    environment = machine.environment(PIP_DOES="sleep 0.5")
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [running.communicate(timeout=20)[0] for running in both] == ["roofprobe run\n"] * 2
    assert machine.done() == ["venv", machine.pip_line("cpu.txt", ".")]


SIGNS = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]


@pytest.mark.parametrize("sign", SIGNS)
def test_an_interrupted_installation_is_started_again(machine: Machine, sign: signal.Signals) -> None:
    machine.interrupt(sign)
    assert not (machine.clone / ".venv" / "roofprobe-setup").exists()
    assert machine.run("bench").returncode == 0
    assert machine.done() == ["venv", machine.pip_line("cpu.txt", ".")]
    assert not (machine.clone / ".venv" / "half-installed").exists()


@pytest.mark.parametrize("sign", SIGNS)
def test_after_an_interrupted_update_the_old_stamp_is_not_believed(machine: Machine, sign: signal.Signals) -> None:
    machine.run("bench")
    kept = (machine.clone / "pyproject.toml").read_text()
    (machine.clone / "pyproject.toml").write_text(kept + "# changed\n")
    machine.interrupt(sign)
    (machine.clone / "pyproject.toml").write_text(kept)
    assert machine.run("bench").returncode == 0
    assert machine.done() == ["venv", machine.pip_line("cpu.txt", ".")]
    assert not (machine.clone / ".venv" / "half-installed").exists()


def test_a_failed_first_installation_is_reported_and_repeated(machine: Machine) -> None:
    failed = machine.run("bench", PIP_DOES="echo 'ERROR: no network' >&2; exit 1")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert "ERROR: no network" in failed.stderr
    assert "pip could not install roofprobe" in failed.stderr.splitlines()[-1]
    machine.done()
    assert machine.run("bench").stdout == "roofprobe run\n"
    assert machine.done() == ["venv", machine.pip_line("cpu.txt", ".")]


def test_a_failed_update_keeps_the_environment(machine: Machine) -> None:
    machine.run("bench")
    kept = (machine.clone / "pyproject.toml").read_text()
    (machine.clone / "pyproject.toml").write_text(kept + "# changed\n")
    assert machine.run("bench", PIP_DOES="exit 1").returncode == 2
    (machine.clone / "pyproject.toml").write_text(kept)
    machine.done()
    assert machine.run("bench").stdout == "roofprobe run\n"
    assert machine.done() == []


def test_a_venv_whose_python_is_gone_is_made_anew(machine: Machine) -> None:
    machine.run("bench")
    machine.done()
    (machine.clone / ".venv" / "bin" / "python").unlink()
    assert machine.run("bench").returncode == 0
    assert machine.done() == ["venv", machine.pip_line("cpu.txt", ".")]


def test_a_venv_made_by_hand_is_kept(machine: Machine) -> None:
    environment = machine.environment()
    subprocess.run([machine.bin / "python3", "-m", "venv", machine.clone / ".venv"], env=environment, check=True)
    machine.done()
    assert machine.run("bench").returncode == 0
    assert machine.done() == [machine.pip_line("cpu.txt", ".")]


def test_python_too_old(machine: Machine) -> None:
    machine.python("3.10.12")
    line = machine.refusal()
    assert f"needs Python 3.11 or newer, found 3.10.12 at {machine.bin / 'python3'}" in line
    assert "apt-get install -y python3.12 python3.12-venv python3.12-dev" in line


def test_an_old_python3_does_not_hide_a_newer_one(machine: Machine) -> None:
    machine.python("3.10.12")
    machine.program("python3.12", "echo 'pyenv: python3.12: command not found' >&2; exit 127")
    machine.python(name="python3.13")
    assert machine.run("bench").returncode == 0


def test_no_compiler(machine: Machine) -> None:
    (machine.bin / "gcc").unlink()
    line = machine.refusal()
    assert "needs a C compiler (gcc or clang)." in line
    assert line.endswith("apt-get install -y gcc libc6-dev")
    machine.program("clang")
    assert machine.run("bench").returncode == 0


@pytest.mark.parametrize(
    ("module", "code", "named", "package"),
    [
        ("ensurepip", "raise ImportError", f"venv for Python {PYTHON}", f"python{PYTHON}-venv"),
        # the one call by which the headers' folder is found
        (
            "sitecustomize",
            "import sysconfig; sysconfig.get_path = lambda *_: '/nowhere'",
            f"Python.h for Python {PYTHON}",
            f"python{PYTHON}-dev",
        ),
    ],
    ids=["no ensurepip", "no headers"],
)
def test_python_without_its_debian_parts(
    machine: Machine, tmp_path: Path, module: str, code: str, named: str, package: str
) -> None:
    (tmp_path / f"{module}.py").write_text(code)
    line = machine.refusal(PYTHONPATH=str(tmp_path))
    assert f"needs {named}" in line
    assert line.endswith(f"apt-get install -y {package}")


def test_everything_lacking_is_one_command(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "ensurepip.py").write_text("raise ImportError")
    (machine.bin / "gcc").unlink()
    (machine.bin / "apt-get").unlink()
    machine.program("dnf")
    assert machine.refusal("test", PYTHONPATH=str(tmp_path)).endswith("dnf install -y gcc glibc-devel")


@pytest.mark.parametrize("driver", ["575.51.03", "535.183.01"])
def test_driver_too_old(machine: Machine, driver: str) -> None:
    machine.program("nvidia-smi", f"echo {driver}")
    line = machine.refusal()
    assert f"needs NVIDIA driver 580 or newer for the torch in constraints/gpu.txt, found {driver}." in line
    assert "apt-get install -y nvidia-driver-580-open" in line
    machine.program("apt-cache", "exit 100")
    assert "Install driver 580 or newer" in machine.refusal()


def test_driver_that_does_not_answer(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "nvidiactl").touch()
    machine.program("nvidia-smi", "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    assert "Driver/library version mismatch). Run:" in machine.refusal()


def test_nvidia_smi_without_a_gpu_means_cpu(machine: Machine) -> None:
    machine.program("nvidia-smi", "echo 'No devices were found'; exit 6")
    assert machine.run("bench").returncode == 0
    assert machine.done() == ["venv", machine.pip_line("cpu.txt", ".")]


def test_a_gpu_takes_its_own_versions_and_a_new_gpu_is_noticed(machine: Machine) -> None:
    machine.run("bench")
    machine.done()
    machine.program("nvidia-smi", "printf '580.95.05\\n580.95.05\\n'")
    assert machine.run("bench").returncode == 0
    assert machine.run("test").returncode == 0
    assert machine.done() == [machine.pip_line("gpu.txt", f".[{extras}]") for extras in ("cuda13", "test,cuda13")]


def test_a_given_python_is_used_as_it_is(machine: Machine) -> None:
    """This test's own Python has everything, since it runs the tests."""
    (machine.clone / "src" / "roofprobe").mkdir(parents=True)
    (machine.clone / "src" / "roofprobe" / "__init__.py").touch()
    source = "import os, sys\ndef main(): print(os.environ['ROOFPROBE_PYTHON'], *sys.argv[1:])"
    (machine.clone / "src" / "roofprobe" / "cli.py").write_text(source)
    done = machine.run("bench", "--quick", ROOFPROBE_PYTHON=sys.executable)
    assert (done.stdout, done.stderr) == (f"{sys.executable} run --quick\n", "")
    assert not (machine.clone / ".venv").exists()


def test_a_given_python_that_lacks_something(machine: Machine) -> None:
    pyproject = (machine.clone / "pyproject.toml").read_text()
    edited = pyproject.replace('"psutil>=6"', '"psutil>=99",\n    "no-such-package>=1; python_version > \'3\'"')
    assert edited != pyproject
    (machine.clone / "pyproject.toml").write_text(edited)
    line = machine.refusal(ROOFPROBE_PYTHON=sys.executable)
    lacking = ["psutil>=99", "no-such-package>=1"]
    before, command = line.split(" Run: ")
    assert before == f"roofprobe: ROOFPROBE_PYTHON lacks {shlex.join(lacking)}."
    assert shlex.split(command) == [sys.executable, "-m", "pip", "install", *lacking]


@pytest.mark.parametrize(
    ("given", "why"),
    [("/nowhere/python", "is not a program"), ("true", "does not run as Python"), ("python3", "is Python 3.10.12")],
)
def test_a_given_python_that_is_none(machine: Machine, given: str, why: str) -> None:
    machine.python("3.10.12")
    machine.program("true")
    assert why in machine.refusal(ROOFPROBE_PYTHON=given)
