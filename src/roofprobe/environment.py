"""What machine this is and what software measures it, as an allow-list of facts.

Nothing here loads the machine. Each fact that can't be had is None (or 0 for a count), never an error: a measurement
is worth more than the description beside it.
"""

from __future__ import annotations

import ctypes
from datetime import UTC, datetime
from importlib import metadata
import os
from pathlib import Path
import platform as python_platform
import re
import socket

import psutil

from roofprobe import __version__
from roofprobe.ceiling import Platform, find_platform
from roofprobe.measurement import Device, Environment
from roofprobe.tree import Tree, this_machine

VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "GLOO_SOCKET_IFNAME",
    "NCCL_ALGO",
    "NCCL_BUFFSIZE",
    "NCCL_CROSS_NIC",
    "NCCL_CUMEM_ENABLE",
    "NCCL_DEBUG",
    "NCCL_DEBUG_SUBSYS",
    "NCCL_IB_ADDR_FAMILY",
    "NCCL_IB_ADDR_RANGE",
    "NCCL_IB_DISABLE",
    "NCCL_IB_GID_INDEX",
    "NCCL_IB_HCA",
    "NCCL_IB_MERGE_NICS",
    "NCCL_IB_PCI_RELAXED_ORDERING",
    "NCCL_IB_QPS_PER_CONNECTION",
    "NCCL_IB_RETRY_CNT",
    "NCCL_IB_ROCE_VERSION_NUM",
    "NCCL_IB_SL",
    "NCCL_IB_SPLIT_DATA_ON_QPS",
    "NCCL_IB_TC",
    "NCCL_IB_TIMEOUT",
    "NCCL_IGNORE_NET_MISMATCH",
    "NCCL_LAUNCH_MODE",
    "NCCL_MAX_CTAS",
    "NCCL_MAX_NCHANNELS",
    "NCCL_MIN_CTAS",
    "NCCL_MIN_NCHANNELS",
    "NCCL_NCHANNELS_PER_NET_PEER",
    "NCCL_NET",
    "NCCL_NET_FORCE_MERGE",
    "NCCL_NET_GDR_LEVEL",
    "NCCL_NET_MERGE_LEVEL",
    "NCCL_NET_PLUGIN",
    "NCCL_NSOCKS_PERTHREAD",
    "NCCL_NTHREADS",
    "NCCL_P2P_DISABLE",
    "NCCL_P2P_LEVEL",
    "NCCL_PROTO",
    "NCCL_RUNTIME_CONNECT",
    "NCCL_SHM_DISABLE",
    "NCCL_SOCKET_FAMILY",
    "NCCL_SOCKET_IFNAME",
    "NCCL_SOCKET_NTHREADS",
    "NCCL_TUNER_PLUGIN",
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "TRITON_INTERPRET",
)
"""The environment variables that change what is measured; no other is ever recorded."""

_HERE = this_machine()

DEFAULT_LAST_LEVEL_CACHE_BYTES = 32 << 20
"""Where the kernel does not tell (containers, some Arm firmware): larger than any GB10 or desktop CPU's."""


def read_environment() -> Environment:
    """Describes this machine and its software. Imports torch, so it takes a second."""
    import torch

    devices = _devices()
    product = product_name()
    memory = psutil.virtual_memory()
    found = find_platform(devices[0].name if devices else None, product)
    return Environment(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        roofprobe=__version__,
        host=socket.gethostname(),
        platform=None if found is None else found.name,
        product=product,
        architecture=python_platform.machine(),
        kernel=python_platform.release(),
        cpu_model=cpu_model(),
        cpus=len(os.sched_getaffinity(0)),
        last_level_cache_bytes=last_level_cache_bytes(),
        memory_bytes=memory.total,
        memory_available_bytes=memory.available,
        python=python_platform.python_version(),
        interpreter="ROOFPROBE_PYTHON" if os.environ.get("ROOFPROBE_PYTHON") else ".venv",
        torch=str(torch.__version__),
        triton=version("triton"),
        numba=version("numba"),
        cupy=version("cupy-cuda13x") or version("cupy-cuda12x"),
        cuda=torch.version.cuda,
        driver=driver_version(),
        nccl=dotted(nccl_version()),
        devices=devices,
        variables={name: os.environ[name] for name in VARIABLES if name in os.environ},
    )


