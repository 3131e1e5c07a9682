"""Kinds of memory without a GPU, and with a CuPy that is played: what is measured, what is skipped, what is freed."""

from __future__ import annotations

from dataclasses import replace
from importlib.machinery import ModuleSpec
import json
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from records import environment
import torch

from roofprobe.kernels.host_threads import HostConfig
from roofprobe.measurement import Device, Environment, Measurement, Skipped
from roofprobe.probes import memory_blocks
from roofprobe.probes.memory_kinds import NO_HOST_ADDRESS, NOT_PAGEABLE, main, probe_kinds
from roofprobe.probes.sides import find_sides

MIB = 1 << 20
KINDS = ("device", "pinned", "managed", "pageable")


class CUDARuntimeError(RuntimeError):
    """As CuPy's."""


class FakeMemory:
    """What CuPy's memory classes share: `ptr`, and memory that lives as long as the object."""

    alive: list[int] = []  # noqa: RUF012 - counted over all objects
    most = 0

    def __init__(self, n_bytes: int) -> None:
        self._array = np.zeros(n_bytes + 64, dtype=np.uint8)
        self.ptr = self._array.ctypes.data + -self._array.ctypes.data % 64
        FakeMemory.alive.append(n_bytes)
        FakeMemory.most = max(FakeMemory.most, len(FakeMemory.alive))

    def __del__(self) -> None:
        FakeMemory.alive.pop()


class Played:
    """A machine with a GPU that the CPU plays, and CuPy's surface as far as the probe uses it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, integrated: bool = True, pageable: int = 1) -> None:
        FakeMemory.alive, FakeMemory.most = [], 0
        self.cupy = ModuleType("cupy")
        self.cupy.__spec__ = ModuleSpec("cupy", None)
        asked = {"cudaDevAttrPageableMemoryAccess": 88}
        runtime = SimpleNamespace(**asked, deviceGetAttribute=lambda attribute, _: {88: pageable}[attribute])
        memory = {"Memory": FakeMemory, "PinnedMemory": FakeMemory, "ManagedMemory": FakeMemory}
        self.cuda: Any = ModuleType("cupy.cuda")
        self.cuda.runtime = runtime
        for name, value in memory.items():
            setattr(self.cuda, name, value)
        self.cupy.cuda = self.cuda  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "cupy", self.cupy)
        monkeypatch.setitem(sys.modules, "cupy.cuda", self.cuda)
        described = Device(
            index=0,
            name="a CPU that plays a GPU",
            compute_capability="12.1",
            multiprocessors=48,
            l2_bytes=MIB,
            memory_bytes=1 << 30,
            integrated=integrated,
        )
        self.environment: Environment = environment(devices=(described,))
        (self.host,), _ = find_sides(environment(), "host", 48 * MIB)
        self.device = replace(self.host, side="device", memory="played", nominal_gb_per_s=1e6)
        monkeypatch.setattr("torch.cuda.synchronize", lambda: None)
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (1 << 30, 1 << 30))
        monkeypatch.setattr(memory_blocks, "_device_view", lambda m, n: memory_blocks._host_view(m.ptr, n))
        monkeypatch.setattr("roofprobe.kernels.stream_cupy.partials_of", lambda _: 64)
        monkeypatch.setattr("roofprobe.kernels.stream_cupy.read_at", self.read_at)

    def read_at(self, address: int, n: int, out: torch.Tensor) -> torch.Tensor:
        from roofprobe.kernels import stream

        return stream.read(memory_blocks._host_view(address, 4 * n), out=out, config=HostConfig())

    def measured(self) -> tuple[dict[tuple[str, str], Measurement], dict[str, str]]:
        """(kind, side) -> its measurement, and each skipped case's reason."""
        found: list[Measurement | Skipped] = []
        probe_kinds(self.environment, [self.device, self.host], {}, 0.02, lambda _: None, found.append)
        rows = {(m.format, m.side): m for m in found if isinstance(m, Measurement)}
        skipped = {s.case: s.reason for s in found if isinstance(s, Skipped)}
        assert len(rows) + len(skipped) == len(found) == 2 * len(KINDS), "every kind and side, once"
        return rows, skipped


def case(kind: str, side: str) -> str:
    return f"{kind} memory read by the {side} side"


EVERY = {(kind, side) for kind in KINDS for side in ("device", "host")} - {("device", "host")}


def test_every_kind_is_read_from_both_sides_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, skipped = Played(monkeypatch).measured()
    assert set(rows) == EVERY and skipped == {case("device", "host"): NO_HOST_ADDRESS}
    for (_, side), m in rows.items():
        assert m.probe == "memory-kinds" and m.op == "read" and m.wrong == 0
        assert m.useful_bytes == 4 * m.n == 16 * MIB and m.gb_per_s > 0
        assert m.backend == ("cupy" if side == "device" else "host")
        assert m.nominal_gb_per_s == (1e6 if side == "device" else None)


def test_a_kind_is_freed_before_the_next_is_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    Played(monkeypatch).measured()
    assert FakeMemory.most == 1 and FakeMemory.alive == []


