"""What an acceptance measures and keeps: parts as processes, their failures as records, an interruption, real nodes."""

from __future__ import annotations

import json
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest
import real_nodes
import records

from roofprobe.acceptance.folder import accept, read_folder
from roofprobe.ceiling import choose_platform
from roofprobe.console import Console
from roofprobe.measurement import Ended
from roofprobe.probes.accept import main
from roofprobe.probes.accept_measure import DEFAULT, QUICK, Part, collectives_part, measure, parts, run_part, wanted
from roofprobe.run_file import RunWriter, read_run


def writer_in(folder: Path) -> RunWriter:
    writer = RunWriter(folder / "measurements.jsonl")
    writer.write(records.environment())
    return writer


def test_rows_follow_from_the_platforms_checks() -> None:
    generic, spark = choose_platform("generic"), choose_platform("dgx-spark")
    assert wanted(generic, "host") == ["read", "copy", "gemv-bf16", "dequant-nvfp4"]
    assert wanted(spark, "host") == ["read", "copy"]
    formats = ["gemv-bf16", "gemv-fp8", "gemv-nvfp4", "gemv-mxfp4", "dequant-fp8", "dequant-nvfp4", "dequant-mxfp4"]
    assert wanted(spark, "device") == ["read", "copy", *formats]


def test_every_verdict_bearing_row_comes_from_several_processes() -> None:
    spark = choose_platform("dgx-spark")
    for depth in (QUICK, DEFAULT):
        made = list(parts(spark, records.environment(devices=(records.GPU,)), depth, memory=None))
        for row in ("device:read", "device:gemv-nvfp4", "device:dequant-fp8", "host:read"):
            assert sum(row in part.arguments for part in made) == depth.processes >= 2
        assert sum("sentinels" in part.arguments[0] for part in made) == 1
    assert [part.probe for part in parts(spark, records.environment(), QUICK, None)] == ["run", "run", "sentinels"]


