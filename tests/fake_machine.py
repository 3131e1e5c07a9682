"""Machines that this one is not, to try scripts/bench and scripts/test on: fake Pythons, compilers, drivers on PATH.

The scripts run for real in a small copy of the project. Only `python -m venv`, `python -m pip` and what is started in
the end are played by a shell script, which logs them; a set-up then takes milliseconds.
"""

from collections.abc import Callable
import os
from pathlib import Path
import shlex
import shutil
import signal
import subprocess
import sys
import time

ROOT = Path(__file__).resolve().parent.parent
TOOLS = "bash cat cp cut dirname find flock head mkdir mv paste readlink rm sed sha256sum sleep timeout touch"
PYTHON = "{}.{}".format(*sys.version_info)

FAKE_PYTHON = """#!/bin/bash
# Plays a Python {version}: code given with -c runs on the real one, believing that it is that version.
case "$*" in
    "-m venv "*) mkdir -p "${{@: -1}}/bin" && cp "$0" "${{@: -1}}/bin/python" && echo "venv" >>"$LOG" ;;
    "-m pip "*) echo "pip ${{*:3}}" >>"$LOG"; eval "${{PIP_DOES:-}}" ;;
    *"roofprobe.cli"*) shift 3; echo "roofprobe $*" ;;
    *"-m pytest"*) shift 3; echo "pytest in $PWD: $*" ;;
    "-c "*) shift; code=$1; shift
        exec {real} -c "import sys; sys.version_info = {version_info}; exec(sys.argv.pop(1))" "$code" "$@" ;;
    *) exec {real} "$@" ;;
esac
"""


class Machine:
    """A clone in a folder with a space in its name, and a PATH that holds what the test puts there."""

    def __init__(self, folder: Path) -> None:
        self.clone = folder / "a clone"
        self.bin = folder / "bin"
        self.log = folder / "log"
        self.bin.mkdir()
        self.log.touch()
        for part in ("scripts", "constraints"):
            shutil.copytree(ROOT / part, self.clone / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", self.clone)
        for tool in TOOLS.split():
            found = shutil.which(tool)
            assert found, f"{tool} is part of every Linux system"
            (self.bin / tool).symlink_to(found)
        # Whatever this machine has, the clone's scripts see a GPU only where a test puts nvidia-smi on PATH.
        setup = self.clone / "scripts" / "setup.sh"
        text = setup.read_text()
        assert text.count("/dev/nvidiactl") == 1
        setup.write_text(text.replace("/dev/nvidiactl", str(folder / "nvidiactl")))
        self.python()
        self.program("gcc")
        self.program("apt-get")
        self.program("apt-cache")

    def program(self, name: str, does: str = "true") -> None:
        (self.bin / name).write_text(f"#!/bin/bash\n{does}\n")
        (self.bin / name).chmod(0o755)

    def python(self, version: str = f"{PYTHON}.9", name: str = "python3") -> None:
        version_info = (*map(int, version.split(".")), "final", 0)
        text = FAKE_PYTHON.format(version=version, version_info=version_info, real=shlex.quote(sys.executable))
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def environment(self, **extra: str) -> dict[str, str]:
        return {"PATH": str(self.bin), "HOME": os.environ.get("HOME", "/"), "LOG": str(self.log), **extra}

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.clone / "scripts" / script), *arguments]
        return subprocess.run(
            command, env=self.environment(**environment), cwd=self.bin, capture_output=True, text=True, timeout=60
        )

    def refusal(self, script: str = "bench", **environment: str) -> str:
        """The one line with which a script refuses; nothing may have been made, installed or run."""
        before = self.log.read_text()
        done = self.run(script, **environment)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert self.log.read_text() == before
        return line

    def done(self) -> list[str]:
        """What was installed since the last call, oldest first."""
        lines = self.log.read_text().splitlines()
        self.log.write_text("")
        return lines

    def pip_line(self, constraints: str, editable: str) -> str:
        quiet = "install -qq --no-input --disable-pip-version-check"
        return f"pip {quiet} --constraint constraints/{constraints} --editable {editable}"

    def interrupt(self, sign: signal.Signals) -> None:
        """Stops scripts/bench inside pip as Ctrl-C does: the whole group gets the signal, pip ends by itself."""
        running = subprocess.Popen(
            [str(self.clone / "scripts" / "bench")],
            env=self.environment(PIP_DOES="trap 'kill $!; exit 1' INT TERM; sleep 20 & touch $LOG.pip; wait"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(self.log.with_name("log.pip").exists)
        os.killpg(running.pid, sign)
        stdout, _ = running.communicate(timeout=20)
        assert running.returncode != 0
        assert stdout == b""
        (self.clone / ".venv" / "half-installed").touch()
        self.done()


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("waited 20 s in vain")
