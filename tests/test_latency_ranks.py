"""Latencies between real ranks over loopback: a late rank, a clock that is off, a wrong result, and the probe whole."""

from __future__ import annotations

import json
from typing import Any

from collective_ranks import QUICK, probe
import latency_rank
import msgspec
import nccl_tests_output as parser
import pytest

from roofprobe.collectives.local_ranks import run_ranks
from roofprobe.latency_record import LatencyPoint
from roofprobe.measurement import CollectiveMeasurement

pytest.importorskip("torch.distributed")

MODES = ["pipelined", "isolated", "chain", "loaded", "graph"]


def run(kind: str, ranks: int, monkeypatch: pytest.MonkeyPatch) -> tuple[list[LatencyPoint], list[str], list[float]]:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    lines: list[str] = []
    complaints: list[str] = []
    status = run_ranks("test", [latency_rank.__file__, kind], ranks, lines.append, complaints.append)
    assert status == 0, complaints
    found = json.loads(lines[-1])
    return msgspec.convert(found["points"], list[LatencyPoint]), found["findings"], found["offsets"]


def test_a_rank_that_starts_late_is_named_and_its_lateness_is_no_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    points, findings, _ = run("late", 3, monkeypatch)
    assert [line[:12] for line in findings] == ["slow rank 1 "]
    for point in (p for p in points if p.mode == "isolated"):
        median = point.percentile(50)
        assert median is not None and median < 1e6 * latency_rank.LATE_SECONDS
        assert point.ranks[1].late_p50_us >= 1e6 * latency_rank.LATE_SECONDS
        assert point.ranks[0].mean_us > point.ranks[1].mean_us  # who waits for the late rank waits in the operation
        assert point.wrong == 0


def test_a_clock_that_is_off_and_drifts_is_seen_through(monkeypatch: pytest.MonkeyPatch) -> None:
    points, _, offsets = run("shifted", 2, monkeypatch)
    assert offsets[0] == 0
    assert offsets[1] == pytest.approx(latency_rank.AHEAD_NS, rel=0.01)
    for point in (p for p in points if p.samples_us):
        assert point.clock_us > 0
        # 100 ppm would part the clocks by 100 us a second if they were compared but once.
        assert min(point.ranks[rank].late_p50_us for rank in range(2)) < 1e4
        assert all(own.minimum_us <= point.samples_us[0] * 1000 for own in point.ranks)
        assert max(point.samples_us) <= max(own.maximum_us for own in point.ranks)
        assert min(point.samples_us) >= min(own.minimum_us for own in point.ranks)


def test_one_wrong_element_is_counted_in_every_mode_that_has_it_and_on_its_rank(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points, _, _ = run("corrupt", 2, monkeypatch)
    for point in points:
        if point.mode == "graph":
            assert point.rank_wrong is None
        elif point.mode == "chain":
            assert point.rank_wrong == (1, 1)  # the next reduction spreads it
        else:
            assert point.rank_wrong == ((0, 0) if point.mode == "pipelined" else (0, 1))


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], CollectiveMeasurement]:
    """The probe's output, its JSON document and its record."""
    folder = tmp_path_factory.mktemp("latency")
    done = probe(
        "--ranks", "2", "-b", "1K", "-e", "4K", *QUICK, "-d", "bfloat16", "-J", "out.json", "--record", "record",
        "--latency", "--latency-sizes", "5760,1K", "--latency-samples", "60", "--latency-limit", "8", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = msgspec.json.decode((folder / "record").read_bytes(), type=CollectiveMeasurement)
    return done.stdout, json.loads((folder / "out.json").read_text()), record


def test_latency_follows_the_footer_and_disturbs_no_parser(
    probed: tuple[str, dict[str, Any], CollectiveMeasurement],
) -> None:
    text = probed[0]
    assert list(parser.by_negative_column(text, "time")) == [1024, 2048, 4096]
    assert parser.out_of_bounds(text) == (0, "OK")
    after = text[text.index("# Collective test concluded") :].splitlines()
    assert all(line.startswith("#") for line in after)
    assert not any(words in line for line in after for words in ("out-of-place", "Out of bounds values"))
    assert text.count("out-of-place") == text.count("Out of bounds values") == 1
    rows = [line.split()[2:4] for line in after if line.startswith("# latency:") and line.split()[3] in MODES]
    assert rows == [
        *([size, mode] for size in ("1024",) for mode in MODES[:4]), ["any", "graph"],
        *(["5760", mode] for mode in MODES if mode != "graph"),
    ]  # fmt: skip
    assert any("gpt-oss-120b, gpt-oss-20b" in line for line in after)
    assert any(line.startswith("# latency: rank 1 on ") for line in after)


def test_the_document_and_the_record_hold_every_mode_of_every_size(
    probed: tuple[str, dict[str, Any], CollectiveMeasurement],
) -> None:
    _, document, record = probed
    assert [(p["bytes"], p["mode"]) for p in document["latency"]] == [(n, m) for n in (1024, 5760) for m in MODES]
    assert document["latency_findings"] == list(record.latency_findings) != []
    assert document["end_time"] is not None
    for told, point in zip(document["latency"], record.latency):
        assert told["p50_us"] == point.percentile(50)
        assert told["samples"] == len(point.samples_us) <= 60
        if point.mode == "graph":
            assert point.samples_us == () and point.note == "gloo runs on the CPU: there is nothing to capture"
        else:
            assert point.samples_us and point.wrong == 0 and len(point.ranks) == 2
            assert all(round(sample, 1) == sample > 0 for sample in point.samples_us)
        if point.mode == "loaded":
            assert point.note is not None and point.note.startswith("GEMV on ")


def test_latency_needs_all_reduce() -> None:
    done = probe("--collective", "broadcast", "--latency", name="collectives")
    assert done.returncode == 2
    assert "--latency is all_reduce's" in done.stderr
    assert len(done.stderr.splitlines()) == 1