def test_collectives_are_a_clusters() -> None:
    assert collectives_part(choose_platform("dgx-spark"), QUICK) is None
    part = collectives_part(choose_platform("gb10-cluster-2"), DEFAULT)
    assert part is not None and "all_reduce,all_gather" in part.arguments


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (("-c", "import sys; print('no GPU today', file=sys.stderr); sys.exit(3)"), "no GPU today"),
        (("-c", "import sys; sys.exit(1)"), "it ended with status 1"),
        (("-c", "pass"), "it measured nothing and said nothing"),
        (("-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), "it ended with status -9"),
    ],
    ids=["a complaint", "silent failure", "nothing", "killed"],
)
def test_a_part_that_measures_nothing_leaves_its_reason(
    tmp_path: Path, program: tuple[str, ...], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = subprocess.Popen

    def without_m(command: list[str], **more: object) -> subprocess.Popen[bytes]:
        return start([command[0], *command[2:]], **more)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr("roofprobe.probes.accept_measure.subprocess.Popen", without_m)
    writer = writer_in(tmp_path)
    run_part(Part("a part", "sentinels", program), tmp_path, writer, Console(sys.stderr))
    writer.close()
    (skipped,) = read_run(tmp_path).skipped
    assert (skipped.probe, skipped.case, skipped.reason) == ("sentinels", "a part", reason)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["measurements.jsonl"], "no folder of the part is left"


def test_records_of_a_part_that_dies_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    writer = writer_in(source)
    writer.write(records.measurement())
    writer.write(records.gemv())
    writer.close()
    line = (source / "measurements.jsonl").read_bytes()

    def torn(arguments: list[str], launched: bool) -> str:
        assert not launched
        Path(arguments[-1]).write_bytes(line + b'{"record": "measu')
        return "it ended with status -9"

    monkeypatch.setattr("roofprobe.probes.accept_measure._run", torn)
    out = tmp_path / "out"
    writer = writer_in(out)
    run_part(Part("rows", "run", ("x", "{folder}/measurements.jsonl")), out, writer, Console(sys.stderr))
    writer.close()
    assert [m.op for m in read_run(out).measurements] == ["read", "gemv"]


def test_an_interruption_keeps_what_there_is_and_does_not_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(part: Part, *_: object, **__: object) -> None:
        if "process 2" in part.title:
            raise KeyboardInterrupt

    monkeypatch.setattr("roofprobe.probes.accept_measure.run_part", interrupted)
    monkeypatch.setattr("roofprobe.probes.accept_measure.ask_doctor", lambda *_: None)
    generic = choose_platform("generic")
    measure(generic, records.environment(), QUICK, tmp_path, None, Console(sys.stderr), None, None)
    run = read_run(tmp_path)
    assert isinstance(run.ended, Ended) and run.ended.interrupted
    found = accept(generic, read_folder(tmp_path))
    assert found.exit_status == 3 and found.interrupted


def test_an_earlier_run_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "measurements.jsonl").write_text("precious\n")
    assert main(["--platform", "generic", "--out", str(tmp_path)]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert (tmp_path / "measurements.jsonl").read_text() == "precious\n"


@pytest.mark.parametrize(
    "flags",
    [[], ["--platform", "generic", "--nodes", "0"], ["--platform", "generic", "--from", "x", "--quick"]],
    ids=["no platform", "no nodes", "judging and measuring"],
)
def test_unusable_flags_are_one_line(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(flags)
    assert ended.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_ctrl_c_on_the_real_process_keeps_records_and_verdicts(tmp_path: Path) -> None:
    """Interrupted once the first rows are there: process and part have both ended, and every output is whole."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "roofprobe", "accept", "--platform", "generic", "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--memory", "500M"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not any(b'"measurement"' in path.read_bytes() for path in out.glob(".part-*/measurements.jsonl")):
            assert time.monotonic() < deadline and process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        printed, complaints = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 3, complaints
    assert "did not come to its end" in printed and "Traceback" not in complaints
    names = ["acceptance.json", "doctor.json", "junit.xml", "measurements.jsonl", "report.html", "roofprobe.prom"]
    assert sorted(path.name for path in out.iterdir()) == names
    run = read_run(out)
    assert run.measurements and run.ended is not None and run.ended.interrupted
    assert main(["--platform", "generic", "--from", str(out)]) == 3


LINK = """\
name = "link-only"
title = "two nodes and whatever joins them"
nodes = 2
[match]
[memory]
name = "memory"
unified = false
[checks.link-rdma]
required = false
[checks.collectives-correct]
"""


@pytest.mark.netns
def test_two_nodes_measure_their_link_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """gloo between two namespaces: every element is right, the transport is no RDMA, and rank 1 judges itself alone."""
    (tmp_path / "link.toml").write_text(LINK)
    out = tmp_path / "out"
    monkeypatch.setattr(real_nodes, "PROBE", real_nodes.ROOT / "probes" / "accept.py")
    with real_nodes.lab(2, rate="1gbit") as nodes:
        flags = ["--platform", tmp_path / "link.toml", "--quick", "--out", out]
        first, second = real_nodes.finish(real_nodes.start_probe(nodes, flags, "by hand"), seconds=120)
    assert (first.returncode, second.returncode) == (0, 0), first.stdout + first.stderr + second.stderr
    assert "PASS" in first.stdout and second.stdout == ""
    document = json.loads((out / "acceptance.json").read_text())
    verdicts = {check["check"]: check["verdict"] for check in document["checks"]}
    assert verdicts["doctor"] == verdicts["collectives-correct"] == "PASS" and verdicts["link-rdma"] == "INCONCLUSIVE"
    assert len(json.loads((out / "doctor.json").read_text())["facts"]) == 2, "both nodes, compared"
    alone = json.loads((out / "rank-1" / "acceptance.json").read_text())
    assert not {"collectives-correct", "link-rdma"} & {check["check"] for check in alone["checks"]}
