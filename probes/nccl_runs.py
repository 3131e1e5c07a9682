"""One run of the all-reduce probe under one NCCL setting, in processes of its own.

NCCL reads its variables when it starts, so a setting is measured by starting the ranks anew with it. Variables of the
caller's own environment that a setting would set are taken out first: the defaults are NCCL's, not the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
import hashlib
import os
from pathlib import Path
import re
import subprocess
import sys
import tempfile
from typing import Protocol

import msgspec

from roofprobe.collectives.local_ranks import gpu_count
from roofprobe.errors import RoofprobeError
from roofprobe.measurement import CollectiveMeasurement
from roofprobe.nccl_choices import read_choices
from roofprobe.nccl_tuning import DEFAULTS, NcclSetting
from roofprobe.robust import median

VARIED = ("NCCL_ALGO", "NCCL_PROTO", "NCCL_MIN_NCHANNELS", "NCCL_MAX_NCHANNELS", "NCCL_IB_MERGE_NICS")
_COMPLAINT = re.compile(r"roofprobe allreduce: |^# WARNING")
TIMEOUT_SECONDS = 600.0
"""Of one run, which has deadlines of its own: this one is for a launcher that hangs."""


@dataclass(frozen=True)
class Run:
    """What one run found."""

    seconds: dict[int, float]
    """Message bytes -> median time, in place; empty where it failed."""
    world_size: int = 0
    transport: str = ""
    problem: str | None = None
    own_choices: Mapping[int, NcclSetting] = field(default_factory=dict)
    """What NCCL chose by itself, as far as it logged it."""


class Runner(Protocol):
    """Something that measures the all-reduce under a setting."""

    @property
    def binding(self) -> str:
        """Changes with whatever makes runs incomparable."""
        ...

    def run(self, setting: NcclSetting) -> Run:
        """A failure under the defaults is a RoofprobeError: there is nothing to compare with."""
        ...

    def defaults(self) -> Run:
        """A run under the defaults that also tells what NCCL chose; its times count as any other's."""
        ...


@dataclass(frozen=True)
class ProbeRunner:
    """Runs ``roofprobe allreduce`` here, or across hosts through ``roofprobe launch``."""

    hosts: tuple[str, ...]
    min_bytes: int
    max_bytes: int
    step_factor: int
    iterations: int

    @property
    def binding(self) -> str:
        from roofprobe.environment import read_environment

        e = read_environment()
        facts = [self, e.host, e.torch, e.nccl, e.driver, [d.name for d in e.devices]]
        return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:16]

    def run(self, setting: NcclSetting) -> Run:
        with tempfile.TemporaryDirectory(prefix="roofprobe-nccl-") as folder:
            return self._run(setting, Path(folder), {})

    def defaults(self) -> Run:
        with tempfile.TemporaryDirectory(prefix="roofprobe-nccl-") as folder:
            logged = {
                "NCCL_DEBUG": "INFO",
                "NCCL_DEBUG_SUBSYS": "INIT,NET,ENV,TUNING",
                "NCCL_DEBUG_FILE": f"{folder}/nccl.%h.%p.log",
            }
            found = self._run(DEFAULTS, Path(folder), logged)
            choices = read_choices(sorted(Path(folder).glob("nccl.*.log")), found.seconds)
            return replace(found, own_choices=choices)

    def command(self, setting: NcclSetting, record: Path, extra: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
        """(arguments, environment) of the process to start."""
        flags = ["-b", self.min_bytes, "-e", self.max_bytes, "-f", self.step_factor, "-n", self.iterations]
        probe = ["allreduce", *map(str, flags), "--no-link-baseline", "--record", str(record)]
        own = {name: value for name, value in os.environ.items() if name not in VARIED}
        # ssh passes nothing on, and the hosts have to agree.
        asked = {name: value for name, value in own.items() if name.startswith("NCCL_")}
        asked |= setting.environment() | dict(extra)
        roofprobe = [sys.executable, "-m", "roofprobe.cli"]
        if not self.hosts:
            return [*roofprobe, *probe, "--ranks", str(gpu_count())], own | asked
        there = [word for name, value in asked.items() for word in ("--env", f"{name}={value}")]
        return [*roofprobe, "launch", "--hosts", ",".join(self.hosts), *there, "--", *probe], own

    def _run(self, setting: NcclSetting, folder: Path, extra: Mapping[str, str]) -> Run:
        record = folder / "record.json"
        command, environment = self.command(setting, record, extra)
        try:
            ended = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
            said = [*ended.stdout.splitlines(), *ended.stderr.strip().splitlines()]
            said = [line for line in said if _COMPLAINT.search(line)] or said[-1:]
            said = said or [f"ended with status {ended.returncode} and said nothing"]
            failed = ended.returncode != 0
        except subprocess.TimeoutExpired:
            said, failed = [f"did not end within {TIMEOUT_SECONDS:g} s"], True
        found = _read(record, said[0])
        if failed and found.problem is None:
            found = replace(found, problem=said[0])
        if found.problem is not None and setting == DEFAULTS:
            raise RoofprobeError(f"the all-reduce fails under the defaults too: {found.problem}")
        return found


def _read(record: Path, said: str) -> Run:
    if not record.exists():
        return Run(seconds={}, problem=said)
    measured = msgspec.json.decode(record.read_bytes(), type=CollectiveMeasurement)
    wrong = sum(point.wrong or 0 for point in measured.points)
    problem = f"{wrong} elements wrong" if wrong else None
    if measured.backend != "nccl":
        problem = f"carried by {measured.backend}, not NCCL: every rank needs a GPU of its own"
    return Run(
        seconds={point.bytes: median(point.in_place_seconds) for point in measured.points},
        world_size=measured.world_size,
        transport=measured.transport,
        problem=problem,
    )


def active_rdma_devices(root: Path = Path("/sys/class/infiniband")) -> int:
    """RDMA devices of this host with a port that is up."""
    return sum(1 for state in root.glob("*/ports/1/state") if "ACTIVE" in state.read_text())
