"""This machine's software as the doctor asks for it: each answer by itself, nothing loaded, nothing waited for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import sys
from time import monotonic
from types import SimpleNamespace

import pytest

from roofprobe.doctor import live_software as module
from roofprobe.doctor.live_software import loaded_nccl, read_software, triton_ptxas
from roofprobe.doctor.software import read_told
from roofprobe.tree import FolderTree

VERSION = "Cuda compilation tools, release {}, V{}.86"


def library(folder: Path, version: str) -> Path:
    """What NCCL's library holds around its version, as in 2.32's wheel."""
    folder.mkdir(parents=True)
    (folder / "libnccl.so.2").write_bytes(
        b"\x7fELF" + bytes(5000) + f"NCCL version {version}+cuda13.4\0NCCL_".encode() + bytes(5000)
    )
    return folder


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replaces the installed packages' folders by one of the test's own, or by none."""

    def install(*folders: str) -> None:
        def package(name: str, folder: str) -> Path | None:
            return tmp_path / name / folder if f"{name}/{folder}" in folders else None

        monkeypatch.setattr(module, "_package", package)

    install()
    return install


def test_nccl_is_the_one_that_the_linker_would_take(tmp_path: Path, packages: Callable[..., None]) -> None:
    preloaded, searched = library(tmp_path / "p", "2.30.7"), library(tmp_path / "s", "2.21.5")
    library(tmp_path / "nvidia" / "nccl" / "lib", "2.28.9")
    path = {"LD_LIBRARY_PATH": f"/none:{searched}"}
    assert loaded_nccl(path) == "2.21.5"
    packages("nvidia/nccl/lib")
    assert loaded_nccl(path) == "2.28.9", "torch's RPATH goes before LD_LIBRARY_PATH"
    assert loaded_nccl({**path, "LD_PRELOAD": f"/lib/a.so:{preloaded}/libnccl.so.2"}) == "2.30.7"


@pytest.mark.parametrize("content", [b"", b"NCCL version unknown", None], ids=["empty", "without one", "missing"])
@pytest.mark.usefixtures("packages")
def test_an_unusable_library_is_no_version(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "libnccl.so.2").write_bytes(content)
    assert loaded_nccl({"LD_PRELOAD": str(tmp_path / "libnccl.so.2")}) in (None, loaded_nccl({}))


def tool(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def says(version: str) -> str:
    return f"echo '{VERSION.format(version, version)}'"


def test_ptxas_is_the_one_that_triton_would_run(tmp_path: Path, packages: Callable[..., None]) -> None:
    bin_ = "triton/backends/nvidia/bin"
    tool(tmp_path / bin_ / "ptxas", says("12.8"))
    other = str(tool(tmp_path / "other", says("13.0")))
    packages(bin_)
    assert triton_ptxas({}) == "12.8.86"
    assert triton_ptxas({"TRITON_PTXAS_PATH": other}) == "13.0.86"
    assert triton_ptxas({"TRITON_PTXAS_PATH": "/none"}) == "12.8.86", "as Triton falls back"
    tool(tmp_path / bin_ / "ptxas-blackwell", says("12.9"))
    assert triton_ptxas({"TRITON_PTXAS_PATH": other}) == "12.9.86", "which no longer counts"
    assert triton_ptxas({"TRITON_PTXAS_BLACKWELL_PATH": other}) == "13.0.86"


def test_a_ptxas_that_hangs_is_given_up(
    tmp_path: Path, packages: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    packages()
    monkeypatch.setattr(module, "PTXAS_SECONDS", 0.2)
    began = monotonic()
    assert triton_ptxas({"TRITON_PTXAS_PATH": str(tool(tmp_path / "ptxas", "exec sleep 60"))}) is None
    assert monotonic() - began < 30


@pytest.mark.usefixtures("packages")
def test_what_nvml_does_not_support_leaves_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NVMLError(Exception):
        pass

    def unsupported(*_: object) -> None:
        raise NVMLError("Not Supported")

    fake = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda _: b"NVIDIA GB10",
        nvmlSystemGetDriverVersion=unsupported,
        nvmlSystemGetCudaDriverVersion_v2=lambda: 13010,
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    found = read_software(FolderTree(tmp_path))
    assert (found.gpu, found.driver, found.cuda) == ("NVIDIA GB10", None, "13.1")
    fake.nvmlInit = unsupported
    found = read_software(FolderTree(tmp_path))
    assert (found.gpu, found.driver, found.cuda) == (None, None, None)


def test_a_version_may_be_written_as_a_number(tmp_path: Path) -> None:
    (tmp_path / "software.json").write_text('{"gpu": "NVIDIA GB10", "cuda": 13.0, "ptxas": 12.8, "nccl_loaded": 22803}')
    software = read_told(tmp_path, FolderTree(tmp_path)).software
    assert (software.cuda, software.ptxas, software.nccl_loaded) == ("13.0", "12.8", "2.28.3")
