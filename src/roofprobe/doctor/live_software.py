"""Which software this machine runs, asked without loading any of it.

Importing torch would take a second or more and initialise what is being looked at, so versions come from the packages'
metadata, and NCCL's from the library file that torch would load.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
import mmap
import os
from pathlib import Path
import re
import subprocess

from roofprobe.doctor.host import Software
from roofprobe.doctor.software import completed
from roofprobe.environment import version
from roofprobe.files import open_regular
from roofprobe.tree import Tree

PTXAS_SECONDS = 2.0
_NCCL_VERSION = re.compile(rb"NCCL version ([0-9]{1,2}\.[0-9]{1,3}\.[0-9]{1,3})")


def read_software(tree: Tree) -> Software:
    """Of this machine. What can't be had is None."""
    return completed(
        Software(
            **_nvml(),
            torch=version("torch"),
            triton=version("triton"),
            ptxas=triton_ptxas(os.environ),
            nccl_loaded=loaded_nccl(os.environ),
        ),
        tree,
    )


def _nvml() -> dict[str, str]:
    """The GPU's name, the driver's version and the CUDA that it supports, each where NVML says so."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    found = {}
    for name, ask in (
        ("gpu", lambda: pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0))),
        ("driver", pynvml.nvmlSystemGetDriverVersion),
        ("cuda", lambda: _cuda(pynvml.nvmlSystemGetCudaDriverVersion_v2())),
    ):
        try:
            told = ask()
        except pynvml.NVMLError:
            continue
        found[name] = told.decode(errors="replace") if isinstance(told, bytes) else str(told)
    return found


def _cuda(code: int) -> str:
    """13000 -> ``13.0``."""
    return f"{code // 1000}.{code % 1000 // 10}"


def triton_ptxas(environment: Mapping[str, str]) -> str | None:
    """The version of the ptxas that Triton would run on GB10: the first of its places where one answers.

    Releases that ship a ptxas-blackwell use that one from compute capability 10 on, and then TRITON_PTXAS_PATH does
    not count; see triton/knobs.py.
    """
    tools = _package("triton", "backends/nvidia/bin")
    blackwell = tools / "ptxas-blackwell" if tools else None
    has_blackwell = blackwell is not None and blackwell.exists()
    variable = "TRITON_PTXAS_BLACKWELL_PATH" if has_blackwell else "TRITON_PTXAS_PATH"
    shipped = blackwell if has_blackwell else tools / "ptxas" if tools else None
    for path in (environment.get(variable), shipped):
        if path:
            found = _ptxas_version(path)
            if found:
                return found
    return None


def _ptxas_version(path: str | Path) -> str | None:
    try:
        done = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=PTXAS_SECONDS, check=False
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    found = re.search(rb"release \d+\.\d+, V(\d+\.\d+\.\d+)", done.stdout)
    return found[1].decode() if found else None


def loaded_nccl(environment: Mapping[str, str]) -> str | None:
    """The version in the file of the NCCL that torch would load.

    It is read, not loaded: a library that is broken, or not meant for this machine, must not end the doctor.
    """
    for path in _nccl_places(environment):
        try:
            with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as library:
                found = _NCCL_VERSION.search(library)
                if found:
                    return found[1].decode()
        except (OSError, ValueError):
            continue
    return None


def _nccl_places(environment: Mapping[str, str]) -> Iterator[Path]:
    """In the dynamic linker's order: preloaded, beside torch (an RPATH), LD_LIBRARY_PATH, the system's folders."""
    for path in re.split(r"[ :]+", environment.get("LD_PRELOAD", "")):
        if "libnccl.so" in path:
            yield Path(path)
    wheel = _package("nvidia", "nccl/lib")
    if wheel:
        yield wheel / "libnccl.so.2"
    for folder in environment.get("LD_LIBRARY_PATH", "").split(":"):
        if folder:
            yield Path(folder) / "libnccl.so.2"
    for folder in ("/usr/local/lib", f"/usr/lib/{os.uname().machine}-linux-gnu", "/lib64", "/usr/lib64", "/usr/lib"):
        yield Path(folder) / "libnccl.so.2"


def _package(name: str, folder: str) -> Path | None:
    """A folder inside an installed package, found without importing it."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    places = (Path(place) / folder for place in (spec and spec.submodule_search_locations) or ())
    return next((place for place in places if place.is_dir()), None)
