"""Like is compared with like: other machines, other software, other keys, collectives; and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compared_runs import compared, kernel, verdicts, write
import msgspec
import pytest
from records import GPU, collective

from roofprobe.comparison.command import main
from roofprobe.measurement import CollectiveMeasurement


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"cpu_model": "another CPU"}, "cpu_model test CPU there, another CPU here"),
        ({"cpus": 1}, "cpus 2 there, 1 here"),
        ({"product": "NVIDIA DGX Spark"}, "product None there, NVIDIA DGX Spark here"),
        ({"architecture": "x86_64"}, "architecture"),
    ],
)
def test_another_machine_is_not_compared(
    facts: dict[str, Any], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, document = compared(capsys, write(tmp_path / "a", kernel()), write(tmp_path / "b", kernel(0.5), **facts))
    assert (status, verdicts(document)) == (3, ["missing"])
    assert "another machine" in document["cases"][0]["remarks"][0]
    assert reason in document["cases"][0]["remarks"][0]


def test_each_side_needs_its_own_hardware_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = kernel(), kernel(side="device", backend="triton")
    base = write(tmp_path / "a", *rows, devices=(GPU,))
    _, document = compared(capsys, base, write(tmp_path / "b", *rows, devices=(GPU,), cpus=1))
    assert {case["case"]["side"]: case["verdict"] for case in document["cases"]} == {
        "host": "missing",
        "device": "unchanged",
    }
    _, document = compared(capsys, base, write(tmp_path / "c", *rows))
    assert {case["case"]["side"]: case["verdict"] for case in document["cases"]} == {
        "host": "unchanged",
        "device": "missing",
    }
    assert "GPUs NVIDIA GB10 there, none here" in document["cases"][0]["remarks"][0]


def test_other_software_is_compared_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = write(tmp_path / "b", kernel(0.3), driver="595.10", nccl="2.30.3", variables={"NCCL_ALGO": "Ring"})
    status, document = compared(capsys, write(tmp_path / "a", kernel(), driver="590.44"), new)
    assert status == 1
    assert document["remarks"][:3] == [
        "driver: 590.44 -> 595.10",
        "nccl: none -> 2.30.3",
        "variables: none -> NCCL_ALGO=Ring",
    ]


def test_another_configuration_of_a_case_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write(tmp_path / "a", kernel(config={"stores": "normal"}))
    _, document = compared(capsys, base, write(tmp_path / "b", kernel(config={"stores": "non-temporal"})))
    assert "configuration: {'stores': 'normal'} ->" in document["cases"][0]["remarks"][0]


@pytest.mark.parametrize(
    "changes",
    [{"n": 8192}, {"batch": 4}, {"backend": "torch"}, {"format": "fp8"}, {"residency": "hot"}, {"reference": "copy"}],
    ids=str,
)
def test_a_row_that_differs_in_its_key_is_another_case(
    changes: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, document = compared(capsys, write(tmp_path / "a", kernel()), write(tmp_path / "b", kernel(**changes)))
    assert verdicts(document) == ["missing", "not compared"]


def slower_collective(factor: float, **changes: Any) -> CollectiveMeasurement:
    found = collective()
    points = tuple(
        msgspec.structs.replace(point, in_place_seconds=tuple(factor * s for s in point.in_place_seconds))
        for point in found.points
    )
    return collective(points=points, **changes)


def test_collectives_are_compared_size_by_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, new = write(tmp_path / "a", collective()), write(tmp_path / "b", slower_collective(1.3))
    status, document = compared(capsys, base, new)
    assert (status, verdicts(document)) == (1, ["regression"] * 4)
    assert [case["case"]["bytes"] for case in document["cases"]] == [1 << 10, 1 << 15, 1 << 20, 1 << 25]
    assert document["cases"][0]["ratio"] == pytest.approx(1 / 1.3)
    other = write(tmp_path / "c", collective(transport="NET/IB"))
    status, document = compared(capsys, base, other)
    assert status == 3 and set(verdicts(document)) == {"missing", "not compared"}


def test_nothing_in_common_is_not_a_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, document = compared(capsys, write(tmp_path / "a"), write(tmp_path / "b"))
    assert status == 3 and document["cases"] == []
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 3
    assert "nothing to compare" in capsys.readouterr().out


def test_the_table_shows_the_worst_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write(tmp_path / "a", kernel(), kernel(format="fp8"), kernel(format="nvfp4"))
    assert main([str(base), str(write(tmp_path / "b", kernel(), kernel(0.2, format="fp8")))]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:] if " b1 " in line] == ["regression", "missing", "unchanged"]
    assert "4096x8192 b1" in lines[1] and "80." in lines[1] and "5.0%" in lines[1]
    assert lines[-1] == "1 regression, 1 missing, 1 unchanged"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing", "missing"], "can't read missing"),
        (["."], "expected BASE and NEW"),
        ([".", "."], "holds no run"),
        (["a", "b", "--against-history"], "expected BASE and NEW"),
    ],
    ids=" ".join,
)
def test_unusable_input_is_one_line(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = main(arguments)
    except SystemExit as end:
        status = int(end.code or 0)
    printed = capsys.readouterr()
    assert status == 2 and said in printed.err and printed.err.count("\n") == 1 and printed.out == ""
