"""What one call of the doctor was given, read into a case: this machine, recordings, logs, samplings and links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import os
from pathlib import Path
import socket

from roofprobe.ceiling import Platform
from roofprobe.doctor.case import Case
from roofprobe.doctor.host import Host, look
from roofprobe.doctor.live_software import read_software
from roofprobe.doctor.log_file import read_log_file
from roofprobe.doctor.measured import read_measured
from roofprobe.doctor.software import platform_of, read_told
from roofprobe.environment import VARIABLES
from roofprobe.errors import BadInput
from roofprobe.recording import open_tree
from roofprobe.telemetry import read_sampling
from roofprobe.tree import Tree, this_machine


@dataclass(frozen=True)
class Given:
    """The command line's files, in its order."""

    roots: tuple[Path, ...] = ()
    before: tuple[Path, ...] = ()
    nccl_logs: tuple[Path, ...] = ()
    telemetry: tuple[Path, ...] = ()
    measured: tuple[Path, ...] = ()
    platform: Platform | None = None
    """Of every host, whatever its recording says."""

    @property
    def is_live(self) -> bool:
        """Whether nothing was given to be judged, so that it is this machine."""
        return not (self.roots or self.nccl_logs or self.telemetry or self.measured)


def read_case(given: Given) -> Case:
    """Reads everything. Raises BadInput, in one line, for what can't be read or is malformed."""
    if len(given.before) not in (0, len(given.roots)):
        raise BadInput(
            f"{len(given.before)} --before for {len(given.roots)} --root; expected one for each, in the same order"
        )
    earlier: Sequence[Path | None] = given.before or (None,) * len(given.roots)
    hosts = [
        _recorded_host(name, root, before, given.platform)
        for name, root, before in zip(host_names(given.roots), given.roots, earlier)
    ]
    return Case(
        hosts=(this_host(given.platform),) if given.is_live else tuple(hosts),
        logs=tuple(read_log_file(path) for path in given.nccl_logs),
        samplings=tuple(read_sampling(path, name) for path, name in zip(given.telemetry, host_names(given.telemetry))),
        measured=tuple(link for path in given.measured for link in read_measured(path)),
        platform=given.platform,
    )


def this_host(platform: Platform | None = None) -> Host:
    """This machine, with this process' own NCCL variables over /etc/nccl.conf."""
    tree = this_machine()
    software = read_software(tree)
    return look(socket.gethostname(), tree, software, platform or platform_of(software, tree), nccl_variables())


def nccl_variables() -> dict[str, str]:
    """NCCL's variables in this process' environment, those that are known to matter."""
    return {name: os.environ[name] for name in VARIABLES if name.startswith("NCCL_") and name in os.environ}


def _recorded_host(name: str, root: Path, before: Path | None, platform: Platform | None) -> Host:
    tree = open_tree(root)
    told = read_told(root, tree)
    return look(
        name,
        tree,
        told.software,
        platform or platform_of(told.software, tree),
        told.environment,
        None if before is None else open_tree(before),
    )


def host_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """A recording's base name without ``.json`` and ``root-`` or ``telemetry-``.

    Where two would have the same one, as much of their folders as tells them apart stands before it; the same path
    given twice is counted.
    """
    places = [_places(path) for path in paths]
    names = []
    for i, mine in enumerate(places):
        others = [other for j, other in enumerate(places) if j != i and other[-1] == mine[-1]]
        parts = 1
        while parts < len(mine) and any(other[-parts:] == mine[-parts:] for other in others):
            parts += 1
        name = "/".join(mine[-parts:]) or "this machine"
        again = places[:i].count(mine)
        names.append(f"{name} ({again + 1})" if again else name)
    return tuple(names)


def _places(path: Path) -> tuple[str, ...]:
    whole = Path(os.path.abspath(path))
    name = whole.name
    for suffix in (".jsonl", ".json"):
        name = name.removesuffix(suffix)
    for prefix in ("root-", "telemetry-"):
        name = name.removeprefix(prefix) or name
    # A name that is no UTF-8 could be neither printed nor written to JSON.
    return tuple(part.encode(errors="replace").decode() for part in (*whole.parts[1:-1], name))


def silent(given: Given, case: Case) -> tuple[str, ...]:
    """The inputs that said nothing, each with what was expected: what was not seen may not be called healthy."""
    said = []
    for path, host in zip(given.roots, case.hosts):
        if not _says_something(host.tree) and host.software == type(host.software)():
            said.append(f"{path} holds nothing of a machine; expected what mirrors /sys, /proc and /etc")
    for log in case.logs:
        if not log.says_something:
            said.append(f"{log.path} says nothing of NCCL; run with NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=INIT,NET,ENV")
    for path, sampling in zip(given.telemetry, case.samplings):
        if not (sampling.samples or sampling.of_side("device").sentinels):
            said.append(f"{path} holds nothing of a GPU: neither a sample nor a result of its sentinels")
    if given.measured and not any(link.busbw_gb_per_s > 0 for link in case.measured):
        said.append(f"{given.measured[0]} holds no bandwidth")
    return tuple(said)


def _says_something(tree: Tree) -> bool:
    return any(tree.children(place) for place in ("/sys", "/proc", "/etc"))