def platform_of(environment: Environment) -> Platform | None:
    """The platform file that `environment` matched."""
    return find_platform(environment.devices[0].name if environment.devices else None, environment.product)


def version(package: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def product_name(tree: Tree = _HERE) -> str | None:
    """Maker, product and product version as the firmware tells them (Lenovo names its PGX in the last only)."""
    parts = [tree.text(f"/sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name", "product_version")]
    return " ".join(part for part in parts if part) or None


def cpu_model(tree: Tree = _HERE) -> str:
    """The CPU's model name; on Arm, where /proc/cpuinfo has none, its core types by their part numbers."""
    text = tree.text("/proc/cpuinfo") or ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    if named:
        return named[1].strip()
    return " + ".join(f"{len(cpus)}x {name}" for name, cpus in core_types(tree).items()) or "unknown"


def core_types(tree: Tree = _HERE) -> dict[str, tuple[int, ...]]:
    """Arm core type -> its CPUs, as on GB10 with its ten X925 and ten A725; empty where the kernel names no parts."""
    found: dict[str, list[int]] = {}
    cpu = -1
    for line in (tree.text("/proc/cpuinfo") or "").splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "processor" and value.isdigit():
            cpu = int(value)
        elif key == "CPU part" and cpu >= 0:
            found.setdefault(ARM_PARTS.get(value.lower(), value), []).append(cpu)
    return {name: tuple(cpus) for name, cpus in sorted(found.items())}


ARM_PARTS = {"0xd85": "Cortex-X925", "0xd87": "Cortex-A725", "0xd4f": "Neoverse-V2"}
"""MIDR part numbers of Arm's cores; source: Linux, arch/arm64/include/asm/cputype.h."""


def last_level_cache_bytes(caches: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    """Size of the largest cache that CPU 0 reports."""
    sizes = []
    for size in caches.glob("index*/size"):
        found = re.fullmatch(r"(\d+)([KM])", _text(size) or "")
        if found:
            sizes.append(int(found[1]) << {"K": 10, "M": 20}[found[2]])
    return max(sizes, default=DEFAULT_LAST_LEVEL_CACHE_BYTES)


def driver_version(tree: Tree = _HERE) -> str | None:
    """The NVIDIA kernel module's version, or None without one."""
    found = re.search(r"Kernel Module(?: for \S+)?\s+(\d+\.[\d.]+)", tree.text("/proc/driver/nvidia/version") or "")
    return found[1] if found else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip() or None
    except OSError:
        return None


def _devices() -> tuple[Device, ...]:
    import torch

    if not torch.cuda.is_available():
        return ()
    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append(
            Device(
                index=index,
                name=properties.name,
                compute_capability=f"{properties.major}.{properties.minor}",
                multiprocessors=properties.multi_processor_count,
                l2_bytes=properties.L2_cache_size,
                memory_bytes=properties.total_memory,
                integrated=bool(properties.is_integrated),
            )
        )
    return tuple(found)


def nccl_version() -> tuple[int, int, int] | None:
    """Of the NCCL library that torch has loaded, which may be another than it was built with; None without a GPU."""
    import torch

    if not torch.cuda.is_available() or not torch.distributed.is_nccl_available():
        return None
    number = ctypes.c_int()
    try:
        # By this name the dynamic linker finds the library that is loaded already.
        ctypes.CDLL("libnccl.so.2").ncclGetVersion(ctypes.byref(number))
    except (OSError, AttributeError):  # torch holds it statically: then what it was built with is what it has
        major, minor, patch = torch.cuda.nccl.version()[:3]
        return int(major), int(minor), int(patch)
    return nccl_code(number.value)


def nccl_code(code: int) -> tuple[int, int, int]:
    """What ncclGetVersion returns: 2 30 03 from 2.9 on; before, when minor and patch had a digit each, 2 8 04."""
    if code >= 10000:
        return code // 10000, code // 100 % 100, code % 100
    return code // 1000, code // 100 % 10, code % 100


def dotted(version: tuple[int, int, int] | None) -> str | None:
    """``2.30.3``."""
    return None if version is None else ".".join(map(str, version))
