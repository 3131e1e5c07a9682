"""What every test runs under: settings that must stand before the libraries load, and skips for what can't run here."""

from collections.abc import Callable, Iterator
import os
from pathlib import Path
import shutil
import signal

from hypothesis import settings
import pytest

from roofprobe.errors import CannotMeasure


def why_no_gpu() -> str:
    """By device nodes: asking torch costs a second, and Triton's interpreter has to be chosen before Triton loads."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides every GPU"
    found = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()
    return "" if found else "no NVIDIA GPU: neither /dev/nvidia* nor /dev/dxg"


def why_no_netns() -> str:
    from netlab_access import close_access, open_access

    lab = f"try{os.getpid()}"
    try:
        open_access(lab)
    except CannotMeasure as error:
        return str(error)
    close_access(lab)
    return ""


def why_no_browser() -> str:
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


REQUIREMENTS: dict[str, Callable[[], str]] = {"gpu": why_no_gpu, "netns": why_no_netns, "browser": why_no_browser}


if why_no_gpu():
    os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["ROOFPROBE_HISTORY"] = ""  # a test's run is no part of this machine's history
# A shell starts what it puts in the background without SIGINT, and children inherit that: tests of Ctrl-C would wait.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("shared machine", deadline=None)  # how long an example takes says nothing about the code
settings.load_profile("shared machine")


@pytest.fixture(scope="session")
def ptx_compiler() -> Iterator[Callable[..., str]]:
    """Compiles kernels to PTX in one process of its own."""
    from ptx_kernel import compiler

    with compiler() as compile_job:
        yield compile_job


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for marker, why_not in REQUIREMENTS.items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        reason = why_not() if marked else ""
        for item in marked if reason else ():
            item.add_marker(pytest.mark.skip(reason=reason))
