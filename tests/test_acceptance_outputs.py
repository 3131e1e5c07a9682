"""JUnit, Prometheus, JSON, text and report say the same verdicts, read back by parsers that share no code with us."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import acceptance_folders as folders
from junitparser import Error, Failure, JUnitXml, Skipped
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families
import pytest
from report_page import Page

from roofprobe.acceptance.folder import Acceptance, accept, read_acceptance, read_folder, write_outputs
from roofprobe.acceptance.junit import ALL_DECIDED
from roofprobe.acceptance.output import as_text
from roofprobe.ceiling import choose_platform
from roofprobe.errors import BadInput
from roofprobe.probes.accept import main
from roofprobe.report import render
from roofprobe.report_command import main as report

HOSTILE = "<script>alert(1)</script>]]>&\"'\x1b[31m\x00\ud7ff"


def healthy() -> Any:
    return folders.gb10_run()


def faulty() -> Any:
    """One check of every verdict, and texts that try to break every format."""
    run = folders.with_rows(
        folders.gb10_run(),
        lambda m: replace(m, wrong=None) if (m.side, m.op) == ("device", "copy") else m,
    )
    return replace(run, environment=replace(run.environment, host="spark\x1b-1 <b>"), matmuls=())


FAULT = {"id": "link.port-down", "severity": "fault", "host": "h", "evidence": HOSTILE, "remedy": HOSTILE}
CASES = {"healthy": (healthy, []), "faulty": (faulty, [FAULT])}


@pytest.fixture(params=CASES)
def acceptance(request: pytest.FixtureRequest, tmp_path: Path) -> Acceptance:
    make, faults = CASES[request.param]
    found = accept(choose_platform("dgx-spark"), read_folder(folders.save(make(), tmp_path, faults=faults)))
    write_outputs(tmp_path, found)
    return found


def test_junit_has_a_case_for_each_check_and_one_for_all(acceptance: Acceptance, tmp_path: Path) -> None:
    xml = JUnitXml.fromfile(str(tmp_path / "junit.xml"))
    (suite,) = list(xml)
    cases = {case.name: case for case in suite}
    assert list(cases) == [*(check.check for check in acceptance.checks), ALL_DECIDED]
    for check in acceptance.checks:
        kinds = [type(result) for result in cases[check.check].result]
        open_ = check.verdict == "INCONCLUSIVE" and check.required
        expected = {"PASS": [], "FAIL": [Failure], "SKIP": [Skipped], "INCONCLUSIVE": [Error if open_ else Skipped]}
        assert kinds == expected[check.verdict], check
        if check.verdict == "FAIL":
            (failure,) = cases[check.check].result
            assert check.faults[0].id in failure.type and "remedy: " in failure.text
    decided = [type(result) for result in cases[ALL_DECIDED].result]
    assert decided == ([Error] if acceptance.open else [])
    assert suite.tests == len(cases)
    results = [type(result) for case in cases.values() for result in case.result]
    assert (suite.failures, suite.errors, suite.skipped) == tuple(results.count(t) for t in (Failure, Error, Skipped))


def test_a_required_skip_leaves_the_suite_red(tmp_path: Path) -> None:
    run = replace(healthy(), matmuls=())
    found = accept(choose_platform("dgx-spark"), read_folder(folders.save(run, tmp_path)))
    write_outputs(tmp_path, found)
    (suite,) = list(JUnitXml.fromfile(str(tmp_path / "junit.xml")))
    assert suite.failures == 0 and suite.errors == 1
    (decided,) = [case for case in suite if case.name == ALL_DECIDED]
    assert "gpu-matmul-bf16" in decided.result[0].message


def test_prometheus_reads_verdicts_figures_and_faults(acceptance: Acceptance, tmp_path: Path) -> None:
    text = (tmp_path / "roofprobe.prom").read_text()
    families = {family.name: family.samples for family in text_string_to_metric_families(text)}
    (status,) = families["roofprobe_accept_exit_status"]
    assert status.value == acceptance.exit_status and status.labels["platform"] == "dgx-spark"
    told = {(s.labels["check"], s.labels["verdict"]): s.value for s in families["roofprobe_accept_check_verdict"]}
    assert len(told) == 4 * len(acceptance.checks)
    for check in acceptance.checks:
        assert [word for word in ("PASS", "FAIL", "INCONCLUSIVE", "SKIP") if told[check.check, word]] == [check.verdict]
    measured = {s.labels["check"]: s.value for s in families["roofprobe_accept_check_measured"]}
    assert measured == {c.check: c.measured for c in acceptance.checks if c.measured is not None}
    limits = {s.labels["check"] for s in families["roofprobe_accept_check_limit"]}
    assert limits == {c.check for c in acceptance.checks if c.limits}
    assert {s.labels["fault"] for s in families["roofprobe_accept_fault"]} == {f.id for f in acceptance.faults}


def test_the_document_reads_back_as_what_was_written(acceptance: Acceptance, tmp_path: Path) -> None:
    assert read_acceptance(tmp_path) == acceptance
    document = json.loads((tmp_path / "acceptance.json").read_text())
    assert set(document) == {
        *("schema", "roofprobe", "created", "host", "platform", "title", "nodes", "interrupted"),
        *("verdict", "exit_status", "checks", "faults"),
    }
    fields = {"check", "title", "verdict", "required", "reason", "unit", "measured", "interval", "limits", "processes"}
    assert all(set(check) == {*fields, "faults"} for check in document["checks"])


def test_the_text_has_each_verdict_source_fault_and_remedy(acceptance: Acceptance) -> None:
    text = as_text(acceptance)
    for check in acceptance.checks:
        assert any(check.title in line and line.startswith(check.verdict) for line in text.splitlines())
        assert all(bound.source in text for bound in check.limits)
    for fault in acceptance.faults:
        assert f"FAIL {fault.id} on " in text and "remedy: " in text
    assert "\x1b" not in text and "\x00" not in text


def test_the_report_has_every_check_and_escapes_every_text(acceptance: Acceptance, tmp_path: Path) -> None:
    html = render(read_folder(tmp_path).run, acceptance)
    Page(html)
    assert "<script" not in html and ("alert(1)" in html) == (acceptance.verdict == "FAIL")
    section = html[html.index('<section id="acceptance">') : html.index("</section>", html.index('id="acceptance"'))]
    assert all(f">{check.title}<" in section for check in acceptance.checks)
    assert section.count("✕ FAIL") == sum(check.verdict == "FAIL" for check in acceptance.checks)


def test_a_report_without_an_acceptance_has_no_section(tmp_path: Path) -> None:
    folders.save(healthy(), tmp_path)
    assert report([str(tmp_path)]) == 0
    assert 'id="acceptance"' not in (tmp_path / "report.html").read_text()


def test_the_report_is_drawn_again_with_its_acceptance(acceptance: Acceptance, tmp_path: Path) -> None:
    assert report([str(tmp_path)]) == 0
    assert 'id="acceptance"' in (tmp_path / "report.html").read_text()
    (tmp_path / "acceptance.json").write_text("{}")
    assert report([str(tmp_path)]) == 2
    assert acceptance.checks


def test_the_gpus_checks_share_a_line_where_there_is_no_gpu(tmp_path: Path) -> None:
    environment = folders.gb10_environment(devices=(), driver=None, platform=None)
    run = replace(healthy(), environment=environment, measurements=(), sentinels=(), matmuls=(), contentions=())
    found = accept(choose_platform("generic"), read_folder(folders.save(run, tmp_path, telemetry=[])))
    of_gpu = [c.check for c in found.checks if c.check.startswith("gpu-") or c.check == "telemetry"]
    (line,) = [line for line in as_text(found).splitlines() if of_gpu[0] in line]
    assert all(name in line for name in of_gpu) and "torch finds no CUDA device" in line
    assert f"SKIP*  {len(of_gpu)} checks of a GPU" in " ".join(as_text(found).split()).replace("SKIP* ", "SKIP*  ")


NO_READINGS = {
    "no batch": lambda m: replace(m, batch=-1),
    "no nominal": lambda m: replace(m, nominal_gb_per_s=0.0),
    "no rows": lambda m: replace(m, n=0),
    "no bytes": lambda m: replace(m, useful_bytes=0),
    "no samples": lambda m: replace(m, timing=replace(m.timing, seconds=())),
    "no time": lambda m: replace(m, timing=replace(m.timing, seconds=(0.0,) * 15)),
    "torn pairs": lambda m: replace(m, timing=replace(m.timing, reference_seconds=(1.0, 2.0))),
}


@pytest.mark.parametrize("name", NO_READINGS)
def test_what_is_no_reading_is_counted_and_left_out_of_the_report(tmp_path: Path, name: str) -> None:
    run = healthy()
    gemv = next(m for m in run.measurements if m.op == "gemv")
    spoilt = replace(run, measurements=(*run.measurements, NO_READINGS[name](gemv)))
    assert report([str(folders.save(spoilt, tmp_path))]) == 0
    assert "1 reading can&#39;t be shown" in (tmp_path / "report.html").read_text()


def test_a_folder_that_takes_no_files_still_tells_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folders.save(healthy(), tmp_path / "run")
    (tmp_path / "file").touch()
    assert main(["--platform", "dgx-spark", "--from", str(folder), "--out", str(tmp_path / "file")]) == 2
    printed = capsys.readouterr()
    assert "PASS (" in printed.out and "can't write" in printed.err


def test_from_judges_a_folder_and_writes_every_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folders.save(healthy(), tmp_path / "run")
    assert main(["--platform", "dgx-spark", "--from", str(folder), "--out", str(tmp_path / "out")]) == 0
    out = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert out == ["acceptance.json", "junit.xml", "report.html", "roofprobe.prom"]
    assert "PASS (" in capsys.readouterr().out
    assert main(["--platform", "dgx-spark", "--from", str(folder), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == json.loads((tmp_path / "out" / "acceptance.json").read_text())
    assert "GPU memory read" in printed.err


def test_from_takes_a_folder_of_roofprobe_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without doctor.json and telemetry.jsonl: what was not done is open, and so is the acceptance."""
    folder = folders.save(replace(healthy(), sentinels=(), matmuls=(), contentions=()), tmp_path, faults=None)
    (folder / "telemetry.jsonl").unlink()
    assert main(["--platform", "dgx-spark", "--from", str(folder)]) == 3
    text = capsys.readouterr().out
    assert "no doctor.json" in text and "PASS" in text


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "measurements.jsonl").unlink(), "can't read"),
        (lambda folder: (folder / "measurements.jsonl").write_text("{}\n"), "line 1"),
        (lambda folder: (folder / "doctor.json").write_text("{"), "doctor.json"),
        (lambda folder: (folder / "doctor.json").write_text('{"faults": 3}'), "doctor.json"),
        (lambda folder: (folder / "doctor.json").write_bytes(b"\xff\xfe"), "doctor.json"),
        (lambda folder: (folder / "telemetry.jsonl").write_text('{"t_s": "now"}\n{}\n'), "telemetry.jsonl: line 1"),
    ],
    ids=["no records", "no environment", "torn doctor", "wrong doctor", "binary doctor", "wrong telemetry"],
)
def test_a_folder_that_can_not_be_read_is_one_line(
    tmp_path: Path, spoil: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folders.save(healthy(), tmp_path)
    spoil(folder)
    assert main(["--platform", "dgx-spark", "--from", str(folder)]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1 and message in complaint


def test_an_acceptance_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "acceptance.json").write_text('{"schema": 3}')
    with pytest.raises(BadInput, match=r"acceptance\.json"):
        read_acceptance(tmp_path)
