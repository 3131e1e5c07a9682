"""`TuningProfile` as other software uses it: ceilings, all-reduce times, machines merged, later versions' keys."""

from __future__ import annotations

import json
from pathlib import Path
import re
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from records import collective, environment, gemv, measurement, timing

from roofprobe.errors import BadInput
from roofprobe.measurement import CollectiveMeasurement, Measurement
from roofprobe.nccl_tuning import NcclCandidate, NcclRatio, NcclSetting, NcclTuning
from roofprobe.profile import TuningProfile, build_profile
from roofprobe.profile_machine import measured_link
from roofprobe.run_file import Run
from roofprobe.tuned import TunedKernel

README = Path(__file__).resolve().parent.parent / "README.md"


def profile(
    *measurements: Measurement, host: str = "spark-1", collectives: tuple[CollectiveMeasurement, ...] = ()
) -> TuningProfile:
    run = Run(
        environment=environment(host=host), measurements=measurements, collectives=collectives, skipped=(), ended=None
    )
    return build_profile(run)


def read(gb_per_s: float, spread: float = 0.0, **changes: Any) -> Measurement:
    """A read of 1 GB whose 95 % interval is `spread` to either side."""
    seconds = [1 / (gb_per_s * (1 + spread * i)) for i in (-1, -1, 0, 0, 0, 1, 1)]
    return measurement(timing=timing(seconds), **changes)


def device(**changes: Any) -> Measurement:
    return measurement(side="device", backend="triton", timing=timing([0.005] * 7), **changes)


@pytest.mark.parametrize(
    ("measurements", "kind", "side", "found"),
    [
        pytest.param((device(), measurement()), "read", None, 200.0, id="the GPU's before the host's"),
        pytest.param((measurement(),), "read", None, 100.0, id="the host's where there is no GPU"),
        pytest.param((device(), measurement(op="copy")), "copy", None, None, id="never the host's for the GPU's"),
        pytest.param((device(), measurement(op="copy")), "copy", "host", 100.0, id="the host's when asked for"),
        pytest.param((), "triad", None, None, id="not measured"),
    ],
)
def test_a_ceiling(measurements: tuple[Measurement, ...], kind: Any, side: Any, found: float | None) -> None:
    assert profile(*measurements).ceiling(kind, side) == (None if found is None else pytest.approx(found))


def test_an_unknown_kind_of_ceiling_is_an_error() -> None:
    with pytest.raises(ValueError, match="kind: expected read, copy, write, triad, got 'gemv'"):
        profile().ceiling("gemv")  # type: ignore[arg-type]


def odd_point() -> CollectiveMeasurement:
    """As `collective`, but that 32 KiB took 50 us: what was measured there, not the line."""
    points = list(collective().points)
    points[1] = msgspec.structs.replace(points[1], in_place_seconds=(50e-6,) * 5)
    return collective(points=tuple(points))


@pytest.mark.parametrize(
    ("n_bytes", "seconds"),
    [
        pytest.param(1 << 15, 50e-6, id="a measured size: its own median"),
        pytest.param(1 << 16, 20e-6 + (1 << 16) / 10e9, id="between sizes: the fit"),
        pytest.param(8, 20e-6 + 8 / 10e9, id="below all: the line continued"),
        pytest.param(1 << 30, 20e-6 + (1 << 30) / 10e9, id="above all: the line continued"),
    ],
)
def test_an_all_reduce(n_bytes: int, seconds: float) -> None:
    found = profile(collectives=(odd_point(),))
    assert found.all_reduce_seconds(n_bytes, 2) == pytest.approx(seconds)
    link = measured_link(found.collectives[0], n_bytes, 2)
    assert link.latency.mid + link.bandwidth == pytest.approx(seconds), "predictions take the same time"


def test_without_a_fit_the_points_bound_the_time() -> None:
    found = profile(collectives=(collective(fit=()),))
    assert found.all_reduce_seconds(2000, 2) == pytest.approx(20e-6 + (1 << 15) / 10e9)
    largest = 20e-6 + (1 << 25) / 10e9
    assert found.all_reduce_seconds(1 << 27, 2) == pytest.approx(4 * largest)


def test_the_transport_is_chosen_between_hosts_first_or_by_name() -> None:
    roce = collective(
        backend="nccl", transport="NCCL, NET/IB, 2 ranks on 2 hosts", points=(),
        fit=(msgspec.structs.replace(collective().fit[0], alpha_us=30.0),),
    )  # fmt: skip
    found = profile(collectives=(collective(), roce))
    assert found.all_reduce_seconds(1 << 12, 2) == pytest.approx(30e-6 + (1 << 12) / 10e9)
    assert found.all_reduce_seconds(1 << 12, 2, transport="loopback") == pytest.approx(20e-6 + (1 << 12) / 10e9)
    assert found.all_reduce_seconds(1 << 12, 2, transport="NET/Socket") is None
    assert found.all_reduce_seconds(1 << 12, 3) is None
    assert profile(collectives=(collective(op="all_gather"),)).all_reduce_seconds(8, 2) is None
    with pytest.raises(ValueError, match="at least 1 byte and 1 rank, got 0 bytes"):
        found.all_reduce_seconds(0, 2)