def test_over_the_bus_there_is_no_ceiling_of_the_cards_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = Played(monkeypatch, integrated=False).measured()
    nominal = {kind: rows[kind, "device"].nominal_gb_per_s for kind in KINDS}
    assert nominal == {"device": 1e6, "managed": 1e6, "pinned": None, "pageable": None}


@pytest.mark.parametrize(
    ("kind", "name"), [("device", "Memory"), ("pinned", "PinnedMemory"), ("managed", "ManagedMemory")]
)
def test_an_unsupported_kind_is_skipped_with_the_error_it_gave(
    kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: int) -> Any:
        raise CUDARuntimeError("cudaErrorNotSupported: operation not supported")

    played = Played(monkeypatch)
    setattr(played.cuda, name, refused)
    rows, skipped = played.measured()
    assert set(rows) == {each for each in EVERY if each[0] != kind}
    said = "CUDARuntimeError: cudaErrorNotSupported: operation not supported"
    assert {skipped[case(kind, side)] for side in ("device", "host")} == {said}


def test_pageable_memory_that_the_gpu_cannot_reach_is_never_given_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, skipped = Played(monkeypatch, pageable=0).measured()
    assert set(rows) == EVERY - {("pageable", "device")} and skipped[case("pageable", "device")] == NOT_PAGEABLE


def test_an_attribute_that_cannot_be_asked_for_costs_the_gpus_read_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch)
    del played.cuda.runtime.cudaDevAttrPageableMemoryAccess
    rows, skipped = played.measured()
    assert set(rows) == EVERY - {("pageable", "device")}
    assert "AttributeError" in skipped[case("pageable", "device")]


def test_a_kernel_that_fails_costs_the_gpus_reads_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise CUDARuntimeError("cudaErrorIllegalAddress")

    played = Played(monkeypatch)
    monkeypatch.setattr("roofprobe.kernels.stream_cupy.read_at", fails)
    rows, skipped = played.measured()
    assert set(rows) == {each for each in EVERY if each[1] == "host"}
    assert all("cudaErrorIllegalAddress" in skipped[case(kind, "device")] for kind in KINDS)


def test_a_read_that_misses_a_part_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch)
    whole = played.read_at
    monkeypatch.setattr("roofprobe.kernels.stream_cupy.read_at", lambda address, n, out: whole(address, n - 64, out))
    rows, _ = played.measured()
    assert {key for key, m in rows.items() if m.wrong} == {each for each in EVERY if each[1] == "device"}


def test_never_more_than_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch)
    monkeypatch.setattr(memory_blocks, "free_bytes", lambda _: 15 * MIB)
    monkeypatch.setattr(memory_blocks, "_allocate", lambda *_: pytest.fail("allocated more than is free"))
    rows, skipped = played.measured()
    assert not rows
    assert set(skipped.values()) == {"MemoryError: 16.00 MiB needed, 15.00 MiB free"}


def test_free_is_what_both_memories_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a chip that shares the CPU's memory the driver's own figure, which counts page cache as used, is not asked."""
    own = Played(monkeypatch, integrated=False).environment
    shared = Played(monkeypatch, integrated=True).environment
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=5000))
    for free, expected in ((3000, 3000), (9000, 5000)):
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda _, free=free: (free, 10_000))
        assert memory_blocks.free_bytes(own) == expected
        assert memory_blocks.free_bytes(shared) == 5000
    assert memory_blocks.free_bytes(environment()) == 5000


def test_without_cupy_ordinary_memory_is_still_read_by_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch)
    monkeypatch.setattr("roofprobe.probes.memory_kinds.find_spec", lambda _: None)
    rows, skipped = played.measured()
    assert set(rows) == {("pageable", "host")}
    assert all("CuPy is not installed" in reason for reason in skipped.values())


def test_without_a_gpu_the_status_is_3_and_every_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("roofprobe.environment.read_environment", environment)
    assert main(["--seconds", "0.05", "--memory", "48M", "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert [(m["format"], m["side"], m["wrong"]) for m in document["measurements"]] == [("pageable", "host", 0)]
    assert len(document["skipped"]) == 7
    assert {s["reason"] for s in document["skipped"]} == {"torch finds no CUDA device"}


@pytest.mark.parametrize(
    ("address", "n"), [(0x1008, 64), (0x1000, 63), (0x1000, 0)], ids=["misaligned", "odd length", "nothing"]
)
def test_an_address_that_the_kernel_cannot_take_is_refused(address: int, n: int) -> None:
    from roofprobe.kernels import stream_cupy

    with pytest.raises(ValueError, match="16-byte alignment and a multiple of 4"):
        stream_cupy.read_at(address, n, torch.zeros(64, dtype=torch.int32))


@pytest.mark.gpu
def test_on_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cupy")
    assert main(["--seconds", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    by_gpu = {m["format"] for m in document["measurements"] if m["side"] == "device"}
    assert by_gpu >= {"device", "pinned"} and all(m["wrong"] == 0 for m in document["measurements"])
