"""Records a machine into one JSON file that may be attached to a bug report; `recording.py` reads it again.

By an allow-list: what is not named here is not recorded. No serial numbers, no host name unless asked for, nothing of
the environment but NCCL's own variables, and pseudonyms for MAC addresses and GUIDs wherever they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
import errno
import os
import posixpath
import re
from time import monotonic
from typing import Any

import msgspec

from roofprobe import __version__
from roofprobe.doctor.host import Software, nccl_settings
from roofprobe.doctor.pseudonyms import Pseudonyms
from roofprobe.environment import VARIABLES
from roofprobe.tree import Tree

MAX_SECONDS = 10.0
MAX_ENTRIES = 50_000
"""A GB10 unit has about 3000."""
MAX_CHARACTERS = 16 << 20

_RDMA = "/sys/class/infiniband/*"
_NET = "/sys/class/net/*"
_FUNCTION = "/sys/bus/pci/devices/*"
_PCIE = tuple(f"{which}_link_{what}" for which in ("current", "max") for what in ("speed", "width"))

ALLOWED: tuple[str, ...] = (
    *(f"/sys/class/dmi/id/{name}" for name in ("sys_vendor", "product_name", "product_version")),
    *(f"/sys/class/dmi/id/{name}" for name in ("bios_version", "bios_date")),
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/driver/nvidia/version",
    "/proc/driver/nvidia/gpus/*/information",
    "/etc/nccl.conf",
    "/proc/self/limits",
    "/proc/self/status",
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    "/.dockerenv",
    "/run/.containerenv",
    "/run/systemd/container",
    "/dev",
    "/dev/null",
    "/dev/infiniband",
    "/dev/infiniband/*",
    "/sys/class/infiniband_verbs",
    "/sys/class/infiniband_verbs/*/ibdev",
    "/sys/class/infiniband",
    _RDMA,
    *(f"{_RDMA}/{name}" for name in ("fw_ver", "node_type", "hca_type", "board_id", "parent")),
    *(f"{_RDMA}/{name}" for name in ("node_guid", "sys_image_guid")),
    f"{_RDMA}/device",
    *(f"{_RDMA}/device/{name}" for name in (*_PCIE, "uevent", "net/*")),
    *(f"{_RDMA}/ports/*/{name}" for name in ("state", "phys_state", "rate", "link_layer")),
    *(f"{_RDMA}/ports/*/{name}/*" for name in ("counters", "hw_counters", "gids")),
    *(f"{_RDMA}/ports/*/gid_attrs/{name}/*" for name in ("types", "ndevs")),
    "/sys/bus/pci/devices",
    _FUNCTION,
    *(f"{_FUNCTION}/{name}" for name in ("vendor", "device", "class", *_PCIE)),
    "/proc/net/dev",
    "/proc/net/route",
    "/proc/net/fib_trie",
    "/proc/net/if_inet6",
    "/sys/class/net",
    *(f"{_NET}/{name}" for name in ("operstate", "carrier", "speed", "mtu", "type", "duplex", "address")),
    f"{_NET}/device/driver",
    *(f"{_NET}/statistics/{name}" for name in ("tx_bytes", "rx_bytes")),
)
"""A ``*`` stands for one part of a path; the most important come first, should there be too many for one recording."""


def capture(tree: Tree, software: Software, environment: Mapping[str, str], host: str | None = None) -> bytes:
    """The recording of a machine: `software` and `environment` are put beside its tree, and `host` where given.

    Of `environment` only NCCL's variables that are known to matter are kept. Where MAX_SECONDS, MAX_ENTRIES or
    MAX_CHARACTERS end it early, the key ``incomplete`` says so.
    """
    pseudonyms = Pseudonyms()
    entries, incomplete = _entries(tree, pseudonyms)
    document: dict[str, Any] = {"what": f"roofprobe {__version__} doctor capture"}
    if host is not None:
        document["host"] = host
    if incomplete:
        document["incomplete"] = incomplete
    document |= {
        "software": {k: v for k, v in msgspec.structs.asdict(software).items() if v is not None},
        "environment": {name: pseudonyms.replaced(value) for name, value in _variables(environment).items()},
        "tree": entries,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    allowed = (name for name in VARIABLES if name.startswith("NCCL_") and name in environment)
    return {name: environment[name].encode(errors="replace").decode() for name in allowed}


def _entries(tree: Tree, pseudonyms: Pseudonyms) -> tuple[dict[str, dict[str, Any]], str | None]:
    deadline = monotonic() + MAX_SECONDS
    entries: dict[str, dict[str, Any]] = {}
    characters = 0
    for pattern in ALLOWED:
        for path in _matching(tree, pattern):
            if monotonic() > deadline or len(entries) >= MAX_ENTRIES or characters > MAX_CHARACTERS:
                return entries, f"ended at {pattern}: too large, or too slow to read"
            entry = _entry(tree, pattern, path)
            if entry is not None:
                entry = {k: pseudonyms.replaced(v) if isinstance(v, str) else v for k, v in entry.items()}
                characters += len(path) + len(str(entry))
                entries[pseudonyms.replaced(path)] = entry
    return entries, None


def _matching(tree: Tree, pattern: str) -> Iterator[str]:
    before, star, after = pattern.partition("*")
    if not star:
        yield pattern
        return
    for name in tree.children(before.rstrip("/")):
        yield from _matching(tree, f"{before}{name}{after}")


def _entry(tree: Tree, pattern: str, path: str) -> dict[str, Any] | None:
    """How a recording holds one path; None where nothing is there. A link is one only where rules ask for it."""
    if pattern in _NAMES:
        return {"dir": 1} if posixpath.basename(path) in tree.children(posixpath.dirname(path)) else None
    target = tree.link(path)
    if target is not None and pattern in _LINKS:
        return {"link": target}
    found = tree.read(path)
    if found == errno.EISDIR:
        return {"dir": 1}
    if isinstance(found, bytes):
        text = found.decode(errors="replace")
        return {"data": _KEPT[pattern](text) if pattern in _KEPT else text}
    if tree.unreadable(path) is None:
        return None
    return {"errno": found, "err": os.strerror(found)}


_LINKS = frozenset({_RDMA, f"{_RDMA}/device", f"{_NET}/device/driver"})
_NAMES = frozenset({"/dev/null", "/dev/infiniband/*", f"{_RDMA}/device/net/*", _FUNCTION})
"""Of these only the name counts, and a device must not be opened for it."""


def _lines(pattern: str) -> Callable[[str], str]:
    kept = re.compile(pattern, re.MULTILINE)
    return lambda text: "".join(f"{line}\n" for line in kept.findall(text))


def _nothing(_: str) -> str:
    return ""


def _settings(text: str) -> str:
    return "".join(f"{name}={value}\n" for name, value in nccl_settings(text).items() if name in VARIABLES)


_KEPT: dict[str, Callable[[str], str]] = {
    # A part's number tells core types apart; a Serial line follows on some boards.
    "/proc/cpuinfo": _lines(r"^(?:processor|model name|CPU part)\s*:.*$"),
    # A module that was built here goes on with who built it, on which host.
    "/proc/driver/nvidia/version": _lines(r"^NVRM version:.*?Kernel Module(?: for \S+)?\s+\d[\d.]*"),
    "/proc/driver/nvidia/gpus/*/information": _lines(r"^Model:.*$"),
    "/etc/nccl.conf": _settings,
    # Which capabilities it has; the rest is about the process that recorded.
    "/proc/self/status": _lines(r"^CapEff:.*$"),
    # Which interfaces have an address; an address holds the interface's MAC address.
    "/proc/net/if_inet6": lambda text: re.sub(r"^[0-9a-f]{32}", "0" * 32, text, flags=re.MULTILINE),
    "/.dockerenv": _nothing,
    "/run/.containerenv": _nothing,
    f"{_RDMA}/device/uevent": _lines(r"^PCI_SLOT_NAME=.*$"),
}
"""Files of which a part is recorded: the rest identifies the machine or its owner, or says nothing to the rules."""