def test_merged_machines_have_the_slowest_ones_figures_and_say_where_they_differ() -> None:
    one = profile(read(230.0, 0.01), gemv())
    two = profile(read(200.0, 0.01), measurement(op="copy"), host="spark-2")
    both = one.merge(two)
    assert both == TuningProfile.merge(one, two)
    assert both.ceiling("read") == pytest.approx(200.0)
    assert both.ceiling("copy") == pytest.approx(100.0)
    assert both.kernels == one.kernels
    assert [host.host for host in both.hosts] == ["spark-1", "spark-2"]
    (conflict,) = both.conflicts
    assert conflict.field == "ceilings.host.read.gb_per_s"
    assert conflict.values == {"spark-1": pytest.approx(230.0), "spark-2": pytest.approx(200.0)}
    assert "200 GB/s, the slowest machine's" in conflict.kept


def test_machines_whose_intervals_meet_do_not_disagree() -> None:
    both = profile(read(230.0, 0.02)).merge(profile(read(228.0, 0.02), host="spark-2"))
    assert both.ceiling("read") == pytest.approx(228.0)
    assert both.conflicts == ()


def test_a_disturbed_reading_does_not_stand_for_a_machine() -> None:
    disturbed = timing([0.02] * 7, rejected=dict.fromkeys(range(7), "busy"))
    both = profile(read(200.0)).merge(profile(measurement(timing=disturbed), host="spark-2"))
    assert both.ceiling("read") == pytest.approx(200.0)


def test_a_collective_that_every_machine_measured_alike_is_kept_once() -> None:
    slower = tuple(
        msgspec.structs.replace(point, in_place_seconds=tuple(1.08 * s for s in point.in_place_seconds))
        for point in collective().points
    )
    one = profile(collectives=(collective(),))
    three = profile(host="spark-3", collectives=(collective(world_size=3),))
    both = one.merge(profile(host="spark-2", collectives=(collective(points=slower),)), three)
    assert both.collectives == one.collectives + three.collectives
    assert both.conflicts == ()


def test_a_collective_on_which_machines_disagree_is_named_and_the_slower_stands() -> None:
    points = list(collective().points)
    points[1] = msgspec.structs.replace(points[1], in_place_seconds=(50e-6,) * 5)
    one = profile(collectives=(collective(),))
    two = profile(host="spark-2", collectives=(collective(points=tuple(points)),))
    for both in (one.merge(two), two.merge(one)):
        assert both.all_reduce_seconds(1 << 15, 2) == pytest.approx(50e-6)
        (conflict,) = both.conflicts
        assert conflict.field.startswith("collectives: all_reduce, 2 ranks, ")
        assert conflict.field.endswith(f"seconds at {1 << 15} bytes")
        assert conflict.values == {"spark-1": pytest.approx(23.2768e-6), "spark-2": pytest.approx(50e-6)}


def tuned(threads: int, **changes: Any) -> TunedKernel:
    fields: dict[str, Any] = {
        "op": "gemv", "format": "bf16", "n": 64, "k": 64, "side": "host", "backend": "host",
        "config": {"threads": threads}, "default": {"threads": 2}, "keep_default": False, "speedup": 1.1,
        "interval": (1.05, 1.15), "margin": 0.01, "seconds": 1e-3, "bytes": 8192, "tried": 9, "created": "now",
        "kernels": "0123456789abcdef",
    }  # fmt: skip
    return TunedKernel(**{**fields, **changes})


def test_the_default_stands_where_machines_were_tuned_to_different_configurations() -> None:
    one, two = profile(), profile(host="spark-2")
    one = msgspec.structs.replace(one, tuned=(tuned(1), tuned(1, k=128)))
    same = one.merge(msgspec.structs.replace(two, tuned=(tuned(1), tuned(4, n=512))))
    assert same.conflicts == () and len(same.tuned) == 3
    assert same.kernel_config("gemv", "bf16", 64, 64, side="host") == {"threads": 1}
    both = one.merge(msgspec.structs.replace(two, tuned=(tuned(4),)))
    assert both.kernel_config("gemv", "bf16", 64, 64, side="host") is None
    (conflict,) = both.conflicts
    assert conflict.field == "tuned: host gemv bf16 64x64 b1: config"
    assert conflict.values == {"spark-1": {"threads": 1}, "spark-2": {"threads": 4}}


