"""Rates follow from raw seconds and bytes; records survive crashes."""

from pathlib import Path

import pytest
from records import collective, environment, gemv, measurement, timing

from roofprobe.errors import BadInput, RoofprobeError
from roofprobe.measurement import Ended, Skipped, exit_status, figures
from roofprobe.run_file import RunWriter, read_run


def test_rates_follow_from_seconds_and_bytes() -> None:
    m = measurement(timing=timing([0.010, 0.020, 0.008, 0.012, 0.010, 0.011, 0.009]))
    assert m.gb_per_s == pytest.approx(100)
    assert m.best_gb_per_s == pytest.approx(125)
    assert m.interval == pytest.approx((50, 125))


def test_interval_is_null_for_too_few_samples() -> None:
    assert measurement(timing=timing([0.01] * 5)).interval is None


def test_rejected_samples_do_not_count() -> None:
    m = measurement(timing=timing([0.010, 0.001, *[0.010] * 5], rejected={1: "descheduled for 40%"}))
    assert m.best_gb_per_s == pytest.approx(100)
    assert not m.timing.contended


def test_on_a_contended_machine_every_sample_counts_and_the_record_says_so() -> None:
    references = (0.020,) * 6
    m = gemv(timing=timing([0.025] * 6, reference_seconds=references, rejected={0: "busy", 3: "busy"}))
    assert m.timing.contended
    assert len(m.timing.accepted) == 6
    assert m.ceiling_fraction == pytest.approx(0.4)
    assert figures(m)["contended"] is True


def test_ceiling_fraction_is_the_median_of_paired_ratios() -> None:
    # The machine halves its speed midway: each pair still says 80 %.
    slow = timing([0.0125, 0.0125, 0.025, 0.025], reference_seconds=(0.020, 0.020, 0.040, 0.040))
    assert gemv(timing=slow).ceiling_fraction == pytest.approx(0.8)
    assert gemv().ceiling_interval == pytest.approx((0.8, 0.8))


def test_more_than_the_memory_can_do_is_invalid() -> None:
    assert measurement(nominal_gb_per_s=99.0).invalid is None
    assert "above the nominal" in (measurement(nominal_gb_per_s=97.0).invalid or "")
    assert measurement(nominal_gb_per_s=97.0, residency="hot").invalid is None


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        ([measurement()], 0),
        ([measurement(), measurement(wrong=1)], 1),
        ([measurement(nominal_gb_per_s=50.0)], 3),
        ([measurement(nominal_gb_per_s=50.0), measurement(wrong=3)], 1),
        ([], 3),
    ],
    ids=["all right", "one wrong", "impossible", "wrong outranks impossible", "nothing measured"],
)
def test_exit_status(rows: list, status: int) -> None:
    assert exit_status(rows) == status


def test_figures_name_what_scripts_read() -> None:
    found = figures(gemv(nominal_gb_per_s=273.1))
    assert found["gb_per_s"] == pytest.approx(80)
    assert found["ceiling_fraction"] == pytest.approx(0.8)
    assert found["verified"] is True
    assert found["nominal_fraction"] == pytest.approx(80 / 273.1)


def write(path: Path, *records: object) -> Path:
    writer = RunWriter(path)
    for record in records:
        writer.write(record)  # type: ignore[arg-type]
    writer.close()
    return path


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    skipped = Skipped(probe="memory", case="device side", reason="torch finds no CUDA device")
    records = (environment(), measurement(), gemv(), collective(), skipped, Ended(seconds=1.5, interrupted=False))
    run = read_run(write(tmp_path / "measurements.jsonl", *records).parent)
    assert run.environment == records[0]
    assert run.measurements == records[1:3]
    assert run.collectives == records[3:4]
    assert run.skipped == (skipped,)
    assert run.ended == records[5]


@pytest.mark.parametrize("cut", [1, 40, 300], ids=["the newline", "part of a record", "most of a record"])
def test_a_torn_last_line_is_passed_over(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "m.jsonl", environment(), measurement(), gemv())
    path.write_bytes(path.read_bytes()[:-cut])
    run = read_run(path)
    # Without its newline the last record is whole and counts; with more gone it does not.
    assert len(run.measurements) == (2 if cut == 1 else 1)
    assert run.ended is None


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", environment(), measurement())
    path.write_bytes(path.read_bytes().replace(b'"n":250000000', b'"n":"many"') + b"\n")
    with pytest.raises(BadInput, match=r"m\.jsonl: line 2: .*int"):
        read_run(path)


@pytest.mark.parametrize("content", [b"", b"{}\n", b'{"record":"ended","seconds":1,"interrupted":false}\n'])
def test_a_file_without_its_environment_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"m\.jsonl: line 1"):
        read_run(path)


def test_a_missing_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        read_run(tmp_path / "none.jsonl")


def test_every_record_is_on_the_disk_before_the_next(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "m.jsonl")
    writer.write(environment())
    writer.write(measurement())
    assert len(read_run(tmp_path / "m.jsonl").measurements) == 1
    writer.close()


def test_a_full_disk_keeps_what_was_written() -> None:
    writer = RunWriter(Path("/dev/full"))
    with pytest.raises(RoofprobeError, match="No space left"):
        writer.write(environment())


def test_an_unwritable_folder_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="--out"):
        RunWriter(tmp_path / "file" / "m.jsonl")
