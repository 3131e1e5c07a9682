"""``roofprobe claims``: its documents, its exit statuses, and what a profile changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import records

from roofprobe.alpha_beta import Segment
from roofprobe.claims_command import main
from roofprobe.measurement import Environment, Measurement
from roofprobe.profile import build_profile
from roofprobe.run_file import Run

PAGE = Path(__file__).resolve().parent.parent / "docs" / "claims.md"
KEYS = {"id", "document", "text", "figure", "unit", "model", "format", "units", "verdict", "arithmetic"}


def read(gb_per_s: float, **changes: Any) -> Measurement:
    return records.measurement(timing=records.timing([1 / gb_per_s] * 7), **changes)


def profile(folder: Path, *rows: Measurement, alpha_us: float = 20.0, machine: Environment | None = None) -> str:
    """A profile of the rows, whose pair all-reduces in alpha_us and next to nothing a byte."""
    link = records.collective(
        points=(), fit=(Segment(min_bytes=8, max_bytes=1 << 25, alpha_us=alpha_us, beta_gb_per_s=1000.0),)
    )
    whose = machine or records.environment()
    run = Run(environment=whose, measurements=rows, collectives=(link,), skipped=(), ended=None)
    path = folder / "profile.json"
    build_profile(run).save(path)
    return str(path)


def check(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, dict[str, Any]]:
    status = main(["check", *flags, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_the_json_document_has_every_claim(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(claim.keys() >= KEYS for claim in found["claims"])
    assert sum(found["counts"].values()) == len(found["claims"])
    by_id = {claim["id"]: claim for claim in found["claims"]}
    assert by_id["002-35-rate"]["figure"] == [40, 50]
    assert by_id["002-35-rate"]["verdicts"] == ["plausible", "implausible"]
    assert by_id["002-35-rate"]["parallelism"] == "tp2"
    assert by_id["000-13-bandwidth"]["figure"] == 273
    assert not by_id["002-17-one-unit"]["format_stated"]


def test_the_text_has_a_heading_and_counts_for_each_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert text.count(".txt): ") == 5
    assert text.count(" claims, ") == 6
    assert "disagrees with 001-11-power" in text
    assert max(map(len, text.splitlines())) <= 140


def test_the_page_is_the_one_that_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--markdown"]) == 0
    assert PAGE.read_text() == capsys.readouterr().out, "renew it: roofprobe claims --markdown > docs/claims.md"


@pytest.mark.parametrize(
    ("flags", "status", "verdict"),
    [
        pytest.param("--model gpt-oss-120b --tok-s 59", 0, "plausible", id="measured by llama.cpp"),
        pytest.param("--model gpt-oss-120b --format gguf-mxfp4 --tok-s 59", 0, "plausible", id="in its format"),
        pytest.param("--model gpt-oss-120b --format as-shipped --tok-s 100", 1, "impossible", id="twice the ceiling"),
        pytest.param(
            "--model gpt-oss-120b --format as-shipped --tok-s 52", 1, "implausible", id="between the ceilings"
        ),
        pytest.param("--model gpt-oss-120b --units 2 --tok-s 75", 0, "plausible", id="two units"),
        pytest.param("--model llama-3.1-70b --format fp8 --tok-s 5", 1, "impossible", id="dense on one"),
        pytest.param("--model llama-3.1-70b --format fp8 --units 2 --tok-s 5", 0, "plausible", id="dense on two"),
        pytest.param("--model llama-4-maverick --format bf16 --units 4 --tok-s 5", 1, "impossible", id="does not fit"),
        pytest.param("--model gpt-oss-120b --format as-shipped --tok-s 40-52", 1, "implausible", id="a range"),
        pytest.param("--model gpt-oss-20b --format as-shipped --tok-s 300 --batch 8", 0, "plausible", id="a batch"),
    ],
)
def test_a_typed_figure(capsys: pytest.CaptureFixture[str], flags: str, status: int, verdict: str) -> None:
    found, document = check(capsys, *flags.split())
    assert (found, document["verdict"]) == (status, verdict)
    assert document["arithmetic"]


@pytest.mark.parametrize(
    ("flags", "better"),
    [
        pytest.param("--model gpt-oss-120b --units 2 --tok-s 75", "tp2", id="splits"),
        pytest.param("--model gpt-oss-120b --units 3 --tok-s 75", "dp3", id="does not split over three"),
    ],
)
def test_the_better_way_is_named(capsys: pytest.CaptureFixture[str], flags: str, better: str) -> None:
    _, document = check(capsys, *flags.split())
    assert document["parallelism"] == better
    assert better in document["arithmetic"]


def test_a_format_is_taken_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    _, document = check(capsys, "--model", "gpt-oss-120b", "--tok-s", "59")
    assert (document["format"], document["format_stated"]) == ("mxfp4-all", False)
    assert "no format stated" in document["arithmetic"]


def test_the_context_lowers_the_ceiling(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--model", "llama-3.1-70b", "--format", "nvfp4", "--tok-s", "5.5"]
    assert check(capsys, *flags)[1]["verdict"] == "plausible"
    assert check(capsys, *flags, "--context", "65536")[1]["verdict"] == "impossible"


def test_a_profile_moves_what_is_implausible(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    flags = ["--model", "gpt-oss-120b", "--format", "as-shipped", "--tok-s", "45"]
    assert check(capsys, *flags)[1]["verdict"] == "plausible"
    slow = profile(tmp_path, read(200, side="device", nominal_gb_per_s=273.1))
    status, document = check(capsys, *flags, "--profile", slow)
    assert (status, document["verdict"]) == (1, "implausible")
    assert document["bounds"]["measured_gb_per_s"] == pytest.approx(200)
    assert "the GPU's" in document["bounds"]["source"]


def test_a_profile_moves_the_list_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["--json", "--profile", profile(tmp_path, read(150, side="device"))])
    claims = {claim["id"]: claim for claim in json.loads(capsys.readouterr().out)["claims"]}
    assert claims["002-35-rate"]["verdicts"] == ["implausible", "implausible"]
    assert claims["000-54-dense-70b-fp8"]["verdict"] == "impossible"


def test_the_profiles_link_counts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    flags = ["--model", "gpt-oss-120b", "--units", "2", "--tok-s", "100"]
    row = read(240, side="device")
    assert check(capsys, *flags, "--profile", profile(tmp_path, row))[1]["verdict"] == "plausible"
    slow = profile(tmp_path, row, alpha_us=300.0)
    _, document = check(capsys, *flags, "--profile", slow)
    assert (document["verdict"], document["parallelism"]) == ("implausible", "dp2")
    assert "72 x 300 us" in document["arithmetic"]


def test_a_hosts_read_is_called_that(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, document = check(capsys, "--model", "gpt-oss-20b", "--tok-s", "5", "--profile", profile(tmp_path, read(40)))
    assert "HOST" in document["bounds"]["source"]


def test_another_machine_is_held_to_its_own_memory(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    machine = records.environment(platform="rtx-pro-6000")
    path = profile(tmp_path, read(1600, side="device", nominal_gb_per_s=1792.0), machine=machine)
    _, document = check(capsys, "--model", "gpt-oss-120b", "--tok-s", "134", "--profile", path)
    assert document["verdict"] == "plausible"
    assert document["bounds"]["nominal_gb_per_s"] == 1792
    main(["--json", "--profile", path])  # the documents' claims are about GB10 all the same
    claims = json.loads(capsys.readouterr().out)
    assert claims["bounds"]["nominal_gb_per_s"] == pytest.approx(273.1)
    assert next(c for c in claims["claims"] if c["id"] == "000-54-dense-70b-fp8")["verdict"] == "impossible"


def test_a_profile_without_a_read_is_not_enough(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = profile(tmp_path, records.measurement(op="copy"))
    assert main(["check", "--model", "gpt-oss-20b", "--tok-s", "5", "--profile", path]) == 3
    assert "roofprobe memory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--model gpt-oss-120 --tok-s 5", "did you mean 'gpt-oss-120b'"),
        ("--model gpt-oss-120b --format q9 --tok-s 5", "no weight format 'q9'"),
        ("--model gpt-oss-120b --tok-s fast", "not a number above 0"),
        ("--model gpt-oss-120b --tok-s 0", "not a number above 0"),
        ("--model gpt-oss-120b --tok-s inf", "not a number above 0"),
        ("--model gpt-oss-120b --tok-s 9e999", "not a number above 0"),
        ("--model gpt-oss-120b --tok-s 50-40", "neither a rate nor a range"),
        ("--model gpt-oss-120b --tok-s 1-2-3", "neither a rate nor a range"),
        ("--model gpt-oss-120b --tok-s 5 --units 0", "at least 1"),
        ("--model gpt-oss-120b", "--tok-s"),
        ("--tok-s 5", "--model"),
        ("--model gpt-oss-120b --tok-s 5 --profile nowhere.json", "no such file"),
    ],
)
def test_unusable_input_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str], flags: str, said: str) -> None:
    try:
        status = main(["check", *flags.split()])
    except SystemExit as ended:
        status = int(ended.code or 0)
    error = capsys.readouterr().err
    assert status == 2
    assert said in error
    assert error.count("\n") == 1


def test_json_before_the_action_counts_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "check", "--model", "gpt-oss-20b", "--tok-s", "5"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "plausible"