def test_of_two_nccl_tunings_the_latest_stands() -> None:
    ring = NcclSetting(algorithm="ring")

    def with_nccl(host: str, created: str, everywhere: NcclSetting | None) -> TuningProfile:
        ratio = NcclRatio(bytes=1024, ratio=0.8, interval=(0.79, 0.81))
        tried = NcclCandidate(setting=ring, rounds=8, ratios=(ratio,))
        found = NcclTuning(
            world_size=2, nodes=2, transport="NET/IB", nccl=None, created=created, candidates=(tried,),
            everywhere=everywhere, bands=(),
        )  # fmt: skip
        return msgspec.structs.replace(profile(host=host), nccl=(found,))

    both = with_nccl("spark-1", "2026-02-02", ring).merge(with_nccl("spark-2", "2026-02-01", None))
    assert [t.everywhere for t in both.nccl] == [ring]
    assert both.conflicts[0].values == {"spark-1": "NCCL_ALGO=allreduce:ring", "spark-2": "the defaults"}


def test_machines_that_are_not_alike_are_no_cluster() -> None:
    other = msgspec.structs.replace(profile(), environment=environment(host="mac", cpu_model="another CPU"))
    with pytest.raises(BadInput, match=r"environment\.cpu_model: spark-1 has 'test CPU', mac has 'another CPU'"):
        profile().merge(other)


def test_machines_of_one_name_are_told_apart_and_a_merged_profile_merges_again(tmp_path: Path) -> None:
    pair = profile(read(230.0)).merge(profile(read(200.0)))
    assert pair.conflicts[0].values.keys() == {"spark-1", "spark-1#2"}
    three = pair.merge(profile(read(210.0), host="spark-3"))
    assert [host.host for host in three.hosts] == ["spark-1", "spark-1", "spark-3"]
    assert three.ceiling("read") == pytest.approx(200.0)
    three.save(tmp_path / "cluster.json")
    assert TuningProfile.load(tmp_path / "cluster.json") == three


LATER: dict[str, Any] = {
    "power": {"watts": 140},
    "unknown": "a later version's key of this name",
    "environment.firmware": "1.2",
    "ceilings.host.read.joules": [1, 2],
    "kernels.0.energy": {"joules": 3},
    "collectives.0.points.1.retries": 4,
}
"""Places of a document with what a later version of the same schema might hold there."""


def place(document: Any, path: str) -> tuple[Any, str]:
    *keys, last = path.split(".")
    for key in keys:
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document, last


def test_unknown_keys_are_kept_wherever_they_are(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    profile(measurement(), gemv(), collectives=(collective(),)).save(path)
    document = json.loads(path.read_text())
    for where, value in LATER.items():
        inner, key = place(document, where)
        inner[key] = value
    path.write_text(json.dumps(document))
    loaded = TuningProfile.load(path)
    loaded.save(path)
    assert json.loads(path.read_text()) == document
    assert TuningProfile.load(path) == loaded


def test_unknown_keys_of_an_entry_go_with_it_and_never_to_another(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    msgspec.structs.replace(profile(), tuned=(tuned(1), tuned(1, n=128), tuned(1, n=256))).save(path)
    document = json.loads(path.read_text())
    for entry in document["tuned"]:
        entry["watts"] = entry["n"]
    path.write_text(json.dumps(document))
    first, second, third = (loaded := TuningProfile.load(path)).tuned
    changed = msgspec.structs.replace(second, seconds=2.0)
    msgspec.structs.replace(loaded, tuned=(tuned(1, n=512), third, changed, first)).save(path)
    entries = json.loads(path.read_text())["tuned"]
    assert [(entry["n"], entry.get("watts")) for entry in entries] == [(512, None), (256, 256), (128, None), (64, 64)]


def test_unknown_keys_of_endless_depth_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    profile().save(path)
    path.write_text(f'{path.read_text().rstrip()[:-1]}, "deep": {"[" * 100_000}{"]" * 100_000}}}')
    with pytest.raises(BadInput, match="nested far deeper than any profile"):
        TuningProfile.load(path)


def test_a_merge_keeps_unknown_keys_and_names_those_that_differ() -> None:
    one, two = (
        msgspec.structs.replace(profile(host=host), unknown=unknown)
        for host, unknown in (("spark-1", {"a": 1, "b": 2}), ("spark-2", {"b": 3, "c": 4}))
    )
    both = one.merge(two)
    assert both.unknown == {"a": 1, "b": 2, "c": 4}
    assert [(c.field, c.values) for c in both.conflicts] == [("unknown keys: b", {"spark-1": 2, "spark-2": 3})]


def test_the_readmes_example_runs(tmp_path: Path) -> None:
    (example,) = (
        block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "TuningProfile" in block
    )
    for host in ("spark-1", "spark-2"):
        path = tmp_path / f"{host}.json"
        profile(device(), host=host, collectives=(collective(),)).save(path)
    (tmp_path / "example.py").write_text(example + "print(read, seconds, config)\n")
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    read, seconds, config = done.stdout.splitlines()[-1].split()
    assert float(read) == pytest.approx(200.0)
    assert float(seconds) == pytest.approx(20e-6 + 5760 / 10e9)
    assert config == "None"
    assert TuningProfile.load(tmp_path / "cluster.json").hosts[1].host == "spark-2"
