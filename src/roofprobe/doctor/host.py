"""One host as the doctor sees it: a tree of files, its software, its links, and what its platform promises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import re

import msgspec

from roofprobe.ceiling import Platform
from roofprobe.fabric import Fabric, read_fabric
from roofprobe.tree import Tree


class Software(msgspec.Struct, frozen=True, kw_only=True):
    """What a recording's software.json may say; what is absent is not known."""

    gpu: str | None = None
    platform: str | None = None
    driver: str | None = None
    cuda: str | None = None
    torch: str | None = None
    triton: str | None = None
    ptxas: str | None = None
    nccl_loaded: str | None = None


@dataclass(frozen=True)
class Host:
    """What was read of one host, once; rules look and never read again."""

    name: str
    tree: Tree
    software: Software
    fabric: Fabric
    platform: Platform | None
    nccl_environment: Mapping[str, str]
    """NCCL's variables: of /etc/nccl.conf, and for this machine the process' own over it."""
    before: Fabric | None = None
    """An earlier look at the same host, whose counters make deltas."""

    @property
    def is_gb10(self) -> bool:
        """Whether GB10's own expectations hold here."""
        return "GB10" in (self.software.gpu or "") or (self.platform is not None and self.platform.is_gb10)


def nccl_conf(tree: Tree) -> dict[str, str]:
    """NAME -> value of /etc/nccl.conf."""
    return nccl_settings(tree.text("/etc/nccl.conf") or "")


def nccl_settings(text: str) -> dict[str, str]:
    """NAME -> value of a file of NCCL's settings; comments and anything that is no assignment are passed over."""
    found = {}
    for line in text.splitlines():
        assigned = re.fullmatch(r"\s*(NCCL_[A-Z0-9_]{1,64})\s*=\s*(.{0,1024}?)\s*", line.partition("#")[0])
        if assigned:
            found[assigned[1]] = assigned[2]
    return found


def look(
    name: str,
    tree: Tree,
    software: Software,
    platform: Platform | None,
    environment: Mapping[str, str] | None = None,
    before: Tree | None = None,
) -> Host:
    """Reads a host's tree once. `environment` stands over /etc/nccl.conf, as it does for NCCL."""
    return Host(
        name=name,
        tree=tree,
        software=software,
        fabric=read_fabric(tree),
        platform=platform,
        nccl_environment={**nccl_conf(tree), **(environment or {})},
        before=None if before is None else read_fabric(before),
    )
