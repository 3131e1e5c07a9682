"""Every fault of a link is named, and a link that was not measured never passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import acceptance_folders as folders
from acceptance_judging import judged, verdict
from msgspec.structs import replace
import pytest

from roofprobe.measurement import CollectiveMeasurement
from roofprobe.run_file import Run


def cluster(change: Callable[[CollectiveMeasurement], CollectiveMeasurement], op: str | None = None) -> Run:
    run = folders.pair_run()
    return replace(run, collectives=tuple(change(c) if op in (None, c.op) else c for c in run.collectives))


SOCKETS = "NCCL, sockets over enp1s0f0np0, 2 ranks on 2 hosts"
ONE_HALF = "NCCL, RoCE over rocep1s0f0, 2 ranks on 2 hosts"


@pytest.mark.parametrize(
    ("run", "name", "id_"),
    [
        (cluster(lambda c: replace(c, transport=SOCKETS)), "link-rdma", "link.socket-fallback"),
        (cluster(lambda c: replace(c, transport=ONE_HALF)), "link-halves", "link.one-half"),
        (folders.gb10_run([folders.pair("all_gather", busbw=12.0)]), "all-gather-busbw", "link.nic-slow"),
        (folders.gb10_run([folders.pair("all_reduce", busbw=3.0)]), "all-reduce-busbw", "link.nic-slow"),
        (folders.gb10_run([folders.pair("all_reduce", alpha_us=90)]), "all-reduce-small", "link.slow-small-messages"),
        (
            cluster(lambda c: replace(c, points=(replace(c.points[0], wrong=2), *c.points[1:]))),
            "collectives-correct",
            "collective.wrong",
        ),
    ],
    ids=["sockets", "one half", "slow gather", "slow reduce", "slow small messages", "wrong elements"],
)
def test_a_faulty_link_is_named(tmp_path: Path, run: Run, name: str, id_: str) -> None:
    acceptance = judged(run, tmp_path, nodes=2)
    assert verdict(acceptance, name).verdict == "FAIL" and acceptance.exit_status == 1
    assert [f.id for f in verdict(acceptance, name).faults] == [id_]


def test_the_doctors_link_fault_explains_a_slow_link(tmp_path: Path) -> None:
    fault = {"id": "link.port-slow", "severity": "fault", "host": "spark-2", "evidence": "100G", "remedy": "200G"}
    run = folders.gb10_run([folders.pair("all_gather", busbw=12.0)])
    acceptance = judged(run, tmp_path, nodes=2, faults=[fault])
    assert [f.id for f in verdict(acceptance, "all-gather-busbw").faults] == ["link.port-slow"]
    assert [f.id for f in acceptance.faults].count("link.port-slow") == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda c: replace(c, backend="gloo", transport="sockets over eth0, 2 ranks on 2 hosts"),
        lambda c: replace(c, transport="gloo over loopback, 2 ranks on this host"),
        lambda c: replace(c, transport=folders.ROCE + ", path not proven"),
        lambda c: replace(c, points=tuple(replace(p, wrong=None) for p in c.points)),
        lambda c: replace(c, points=c.points[:4]),
    ],
    ids=["gloo", "loopback", "not proven", "unchecked", "small messages only"],
)
def test_a_link_that_was_not_measured_never_passes(
    tmp_path: Path, change: Callable[[CollectiveMeasurement], CollectiveMeasurement]
) -> None:
    acceptance = judged(cluster(change), tmp_path, nodes=2)
    link = [c for c in acceptance.checks if c.check.startswith(("link-", "all-", "collectives-"))]
    assert any(c.verdict in ("INCONCLUSIVE", "SKIP") for c in link) and acceptance.exit_status == 3


def test_a_pair_measured_alone_says_how_to_measure_the_link(tmp_path: Path) -> None:
    acceptance = judged(folders.gb10_run(), tmp_path, nodes=2)
    assert acceptance.exit_status == 3
    reason = verdict(acceptance, "all-gather-busbw").reason or ""
    assert "roofprobe launch --hosts HOST1,HOST2 -- accept --platform gb10-cluster-2 --nodes 2" in reason
