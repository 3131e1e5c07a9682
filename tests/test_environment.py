"""Facts about a machine, read from recorded files: a DGX Spark has neither a model name nor CUDA here."""

from pathlib import Path

import pytest

from roofprobe.environment import (
    DEFAULT_LAST_LEVEL_CACHE_BYTES,
    VARIABLES,
    core_types,
    cpu_model,
    driver_version,
    last_level_cache_bytes,
    product_name,
    read_environment,
)
from roofprobe.tree import FolderTree


def test_only_listed_variables_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCCL_IB_HCA", "rocep1s0f0,roceP2p1s0f0")
    monkeypatch.setenv("HF_TOKEN", "a secret")
    monkeypatch.setenv("NCCL_SECRET", "another")
    recorded = read_environment().variables
    assert recorded["NCCL_IB_HCA"] == "rocep1s0f0,roceP2p1s0f0"
    assert set(recorded) <= set(VARIABLES)


def test_interpreter_says_whose_environment_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOFPROBE_PYTHON", "/opt/venv/bin/python")
    assert read_environment().interpreter == "ROOFPROBE_PYTHON"
    monkeypatch.delenv("ROOFPROBE_PYTHON")
    assert read_environment().interpreter == ".venv"


def mirror(root: Path, files: dict[str, str]) -> FolderTree:
    """A folder that mirrors a machine: path under the root -> text."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return FolderTree(root)


def test_product_joins_what_the_firmware_tells(tmp_path: Path) -> None:
    dmi = {"sys_vendor": "LENOVO\n", "product_name": "30KL0005GF\n", "product_version": "ThinkStationPGX\n"}
    tree = mirror(tmp_path, {f"sys/class/dmi/id/{name}": text for name, text in dmi.items()})
    assert product_name(tree) == "LENOVO 30KL0005GF ThinkStationPGX"
    assert product_name(FolderTree(tmp_path / "none")) is None


def test_arm_cores_are_named_by_their_part_numbers(tmp_path: Path) -> None:
    cores = "\n".join(f"processor\t: {i}\nCPU part\t: {part}\n" for i, part in enumerate(["0xd87", "0xd85", "0xd85"]))
    tree = mirror(tmp_path, {"proc/cpuinfo": cores})
    assert cpu_model(tree) == "1x Cortex-A725 + 2x Cortex-X925"
    assert core_types(tree) == {"Cortex-A725": (0,), "Cortex-X925": (1, 2)}


def test_x86_has_a_model_name(tmp_path: Path) -> None:
    tree = mirror(tmp_path, {"proc/cpuinfo": "processor\t: 0\nmodel name\t: AMD EPYC 9B14\n"})
    assert cpu_model(tree) == "AMD EPYC 9B14"
    assert core_types(tree) == {}
    assert cpu_model(FolderTree(tmp_path / "none")) == "unknown"


def test_last_level_cache_is_the_largest(tmp_path: Path) -> None:
    for index, size in enumerate(["32K", "1024K", "32M", "junk"]):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(size + "\n")
    assert last_level_cache_bytes(tmp_path) == 32 << 20
    assert last_level_cache_bytes(tmp_path / "none") == DEFAULT_LAST_LEVEL_CACHE_BYTES


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.95.05  Release Build\n", "580.95.05"),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.124.06  Wed Feb\n", "570.124.06"),
        ("junk", None),
    ],
)
def test_driver_version_in_both_spellings(tmp_path: Path, text: str, driver: str | None) -> None:
    assert driver_version(mirror(tmp_path, {"proc/driver/nvidia/version": text})) == driver
